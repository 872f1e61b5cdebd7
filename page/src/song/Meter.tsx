import { useEffect, useRef } from "preact/hooks";
import type { Player } from "../audio/player.ts";
import type { Strip } from "../audio/strip.ts";

const FLOOR_DB = -50;
const FALL_PER_PICTURE = 0.025;

/** The level of one stem, rising at once and falling slowly. */
export function Meter({ strip, player }: { strip: Strip; player: Player }) {
  const bar = useRef<HTMLDivElement>(null);
  const isPlaying = player.playing.value;
  useEffect(() => {
    let shown = 0;
    let picture = 0;
    const draw = () => {
      const level = strip.level();
      const height = level > 0 ? Math.max(1 - (20 * Math.log10(level)) / FLOOR_DB, 0) : 0;
      shown = Math.max(Math.min(height, 1), shown - FALL_PER_PICTURE);
      if (bar.current) bar.current.style.transform = `scaleX(${shown})`;
      if (isPlaying || shown > 0) picture = requestAnimationFrame(draw);
    };
    draw();
    return () => cancelAnimationFrame(picture);
  }, [strip, isPlaying]);
  return (
    <div class="meter" aria-hidden="true">
      <div ref={bar} />
    </div>
  );
}
