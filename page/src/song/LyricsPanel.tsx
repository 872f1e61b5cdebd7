import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Line } from "../api/types.ts";
import { lastBefore } from "../music/find.ts";
import { scrollToMiddle } from "../parts/motion.ts";
import { fail } from "../parts/toasts.tsx";
import { LineDialog } from "./EditDialogs.tsx";
import { EARLY_SECONDS, type Practice } from "./practice.ts";
import { Songbook } from "./Songbook.tsx";

/** Lyrics: as karaoke that follows the song, or as a songbook with chords above them; only chords in instrumentals. */
export function LyricsPanel({ practice }: { practice: Practice }) {
  const { lyrics, chords } = practice.track.value!;
  const { words } = practice;
  const lines = lyrics?.lines ?? [];
  if (!lines.length && !chords.length) return null;
  return (
    <section class="panel lyrics" aria-label="Words">
      {lines.length > 0 && (
        <div class="row">
          <button aria-pressed={words.value === "karaoke"} onClick={() => (words.value = "karaoke")}>
            Karaoke
          </button>
          <button aria-pressed={words.value === "book"} onClick={() => (words.value = "book")}>
            Songbook
          </button>
        </div>
      )}
      {lines.length > 0 && words.value === "karaoke" ? (
        <Karaoke practice={practice} lines={lines} />
      ) : (
        <Songbook practice={practice} />
      )}
    </section>
  );
}

function Karaoke({ practice, lines }: { practice: Practice; lines: Line[] }) {
  const box = useRef<HTMLOListElement>(null);
  const editing = useSignal<number | null>(null);
  const current = practice.line.value;
  useEffect(() => scrollToMiddle(box.current, box.current?.children[Math.max(current, 0)] as HTMLElement), [current]);
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

/** @param word index of the last word that has begun; -1 for none. */
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
