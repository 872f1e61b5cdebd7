/** Snaps the ends of a loop. */

import type { Track } from "../api/types.ts";
import { lastBefore, nearest } from "./find.ts";

export const SNAPS = ["beat", "bar", "section", "none"] as const;
export type Snap = (typeof SNAPS)[number];

// Beats that are further apart than a slow bar do not help.
const NEAR_SECONDS = 2;
const USUAL_BARS_SECONDS = 8;

type Known = Pick<Track, "beats" | "sections">;

function placesOf({ beats, sections }: Known, snap: Snap): number[] {
  if (snap === "none") return [];
  if (snap === "section") return sections.length ? [...sections.map(({ start }) => start), sections.at(-1)!.end] : [];
  return beats.filter(({ position }) => snap === "beat" || position === 1).map(({ time }) => time);
}

/** The beat, downbeat or end of a section that is nearest to a time; the time itself where none is near. */
export function snapped(track: Known, seconds: number, snap: Snap): number {
  return nearest(placesOf(track, snap), seconds, snap === "section" ? Infinity : NEAR_SECONDS);
}

/** A range with snapped ends; if both snap to the same point, the range between the points around its start. */
export function snappedSpan(track: Known, from: number, to: number, snap: Snap): { start: number; end: number } {
  const start = snapped(track, from, snap);
  const end = snapped(track, to, snap);
  if (start < end || snap === "none") return { start, end };
  const places = placesOf(track, snap);
  const before = lastBefore(places, from, (place) => place);
  return { start: places[before] ?? from, end: places[before + 1] ?? to };
}

/** The length of four bars at a time, in seconds. */
export function secondsOfFourBars({ beats }: Known, time: number): number {
  const downbeats = beats.filter(({ position }) => position === 1).map((beat) => beat.time);
  const first = Math.min(Math.max(lastBefore(downbeats, time, (place) => place), 0), downbeats.length - 5);
  return first >= 0 ? downbeats[first + 4]! - downbeats[first]! : USUAL_BARS_SECONDS;
}
