/** A phone or tablet on a music stand: only large chords and words, and a screen that stays on. */

import { effect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Practice } from "./practice.ts";

/** Shows only chords and words, in full screen if the browser supports that; or everything again. */
export function toggleStand(practice: Practice): void {
  practice.stand.value = !practice.stand.value;
  const root = document.documentElement;
  // iPhones have no full screen for pages; a refusal elsewhere leaves the large view in the window.
  if (practice.stand.value) root.requestFullscreen?.().catch(() => {});
  else if (document.fullscreenElement) void document.exitFullscreen();
}

/** Leaves the large view with the full screen, and keeps the screen on while the song plays or is on the stand. */
export function useStand(practice: Practice): void {
  useEffect(() => {
    const onFullscreen = () => {
      if (!document.fullscreenElement) practice.stand.value = false;
    };
    let lock: Promise<WakeLockSentinel | undefined> | undefined;
    const keepOn = (isWanted: boolean) => {
      if (isWanted) {
        // A device with low battery refuses.
        lock ??= navigator.wakeLock?.request("screen").catch(() => undefined);
      } else {
        void lock?.then((held) => held?.release());
        lock = undefined;
      }
    };
    const isInUse = () => practice.stand.value || !!practice.player.value?.playing.value;
    // The lock ends whenever the page is hidden, and must be requested again.
    const onVisibility = () => keepOn(document.visibilityState === "visible" && isInUse());
    const stop = effect(() => keepOn(isInUse()));
    document.addEventListener("fullscreenchange", onFullscreen);
    document.addEventListener("visibilitychange", onVisibility);
    return () => {
      stop();
      keepOn(false);
      document.removeEventListener("fullscreenchange", onFullscreen);
      document.removeEventListener("visibilitychange", onVisibility);
      if (document.fullscreenElement) void document.exitFullscreen();
    };
  }, [practice]);
}
