import assert from "node:assert/strict";
import { test } from "node:test";
import { clicksOf } from "../src/audio/clicks.ts";
import { placeAt, roundsAt, timeOfRound, timesOf } from "../src/audio/timeline.ts";
import { nearest, spanAt } from "../src/music/find.ts";

const leg = { output: 10, input: 2, rate: 0.5, loop: { start: 3, end: 5 } };

test("a loop comes round", () => {
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

test("clicks at half and twice the pace", () => {
  const beats = [4, 1, 2, 3, 4, 1].map((position, index) => ({ time: index, position }));
  assert.deepEqual(clicksOf(beats, 0.5).map(({ time }) => time), [0, 1, 3, 5]);
  assert.deepEqual(clicksOf(beats, 2).map(({ time }) => time), [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]);
});

test("places are found", () => {
  assert.equal(nearest([0, 1, 2], 1.4), 1);
  assert.equal(nearest([0, 1, 2], 1.4, 0.2), 1.4);
  assert.equal(nearest([], 1.4), 1.4);
  const spans = [{ start: 0, end: 1 }, { start: 2, end: 3 }];
  assert.deepEqual([0, 1.5, 2.5, 4].map((time) => spanAt(spans, time)), [0, -1, 1, -1]);
});
