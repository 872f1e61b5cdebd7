import { useSignal } from "@preact/signals";
import type { Player } from "../audio/player.ts";
import { clock } from "../parts/format.ts";
import { fail } from "../parts/toasts.tsx";
import type { Practice } from "./practice.ts";
import { setEnd, toggleLoop } from "./loops.ts";
import { toggleStand } from "./stand.ts";
import { MoreControls } from "./MoreControls.tsx";

/** Play, position, loop, tempo, pitch, metronome. */
export function Transport({ practice, onHelp }: { practice: Practice; onHelp: () => void }) {
  const player = practice.player.value;
  const more = useSignal(false);
  if (!player) return null;
  const { playing, waiting } = player;
  return (
    <section class="transport" aria-label="Player">
      <button class="primary play" aria-label={playing.value ? "Pause" : "Play"} onClick={() => player.toggle().catch(fail)}>
        {playing.value ? "❚❚" : "▶"}
      </button>
      <Place practice={practice} player={player} />
      <span class="hidden" role="status">
        {waiting.value ? "Waiting for sound" : ""}
      </span>
      <div class="tools">
        <LoopControls practice={practice} player={player} />
        <Amount
          name="Tempo"
          text={`${Math.round(player.rate.value * 100)} %`}
          value={player.rate.value * 100}
          min={50}
          max={200}
          standard={100}
          onChange={(percent) => player.setRate(percent / 100)}
        />
        <Amount
          name="Pitch"
          text={signed(player.semitones.value)}
          value={player.semitones.value}
          min={-12}
          max={12}
          standard={0}
          onChange={(semitones) => player.setSemitones(semitones)}
        />
        <button aria-pressed={player.clicks.on} onClick={() => (player.clicks.on.value = !player.clicks.on.value)}>
          Metronome
        </button>
        <button aria-expanded={more.value} onClick={() => (more.value = !more.value)}>
          More
        </button>
        <button
          title="Music stand: only large chords and words (F)"
          aria-pressed={practice.stand}
          onClick={() => toggleStand(practice)}
        >
          Stand
        </button>
        <button aria-label="Keyboard shortcuts" onClick={onHelp}>
          ?
        </button>
      </div>
      {more.value && <MoreControls practice={practice} player={player} />}
    </section>
  );
}

function Place({ practice, player }: { practice: Practice; player: Player }) {
  const seconds = practice.position.value;
  return (
    <label class="place">
      <output>
        {clock(seconds)} / {clock(player.duration)}
        {player.waiting.value && " …"}
      </output>
      <input
        type="range"
        aria-label="Position in the song"
        aria-valuetext={`${clock(seconds)} of ${clock(player.duration)}`}
        min={0}
        max={player.duration}
        step={0.1}
        value={seconds}
        onInput={(event) => player.seek(event.currentTarget.valueAsNumber).catch(fail)}
      />
    </label>
  );
}

function LoopControls({ practice, player }: { practice: Practice; player: Player }) {
  const loop = player.loop.value;
  const { sections } = practice.track.value!;
  return (
    <div class="row tight" role="group" aria-label="Loop">
      <button aria-label="Loop begins here" onClick={() => setEnd(practice, "start")}>
        A
      </button>
      <button aria-label="Loop ends here" onClick={() => setEnd(practice, "end")}>
        B
      </button>
      <button aria-pressed={loop !== null} onClick={() => toggleLoop(practice)}>
        {loop ? `Loop ${clock(loop.start)}–${clock(loop.end)}` : sections.length ? "Loop section" : "Loop"}
      </button>
    </div>
  );
}

interface AmountProperties {
  name: string;
  text: string;
  value: number;
  min: number;
  max: number;
  standard: number;
  onChange: (value: number) => void;
}

function Amount({ name, text, value, min, max, standard, onChange }: AmountProperties) {
  return (
    <label class="amount" title="Double-click: reset">
      <span>
        {name} <output>{text}</output>
      </span>
      <input
        type="range"
        aria-label={name}
        aria-valuetext={text}
        min={min}
        max={max}
        step={1}
        value={value}
        onInput={(event) => onChange(event.currentTarget.valueAsNumber)}
        onDblClick={() => onChange(standard)}
      />
    </label>
  );
}

function signed(semitones: number): string {
  return semitones > 0 ? `+${semitones}` : String(semitones).replace("-", "−");
}
