import assert from "node:assert/strict";
import { test } from "node:test";
import { clicksOf, countInTo } from "../src/audio/clicks.ts";
import { placeAt, roundsAt, timeOfRound, timesOf } from "../src/audio/timeline.ts";
import { nearest, spanAt } from "../src/music/find.ts";

const leg = { output: 10, input: 2, rate: 0.5, loop: { start: 3, end: 5 } };

test("a loop repeats", () => {
  assert.equal(placeAt(leg, 9), 2);
  assert.equal(placeAt(leg, 14), 4);
  assert.equal(placeAt(leg, 16), 3);
  assert.equal(placeAt(leg, 21), 3.5);
  assert.equal(roundsAt(leg, 15.9), 0);
  assert.equal(roundsAt(leg, 21), 2);
  assert.equal(timeOfRound(leg, 1), 16);
});

test("beats are heard once in every round", () => {
  assert.deepEqual(timesOf(leg, [1, 2, 3, 4, 5], 10, 22), [
    [1, 10],
    [2, 12],
    [3, 14],
    [2, 16],
    [3, 18],
    [2, 20],
  ]);
});

test("clicks at half and double pace", () => {
  const beats = [4, 1, 2, 3, 4, 1].map((position, index) => ({ time: index, position }));
  assert.deepEqual(clicksOf(beats, 0.5).map(({ time }) => time), [0, 1, 3, 5]);
  assert.deepEqual(clicksOf(beats, 2).map(({ time }) => time), [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]);
});

test("a count-in leads into the song's beats", () => {
  const beats = Array.from({ length: 12 }, (_, index) => ({ time: 2 + index / 2, position: ((index + 2) % 4) + 1 }));
  const counted = (place: number, bars = 1) => countInTo(beats, place, bars).map(({ time, isAccent }) => [time, isAccent]);
  // The beat at 3 is a “one”, the one at 3.5 a “two”; between them, the last click is on the former.
  assert.deepEqual(counted(3), [[1, true], [1.5, false], [2, false], [2.5, false]]);
  assert.deepEqual(counted(3.2), [[1.5, false], [2, false], [2.5, false], [3, true]]);
  // Far from all beats, the place itself is the first of a bar.
  assert.deepEqual(counted(0), [[-2, true], [-1.5, false], [-1, false], [-0.5, false]]);
  assert.equal(counted(9, 2).length, 8);
  assert.deepEqual(countInTo([], 1, 1).map(({ time }) => time), [-1, -0.5, 0, 0.5]);
  assert.deepEqual(countInTo(beats, 3, 0), []);
});

test("items and times are found", () => {
  assert.equal(nearest([0, 1, 2], 1.4), 1);
  assert.equal(nearest([0, 1, 2], 1.4, 0.2), 1.4);
  assert.equal(nearest([], 1.4), 1.4);
  const spans = [{ start: 0, end: 1 }, { start: 2, end: 3 }];
  assert.deepEqual([0, 1.5, 2.5, 4].map((time) => spanAt(spans, time)), [0, -1, 1, -1]);
});
