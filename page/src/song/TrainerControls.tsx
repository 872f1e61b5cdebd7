import type { Player, Trainer } from "../audio/player.ts";
import { toggleLoop } from "./loops.ts";
import type { Practice } from "./practice.ts";

const STANDARD: Trainer = { rounds: 2, step: 0.05, last: 1 };
const FIRST_RATE = 0.7;

/** The speed trainer: the tempo rises with the rounds of a loop. */
export function TrainerControls({ practice, player }: { practice: Practice; player: Player }) {
  const trainer = player.trainer.value;
  /** Starts the trainer. Sets a loop and a lower tempo first, if there are none. */
  const start = () => {
    if (!player.loop.value) toggleLoop(practice);
    if (player.rate.value >= STANDARD.last) player.setRate(FIRST_RATE);
    player.trainer.value = STANDARD;
  };
  const set = (change: Partial<Trainer>) => (player.trainer.value = { ...(trainer ?? STANDARD), ...change });
  return (
    <fieldset class="row tight">
      <legend class="hidden">Speed trainer</legend>
      <button aria-pressed={trainer !== null} onClick={() => (trainer ? (player.trainer.value = null) : start())}>
        Speed trainer
      </button>
      {trainer && (
        <>
          <label>
            Rounds
            <input
              type="number"
              min={1}
              max={32}
              value={trainer.rounds}
              onChange={(event) => set({ rounds: Math.max(event.currentTarget.valueAsNumber || 1, 1) })}
            />
          </label>
          <label>
            Step, %
            <input
              type="number"
              min={1}
              max={50}
              value={Math.round(trainer.step * 100)}
              onChange={(event) => set({ step: Math.max(event.currentTarget.valueAsNumber || 1, 1) / 100 })}
            />
          </label>
          <label>
            Up to, %
            <input
              type="number"
              min={50}
              max={200}
              value={Math.round(trainer.last * 100)}
              onChange={(event) => set({ last: Math.min(Math.max(event.currentTarget.valueAsNumber || 100, 50), 200) / 100 })}
            />
          </label>
        </>
      )}
    </fieldset>
  );
}
