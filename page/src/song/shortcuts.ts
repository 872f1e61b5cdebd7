/** Keyboard shortcuts while a song is shown. */

import { useEffect } from "preact/hooks";
import { fail } from "../parts/toasts.tsx";
import type { Practice } from "./practice.ts";
import { setEnd, toggleLoop } from "./loops.ts";
import { nextBeat, nextSection } from "./steps.ts";
import { toggleStand } from "./stand.ts";

const SOLO_MS = 1500;

export const SHORTCUTS: [string, string][] = [
  ["Space", "play, pause"],
  ["← →", "a beat back, forward"],
  ["Shift ← →", "a section back, forward"],
  ["↑ ↓", "tempo by 5 %"],
  ["Shift ↑ ↓", "pitch by a semitone"],
  ["1 … 9", "mute a stem"],
  ["S, then 1 … 9", "solo a stem"],
  ["L", "loop the section, or end the loop"],
  ["[ ]", "loop begins, ends here"],
  ["M", "metronome"],
  ["Home", "to the beginning"],
  ["F", "music stand: only large chords and words"],
  ["E, L on a section", "correct it, repeat it"],
  ["?", "this list"],
];

/** Listens to keys as long as the song is shown. */
export function useShortcuts(practice: Practice, showHelp: () => void): void {
  useEffect(() => {
    let soloUntil = 0;
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTaken(event)) return;
      const isSolo = event.timeStamp < soloUntil;
      soloUntil = event.key === "s" || event.key === "S" ? event.timeStamp + SOLO_MS : 0;
      if (event.key === "?") showHelp();
      else if (!obey(practice, event, isSolo)) return;
      event.preventDefault();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [practice]);
}

/** Whether a key belongs to the element with the focus: text, a choice, a slider's arrows, a button's space. */
function isTaken(event: KeyboardEvent): boolean {
  const target = event.target as HTMLElement;
  if (document.querySelector("dialog[open]")) return true;
  if (target instanceof HTMLInputElement && target.type === "range") return event.key.startsWith("Arrow") || event.key === "Home";
  if (target.closest("input, select, textarea, [contenteditable]")) return true;
  if (target.closest("button, a, summary")) return event.key === " " || event.key === "Enter";
  return false;
}

/** Runs the shortcut of a key; false if it has none. */
function obey(practice: Practice, event: KeyboardEvent, isSolo: boolean): boolean {
  const player = practice.player.value;
  if (!player) return false;
  const direction = event.key === "ArrowRight" || event.key === "ArrowUp" ? 1 : -1;
  switch (event.key) {
    case " ":
    case "MediaPlayPause":
      player.toggle().catch(fail);
      return true;
    case "ArrowLeft":
    case "ArrowRight":
      player.seek(event.shiftKey ? nextSection(practice, direction) : nextBeat(practice, direction)).catch(fail);
      return true;
    case "ArrowUp":
    case "ArrowDown":
      if (event.shiftKey) player.setSemitones(player.semitones.value + direction);
      else player.setRate(player.rate.value + 0.05 * direction);
      return true;
    case "Home":
      player.seek(0).catch(fail);
      return true;
    case "[":
      setEnd(practice, "start");
      return true;
    case "]":
      setEnd(practice, "end");
      return true;
    case "l":
    case "L":
      toggleLoop(practice);
      return true;
    case "m":
    case "M":
      player.clicks.on.value = !player.clicks.on.value;
      return true;
    case "f":
    case "F":
      toggleStand(practice);
      return true;
    case "s":
    case "S":
      return true;
  }
  const strip = /^[1-9]$/.test(event.key) ? player.strips[Number(event.key) - 1] : undefined;
  if (!strip) return false;
  const state = isSolo ? strip.solo : strip.muted;
  state.value = !state.value;
  return true;
}
