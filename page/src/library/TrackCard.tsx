import { useComputed, useSignal } from "@preact/signals";
import { MAX_NOTES, MAX_TITLE } from "../api/contract.ts";
import type { Track, TrackJob } from "../api/types.ts";
import { keyName } from "../music/keys.ts";
import { Dialog } from "../parts/Dialog.tsx";
import { clock } from "../parts/format.ts";
import { fail } from "../parts/toasts.tsx";
import { JobBars } from "./JobBars.tsx";
import { KeepButton } from "./KeepButton.tsx";
import { Mover, useDrag } from "./Mover.tsx";
import { addToPlaylist, playlists } from "./playlists.ts";
import * as library from "./state.ts";

/** The ids of a song's neighbours in a playlist; undefined at its ends. */
export interface Place {
  before: string | undefined;
  after: string | undefined;
}

/** One song: its results, the progress of its job, and its actions; in a playlist also moving it. */
export function TrackCard({ track, place }: { track: Track; place?: Place }) {
  // A card is rendered again only when its own job changes.
  const job = useComputed(() => library.jobs.value.get(track.id)).value;
  const drag = useDrag(track, place !== undefined);
  const facts = [
    track.artist,
    keyName(track.key),
    track.tempo?.bpm ? `${Math.round(track.tempo.bpm)} BPM` : "",
    track.durationSeconds ? clock(track.durationSeconds) : "",
  ];
  return (
    <li class="card" {...drag}>
      {place && <Mover track={track} place={place} />}
      {track.cover ? <img class="cover" src={track.cover} alt="" loading="lazy" /> : <div class="cover" aria-hidden="true" />}
      <div class="what">
        <h2>{track.deleteTime ? track.title : <a href={`/songs/${track.id}`}>{track.title || track.sourceUrl}</a>}</h2>
        <p class="faint">{facts.filter(Boolean).join(" · ")}</p>
        {job && !track.deleteTime && <JobBars job={job} />}
      </div>
      {track.deleteTime ? (
        <button aria-label={`Restore ${track.title}`} onClick={() => library.restore(track).catch(fail)}>
          Restore
        </button>
      ) : (
        <Actions track={track} job={job} />
      )}
    </li>
  );
}

function Actions({ track, job }: { track: Track; job: TrackJob | undefined }) {
  const editing = useSignal(false);
  const state = job?.job.state;
  const isActive = state === "JOB_STATE_QUEUED" || state === "JOB_STATE_RUNNING";
  const canRetry = !isActive && job?.parts.some((part) => part.state === "JOB_STATE_FAILED" || part.state === "JOB_STATE_CANCELLED");
  const name = track.title || track.sourceUrl;
  return (
    <div class="actions">
      {isActive && (
        <button aria-label={`Cancel ${name}`} onClick={() => library.cancel(job!).catch(fail)}>
          Cancel
        </button>
      )}
      {canRetry && (
        <button aria-label={`Try ${name} again`} onClick={() => library.retry(track, job!).catch(fail)}>
          Try again
        </button>
      )}
      <button
        aria-label={`Favourite: ${name}`}
        aria-pressed={track.favourite}
        onClick={() => library.update(track, { favourite: !track.favourite }).catch(fail)}
      >
        {track.favourite ? "★" : "☆"}
      </button>
      <KeepButton track={track} />
      <button aria-label={`Edit ${name}`} onClick={() => (editing.value = true)}>
        ✎
      </button>
      <button aria-label={`Delete ${name}`} onClick={() => library.remove(track).catch(fail)}>
        ✕
      </button>
      {editing.value && <EditDialog track={track} onClose={() => (editing.value = false)} />}
    </div>
  );
}

function EditDialog({ track, onClose }: { track: Track; onClose: () => void }) {
  function save(event: SubmitEvent) {
    event.preventDefault();
    const fields = new FormData(event.target as HTMLFormElement);
    const text = (name: string) => String(fields.get(name)).trim();
    library
      .update(track, { title: text("title"), artist: text("artist"), notes: text("notes") })
      .then(onClose)
      .catch(fail);
  }
  return (
    <Dialog title="This song" onClose={onClose}>
      <form onSubmit={save}>
        <label>
          Title
          <input name="title" value={track.title} maxLength={MAX_TITLE} required />
        </label>
        <label>
          Artist
          <input name="artist" value={track.artist} maxLength={MAX_TITLE} />
        </label>
        <label>
          Notes
          <textarea name="notes" rows={4} maxLength={MAX_NOTES} defaultValue={track.notes} />
        </label>
        {playlists.value.length > 0 && (
          <label>
            Add to a playlist
            <select
              value=""
              onChange={(event) => {
                const playlist = playlists.value.find(({ id }) => id === event.currentTarget.value);
                if (playlist) addToPlaylist(playlist, track).catch(fail);
              }}
            >
              <option value="">choose one</option>
              {playlists.value.map(({ id, name }) => (
                <option key={id} value={id}>
                  {name}
                </option>
              ))}
            </select>
          </label>
        )}
        <button class="primary">Save</button>
      </form>
    </Dialog>
  );
}
