"""Notes in a spectrum."""

import numpy as np
import pytest

from services.analysis.backends.signal.note_activity import SECONDS_PER_FRAME, chroma, note_activity
from services.common.errors import StoppedError
from services.common.samples import Audio
from songs.small_songs import RATE, tone, white_noise


def audio_of(*pitches: float, seconds: float = 3.0) -> Audio:
    mix = np.sum([tone(pitch, seconds, harmonics=8) for pitch in pitches], axis=0)
    return Audio((0.1 * mix).astype(np.float32)[None], RATE)


@pytest.mark.parametrize("cents", [-40, 0, 30])
def test_the_notes_of_a_chord_are_the_strongest(cents: int) -> None:
    activity = note_activity(audio_of(*(pitch + cents / 100 for pitch in (45, 57, 60, 64))), lambda done: None)
    classes = chroma(activity)[4:-4].mean(axis=0)
    assert set(np.argsort(classes)[-3:]) == {9, 0, 4}
    assert abs(len(activity) * SECONDS_PER_FRAME - 3.0) < 2 * SECONDS_PER_FRAME


def test_overtones_are_not_notes() -> None:
    classes = chroma(note_activity(audio_of(45), lambda done: None))[4:-4].mean(axis=0)
    assert classes.argmax() == 9
    assert np.sort(classes)[-2] < 0.2 * classes[9], "the fifth is the third overtone"


def test_the_bass_is_separate_from_the_rest() -> None:
    activity = note_activity(audio_of(40, 67, 71), lambda done: None)
    assert chroma(activity, highest=54)[4:-4].mean(axis=0).argmax() == 4
    assert set(np.argsort(chroma(activity, lowest=54)[4:-4].mean(axis=0))[-2:]) == {7, 11}


def test_it_can_be_stopped() -> None:
    def stop(_done: float) -> None:
        raise StoppedError("enough")

    with pytest.raises(StoppedError):
        note_activity(white_noise(2.0), stop)
