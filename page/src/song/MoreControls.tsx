import type { Player } from "../audio/player.ts";
import { SNAPS, type Snap } from "../music/snap.ts";
import type { Practice } from "./practice.ts";
import { TrainerControls } from "./TrainerControls.tsx";

const SNAP_NAMES: Record<Snap, string> = { beat: "beats", bar: "bars", section: "sections", none: "any place" };
const PACES: [number, string][] = [
  [0.5, "½"],
  [1, "1"],
  [2, "2"],
];

/** Settings that are rarely changed: the clicks, the count-in, where loops snap to, the speed trainer. */
export function MoreControls({ practice, player }: { practice: Practice; player: Player }) {
  const { clicks, countIn } = player;
  return (
    <div class="more row">
      <label>
        Clicks per beat
        <select value={clicks.pace} onChange={(event) => (clicks.pace.value = Number(event.currentTarget.value))}>
          {PACES.map(([pace, text]) => (
            <option key={pace} value={pace}>
              {text}
            </option>
          ))}
        </select>
      </label>
      <label>
        Click volume
        <input
          type="range"
          min={0.05}
          max={1}
          step={0.05}
          value={clicks.volume}
          onInput={(event) => (clicks.volume.value = event.currentTarget.valueAsNumber)}
        />
      </label>
      <label>
        Count-in
        <select value={countIn} onChange={(event) => (countIn.value = Number(event.currentTarget.value))}>
          <option value={0}>none</option>
          <option value={1}>1 bar</option>
          <option value={2}>2 bars</option>
        </select>
      </label>
      <label>
        Loops snap to
        <select
          value={practice.snapTo}
          onChange={(event) => (practice.snapTo.value = event.currentTarget.value as Snap)}
        >
          {SNAPS.map((snap) => (
            <option key={snap} value={snap}>
              {SNAP_NAMES[snap]}
            </option>
          ))}
        </select>
      </label>
      <TrainerControls practice={practice} player={player} />
    </div>
  );
}
