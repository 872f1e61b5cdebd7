import assert from "node:assert/strict";
import { test } from "node:test";
import { tuningDetail, tuningName } from "../src/music/tuning.ts";

test("a tuning is shown as the song's A in hertz", () => {
  assert.equal(tuningName({ cents: -31.8, confidence: 0.8, curve: [], ambiguous: false }), "A = 432 Hz");
  assert.equal(tuningName({ cents: 0, confidence: 0, curve: [], ambiguous: false }), "");
  assert.equal(tuningName(undefined), "");
});

test("its detail has the distance, the drift, and whether names may be a semitone off", () => {
  assert.equal(tuningDetail({ cents: 0.2, confidence: 0.8, curve: [], ambiguous: false }), "As A = 440 Hz.");
  const curve = [
    { time: 4, cents: -51 },
    { time: 8, cents: -30 },
  ];
  assert.equal(
    tuningDetail({ cents: -48, confidence: 0.8, curve, ambiguous: true }),
    "48 cents below A = 440 Hz; drifts from -51 to -30 cents. " +
      "This is between two semitones: keys and chords may be named a semitone off.",
  );
});
