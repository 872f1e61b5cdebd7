/** Steps along a song. */

import type { Practice } from "./practice.ts";

// A step back from just after a beat goes to the previous one, so that pressing twice goes back two beats.
const BEHIND_SECONDS = 0.3;

/** The time of the next beat, or (direction -1) of the previous one. */
export function nextBeat(practice: Practice, direction: number): number {
  const times = practice.track.value!.beats.map(({ time }) => time);
  if (!times.length) return hereIn(practice) + direction;
  return next([0, ...times, practice.track.value!.durationSeconds], hereIn(practice), direction);
}

/** The same for sections. */
export function nextSection(practice: Practice, direction: number): number {
  const { sections, durationSeconds } = practice.track.value!;
  return next([0, ...sections.map(({ start }) => start), durationSeconds], hereIn(practice), direction);
}

function hereIn(practice: Practice): number {
  return practice.player.value?.position() ?? 0;
}

function next(times: number[], here: number, direction: number): number {
  if (direction > 0) return times.find((time) => time > here + 0.01) ?? here;
  return times.findLast((time) => time < here - BEHIND_SECONDS) ?? 0;
}
