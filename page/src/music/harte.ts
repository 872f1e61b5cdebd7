/** Chord labels in Harte syntax (C:maj7/3; Harte et al., ISMIR 2005): read, transposed, and written as players do. */

import type { Chord } from "../api/types.ts";
import { modulo, pitchClass, spell } from "./keys.ts";

export interface ParsedChord {
  root: number;
  /** Harte's shorthand, such as min7; "" for a chord of listed degrees only. */
  quality: string;
  /** Degrees in brackets, as they are: "9", "*5". */
  degrees: string[];
  /** Pitch class of the bass; the root's unless another is named. */
  bass: number;
}

interface Quality {
  /** Semitones above the root. */
  tones: number[];
  /** The text after the root, as players write it. */
  suffix: string;
}

const QUALITIES: Record<string, Quality> = {
  maj: { tones: [0, 4, 7], suffix: "" },
  min: { tones: [0, 3, 7], suffix: "m" },
  dim: { tones: [0, 3, 6], suffix: "dim" },
  aug: { tones: [0, 4, 8], suffix: "+" },
  maj7: { tones: [0, 4, 7, 11], suffix: "maj7" },
  min7: { tones: [0, 3, 7, 10], suffix: "m7" },
  "7": { tones: [0, 4, 7, 10], suffix: "7" },
  dim7: { tones: [0, 3, 6, 9], suffix: "dim7" },
  aug7: { tones: [0, 4, 8, 10], suffix: "+7" },
  hdim7: { tones: [0, 3, 6, 10], suffix: "m7♭5" },
  minmaj7: { tones: [0, 3, 7, 11], suffix: "m(maj7)" },
  maj6: { tones: [0, 4, 7, 9], suffix: "6" },
  min6: { tones: [0, 3, 7, 9], suffix: "m6" },
  "9": { tones: [0, 4, 7, 10, 2], suffix: "9" },
  maj9: { tones: [0, 4, 7, 11, 2], suffix: "maj9" },
  min9: { tones: [0, 3, 7, 10, 2], suffix: "m9" },
  "11": { tones: [0, 4, 7, 10, 2, 5], suffix: "11" },
  maj11: { tones: [0, 4, 7, 11, 2, 5], suffix: "maj11" },
  min11: { tones: [0, 3, 7, 10, 2, 5], suffix: "m11" },
  "13": { tones: [0, 4, 7, 10, 2, 9], suffix: "13" },
  maj13: { tones: [0, 4, 7, 11, 2, 9], suffix: "maj13" },
  min13: { tones: [0, 3, 7, 10, 2, 9], suffix: "m13" },
  sus2: { tones: [0, 2, 7], suffix: "sus2" },
  sus4: { tones: [0, 5, 7], suffix: "sus4" },
  "5": { tones: [0, 7], suffix: "5" },
  "1": { tones: [0], suffix: "1" },
  "": { tones: [0], suffix: "" },
};
const DEGREE_SEMITONES = [0, 2, 4, 5, 7, 9, 11];

/** Semitones of a degree such as 3, b7 or #11, within an octave. */
function semitonesOf(degree: string): number {
  const [, signs, number] = /^([b#]*)(\d+)$/.exec(degree) ?? [];
  if (number === undefined) return 0;
  const shift = (signs!.match(/#/g)?.length ?? 0) - (signs!.match(/b/g)?.length ?? 0);
  return modulo(DEGREE_SEMITONES[(Number(number) - 1) % 7]! + shift, 12);
}

/** The chord of a label; undefined for N, X and invalid labels. */
export function parseChord(label: string): ParsedChord | undefined {
  const match = /^([A-G][#b]*)(?::([a-z0-9]*)(?:\(([^)]*)\))?)?(?:\/([#b]*\d+))?$/.exec(label);
  const root = match ? pitchClass(match[1]!) : undefined;
  if (!match || root === undefined) return undefined;
  const quality = match[2] ?? "maj";
  if (!(quality in QUALITIES)) return undefined;
  const degrees = match[3]?.split(",").map((degree) => degree.trim()) ?? [];
  return { root, quality, degrees, bass: modulo(root + (match[4] ? semitonesOf(match[4]) : 0), 12) };
}

/** Pitch classes that sound, the bass first. */
export function tonesOf(chord: ParsedChord): number[] {
  const tones = new Set(QUALITIES[chord.quality]!.tones);
  for (const degree of chord.degrees) {
    if (degree.startsWith("*")) tones.delete(semitonesOf(degree.slice(1)));
    else tones.add(semitonesOf(degree));
  }
  return [...new Set([chord.bass, ...[...tones].map((tone) => modulo(chord.root + tone, 12))])];
}

export function transposed(chord: ParsedChord, semitones: number): ParsedChord {
  return { ...chord, root: modulo(chord.root + semitones, 12), bass: modulo(chord.bass + semitones, 12) };
}

/** A chord as players write it: F♯m7/C♯. */
export function chordName(chord: ParsedChord, flats: boolean): string {
  const more = chord.degrees.length ? `(${chord.degrees.join(",").replaceAll("b", "♭").replaceAll("#", "♯")})` : "";
  const bass = chord.bass === chord.root ? "" : `/${spell(chord.bass, flats)}`;
  return spell(chord.root, flats) + QUALITIES[chord.quality]!.suffix + more + bass;
}

export interface ChordView {
  semitones: number;
  capo: number;
  simple: boolean;
  flats: boolean;
}

/** The chord to play: after transposition, less the capo's semitones; or only its triad. */
export function shownChord({ label, triad }: Pick<Chord, "label" | "triad">, view: ChordView): ParsedChord | undefined {
  const chord = parseChord((view.simple && triad) || label);
  return chord && transposed(chord, view.semitones - view.capo);
}

/** The same as text; "N.C." where there is no chord. */
export function shownName(chord: Pick<Chord, "label" | "triad">, view: ChordView): string {
  const shown = shownChord(chord, view);
  return shown ? chordName(shown, view.flats) : chord.label === "N" ? "N.C." : chord.label;
}

/** A label from what a person types: F#m7, Bb/D, or Harte syntax itself; undefined if it is no chord. */
export function labelFromText(text: string): string | undefined {
  const plain = text.trim().replaceAll("♭", "b").replaceAll("♯", "#");
  if (/^(n|n\.?c\.?)$/i.test(plain)) return "N";
  if (plain.includes(":") && parseChord(plain)) return plain;
  const match = /^([A-G][#b]?)([^/]*)(?:\/([A-G][#b]?))?$/.exec(plain);
  if (!match) return undefined;
  const [, root, suffix, bass] = match;
  const wanted = suffix!.replaceAll("b5", "♭5");
  const quality = Object.keys(QUALITIES).find((name) => name !== "" && QUALITIES[name]!.suffix === wanted);
  if (!quality) return undefined;
  const interval = bass ? modulo(pitchClass(bass)! - pitchClass(root!)!, 12) : 0;
  return `${root}:${quality}${interval ? `/${DEGREES[interval]}` : ""}`;
}

const DEGREES = ["1", "b2", "2", "b3", "3", "4", "b5", "5", "b6", "6", "b7", "7"];
