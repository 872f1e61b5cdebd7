"""The MIDI export, as other programs read it."""

import io
from typing import Any

import mido
import numpy as np
import pretty_midi
import pytest

from gateway.exports.export import Track
from stemtube.analysis.v1 import music_pb2
from stemtube.download.v1 import track_pb2
from tests.gateway.exported import document, full_track


def read(track: Track | None = None) -> tuple[Any, mido.MidiFile]:
    content = document("midi", track).content
    assert isinstance(content, bytes)
    return pretty_midi.PrettyMIDI(io.BytesIO(content)), mido.MidiFile(file=io.BytesIO(content), charset="utf-8")


def times(file: mido.MidiFile, kind: str) -> list[tuple[float, Any]]:
    """Events of one kind with their times in seconds."""
    found, now = [], 0.0
    for message in file:
        now += message.time
        if message.type == kind:
            found.append((now, message))
    return found


def test_the_file_is_as_long_as_the_song() -> None:
    track = full_track()
    track.duration_seconds = 31.7
    _, file = read(track)
    assert file.length == pytest.approx(31.7, abs=1e-3)


def song(beat_times: list[float], first_position: int = 1, metre: int = 4, seconds: float = 60.0) -> Track:
    beats = [
        music_pb2.Beat(time=time, position=(first_position - 1 + n) % metre + 1) for n, time in enumerate(beat_times)
    ]
    # pretty_midi looks for beats up to the last note.
    chord = music_pb2.Chord(start=0.0, end=seconds, label="C")
    return track_pb2.Track(title="x", duration_seconds=seconds, beats_per_bar=metre, beats=beats, chords=[chord])


def test_beats_and_bars_are_those_of_the_song() -> None:
    track = full_track()
    pretty, _ = read(track)
    beats = [beat.time for beat in track.beats]
    # One beat was added before the first one.
    assert np.allclose(pretty.get_beats()[: len(beats) + 1], [0.0, *beats], atol=1e-4)
    downbeats = [beat.time for beat in track.beats if beat.position == 1]
    assert np.allclose(pretty.get_downbeats()[1 : len(downbeats) + 1], downbeats, atol=1e-4)


def test_a_tempo_that_drifts_is_followed_to_the_end() -> None:
    random = np.random.default_rng(1)
    beats = (3.21 + np.cumsum(0.45 + 0.1 * random.random(900))).tolist()
    pretty, _ = read(song(beats, seconds=600.0))
    found = pretty.get_beats()
    lead = int(np.searchsorted(found, beats[0] - 1e-3))
    # A note at the very end of the song: the roundings of 900 tempi must not add up.
    assert np.allclose(found[lead : lead + 900], beats, atol=2e-5)


@pytest.mark.parametrize("metre", [3, 4, 7])
@pytest.mark.parametrize("first_position", [1, 2, 3])
@pytest.mark.parametrize("lead", [0.0, 0.03, 0.3, 4.9, 40.0])
def test_a_pick_up_and_an_intro_without_beats(lead: float, first_position: int, metre: int) -> None:
    beats = [lead + 0.5 * n for n in range(40)]
    track = song(beats, first_position, metre, 120.0)
    pretty, file = read(track)
    downbeats = [beat.time for beat in track.beats if beat.position == 1 and beat.time >= 0.05]
    found = [time for time in pretty.get_downbeats() if time > downbeats[0] - 0.01]
    assert np.allclose(found[: len(downbeats)], downbeats, atol=1e-4)
    changes = [message.numerator for _, message in times(file, "time_signature")]
    assert changes[-1] == metre
    assert len(changes) <= 2


def test_chords_are_notes_and_markers() -> None:
    track = full_track()
    pretty, file = read(track)
    (instrument,) = pretty.instruments
    sounding = [chord for chord in track.chords if chord.label != "N"]
    found: dict[float, set[int]] = {}
    for note in instrument.notes:
        found.setdefault(round(note.start, 3), set()).add(note.pitch)
        chord = next(chord for chord in sounding if abs(chord.start - note.start) < 1e-3)
        assert note.end == pytest.approx(chord.end, abs=1e-3)
    assert found == {
        1.7: {45, 57, 60, 64},
        5.7: {45, 53, 57, 60, 64},
        7.7: {43, 55, 59, 62, 65},
        9.7: {36, 48, 52, 55},
        13.7: {43, 52, 55},
    }
    markers = [(round(time, 3), message.text) for time, message in times(file, "marker")]
    assert markers[:3] == [(0.0, "N.C."), (1.7, "Am"), (5.7, "Fmaj7/A")]
    assert [message.text for _, message in times(file, "cue_marker")] == ["intro", "verse", "big outro"]
    assert [message.key for _, message in times(file, "key_signature")] == ["Am"]


def test_lyrics_are_lyric_events() -> None:
    _, file = read()
    found = [(round(time, 2), message.text) for time, message in times(file, "lyrics")]
    assert found == [
        (5.8, "Hello "),
        (6.3, "bright "),
        (6.9, "world\r"),
        (7.4, "Größe "),
        (9.6, "<3 "),
        (10.2, "[live]\r"),
    ]


def test_chords_without_beats() -> None:
    track = full_track()
    del track.beats[:]
    pretty, _ = read(track)
    assert pretty.get_tempo_changes()[1] == pytest.approx([120.0])
    assert min(note.start for note in pretty.instruments[0].notes) == pytest.approx(1.7, abs=2e-3)


@pytest.mark.parametrize(
    "beats", [[5.0], [0.0, 59.0], [0.2, 40.0, 80.0], [0.0, 0.5, 1.0, 55.0, 55.5]], ids=["one", "two", "far", "gap"]
)
def test_very_slow_beats(beats: list[float]) -> None:
    """A MIDI tempo cannot be slower than 16.7 s for a beat."""
    pretty, file = read(song(beats, seconds=100.0))
    found = [*pretty.get_beats(), file.length]
    for beat in beats:
        assert min(abs(time - beat) for time in found) < 0.21
    assert all(message.tempo < 2**24 for _, message in times(file, "set_tempo"))


def test_unknown_bars_are_counted_from_the_start() -> None:
    track = song([1.0, 1.5, 2.0])
    for beat in track.beats:
        beat.position = 0
    _, file = read(track)
    assert [(time, message.numerator) for time, message in times(file, "time_signature")] == [(0, 4)]


@pytest.mark.parametrize(
    ("tonic", "mode", "key"), [("G#", "major", "Ab"), ("Db", "minor", "C#m"), ("F#", "major", "F#"), ("", "", None)]
)
def test_keys(tonic: str, mode: str, key: str | None) -> None:
    track = song([0.0, 0.5])
    track.key.tonic, track.key.mode = tonic, mode
    _, file = read(track)
    assert [message.key for _, message in times(file, "key_signature")] == ([key] if key else [])
