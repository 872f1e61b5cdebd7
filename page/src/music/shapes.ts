/** How chords are held on a guitar, from the collection chords-db. */

import guitar from "@tombatossals/chords-db/lib/guitar.json";
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
};

interface Entry {
  suffix: string;
  positions: Shape[];
}

/** The usual ways to hold a chord, the easiest first; its bass is left to the bass player. None if it has no name there. */
export function guitarShapes(chord: ParsedChord): Shape[] {
  const entries = (guitar.chords as Record<string, Entry[]>)[KEYS[chord.root]!] ?? [];
  const suffix = SUFFIXES[chord.quality] ?? chord.quality;
  return entries.find((entry) => entry.suffix === suffix)?.positions ?? [];
}
