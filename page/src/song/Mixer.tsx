import type { Player } from "../audio/player.ts";
import type { Strip } from "../audio/strip.ts";
import { separateAgain } from "../library/state.ts";
import { words } from "../parts/format.ts";
import { fail } from "../parts/toasts.tsx";
import { ChangeBars } from "./ChangeBars.tsx";
import { Meter } from "./Meter.tsx";
import type { Practice } from "./practice.ts";
import { SectionBar } from "./SectionBar.tsx";
import { Timeline } from "./Timeline.tsx";
import { Wave } from "./Wave.tsx";

/** A row per stem, all over one timeline with the sections. */
export function Mixer({ practice }: { practice: Practice }) {
  const player = practice.player.value;
  const sound = practice.sound.value;
  return (
    <section class="mixer" aria-label="Mixer">
      <div class="mixer-head">
        <ModelChoice practice={practice} />
        {sound?.kind === "live" && <span class="faint">The stems are still being made; what is there can be heard.</span>}
        {sound?.kind === "mix" && <span class="faint">There are no stems yet; this is the mix.</span>}
      </div>
      {sound?.substitution && (
        <details class="faint">
          <summary>{sound.model} made these stems in place of a better model</summary>
          <p>{sound.substitution}. Then make the stems again.</p>
          <button onClick={() => void separateAgain(practice.track.value!).catch(fail)}>Make the stems again</button>
        </details>
      )}
      <Timeline practice={practice}>
        <SectionBar practice={practice} />
        <ChangeBars practice={practice} />
        {sound?.sources.map((source, index) => (
          <div class="strip" key={source.name} role="group" aria-label={words(source.name)}>
            {player?.strips[index]?.name === source.name ? (
              <Controls strip={player.strips[index]!} number={index + 1} player={player} />
            ) : (
              <div class="controls">
                <span class="stem">{words(source.name)}</span>
              </div>
            )}
            <Wave
              path={sound.peaks[index] ?? ""}
              duration={practice.track.value!.durationSeconds}
              hue={index}
              muted={!!player && !isHeard(player, index)}
            />
          </div>
        ))}
      </Timeline>
    </section>
  );
}

function isHeard(player: Player, index: number): boolean {
  const strip = player.strips[index];
  if (!strip) return true;
  const anySolo = player.strips.some(({ solo }) => solo.value);
  return !strip.muted.value && (!anySolo || strip.solo.value);
}

function ModelChoice({ practice }: { practice: Practice }) {
  const { models } = practice;
  if (models.length < 2) return null;
  return (
    <label>
      <span class="hidden">Stems by</span>
      <select
        value={practice.model.value || models[0]!}
        onChange={(event) => (practice.model.value = event.currentTarget.value)}
      >
        {models.map((model) => (
          <option key={model}>{model}</option>
        ))}
      </select>
    </label>
  );
}

function Controls({ strip, number, player }: { strip: Strip; number: number; player: Player }) {
  const name = words(strip.name);
  return (
    <div class="controls">
      <span class="stem" title={number < 10 ? `Key ${number}: mute, S then ${number}: solo` : undefined}>
        {name}
      </span>
      <button
        class="small"
        aria-label={`Mute ${name}`}
        aria-pressed={strip.muted}
        onClick={() => (strip.muted.value = !strip.muted.value)}
      >
        M
      </button>
      <button
        class="small"
        aria-label={`Solo ${name}`}
        aria-pressed={strip.solo}
        onClick={() => (strip.solo.value = !strip.solo.value)}
      >
        S
      </button>
      <input
        type="range"
        class="volume"
        aria-label={`Volume of ${name}`}
        aria-valuetext={`${Math.round(strip.volume.value * 100)} %`}
        min={0}
        max={1.5}
        step={0.01}
        value={strip.volume}
        onInput={(event) => (strip.volume.value = event.currentTarget.valueAsNumber)}
        onDblClick={() => (strip.volume.value = 1)}
      />
      <input
        type="range"
        class="pan"
        aria-label={`Pan of ${name}`}
        aria-valuetext={panText(strip.pan.value)}
        min={-1}
        max={1}
        step={0.05}
        value={strip.pan}
        onInput={(event) => (strip.pan.value = event.currentTarget.valueAsNumber)}
        onDblClick={() => (strip.pan.value = 0)}
      />
      <Meter strip={strip} player={player} />
    </div>
  );
}

function panText(pan: number): string {
  if (Math.abs(pan) < 0.03) return "middle";
  return `${Math.round(Math.abs(pan) * 100)} % ${pan < 0 ? "left" : "right"}`;
}
