"""Composes the score of a recipe: chords, bass, drums and a tune, all drawn at random from the song's name."""

from itertools import pairwise

import numpy as np

from songs.forms import FORMS, WITH_SECTIONS, Passage
from songs.four_parts import FourParts
from songs.harmony import HARMONIES, NO_CHORD, NOTES, SCALES, Chord, chord, free_notes, nearest
from songs.players import Players
from songs.recipes import Recipe
from songs.score import Score, Span, Truth
from songs.styles import STYLES, Line, Style, Tune

SECONDS = 30.0
BARS_PER_PHRASE = 4
LEAD_IN = 0.4
TAIL = 1.2
UNNAMED = "X"
_LEVELS = {"X": 1.25, "x": 1.0, "-": 0.6}
_DRUM_LEVELS = {"kick": 0.75, "snare": 0.6, "rim": 0.6, "hat": 0.2, "open hat": 0.22, "ride": 0.25, "crash": 0.4}


def compose(recipe: Recipe) -> Score:
    """The score of a recipe."""
    style = STYLES[recipe.style]
    rng = recipe.random("score")
    passages = _passages(recipe, style)
    bars = BARS_PER_PHRASE * sum(passage.phrases for passage in passages) + 1
    intervals = recipe.pulse.intervals(
        bars * style.beats + recipe.upbeat, BARS_PER_PHRASE * style.beats, recipe.random("pulse")
    )
    intro = _intro(recipe) if recipe.effect == "intro without pulse" else []
    begin = intro[-1][1] if intro else LEAD_IN
    players = Players(begin + np.concatenate([[0.0], np.cumsum(intervals)]), recipe.upbeat, rng)
    tonic = _tonic(recipe)
    chords = [(start, name) for start, _, name in _play_intro(players, intro, tonic)]
    keys: list[tuple[float, str]] = []
    sections: list[tuple[float, str]] = []
    if not chords:
        chords.append((0.0, NO_CHORD))
        if recipe.upbeat and not style.four_part:
            chords.append((begin, UNNAMED))
    first = 0
    for passage in passages:
        start = players.seconds(first) if sections else 0.0
        keys.append((start, f"{NOTES[(tonic + passage.up) % 12]} {HARMONIES[recipe.harmony].key_mode}"))
        sections.append((start, passage.label))
        chords += _play(players, recipe, passage, first, tonic)
        first += BARS_PER_PHRASE * style.beats * passage.phrases
    last_tonic = (tonic + passages[-1].up) % 12
    chords += _close(players, style, chord(HARMONIES[recipe.harmony].tonic, last_tonic), first)
    return _finished(recipe, style, players, chords, keys, sections)


def _tonic(recipe: Recipe) -> int:
    return int(recipe.random("tonic").integers(12))


def _passages(recipe: Recipe, style: Style) -> list[Passage]:
    """The passages of the form; those of "verses" as often as it takes to fill `SECONDS`."""
    form = list(FORMS[recipe.form])
    if recipe.form != "verses":
        return form
    phrase = BARS_PER_PHRASE * style.beats * 60.0 / recipe.pulse.bpm
    found: list[Passage] = []
    while phrase * sum(passage.phrases for passage in found) < SECONDS - phrase:
        found.append(form[len(found) % len(form)])
    return found


def _intro(recipe: Recipe) -> list[tuple[float, float, str]]:
    """Held chords of no common length: (start, end, numeral)."""
    rng = recipe.random("intro")
    numerals = HARMONIES[recipe.harmony].phrase(rng, 3)
    edges = LEAD_IN + np.concatenate([[0.0], np.cumsum(rng.uniform(2.2, 4.0, len(numerals)))])
    return [
        (float(start), float(end), numeral) for (start, end), numeral in zip(pairwise(edges), numerals, strict=True)
    ]


def _play_intro(players: Players, intro: list[tuple[float, float, str]], tonic: int) -> list[Span]:
    spans: list[Span] = [(0.0, LEAD_IN, NO_CHORD)] if intro else []
    for start, end, numeral in intro:
        named = chord(numeral, tonic)
        for pitch in (nearest(named.bass, 43), *(nearest(tone, 60) for tone in named.pitch_classes)):
            players.note_at("strings", pitch, start, end - start, 0.2)
        spans.append((start, end, named.label))
    return spans


def _play(players: Players, recipe: Recipe, passage: Passage, first: int, tonic: int) -> list[tuple[float, str]]:
    """Plays a passage that begins at beat `first`; returns the start and the name of its chords."""
    style = STYLES[passage.style or recipe.style]
    harmony = HARMONIES[recipe.harmony]
    rng = recipe.random(f"chords of the {passage.label}")
    here = (tonic + passage.up) % 12
    scale = [(here + step) % 12 for step in SCALES[harmony.mode]]
    if style.four_part:
        return FourParts(players, style, harmony, rng).play(
            here, scale, first, BARS_PER_PHRASE * style.beats * passage.phrases
        )
    numerals = harmony.phrase(rng, BARS_PER_PHRASE)
    answer = harmony.phrase(rng, BARS_PER_PHRASE, cadence=True)
    named = [
        chord(numeral, here)
        for phrase in range(passage.phrases)
        for numeral in (answer if phrase == passage.phrases - 1 else numerals)
    ]
    for bar, sounding in enumerate(named):
        at = first + bar * style.beats
        _play_drums(players, style, bar, at, bar == len(named) - 1)
        for line in style.lines:
            _play_line(players, line, sounding, bar, at, style.beats)
    if style.tune:
        _play_tune(players, style.tune, named, scale, first, style.beats, recipe.random(f"tune of the {passage.label}"))
        if first == 0:
            for beat in range(-recipe.upbeat, 0):
                pitch = nearest(scale[(4 + beat) % 7], style.tune.around)
                players.note(style.tune.instrument, pitch, beat, 0.9, style.tune.level)
    if not style.lines:
        return []
    return [(players.seconds(first + bar * style.beats), one.label) for bar, one in enumerate(named)]


def strokes(pattern: str, bar: int, beats: int) -> list[tuple[str, float, float]]:
    """(character, position and length in beats) of each stroke of a bar's pattern."""
    bars = pattern.split("|")
    steps = bars[bar % len(bars)]
    found = []
    for step, character in enumerate(steps):
        if character not in "=.":
            held = len(steps[step + 1 :]) - len(steps[step + 1 :].lstrip("="))
            found.append((character, step * beats / len(steps), (1 + held) * beats / len(steps)))
    return found


def _play_drums(players: Players, style: Style, bar: int, at: int, last: bool) -> None:
    for drum, pattern in style.drums.items():
        for character, beat, _ in strokes(pattern, bar, style.beats):
            players.hit(drum, at + beat, _DRUM_LEVELS[drum] * _LEVELS[character])
    if "kick" in style.drums and "snare" in style.drums and style.meter == "4/4":
        if bar == 0:
            players.hit("crash", at, _DRUM_LEVELS["crash"])
        if last:
            for step in range(4):
                players.hit("snare", at + 3 + step / 4, 0.4)


def _play_line(players: Players, line: Line, sounding: Chord, bar: int, at: int, beats: int) -> None:
    lowest = nearest(sounding.bass, line.around)
    above = sorted((tone - sounding.bass) % 12 for tone in sounding.pitch_classes)
    for character, beat, length in strokes(line.pattern, bar, beats):
        if character in _LEVELS:
            for tone in sounding.pitch_classes:
                pitch = nearest(tone, line.around)
                players.note(line.instrument, pitch, at + beat, 0.96 * length, line.level * _LEVELS[character])
            continue
        number = int(players.rng.integers(len(above) + 1)) if character == "w" else int(character)
        pitch = lowest + above[number % len(above)] + 12 * (number // len(above))
        players.note(line.instrument, pitch, at + beat, 0.96 * length, line.level)


def _play_tune(
    players: Players,
    tune: Tune,
    chords: list[Chord],
    scale: list[int],
    first: int,
    size: int,
    rng: np.random.Generator,
) -> None:
    """A melody with one rhythm of two bars; on beats it has tones of the chord, between them those of the scale."""
    steps = np.arange(2 * size * tune.parts)
    chance = np.where(steps % tune.parts == 0, 0.7, tune.busy)
    chance[:: size * tune.parts] = 0.95
    rhythm = np.flatnonzero(rng.random(len(steps)) < chance)
    pitch = float(tune.around)
    for pair in range(len(chords) // 2):
        for index, step in enumerate(rhythm):
            sounding = chords[2 * pair + int(step >= size * tune.parts)]
            allowed = sounding.pitch_classes if step % tune.parts == 0 else free_notes(sounding, scale)
            wanted = pitch + float(rng.integers(-4, 5)) + 0.1 * (tune.around - pitch)
            pitch = min((nearest(tone, wanted) for tone in allowed), key=lambda found: abs(found - wanted))
            following = int(rhythm[index + 1]) if index + 1 < len(rhythm) else len(steps)
            length = min((following - int(step)) / tune.parts, size)
            beat = first + 2 * size * pair + int(step) / tune.parts
            players.note(tune.instrument, round(pitch), beat, 0.95 * length, tune.level)


def _close(players: Players, style: Style, tonic_chord: Chord, at: int) -> list[tuple[float, str]]:
    """Ends a song with its tonic chord, held for a bar."""
    if "kick" in style.drums:
        players.hit("kick", at, 0.75)
        players.hit("crash", at, 0.4)
    instruments = {line.instrument for line in style.lines if line.instrument != "bass"} or {style.four_part} - {""}
    for instrument in sorted(instruments):
        for pitch in (nearest(tonic_chord.bass, 43), *(nearest(tone, 60) for tone in tonic_chord.pitch_classes)):
            players.note(instrument, pitch, at, style.beats, 0.25)
    return [(players.seconds(at), tonic_chord.label)] if instruments else []


def _finished(
    recipe: Recipe,
    style: Style,
    players: Players,
    chords: list[tuple[float, str]],
    keys: list[tuple[float, str]],
    sections: list[tuple[float, str]],
) -> Score:
    beats = players.times[:-1]
    end = float(players.times[-1])
    pitched = any(note.pitch is not None for note in players.notes)
    truth = Truth(
        style.meter,
        style.beats,
        beats,
        beats[recipe.upbeat :: style.beats],
        _spans(chords, end) if pitched else (),
        _spans(keys, end) if pitched else (),
        _spans(sections, end) if recipe.form in WITH_SECTIONS else (),
        recipe.tuning_cents,
        style.pulse,
    )
    return Score(tuple(players.notes), truth, end + TAIL)


def _spans(starts: list[tuple[float, str]], end: float) -> tuple[Span, ...]:
    """Spans that reach to the next start; neighbours of one name are joined."""
    found: list[Span] = []
    for (start, name), (following, _) in pairwise([*starts, (end, "")]):
        if found and found[-1][2] == name:
            found[-1] = (found[-1][0], following, name)
        else:
            found.append((start, following, name))
    return tuple(found)
