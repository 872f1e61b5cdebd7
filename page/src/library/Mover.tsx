import { useSignal } from "@preact/signals";
import type { Track } from "../api/types.ts";
import { fail } from "../parts/toasts.tsx";
import { filters } from "./filters.ts";
import { move, takeOut } from "./playlists.ts";
import type { Place } from "./TrackCard.tsx";

const DRAGGED = "application/x-stemtube-track";

/** Buttons that rearrange a playlist without dragging: one place up, one down, remove. */
export function Mover({ track, place }: { track: Track; place: Place }) {
  const { playlistId } = filters.value;
  const step = (label: string, sign: string, to: string | undefined) => (
    <button
      aria-label={`${track.title}: ${label}`}
      // Not disabled at the ends: a disabled button loses the focus, so keyboard users would lose their place.
      aria-disabled={!to}
      onClick={() => to && move(playlistId, track.id, to).catch(fail)}
    >
      {sign}
    </button>
  );
  return (
    <div class="mover" role="group" aria-label={`Place of ${track.title}`}>
      {step("up", "↑", place.before)}
      {step("down", "↓", place.after)}
      <button aria-label={`Remove ${track.title} from the playlist`} onClick={() => takeOut(playlistId, track).catch(fail)}>
        −
      </button>
    </div>
  );
}

/** Attributes that make a card draggable to the place of another one. */
export function useDrag(track: Track, isMovable: boolean) {
  const isOver = useSignal(false);
  if (!isMovable) return {};
  const carriesTrack = (event: DragEvent) => event.dataTransfer?.types.includes(DRAGGED);
  return {
    draggable: true,
    "data-over": isOver.value || undefined,
    onDragStart: (event: DragEvent) => event.dataTransfer!.setData(DRAGGED, track.id),
    onDragOver: (event: DragEvent) => {
      if (!carriesTrack(event)) return;
      event.preventDefault();
      isOver.value = true;
    },
    onDragLeave: () => (isOver.value = false),
    onDrop: (event: DragEvent) => {
      if (!carriesTrack(event)) return;
      event.preventDefault();
      isOver.value = false;
      move(filters.value.playlistId, event.dataTransfer!.getData(DRAGGED), track.id).catch(fail);
    },
  };
}
