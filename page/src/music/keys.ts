/** Keys, and how their notes are spelt. */

import type { Key } from "../api/types.ts";
import { spanAt } from "./find.ts";

export const TONICS = ["C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"];
const SHARPS = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];
const FLATS = ["C", "D♭", "D", "E♭", "E", "F", "G♭", "G", "A♭", "A", "B♭", "B"];
const LETTERS: Record<string, number> = { C: 0, D: 2, E: 4, F: 5, G: 7, A: 9, B: 11 };
// Major keys with flats in their signature; F# (six sharps) rather than Gb.
const FLAT_MAJOR_KEYS = new Set([1, 3, 5, 8, 10]);

/** The pitch class of a note name such as C, F# or Bb, from 0 (C) to 11; undefined if it is none. */
export function pitchClass(note: string): number | undefined {
  const letter = LETTERS[note[0] ?? ""];
  if (letter === undefined || !/^[A-G](#*|b*)$/.test(note)) return undefined;
  const shift = (note.length - 1) * (note[1] === "b" ? -1 : 1);
  return modulo(letter + shift, 12);
}

export function modulo(value: number, by: number): number {
  return ((value % by) + by) % by;
}

/** A tonic and a mode. */
export type Tonality = Pick<Key, "tonic" | "mode">;

/** The key at a time: the main one where no regions are known. */
export function keyAt(key: Key | undefined, time: number): Tonality | undefined {
  const regions = key?.regions ?? [];
  return regions[spanAt(regions, time)] ?? key;
}

/** Whether music in a key, transposed by semitones, is written with flats. */
export function usesFlats(key: Tonality | undefined, semitones: number): boolean {
  const tonic = key && pitchClass(key.tonic);
  if (tonic === undefined) return false;
  const relativeMajor = key!.mode === "minor" ? tonic + 3 : tonic;
  return FLAT_MAJOR_KEYS.has(modulo(relativeMajor + semitones, 12));
}

/** The name of a pitch class. */
export function spell(pitch: number, flats: boolean): string {
  return (flats ? FLATS : SHARPS)[modulo(pitch, 12)]!;
}

/** A key as people write it, transposed by semitones: "B♭ minor"; empty if nothing tonal was found. */
export function keyName(key: Tonality | undefined, semitones = 0): string {
  const tonic = key && pitchClass(key.tonic);
  if (tonic === undefined) return "";
  return `${spell(tonic + semitones, usesFlats(key, semitones))} ${key!.mode}`;
}
