import { useSignal } from "@preact/signals";
import { MAX_PLAYLIST_NAME } from "../api/contract.ts";
import { fail } from "../parts/toasts.tsx";
import { TONICS } from "../music/keys.ts";
import { filters, narrow } from "./filters.ts";
import { createPlaylist, playlists } from "./playlists.ts";

/** What the list is narrowed down to, and its order. */
export function FilterBar() {
  const { query, keyTonic, keyMode, minBpm, maxBpm, favourites, deleted, playlistId, order } = filters.value;
  return (
    <section aria-label="Find songs" class="filters row">
      <input
        type="search"
        aria-label="Title or artist"
        placeholder="Title or artist"
        value={query}
        onInput={(event) => narrow({ query: event.currentTarget.value })}
      />
      <select aria-label="Key" value={keyTonic} onChange={(event) => narrow({ keyTonic: event.currentTarget.value })}>
        <option value="">any key</option>
        {TONICS.map((tonic) => (
          <option key={tonic}>{tonic}</option>
        ))}
      </select>
      <select aria-label="Mode" value={keyMode} onChange={(event) => narrow({ keyMode: event.currentTarget.value })}>
        <option value="">any mode</option>
        <option>major</option>
        <option>minor</option>
      </select>
      <Bpm label="Slowest tempo" placeholder="from BPM" value={minBpm} onChange={(minBpm) => narrow({ minBpm })} />
      <Bpm label="Fastest tempo" placeholder="to BPM" value={maxBpm} onChange={(maxBpm) => narrow({ maxBpm })} />
      <select aria-label="Order" value={order} onChange={(event) => narrow({ order: event.currentTarget.value })}>
        <option value="">{playlistId ? "in its own order" : "newest first"}</option>
        <option value="TRACK_ORDER_TITLE">by title</option>
        <option value="TRACK_ORDER_ARTIST">by artist</option>
        <option value="TRACK_ORDER_TEMPO">by tempo</option>
        <option value="TRACK_ORDER_DURATION">by length</option>
      </select>
      <Playlists chosen={playlistId} onChoose={(playlistId) => narrow({ playlistId })} />
      <button aria-pressed={favourites} onClick={() => narrow({ favourites: !favourites })}>
        ★ Favourites
      </button>
      <button aria-pressed={deleted} onClick={() => narrow({ deleted: !deleted })}>
        Deleted
      </button>
    </section>
  );
}

function Bpm(properties: { label: string; placeholder: string; value: number; onChange: (bpm: number) => void }) {
  return (
    <input
      type="number"
      min={0}
      max={400}
      aria-label={properties.label}
      placeholder={properties.placeholder}
      value={properties.value || ""}
      onInput={(event) => properties.onChange(Math.max(Number(event.currentTarget.value), 0))}
    />
  );
}

function Playlists({ chosen, onChoose }: { chosen: string; onChoose: (id: string) => void }) {
  const naming = useSignal(false);
  function create(event: SubmitEvent) {
    event.preventDefault();
    const name = String(new FormData(event.target as HTMLFormElement).get("name")).trim();
    naming.value = false;
    if (name) createPlaylist(name).then(onChoose).catch(fail);
  }
  if (naming.value) {
    return (
      <form class="row" onSubmit={create}>
        <input name="name" aria-label="Name of the new playlist" placeholder="Its name" maxLength={MAX_PLAYLIST_NAME} autoFocus />
        <button>Make it</button>
        <button type="button" onClick={() => (naming.value = false)}>
          Cancel
        </button>
      </form>
    );
  }
  return (
    <select
      aria-label="Playlist"
      value={chosen}
      onChange={(event) => {
        naming.value = event.currentTarget.value === "new";
        if (!naming.value) onChoose(event.currentTarget.value);
      }}
    >
      <option value="">all songs</option>
      {playlists.value.map(({ id, name, trackCount }) => (
        <option key={id} value={id}>
          {name} ({trackCount})
        </option>
      ))}
      <option value="new">New playlist …</option>
    </select>
  );
}
