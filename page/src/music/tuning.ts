/** The tuning of a song, as musicians write it. */

import type { Tuning } from "../api/types.ts";

const STANDARD_HZ = 440;

/** The song's A, such as "A = 432 Hz"; empty if nothing has a pitch. */
export function tuningName(tuning: Tuning | undefined): string {
  if (!tuning?.confidence) return "";
  return `A = ${Math.round(STANDARD_HZ * 2 ** (tuning.cents / 1200))} Hz`;
}

/** More about it, in one sentence or two: "32 cents below A = 440 Hz." */
export function tuningDetail(tuning: Tuning): string {
  const cents = Math.round(tuning.cents);
  const place = cents === 0 ? "As A = 440 Hz" : `${Math.abs(cents)} cents ${cents < 0 ? "below" : "above"} A = 440 Hz`;
  const offsets = tuning.curve.map((point) => Math.round(point.cents));
  const drift = offsets.length > 0 ? `; drifts from ${Math.min(...offsets)} to ${Math.max(...offsets)} cents` : "";
  const between = tuning.ambiguous ? " This is between two semitones: keys and chords may be named a semitone off." : "";
  return `${place}${drift}.${between}`;
}
