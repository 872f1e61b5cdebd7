import { useComputed } from "@preact/signals";
import type { Track } from "../api/types.ts";
import { canKeep, drop, fetching, keep, kept } from "../offline/kept.ts";
import { bytes } from "../parts/format.ts";
import { fail } from "../parts/toasts.tsx";

/** Keeps a song on this device, so that it plays without the server, or removes it from there. */
export function KeepButton({ track }: { track: Track }) {
  const song = useComputed(() => kept.value.get(track.id)).value;
  const fraction = useComputed(() => fetching.value.get(track.id)).value;
  if (!canKeep || !track.durationSeconds) return null;
  const isFetching = fraction !== undefined && !song;
  return (
    <button
      aria-label={`Keep ${track.title} on this device`}
      aria-pressed={song !== undefined}
      title={song ? `On this device: ${bytes(song.bytes)}` : "Keep on this device, to play without a connection"}
      onClick={() => (song || isFetching ? drop(track.id) : keep(track.id)).catch(fail)}
    >
      {isFetching ? `${Math.round(100 * fraction)} %` : "⤓"}
    </button>
  );
}
