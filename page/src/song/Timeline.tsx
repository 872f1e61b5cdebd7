import { useSignalEffect } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { fail } from "../parts/toasts.tsx";
import { snappedSpan } from "../music/snap.ts";
import type { Practice } from "./practice.ts";

const DRAG_PIXELS = 6;

/**
 * The playhead, the loop and the loaded range over the song's length. A click goes to a position, a drag makes a
 * loop from beat to beat, or from section to section. Its children's last column is the song's length.
 */
export function Timeline({ practice, children }: { practice: Practice; children: ComponentChildren }) {
  const area = useRef<HTMLDivElement>(null);
  const head = useRef<HTMLDivElement>(null);
  const dragFrom = useRef<number | null>(null);
  const player = practice.player.value;
  const duration = practice.track.value!.durationSeconds;
  const loop = player?.loop.value;

  useSignalEffect(() => {
    if (head.current) head.current.style.left = `${(practice.position.value / duration) * 100}%`;
  });

  const placeOf = (event: PointerEvent) => {
    const { left, width } = area.current!.getBoundingClientRect();
    return { pixel: event.clientX - left, seconds: ((event.clientX - left) / width) * duration };
  };

  function down(event: PointerEvent) {
    if (event.button !== 0) return;
    dragFrom.current = placeOf(event).pixel;
    (event.currentTarget as Element).setPointerCapture(event.pointerId);
  }

  function move(event: PointerEvent) {
    const from = dragFrom.current;
    const { pixel } = placeOf(event);
    if (from === null || !player || Math.abs(pixel - from) < DRAG_PIXELS) return;
    const { width } = area.current!.getBoundingClientRect();
    const [first, last] = [from, pixel].toSorted((one, other) => one - other).map((at) => (at / width) * duration);
    const { start, end } = snappedSpan(practice.track.value!, first!, last!, practice.snapTo.value);
    if (start < end) player.loop.value = { start: Math.max(start, 0), end: Math.min(end, duration) };
  }

  function up(event: PointerEvent) {
    const from = dragFrom.current;
    dragFrom.current = null;
    if (from === null || !player) return;
    const { pixel, seconds } = placeOf(event);
    if (Math.abs(pixel - from) < DRAG_PIXELS) player.seek(seconds).catch(fail);
    else player.setLoop(player.loop.value);
  }

  return (
    <div class="timeline">
      {children}
      <div class="overlay" ref={area} onPointerDown={down} onPointerMove={move} onPointerUp={up} aria-hidden="true">
        {loop && <Span class="loop" start={loop.start} end={loop.end} duration={duration} />}
        {player && <Span class="loaded" start={0} end={player.bufferedUntil.value} duration={duration} />}
        <div class="playhead" ref={head} />
      </div>
    </div>
  );
}

function Span(properties: { class: string; start: number; end: number; duration: number }) {
  const left = (properties.start / properties.duration) * 100;
  const width = ((properties.end - properties.start) / properties.duration) * 100;
  return <div class={properties.class} style={{ left: `${left}%`, width: `${width}%` }} />;
}
