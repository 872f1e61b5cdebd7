/** Setting loops. */

import type { Section } from "../api/types.ts";
import { secondsOfFourBars, snapped } from "../music/snap.ts";
import type { Practice } from "./practice.ts";

/** Sets one end of the loop to the audible position, snapped; the other end stays, or is four bars away. */
export function setEnd(practice: Practice, which: "start" | "end"): void {
  const player = practice.player.value;
  if (!player) return;
  const track = practice.track.value!;
  const snap = (seconds: number) => snapped(track, seconds, practice.snapTo.value);
  const here = snap(player.position());
  const span = secondsOfFourBars(track, here);
  let { start, end } = player.loop.value ?? { start: here, end: here };
  if (which === "start") start = here;
  else end = here;
  if (start >= end && which === "start") end = Math.min(snap(here + span), player.duration);
  if (start >= end && which === "end") start = Math.max(snap(here - span), 0);
  player.setLoop({ start, end });
}

/** Repeats the section that is heard now, or ends the loop. */
export function toggleLoop(practice: Practice): void {
  const player = practice.player.value;
  if (!player) return;
  if (player.loop.value) return player.setLoop(null);
  const section = practice.track.value!.sections[practice.section.value];
  if (section) repeat(practice, section);
  else setEnd(practice, "start");
}

/** Repeats a section. */
export function repeat(practice: Practice, { start, end }: Section): void {
  practice.player.value?.setLoop({ start, end });
}
