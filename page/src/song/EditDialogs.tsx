/** Corrections of a song's results, part by part. */

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { call } from "../api/client.ts";
import { MAX_BEATS_PER_BAR, MAX_LINE_TEXT, MAX_SECTION_LABEL } from "../api/contract.ts";
import type { PartName, Track } from "../api/types.ts";
import * as edits from "../music/edits.ts";
import { labelFromText, shownName } from "../music/harte.ts";
import { nearest } from "../music/find.ts";
import { pitchClass, TONICS } from "../music/keys.ts";
import { Dialog } from "../parts/Dialog.tsx";
import { clock } from "../parts/format.ts";
import { fail, tell } from "../parts/toasts.tsx";
import type { Practice } from "./practice.ts";

const LABELS = ["intro", "verse", "pre-chorus", "chorus", "bridge", "solo", "instrumental", "break", "outro"];
const AS_WRITTEN = { semitones: 0, capo: 0, simple: false, flats: false };

interface Properties {
  practice: Practice;
  onClose: () => void;
}

/** Sends a corrected part, and updates the song. */
async function save({ practice, onClose }: Properties, part: object): Promise<void> {
  try {
    const { track } = await call<{ track: Track }>("PUT", `/tracks/${practice.id}/edits`, part);
    practice.track.value = track;
    onClose();
  } catch (error) {
    fail(error);
  }
}

/** The dialog for all corrections, with a button that restores the computed part. */
function Edit(properties: Properties & { title: string; part: PartName; children: ComponentChildren }) {
  const { practice, onClose, title, part, children } = properties;
  const edit = practice.track.value!.edits.find((each) => each.part === part);
  async function revert() {
    try {
      const { track } = await call<{ track: Track }>("DELETE", `/tracks/${practice.id}/edits/${part}`);
      practice.track.value = track;
      tell("The computed version is shown again.");
      onClose();
    } catch (error) {
      fail(error);
    }
  }
  return (
    <Dialog title={title} onClose={onClose}>
      {children}
      {edit && (
        <p class="row">
          <span class="faint">You corrected this part{edit.computedSince && "; it was computed again since"}.</span>
          <button onClick={revert}>Remove all corrections</button>
        </p>
      )}
    </Dialog>
  );
}

export function ChordDialog(properties: Properties & { index: number }) {
  const { practice, index } = properties;
  const { chords } = practice.track.value!;
  const chord = chords[index]!;
  const text = useSignal(shownName(chord, AS_WRITTEN));
  const everywhere = useSignal(false);
  const label = labelFromText(text.value);
  const here = practice.beatHere;
  const isInside = here > chord.start && here < chord.end;
  return (
    <Edit {...properties} title={`Chord at ${clock(chord.start, true)}`} part="PART_CHORDS">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (label) void save(properties, { chords: { chords: edits.relabelled(chords, index, label, everywhere.value) } });
        }}
      >
        <label>
          Chord, as it sounds in the song: F♯m7, Bb/D, N.C.
          <input value={text} onInput={(event) => (text.value = event.currentTarget.value)} autoFocus />
        </label>
        {!label && <p class="error">This is not a chord.</p>}
        <label class="inline">
          <input type="checkbox" checked={everywhere} onChange={() => (everywhere.value = !everywhere.value)} />
          Everywhere in the song
        </label>
        <div class="row">
          <button class="primary" disabled={!label}>
            Save
          </button>
          <button
            type="button"
            disabled={!label || !isInside}
            onClick={() => save(properties, { chords: { chords: edits.chordFrom(chords, index, here, label!) } })}
          >
            Only from {clock(here, true)} on
          </button>
        </div>
      </form>
    </Edit>
  );
}

export function SectionDialog(properties: Properties & { index: number }) {
  const { practice, index } = properties;
  const { sections } = practice.track.value!;
  const section = sections[index]!;
  const label = useSignal(section.label);
  const here = practice.beatHere;
  const send = (changed: object[]) => save(properties, { structure: { sections: changed } });
  return (
    <Edit {...properties} title={`Section from ${clock(section.start, true)} on`} part="PART_STRUCTURE">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void send(edits.movedSection(sections, index, label.value.trim(), section.start));
        }}
      >
        <label>
          Name
          <input
            list="section-labels"
            maxLength={MAX_SECTION_LABEL}
            required
            value={label}
            onInput={(event) => (label.value = event.currentTarget.value)}
          />
          <datalist id="section-labels">
            {LABELS.map((each) => (
              <option key={each} value={each} />
            ))}
          </datalist>
        </label>
        <div class="row">
          <button class="primary">Save</button>
          <button
            type="button"
            disabled={index === 0}
            onClick={() => send(edits.movedSection(sections, index, label.value.trim(), here))}
          >
            Begin at {clock(here, true)}
          </button>
          <button
            type="button"
            disabled={here <= section.start || here >= section.end}
            onClick={() => send(edits.dividedSection(sections, index, here))}
          >
            Divide at {clock(here, true)}
          </button>
          <button
            type="button"
            disabled={index === sections.length - 1}
            onClick={() => send(edits.joinedSection(sections, index))}
          >
            Join with the next
          </button>
        </div>
      </form>
    </Edit>
  );
}

export function LineDialog(properties: Properties & { index: number }) {
  const { practice, index } = properties;
  const lyrics = practice.track.value!.lyrics!;
  const line = lyrics.lines[index]!;
  const text = useSignal(line.text);
  const send = (lines: object[]) => save(properties, { lyrics: { language: lyrics.language, lines } });
  return (
    <Edit {...properties} title={`Line at ${clock(line.start, true)}`} part="PART_LYRICS">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void send(lyrics.lines.with(index, edits.rewordedLine(line, text.value)));
        }}
      >
        <label>
          Words
          <input value={text} maxLength={MAX_LINE_TEXT} onInput={(event) => (text.value = event.currentTarget.value)} autoFocus />
        </label>
        <div class="row">
          <button class="primary" disabled={!text.value.trim()}>
            Save
          </button>
          <button type="button" onClick={() => send(lyrics.lines.toSpliced(index, 1))}>
            Remove the line
          </button>
        </div>
      </form>
    </Edit>
  );
}

export function BeatsDialog(properties: Properties) {
  const { practice } = properties;
  const { beats, beatsPerBar, durationSeconds } = practice.track.value!;
  const perBar = useSignal(beatsPerBar || 4);
  const shift = useSignal(0);
  const times = beats.map(({ time }) => time);
  const here = practice.position.value;
  const atHead = times.indexOf(nearest(times, here));
  const send = (changed: object[]) => save(properties, { beats: { beats: changed, beatsPerBar: perBar.value } });
  return (
    <Edit {...properties} title="Beats" part="PART_BEATS">
      <div class="row">
        <button onClick={() => send(edits.halved(beats, perBar.value))}>Half the tempo</button>
        <button onClick={() => send(edits.doubled(beats, perBar.value))}>Twice the tempo</button>
      </div>
      <div class="row">
        <label>
          Beats in a bar
          <input
            type="number"
            min={1}
            max={MAX_BEATS_PER_BAR}
            value={perBar}
            onInput={(event) => (perBar.value = Math.min(Math.max(event.currentTarget.valueAsNumber || 1, 1), 32))}
          />
        </label>
        <button onClick={() => send(edits.counted(beats, atHead, perBar.value))}>
          The beat at {clock(times[atHead] ?? 0, true)} is a “one”
        </button>
      </div>
      <div class="row">
        <label>
          All beats later by ms
          <input type="number" value={shift} onInput={(event) => (shift.value = event.currentTarget.valueAsNumber || 0)} />
        </label>
        <button onClick={() => send(edits.shifted(beats, shift.value / 1000, durationSeconds))}>Shift</button>
      </div>
    </Edit>
  );
}

export function KeyDialog(properties: Properties) {
  const key = properties.practice.track.value!.key!;
  const tonic = useSignal(TONICS[pitchClass(key.tonic) ?? 0]!);
  const mode = useSignal(key.mode || "major");
  return (
    <Edit {...properties} title="Key" part="PART_KEY">
      <div class="row">
        <label>
          Tonic
          <select value={tonic} onChange={(event) => (tonic.value = event.currentTarget.value)}>
            {TONICS.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
        <label>
          Mode
          <select value={mode} onChange={(event) => (mode.value = event.currentTarget.value)}>
            <option>major</option>
            <option>minor</option>
          </select>
        </label>
        <button
          class="primary"
          onClick={() => save(properties, { key: { tonic: tonic.value, mode: mode.value, confidence: 1 } })}
        >
          Save
        </button>
      </div>
    </Edit>
  );
}
