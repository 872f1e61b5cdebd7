/** Guitar fingerings of chords, from the collection chords-db. */

import guitar from "@tombatossals/chords-db/lib/guitar.json" with { type: "json" };
import type { ParsedChord } from "./harte.ts";

export interface Shape {
  /** From the lowest string; -1: not played, 0: open, else counted from `baseFret`. */
  frets: number[];
  fingers: number[];
  baseFret: number;
}

const KEYS = ["C", "Csharp", "D", "Eb", "E", "F", "Fsharp", "G", "Ab", "A", "Bb", "B"];
const SUFFIXES: Record<string, string> = {
  maj: "major",
  min: "minor",
  min7: "m7",
  hdim7: "m7b5",
  minmaj7: "mmaj7",
  maj6: "6",
  min6: "m6",
  min9: "m9",
  min11: "m11",
  "maj(9)": "add9",
  "min(9)": "madd9",
  "maj6(9)": "69",
  "min6(9)": "m69",
  "7(b9)": "7b9",
  "7(#9)": "7#9",
  "sus4(b7)": "7sus4",
};
const BASSES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "Bb", "B"];

interface Entry {
  suffix: string;
  positions: Shape[];
}

/**
 * The usual fingerings of a chord, the easiest first. Tones that the collection lacks are left out, the bass first;
 * none if it does not know the chord at all.
 */
export function guitarShapes(chord: ParsedChord): Shape[] {
  const entries = (guitar.chords as Record<string, Entry[]>)[KEYS[chord.root]!] ?? [];
  const { quality, degrees, bass, root } = chord;
  const overBass = bass === root ? [] : [`${quality === "min" ? "m" : ""}/${BASSES[bass]}`];
  const names = [
    ...(degrees.length === 0 && (quality === "maj" || quality === "min") ? overBass : []),
    ...(degrees.length > 0 ? [SUFFIXES[`${quality}(${degrees.join()})`]] : []),
    SUFFIXES[quality] ?? quality,
  ];
  for (const name of names) {
    const entry = entries.find(({ suffix }) => suffix === name);
    if (entry) return entry.positions;
  }
  return [];
}
