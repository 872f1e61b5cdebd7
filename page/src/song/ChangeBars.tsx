/** Changes of key and drifts of tempo over the song's length, if there are any. */

import type { KeyRegion, TempoPoint } from "../api/types.ts";
import { keyName } from "../music/keys.ts";
import { clock } from "../parts/format.ts";
import { fail } from "../parts/toasts.tsx";
import type { Practice } from "./practice.ts";

export function ChangeBars({ practice }: { practice: Practice }) {
  const { key, tempo, durationSeconds } = practice.track.value!;
  const regions = key?.regions ?? [];
  const curve = tempo?.curve ?? [];
  return (
    <>
      {regions.length > 1 && <KeyBar practice={practice} regions={regions} duration={durationSeconds} />}
      {curve.length > 1 && <TempoBar curve={curve} rate={practice.player.value?.rate.value ?? 1} duration={durationSeconds} />}
    </>
  );
}

function KeyBar({ practice, regions, duration }: { practice: Practice; regions: KeyRegion[]; duration: number }) {
  const semitones = practice.player.value?.semitones.value ?? 0;
  return (
    <div class="sections">
      <div class="controls faint">Keys</div>
      <ol aria-label="Keys">
        {regions.map((region, index) => (
          <li key={index} style={{ width: `${((region.end - region.start) / duration) * 100}%` }}>
            <button
              aria-current={region === practice.key.value ? "true" : undefined}
              title={`${keyName(region, semitones)}, ${clock(region.start)}`}
              onClick={() => practice.player.value?.seek(region.start).catch(fail)}
            >
              {keyName(region, semitones)}
            </button>
          </li>
        ))}
      </ol>
    </div>
  );
}

const HEIGHT = 24;

function TempoBar({ curve, rate, duration }: { curve: TempoPoint[]; rate: number; duration: number }) {
  const tempi = curve.map(({ bpm }) => bpm * rate);
  const lowest = Math.min(...tempi);
  const highest = Math.max(...tempi);
  const y = (bpm: number) => HEIGHT - 3 - ((bpm - lowest) / (highest - lowest || 1)) * (HEIGHT - 6);
  const range = `${Math.round(lowest)} to ${Math.round(highest)} BPM`;
  return (
    <div class="sections">
      <div class="controls faint">{range}</div>
      <svg
        class="tempo"
        role="img"
        aria-label={`Tempo, ${range}`}
        viewBox={`0 0 ${duration} ${HEIGHT}`}
        preserveAspectRatio="none"
      >
        <polyline points={curve.map(({ time }, index) => `${time},${y(tempi[index]!)}`).join(" ")} />
      </svg>
    </div>
  );
}
