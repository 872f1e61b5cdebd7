import assert from "node:assert/strict";
import { test } from "node:test";
import { secondsOfFourBars, snapped, snappedSpan } from "../src/music/snap.ts";
import { fileName } from "../src/parts/saving.ts";

const beats = Array.from({ length: 40 }, (_, index) => ({ time: index / 2, position: (index % 4) + 1 }));
const sections = [0, 8, 16].map((start) => ({ start, end: start + 8, label: "", confidence: 1, group: 0, level: 0 }));
const track = { beats, sections };

test("the ends of loops snap to beats, bars or sections", () => {
  assert.equal(snapped(track, 3.3, "beat"), 3.5);
  assert.equal(snapped(track, 3.3, "bar"), 4);
  assert.equal(snapped(track, 3.3, "section"), 0);
  assert.equal(snapped(track, 23, "section"), 24);
  assert.equal(snapped(track, 3.3, "none"), 3.3);
  assert.equal(snapped({ beats: [], sections: [] }, 3.3, "section"), 3.3);
});

test("a range within one section or beat becomes all of it", () => {
  assert.deepEqual(snappedSpan(track, 9, 15, "section"), { start: 8, end: 16 });
  assert.deepEqual(snappedSpan(track, 9, 11, "section"), { start: 8, end: 16 });
  assert.deepEqual(snappedSpan(track, 3.1, 3.2, "beat"), { start: 3, end: 3.5 });
  assert.deepEqual(snappedSpan(track, 3.1, 3.2, "none"), { start: 3.1, end: 3.2 });
});

test("the length of four bars follows the tempo", () => {
  assert.equal(secondsOfFourBars(track, 5), 8);
  assert.equal(secondsOfFourBars({ beats: [], sections: [] }, 5), 8);
  const fast = beats.map(({ time, position }) => ({ time: time / 2, position }));
  assert.equal(secondsOfFourBars({ beats: fast, sections: [] }, 100), 4);
});

test("a file's name is read from Content-Disposition", () => {
  assert.equal(fileName("attachment; filename=\"a_b.mid\"; filename*=UTF-8''a%20%C3%BC.mid"), "a ü.mid");
  assert.equal(fileName('attachment; filename="a.mid"'), "a.mid");
  assert.equal(fileName(""), "");
});
