import { computed, effect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { fail } from "../parts/toasts.tsx";
import type { Practice } from "./practice.ts";
import { nextSection } from "./steps.ts";

const STEP_SECONDS = 10;

/**
 * Lets a lock screen, a headset and media keys show the song and play it.
 *
 * Browsers support these only for media elements, not for Web Audio, so a silent element plays.
 */
export function useMediaSession(practice: Practice): void {
  useEffect(() => {
    const session = navigator.mediaSession;
    if (!session) return undefined;
    const silence = new Audio("/silence.flac");
    silence.loop = true;
    const player = () => practice.player.value;
    const seek = (seconds: number) => player()?.seek(seconds).catch(fail);
    const handlers: Partial<Record<MediaSessionAction, MediaSessionActionHandler>> = {
      play: () => player()?.play().catch(fail),
      pause: () => player()?.pause(),
      seekto: ({ seekTime }) => seek(seekTime ?? 0),
      seekbackward: ({ seekOffset }) => seek(practice.position.value - (seekOffset ?? STEP_SECONDS)),
      seekforward: ({ seekOffset }) => seek(practice.position.value + (seekOffset ?? STEP_SECONDS)),
      previoustrack: () => seek(nextSection(practice, -1)),
      nexttrack: () => seek(nextSection(practice, 1)),
    };
    for (const [action, handler] of Object.entries(handlers)) session.setActionHandler(action as MediaSessionAction, handler);
    const stopTelling = effect(() => {
      const track = practice.track.value;
      if (!track) return;
      const artwork = track.cover ? [{ src: track.cover }] : [];
      session.metadata = new MediaMetadata({ title: track.title, artist: track.artist, artwork });
    });
    const stopPlaying = effect(() => {
      const isPlaying = player()?.playing.value ?? false;
      session.playbackState = isPlaying ? "playing" : "paused";
      // Without it only the media keys are missing.
      if (isPlaying) silence.play().catch(() => {});
      else silence.pause();
    });
    const second = computed(() => Math.floor(practice.position.value));
    const stopMoving = effect(() => {
      const duration = practice.track.value?.durationSeconds;
      if (!duration) return;
      // Updated once a second: in between, the system extrapolates by the rate.
      const position = Math.min(second.value, duration);
      session.setPositionState({ duration, position, playbackRate: player()?.rate.value ?? 1 });
    });
    return () => {
      for (const stop of [stopTelling, stopPlaying, stopMoving]) stop();
      silence.pause();
      session.metadata = null;
      session.setPositionState();
      for (const action of Object.keys(handlers)) session.setActionHandler(action as MediaSessionAction, null);
    };
  }, [practice]);
}
