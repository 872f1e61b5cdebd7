import { useEffect, useRef } from "preact/hooks";
import type { Chord, Line, Section, Track } from "../api/types.ts";
import { words } from "../parts/format.ts";
import { scrollToMiddle } from "../parts/motion.ts";
import type { Practice } from "./practice.ts";

interface Piece {
  chord: Chord | undefined;
  text: string;
}

/** The lyrics with the chords above them, section by section. */
export function Songbook({ practice }: { practice: Practice }) {
  const track = practice.track.value!;
  const box = useRef<HTMLDivElement>(null);
  const now = practice.line.value;
  useEffect(() => scrollToMiddle(box.current, box.current?.querySelector<HTMLElement>(".now")), [now]);
  const sections: Pick<Section, "start" | "end" | "label">[] = track.sections.length
    ? track.sections
    : [{ start: 0, end: track.durationSeconds, label: "" }];
  return (
    <div class="songbook" ref={box} tabIndex={0} role="region" aria-label="Songbook">
      {sections.map((section, index) => (
        <div key={index}>
          {section.label && <h3>{words(section.label)}</h3>}
          <Lines practice={practice} track={track} section={section} />
        </div>
      ))}
    </div>
  );
}

function Lines({ practice, track, section }: { practice: Practice; track: Track; section: { start: number; end: number } }) {
  // By its middle: a line may begin with an upbeat before its section.
  const lines = (track.lyrics?.lines ?? []).filter(({ start, end }) => {
    const middle = (start + end) / 2;
    return middle >= section.start && middle < section.end;
  });
  if (!lines.length) {
    const chords = track.chords.filter(({ start }) => start >= section.start && start < section.end);
    return <p class="only-chords">{chords.map((chord) => practice.nameOf(chord)).join("  ")}</p>;
  }
  return (
    <>
      {lines.map((line, index) => (
        <p key={index} class={line === track.lyrics!.lines[practice.line.value] ? "book-line now" : "book-line"}>
          {piecesOf(track, line, lines[index + 1]?.start ?? section.end).map(({ chord, text }, at) => (
            <span key={at} class="piece">
              <b>{chord ? practice.nameOf(chord) : "\u00a0"}</b>
              <span>{text}</span>
            </span>
          ))}
        </p>
      ))}
    </>
  );
}

/** A line divided where chords change: each word has the chord that begins with it or during it. */
function piecesOf(track: Track, line: Line, until: number): Piece[] {
  const items = line.words.length ? line.words : [{ start: line.start, text: line.text }];
  const pieces: Piece[] = [];
  items.forEach(({ start, text }, index) => {
    const end = items[index + 1]?.start ?? until;
    const from = index === 0 ? Math.min(start, line.start) - 0.2 : start - 0.1;
    const chords = track.chords.filter((chord) => chord.start >= from && chord.start < end - 0.1 && chord.label !== "N");
    const held = index === 0 && !chords.length ? track.chords.findLast((chord) => chord.start <= start) : undefined;
    pieces.push({ chord: chords[0] ?? held, text: `${text} ` });
    for (const chord of chords.slice(1)) pieces.push({ chord, text: "  " });
  });
  return pieces;
}
