import { effect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { fail } from "../parts/toasts.tsx";
import type { Practice } from "./practice.ts";

/** Has a lock screen, a headset and media keys know the song and play it. */
export function useMediaSession(practice: Practice): void {
  useEffect(() => {
    const session = navigator.mediaSession;
    if (!session) return undefined;
    const player = () => practice.player.value;
    session.setActionHandler("play", () => player()?.play().catch(fail));
    session.setActionHandler("pause", () => player()?.pause());
    session.setActionHandler("seekto", ({ seekTime }) => player()?.seek(seekTime ?? 0).catch(fail));
    session.setActionHandler("previoustrack", () => player()?.seek(0).catch(fail));
    const stop = effect(() => {
      const track = practice.track.value;
      if (!track) return;
      const artwork = track.cover ? [{ src: track.cover }] : [];
      session.metadata = new MediaMetadata({ title: track.title, artist: track.artist, artwork });
      session.playbackState = player()?.playing.value ? "playing" : "paused";
    });
    return () => {
      stop();
      session.metadata = null;
      for (const action of ["play", "pause", "seekto", "previoustrack"] as const) session.setActionHandler(action, null);
    };
  }, [practice]);
}
