"""For any input, a music backend gives a sensible answer, reports progress, and can be stopped."""

from collections.abc import Callable

import numpy as np
import pytest
import soxr

from services.analysis.backends import registry
from services.analysis.backends.base import BackendEntry, Beats, Chords, Context, Key, Structure
from services.common.errors import StoppedError
from services.common.parts import Part
from services.common.samples import Audio
from songs.small_songs import RATE, click_track, silence, white_noise
from songs.song import short_song
from tests.analysis.conftest import Excerpt, LoadBackend

MUSIC: tuple[Part, ...] = ("beats", "key", "chords", "structure")


def comes_with_packages(entry: BackendEntry) -> bool:
    """Whether it runs without a download and without a language model."""
    files = entry.weights.files if entry.weights else ()
    return all(file.package for file in files) and not entry.asks_language_model


BACKENDS = [
    (part, name) for part in MUSIC for name in registry.names(part) if comes_with_packages(registry.entry(part, name))
]
every_backend = pytest.mark.parametrize(("part", "name"), BACKENDS)


def check_nothing_found(result: object, duration: float) -> None:
    """No beats, no key, no chords, one section."""
    match result:
        case Beats():
            assert result == Beats((), 0.0, 0.0, 0)
        case Key():
            assert result == Key("", "", 0.0)
        case Chords():
            assert [(c.start, c.end, c.label) for c in result.chords] == [(0, duration, "N")]
        case Structure():
            assert [(s.start, s.end) for s in result.sections] == [(0, duration)]


@every_backend
@pytest.mark.parametrize("make", [silence, white_noise], ids=["silence", "noise"])
def test_silence_and_noise(load_backend: LoadBackend, part: Part, name: str, make: Callable[[float], Audio]) -> None:
    audio = make(4.0)
    check_nothing_found(load_backend(part, name).analyze(audio, Context(), lambda done: None), audio.duration)


@every_backend
@pytest.mark.parametrize("samples", [0, 1, RATE // 2])
def test_less_than_a_second(load_backend: LoadBackend, part: Part, name: str, samples: int) -> None:
    audio = Audio(np.full((2, samples), 0.1, np.float32), RATE)
    result = load_backend(part, name).analyze(audio, Context(), lambda done: None)
    if samples or part in ("beats", "key"):
        check_nothing_found(result, audio.duration)
    else:
        assert result in (Chords(()), Structure(()))


@every_backend
def test_a_click_track(load_backend: LoadBackend, part: Part, name: str) -> None:
    audio = click_track(6.0, bpm=120)
    result = load_backend(part, name).analyze(audio, Context(), lambda done: None)
    if isinstance(result, Beats):
        assert result.bpm == pytest.approx(120, rel=0.02)
        assert result.confidence > 0.3
    else:
        check_nothing_found(result, audio.duration)


@every_backend
@pytest.mark.parametrize("stem", ["drums", "vocals"])
def test_drums_alone_and_a_voice_alone(load_backend: LoadBackend, part: Part, name: str, stem: str) -> None:
    song = short_song()
    audio = Audio(song.stems[stem], RATE)
    result = load_backend(part, name).analyze(audio, Context(), lambda done: None)
    match result:
        case Beats():
            assert result.bpm == pytest.approx(song.truth.tempo_bpm, rel=0.02)
            # The pulse of a voice alone is hard to find.
            assert (result.confidence > 0.5) == (stem == "drums")
        case Key():
            assert result.confidence < 0.5
        case Chords():
            assert sum(chord.end - chord.start for chord in result.chords if chord.label == "N") > audio.duration / 2
        case Structure():
            assert [section.end for section in result.sections][:-1] == [s.start for s in result.sections[1:]]
            assert (result.sections[0].start, result.sections[-1].end) == (0, audio.duration)


@every_backend
def test_three_seconds_in_telephone_quality(load_backend: LoadBackend, excerpt: Excerpt, part: Part, name: str) -> None:
    telephone = soxr.resample(excerpt(3.5).samples[0, RATE // 2 :], RATE, 8000)
    audio = Audio(telephone[None], 8000)
    result = load_backend(part, name).analyze(audio, Context(), lambda done: None)
    match result:
        case Beats():
            assert result.bpm == pytest.approx(100, rel=0.02)
        case Key():
            assert result.tonic in ("C", "A", "F", "G")
        case Chords():
            longest = max(result.chords, key=lambda chord: chord.end - chord.start)
            assert longest.label == "C:maj"
            assert result.chords[-1].end == audio.duration
        case Structure():
            check_nothing_found(result, audio.duration)


@every_backend
def test_progress_rises_to_1_and_can_stop_the_work(
    load_backend: LoadBackend, excerpt: Excerpt, part: Part, name: str
) -> None:
    backend = load_backend(part, name)
    told: list[float] = []
    backend.analyze(excerpt(4), Context(), told.append)
    assert told == sorted(told)
    assert len(told) >= 2
    assert 0 <= told[0] < 1 == told[-1]

    def stop(done: float) -> None:
        raise StoppedError("enough")

    with pytest.raises(StoppedError):
        backend.analyze(excerpt(4), Context(), stop)
