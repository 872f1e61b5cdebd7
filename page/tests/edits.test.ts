import assert from "node:assert/strict";
import { test } from "node:test";
import * as edits from "../src/music/edits.ts";

const chords = ["C:maj", "A:min", "C:maj"].map((label, index) => ({ start: index, end: index + 1, label, triad: label, confidence: 0.5 }));
const sections = ["verse", "chorus"].map((label, index) => ({
  start: 10 * index,
  end: 10 * index + 10,
  label,
  confidence: 0.5,
  group: index,
  level: 0,
}));
const beats = Array.from({ length: 6 }, (_, index) => ({ time: index, position: ((index + 3) % 4) + 1 }));

test("a chord is corrected once, everywhere, or from a time on", () => {
  assert.deepEqual(edits.relabelled(chords, 0, "F:maj", false).map(({ label }) => label), ["F:maj", "A:min", "C:maj"]);
  assert.deepEqual(edits.relabelled(chords, 0, "F:maj", true).map(({ label }) => label), ["F:maj", "A:min", "F:maj"]);
  const spans = edits.chordFrom(chords, 1, 1.5, "F:maj").map(({ start, end, label }) => [start, end, label]);
  assert.deepEqual(spans.slice(1, 3), [[1, 1.5, "A:min"], [1.5, 2, "F:maj"]]);
});

test("sections are moved, divided and joined without gaps", () => {
  const moved = edits.movedSection(sections, 1, "bridge", 8);
  assert.deepEqual(moved.map(({ start, end, label }) => [start, end, label]), [[0, 8, "verse"], [8, 20, "bridge"]]);
  assert.equal(edits.movedSection(sections, 0, "intro", 5)[0]!.start, 0);
  assert.deepEqual(edits.dividedSection(sections, 0, 4).map(({ start }) => start), [0, 4, 10]);
  assert.deepEqual(edits.joinedSection(sections, 0).map(({ start, end }) => [start, end]), [[0, 20]]);
});

test("a line keeps its words' times if possible", () => {
  const words = [
    { start: 1, end: 1.5, text: "morning", confidence: 1 },
    { start: 2, end: 3, text: "lite", confidence: 1 },
  ];
  const line = { start: 1, end: 3, text: "morning lite", words };
  assert.deepEqual(edits.rewordedLine(line, " morning light ").words.map(({ start, text }) => [start, text]), [
    [1, "morning"],
    [2, "light"],
  ]);
  const other = edits.rewordedLine(line, "a bb c");
  assert.deepEqual(other.words.map(({ start, end }) => [start, end]), [[1, 1.5], [1.5, 2.5], [2.5, 3]]);
});

test("beats are counted, halved, doubled and shifted", () => {
  assert.deepEqual(beats.map(({ position }) => position), [4, 1, 2, 3, 4, 1]);
  assert.deepEqual(edits.counted(beats, 2, 3).map(({ position }) => position), [2, 3, 1, 2, 3, 1]);
  assert.deepEqual(edits.halved(beats, 4).map(({ time, position }) => [time, position]), [[1, 1], [3, 2], [5, 3]]);
  const twice = edits.doubled(beats, 4);
  assert.deepEqual(twice.slice(0, 4).map(({ time, position }) => [time, position]), [[0, 3], [0.5, 4], [1, 1], [1.5, 2]]);
  assert.deepEqual(edits.shifted(beats, -0.5, 5).map(({ time }) => time), [0.5, 1.5, 2.5, 3.5, 4.5]);
});
