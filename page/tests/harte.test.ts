import assert from "node:assert/strict";
import { test } from "node:test";
import { chordName, labelFromText, parseChord, shownName, tonesOf, transposed } from "../src/music/harte.ts";

const plain = { semitones: 0, capo: 0, simple: false, flats: false };

test("labels are written in the notation of players", () => {
  const names = ["C:maj", "A:min", "F#:min7/5", "Bb:maj7/3", "G", "D:sus4(b7)", "E:hdim7", "C:aug7"].map((label) =>
    chordName(parseChord(label)!, label.startsWith("B")),
  );
  assert.deepEqual(names, ["C", "Am", "F♯m7/C♯", "B♭maj7/D", "G", "Dsus4(♭7)", "Em7♭5", "C+7"]);
});

test("invalid chords are not changed", () => {
  assert.equal(parseChord("N"), undefined);
  assert.equal(parseChord("C:nonsense"), undefined);
  assert.equal(shownName({ label: "N", triad: "" }, plain), "N.C.");
});

test("a capo lowers a transposed chord", () => {
  assert.equal(shownName({ label: "G:maj/3", triad: "" }, { ...plain, semitones: 2 }), "A/C♯");
  assert.equal(shownName({ label: "G:maj", triad: "" }, { ...plain, semitones: 2, capo: 2 }), "G");
  assert.equal(shownName({ label: "A:min", triad: "" }, { ...plain, capo: 3, flats: true }), "G♭m");
});

test("a simplified chord is its triad, transposed likewise", () => {
  const chord = { label: "D:min7/b7", triad: "D:min" };
  assert.equal(shownName(chord, { ...plain, semitones: 2 }), "Em7/D");
  assert.equal(shownName(chord, { ...plain, semitones: 2, simple: true }), "Em");
  assert.equal(shownName({ label: "E:7", triad: "" }, { ...plain, simple: true }), "E7");
});

test("tones of a chord, the bass first", () => {
  assert.deepEqual(tonesOf(parseChord("C:maj7/3")!), [4, 0, 7, 11]);
  assert.deepEqual(tonesOf(parseChord("C:maj(*5,9)")!), [0, 4, 2]);
  assert.deepEqual(tonesOf(transposed(parseChord("A:min")!, 3)), [0, 3, 7]);
});

test("typed chords become labels", () => {
  assert.deepEqual(
    ["F#m7", "Bb/D", "G", "C:maj7/3", "N.C.", "Bm7b5", "Hm", "C:what"].map(labelFromText),
    ["F#:min7", "Bb:maj/3", "G:maj", "C:maj7/3", "N", "B:hdim7", undefined, undefined],
  );
});
