import assert from "node:assert/strict";
import { test } from "node:test";
import { parseChord, tonesOf } from "../src/music/harte.ts";
import { guitarShapes } from "../src/music/shapes.ts";

const TUNING = [40, 45, 50, 55, 59, 64];

/** Pitches that a shape sounds, the lowest first. */
function pitchesOf(label: string): number[] {
  const shape = guitarShapes(parseChord(label)!)[0];
  if (!shape) return [];
  return shape.frets.flatMap((fret, string) => (fret < 0 ? [] : TUNING[string]! + (fret > 0 ? fret + shape.baseFret - 1 : 0)));
}

test("fingerings contain only tones of their chords", () => {
  for (const label of ["C:maj", "F#:min7", "Bb:maj7", "D:sus4(b7)", "E:7(#9)", "A:min(9)", "C:aug", "B:hdim7", "G:maj6"]) {
    const tones = new Set(tonesOf(parseChord(label)!));
    const pitches = pitchesOf(label);
    assert.ok(pitches.length >= 3, label);
    assert.ok(pitches.every((pitch) => tones.has(pitch % 12)), label);
  }
});

test("a known bass is played, an unknown one is left out", () => {
  assert.equal(pitchesOf("C:maj/5")[0]! % 12, 7);
  assert.deepEqual(pitchesOf("C:maj7/b2"), pitchesOf("C:maj7"));
});
