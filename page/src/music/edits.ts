/** Corrections of a song's parts, as the API takes them: always the whole part. */

import type { Beat, Chord, Line, Section, Word } from "../api/types.ts";

/** Replaces a chord, or all chords with the same label. */
export function relabelled(chords: readonly Chord[], index: number, label: string, everywhere: boolean): Chord[] {
  const old = chords[index]!.label;
  return chords.map((chord, at) =>
    at === index || (everywhere && chord.label === old) ? { ...chord, label, confidence: 1 } : chord,
  );
}

/** Starts another chord at `from`, up to the end of the chord there. */
export function chordFrom(chords: readonly Chord[], index: number, from: number, label: string): Chord[] {
  const chord = chords[index]!;
  if (from <= chord.start || from >= chord.end) return relabelled(chords, index, label, false);
  return chords.toSpliced(index, 1, { ...chord, end: from }, { ...chord, start: from, label, confidence: 1 });
}

/** Changes the name and the start of a section; the one before it ends there. */
export function movedSection(sections: readonly Section[], index: number, label: string, start: number): Section[] {
  const section = sections[index]!;
  const before = sections[index - 1];
  const earliest = before ? before.start + 0.1 : 0;
  const begin = before ? Math.min(Math.max(start, earliest), section.end - 0.1) : 0;
  return sections.map((other, at) => {
    if (at === index) return { ...other, label, start: begin, confidence: 1 };
    return at === index - 1 ? { ...other, end: begin } : other;
  });
}

/** Divides a section at a time within it. */
export function dividedSection(sections: readonly Section[], index: number, at: number): Section[] {
  const section = sections[index]!;
  if (at <= section.start || at >= section.end) return [...sections];
  return sections.toSpliced(index, 1, { ...section, end: at }, { ...section, start: at });
}

/** Joins a section with the next one. */
export function joinedSection(sections: readonly Section[], index: number): Section[] {
  const next = sections[index + 1];
  return next ? sections.toSpliced(index, 2, { ...sections[index]!, end: next.end }) : [...sections];
}

/** Changes the words of a line: the same number keeps its times; otherwise their lengths divide the line's time. */
export function rewordedLine(line: Line, text: string): Line {
  const texts = text.trim().split(/\s+/).filter(Boolean);
  if (texts.length === line.words.length) {
    return { ...line, text: texts.join(" "), words: line.words.map((word, index) => ({ ...word, text: texts[index]! })) };
  }
  const total = texts.reduce((sum, word) => sum + word.length, 0);
  let start = line.start;
  const words: Word[] = texts.map((word) => {
    const end = Math.min(start + ((line.end - line.start) * word.length) / total, line.end);
    const timed = { start, end, text: word, confidence: 0.5 };
    start = end;
    return timed;
  });
  return { ...line, text: texts.join(" "), words };
}

/** Counts beats from a new downbeat, forwards and backwards. */
export function counted(beats: readonly Beat[], downbeat: number, beatsPerBar: number): Beat[] {
  return beats.map((beat, index) => {
    const offset = (index - downbeat) % beatsPerBar;
    return { ...beat, position: (offset < 0 ? offset + beatsPerBar : offset) + 1 };
  });
}

/** Keeps every second beat, including the downbeats. */
export function halved(beats: readonly Beat[], beatsPerBar: number): Beat[] {
  const downbeat = Math.max(beats.findIndex(({ position }) => position === 1), 0);
  const kept = beats.filter((_, index) => (index - downbeat) % 2 === 0);
  return counted(kept, Math.floor(downbeat / 2), beatsPerBar);
}

/** Doubles the beats: new ones between the old ones. */
export function doubled(beats: readonly Beat[], beatsPerBar: number): Beat[] {
  const downbeat = Math.max(beats.findIndex(({ position }) => position === 1), 0);
  const all = beats.flatMap((beat, index) => {
    const next = beats[index + 1];
    return next ? [beat, { time: (beat.time + next.time) / 2, position: 0 }] : [beat];
  });
  return counted(all, 2 * downbeat, beatsPerBar);
}

/** Shifts all beats by some seconds; those outside the song are removed. */
export function shifted(beats: readonly Beat[], seconds: number, duration: number): Beat[] {
  return beats
    .map((beat) => ({ ...beat, time: beat.time + seconds }))
    .filter(({ time }) => time >= 0 && time <= duration);
}
