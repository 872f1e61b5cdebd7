import assert from "node:assert/strict";
import { test } from "node:test";
import { keyAt, keyName, pitchClass } from "../src/music/keys.ts";

test("a key is spelt like its signature", () => {
  assert.equal(keyName({ tonic: "A#", mode: "major" }), "B♭ major");
  assert.equal(keyName({ tonic: "G", mode: "minor" }), "G minor");
  assert.equal(keyName({ tonic: "E", mode: "major" }, 1), "F major");
  assert.equal(keyName({ tonic: "", mode: "" }), "");
});

test("the key may change along the song", () => {
  const main = { tonic: "G", mode: "major", confidence: 1 };
  const regions = [{ ...main, start: 0, end: 60 }, { ...main, tonic: "A", start: 60, end: 90 }];
  const names = [59, 60, 90].map((time) => keyName(keyAt({ ...main, regions }, time)));
  assert.deepEqual(names, ["G major", "A major", "G major"]);
  assert.equal(keyName(keyAt({ ...main, regions: [] }, 60)), "G major");
});

test("note names become pitch classes", () => {
  assert.deepEqual(["C", "F#", "Bb", "Cb", "B#", "H", "C#b"].map(pitchClass), [0, 6, 10, 11, 0, undefined, undefined]);
});
