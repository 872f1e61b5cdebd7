import assert from "node:assert/strict";
import { test } from "node:test";
import { keyName, pitchClass } from "../src/music/keys.ts";

test("a key is spelt as its signature is", () => {
  assert.equal(keyName({ tonic: "A#", mode: "major", confidence: 1 }), "B♭ major");
  assert.equal(keyName({ tonic: "G", mode: "minor", confidence: 1 }), "G minor");
  assert.equal(keyName({ tonic: "E", mode: "major", confidence: 1 }, 1), "F major");
  assert.equal(keyName({ tonic: "", mode: "", confidence: 0 }), "");
});

test("note names are pitch classes", () => {
  assert.deepEqual(["C", "F#", "Bb", "Cb", "B#", "H", "C#b"].map(pitchClass), [0, 6, 10, 11, 0, undefined, undefined]);
});
