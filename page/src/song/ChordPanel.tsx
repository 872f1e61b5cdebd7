import { useSignal, useSignalEffect } from "@preact/signals";
import { useMemo, useRef } from "preact/hooks";
import { isCalm } from "../parts/motion.ts";
import type { Beat, Chord } from "../api/types.ts";
import { fail } from "../parts/toasts.tsx";
import { ChordDialog } from "./EditDialogs.tsx";
import { GuitarDiagram, PianoDiagram } from "./diagrams.tsx";
import type { Practice } from "./practice.ts";

const PIXELS_PER_SECOND = 56;

/** Chords: the current one and the next, their diagrams, and a moving lane of all chords. */
export function ChordPanel({ practice }: { practice: Practice }) {
  const { chords } = practice.track.value!;
  const editing = useSignal<number | null>(null);
  if (!chords.length) return null;
  return (
    <section class="panel chords" aria-label="Chords">
      <Options practice={practice} />
      <NowAndNext practice={practice} onEdit={(index) => (editing.value = index)} />
      <Lane practice={practice} onEdit={(index) => (editing.value = index)} />
      {editing.value !== null && (
        <ChordDialog practice={practice} index={editing.value} onClose={() => (editing.value = null)} />
      )}
    </section>
  );
}

function Options({ practice }: { practice: Practice }) {
  const { capo, simple, instrument } = practice;
  return (
    <div class="row">
      <label class="inline">
        Capo
        <select value={capo} onChange={(event) => (capo.value = Number(event.currentTarget.value))}>
          {Array.from({ length: 12 }, (_, fret) => (
            <option key={fret} value={fret}>
              {fret || "none"}
            </option>
          ))}
        </select>
      </label>
      <label class="inline">
        Diagrams
        <select
          value={instrument}
          onChange={(event) => (instrument.value = event.currentTarget.value === "piano" ? "piano" : "guitar")}
        >
          <option>guitar</option>
          <option>piano</option>
        </select>
      </label>
      <button aria-pressed={simple} onClick={() => (simple.value = !simple.value)}>
        Simple chords
      </button>
    </div>
  );
}

function NowAndNext({ practice, onEdit }: { practice: Practice; onEdit: (index: number) => void }) {
  const { chords } = practice.track.value!;
  const now = Math.max(practice.chord.value, 0);
  return (
    <div class="now-next">
      {[now, now + 1].map((index) => {
        const chord = chords[index];
        if (!chord) return <div key={index} class="big-chord" />;
        const name = practice.nameOf(chord);
        return (
          <div key={index} class={index === now ? "big-chord now" : "big-chord"}>
            <span class="faint">{index === now ? "now" : "next"}</span>
            <button class="plain" aria-label={`${name}. Correct this chord`} onClick={() => onEdit(index)}>
              {name}
            </button>
            <Diagram practice={practice} chord={chord} name={name} />
          </div>
        );
      })}
    </div>
  );
}

function Diagram({ practice, chord, name }: { practice: Practice; chord: Chord; name: string }) {
  const tones = practice.tonesOf(chord);
  if (!tones) return null;
  return practice.instrument.value === "guitar" ? (
    <GuitarDiagram chord={tones} name={name} />
  ) : (
    <PianoDiagram chord={tones} name={name} />
  );
}

/** For the pointer; with keys one goes from beat to beat, and corrects the current chord above. */
function Lane({ practice, onEdit }: { practice: Practice; onEdit: (index: number) => void }) {
  const lane = useRef<HTMLDivElement>(null);
  const { chords, beats } = practice.track.value!;
  const current = practice.chord.value;
  useSignalEffect(() => {
    // With reduced motion it moves only when the chord changes.
    const seconds = isCalm() ? (practice.track.value!.chords[practice.chord.value]?.start ?? 0) : practice.position.value;
    if (lane.current) lane.current.style.transform = `translateX(${-seconds * PIXELS_PER_SECOND}px)`;
  });
  return (
    <div class="lane">
      <div class="run" ref={lane}>
        <ol aria-label="All chords">
          {chords.map((chord, index) => (
            <li
              key={index}
              aria-current={index === current ? "true" : undefined}
              title="Click: go there. Double-click: correct"
              style={{ width: `${(chord.end - chord.start) * PIXELS_PER_SECOND}px` }}
              onClick={() => practice.player.value?.seek(chord.start).catch(fail)}
              onDblClick={() => onEdit(index)}
            >
              {practice.nameOf(chord)}
            </li>
          ))}
        </ol>
        <Grid beats={beats} />
      </div>
    </div>
  );
}

/** The beats below the chords, and the bars with their numbers. */
function Grid({ beats }: { beats: readonly Beat[] }) {
  return useMemo(() => {
    let bar = 0;
    return (
      <div class="beats" aria-hidden="true">
        {beats.map(({ time, position }, index) => (
          <span key={index} class={position === 1 ? "bar-line" : ""} style={{ left: `${time * PIXELS_PER_SECOND}px` }}>
            {position === 1 && ++bar}
          </span>
        ))}
      </div>
    );
  }, [beats]);
}
