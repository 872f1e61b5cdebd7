import { useEffect, useMemo } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { JobBars } from "../library/JobBars.tsx";
import { jobs } from "../library/state.ts";
import { keyName } from "../music/keys.ts";
import { tuningDetail, tuningName } from "../music/tuning.ts";
import { ChordPanel } from "./ChordPanel.tsx";
import { ExportMenu } from "./ExportMenu.tsx";
import { LyricsPanel } from "./LyricsPanel.tsx";
import { Mixer } from "./Mixer.tsx";
import { Practice } from "./practice.ts";
import { useStand } from "./stand.ts";
import { useShortcuts } from "./shortcuts.ts";
import { ShortcutList } from "./ShortcutList.tsx";
import { Transport } from "./Transport.tsx";
import { BeatsDialog, KeyDialog } from "./EditDialogs.tsx";
import { useMediaSession } from "./mediaSession.ts";

/** One song: mixer, sections, chords, lyrics, and the controls for practice. */
export function SongView({ id }: { id: string }) {
  const practice = useMemo(() => new Practice(id), [id]);
  const help = useSignal(false);
  useEffect(() => practice.start(), [practice]);
  useShortcuts(practice, () => (help.value = !help.value));
  useMediaSession(practice);
  useStand(practice);
  const track = practice.track.value;
  if (!track) return <p class="empty">{practice.notice.value || "Loading …"}</p>;
  const job = jobs.value.get(id);
  return (
    <article class={practice.stand.value ? "song stand" : "song"} aria-label={track.title} onClick={giveFocusBack}>
      <Title practice={practice} />
      {job && <JobBars job={job} />}
      {(track.fileNotes ?? []).map((note) => (
        <p class="faint" role="note" key={note.reason}>
          About the file: {note.message}.
        </p>
      ))}
      {practice.notice.value && (
        <p class="error" role="alert">
          {practice.notice}
        </p>
      )}
      <Mixer practice={practice} />
      <div class="parts">
        <ChordPanel practice={practice} />
        <LyricsPanel practice={practice} />
      </div>
      <Transport practice={practice} onHelp={() => (help.value = true)} />
      {help.value && <ShortcutList onClose={() => (help.value = false)} />}
    </article>
  );
}

/** A clicked button gives up the focus; otherwise the space bar would press it again and not play. */
function giveFocusBack(event: MouseEvent) {
  const isPointer = event instanceof PointerEvent && event.pointerType !== "";
  const button = (event.target as Element).closest<HTMLElement>("button, summary");
  if (isPointer && !button?.closest("dialog")) button?.blur();
}

function Title({ practice }: { practice: Practice }) {
  const track = practice.track.value!;
  const player = practice.player.value;
  const dialog = useSignal<"" | "beats" | "key">("");
  const bpm = practice.bpm.value;
  const key = keyName(practice.key.value, player?.semitones.value) || "no key";
  const close = () => (dialog.value = "");
  return (
    <header class="title">
      <div>
        <h1>{track.title}</h1>
        <p class="faint">{track.artist}</p>
      </div>
      <div class="row">
        {track.key && (
          <button onClick={() => (dialog.value = "key")} aria-label={`Key: ${key}. Correct it`}>
            {key}
          </button>
        )}
        {tuningName(track.tuning) && (
          <span class="faint" title={tuningDetail(track.tuning!)}>
            {tuningName(track.tuning)}
          </span>
        )}
        {track.beats.length > 0 && (
          <button onClick={() => (dialog.value = "beats")} aria-label={`Tempo: ${bpm} BPM. Correct the beats`}>
            {bpm} BPM
            {track.beatsPerBar > 0 && `, ${track.beatsPerBar} beats a bar`}
          </button>
        )}
        <ExportMenu practice={practice} />
      </div>
      {dialog.value === "beats" && <BeatsDialog practice={practice} onClose={close} />}
      {dialog.value === "key" && <KeyDialog practice={practice} onClose={close} />}
    </header>
  );
}
