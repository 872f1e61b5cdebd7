import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Line } from "../api/types.ts";
import { lastBefore } from "../music/find.ts";
import { fail } from "../parts/toasts.tsx";
import { LineDialog } from "./EditDialogs.tsx";
import type { Practice } from "./practice.ts";
import { Songbook } from "./Songbook.tsx";

// A word is shown a little early: eyes need to be there before the voice.
const EARLY_SECONDS = 0.06;

/** The words: as karaoke that follows the song, or as a songbook with chords above them. */
export function LyricsPanel({ practice }: { practice: Practice }) {
  const lines = practice.track.value!.lyrics?.lines ?? [];
  const asBook = useSignal(false);
  if (!lines.length) return null;
  return (
    <section class="panel lyrics" aria-label="Words">
      <div class="row">
        <button aria-pressed={!asBook.value} onClick={() => (asBook.value = false)}>
          Karaoke
        </button>
        <button aria-pressed={asBook.value} onClick={() => (asBook.value = true)}>
          Songbook
        </button>
      </div>
      {asBook.value ? <Songbook practice={practice} /> : <Karaoke practice={practice} lines={lines} />}
    </section>
  );
}

function Karaoke({ practice, lines }: { practice: Practice; lines: Line[] }) {
  const box = useRef<HTMLOListElement>(null);
  const editing = useSignal<number | null>(null);
  const place = useComputed(() => {
    const time = practice.position.value + EARLY_SECONDS;
    return lastBefore(practice.track.value?.lyrics?.lines ?? [], time, ({ start }) => start);
  });
  const current = place.value;
  useEffect(() => {
    const line = box.current?.children[Math.max(current, 0)] as HTMLElement | undefined;
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (line) {
      const top = line.offsetTop - box.current!.clientHeight / 2 + line.clientHeight / 2;
      box.current!.scrollTo({ top, behavior: isCalm ? "auto" : "smooth" });
    }
  }, [current]);
  return (
    <>
      <ol class="karaoke" ref={box} tabIndex={0} aria-label="Lines">
        {lines.map((line, index) => (
          <li key={index} class={index === current ? "now" : index < current ? "sung" : ""}>
            {index === current ? <SungLine practice={practice} line={line} /> : <Words practice={practice} line={line} word={-1} />}
            <button class="plain edit" aria-label={`Correct: ${line.text}`} onClick={() => (editing.value = index)}>
              ✎
            </button>
          </li>
        ))}
      </ol>
      {editing.value !== null && (
        <LineDialog practice={practice} index={editing.value} onClose={() => (editing.value = null)} />
      )}
    </>
  );
}

function SungLine({ practice, line }: { practice: Practice; line: Line }) {
  const word = useComputed(() => lastBefore(line.words, practice.position.value + EARLY_SECONDS, ({ start }) => start));
  return <Words practice={practice} line={line} word={word.value} />;
}

/** @param word the last one that is sung by now; -1 for none. */
function Words({ practice, line, word }: { practice: Practice; line: Line; word: number }) {
  const go = (seconds: number) => practice.player.value?.seek(seconds).catch(fail);
  if (!line.words.length) return <span onClick={() => go(line.start)}>{line.text}</span>;
  return (
    <span>
      {line.words.map(({ start, text }, index) => (
        <span
          key={index}
          class={index === word ? "word now" : index < word ? "word sung" : "word"}
          onClick={() => go(start)}
        >
          {text}{" "}
        </span>
      ))}
    </span>
  );
}
