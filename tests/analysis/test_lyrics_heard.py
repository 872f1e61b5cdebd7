"""How windows of singing are transcribed: in batches, in passes, across joints; and which words are kept."""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest

from services.analysis.backends.base import Word
from services.analysis.backends.lyrics import whisper_models, whisper_passes, whisper_transcript
from services.analysis.backends.lyrics.joints import OVERLAP_SECONDS, joined, widened
from services.analysis.backends.lyrics.text import plain
from services.analysis.backends.lyrics.whisper_listener import Listener, Sound
from services.analysis.backends.lyrics.whisper_transcript import Transcript, is_believable, phrases_of, words_of
from services.analysis.backends.lyrics.windows import SAMPLE_RATE_HZ, Span, SungLevel
from services.analysis.backends.signal.features import mono
from services.common.samples import Audio, Samples
from services.common.weights.store import WeightStore
from songs.song import short_song

TIME_ZERO = 1000


class CountingListener(Listener):
    """A real listener that counts the windows it transcribes."""

    asked = 0

    def transcribe(self, sounds: Sequence[Sound], *arguments: Any) -> list[Transcript]:
        self.asked += len(sounds)
        return super().transcribe(sounds, *arguments)


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> CountingListener:
    store = WeightStore(tmp_path_factory.mktemp("models"), offline=True)
    return CountingListener(str(store.fetch(whisper_models.weights("tiny.en"))[0].parent), "tiny.en", "cpu")


@pytest.fixture(scope="module")
def voice() -> Samples:
    """The vocals of the demo song at 16 kHz."""
    return mono(Audio(short_song().stems["vocals"], 44_100), SAMPLE_RATE_HZ)


def timed(text: str, start: float, each: float = 0.4) -> list[Word]:
    return [
        Word(start + index * each, start + (index + 0.9) * each, word, 0.9) for index, word in enumerate(text.split())
    ]


def ignore(_value: float) -> None:
    pass


def recognised(
    listener: Listener, sources: Sequence[Samples], windows: Sequence[Span], wide: Sequence[Span]
) -> list[Word]:
    phrases = whisper_passes.recognise(listener, sources, windows, wide, "en", ignore)
    return [word for phrase in phrases for word in phrase]


def test_a_batch_gives_what_single_windows_give(listener: Listener, voice: Samples) -> None:
    windows = [(voice[start * SAMPLE_RATE_HZ :][: 7 * SAMPLE_RATE_HZ], float(start)) for start in (0, 7, 14)]
    sounds = listener.sounds(windows, ignore)
    prompts = ["", "over the mountain", ""]
    done: list[int] = []
    together = listener.transcribe(sounds, "en", prompts, done.append)
    alone = [
        listener.transcribe([sound], "en", [prompt], ignore)[0] for sound, prompt in zip(sounds, prompts, strict=True)
    ]
    assert sum(done) == 3
    assert any(transcript.words for transcript in together)
    for one, other in zip(together, alone, strict=True):
        assert [word.text for word in one.words] == [word.text for word in other.words]
        assert np.allclose([word.start for word in one.words], [word.start for word in other.words], atol=0.021)
        assert one.log_probability == pytest.approx(other.log_probability, abs=0.01)


@pytest.mark.parametrize("error", [RuntimeError("CUDA failed with error out of memory"), MemoryError("bad_alloc")])
def test_a_batch_that_does_not_fit_into_memory_is_divided(
    listener: Listener, voice: Samples, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    sizes: list[int] = []
    decode = Listener._decode

    def small(self: Listener, sounds: Sequence[Sound], *arguments: Any) -> Any:
        sizes.append(len(sounds))
        if len(sounds) > 1:
            raise error
        return decode(self, sounds, *arguments)

    monkeypatch.setattr(Listener, "_decode", small)
    sounds = listener.sounds([(voice[: 3 * SAMPLE_RATE_HZ], offset) for offset in (0.0, 3.0)], ignore)
    first, second = listener.transcribe(sounds, "en", ["", ""], ignore)
    assert sizes == [2, 1, 1]
    assert [word.text for word in first.words] == [word.text for word in second.words] != []
    monkeypatch.setattr(Listener, "_decode", lambda *_: (_ for _ in ()).throw(RuntimeError("another one")))
    with pytest.raises(RuntimeError, match="another one"):
        listener.transcribe(sounds, "en", ["", ""], ignore)


@pytest.mark.parametrize(
    ("sources", "windows", "asked"),
    [
        (1, [(0.0, 12.0)], 1),  # no other progress to report
        (2, [(0.0, 6.0), (6.0, 12.0)], 4),  # vocals and mix say the same
    ],
)
def test_windows_are_heard_again_only_if_that_can_help(
    listener: CountingListener, voice: Samples, sources: int, windows: list[Span], asked: int
) -> None:
    before = listener.asked
    assert recognised(listener, [voice] * sources, windows, windows)
    assert listener.asked - before == asked


def test_a_misheard_window_is_recognised_again_with_the_text_around_it(
    listener: CountingListener, voice: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    transcribe = Listener.transcribe

    def listen(self: Listener, sounds: Sequence[Sound], language: str, prompts: Sequence[str], done: Any) -> Any:
        told.extend(prompts)
        return transcribe(self, sounds, language, prompts, done)

    monkeypatch.setattr(Listener, "transcribe", listen)
    noise = np.random.default_rng(0).normal(0, 0.1, voice.size).astype(np.float32)
    windows = [(0.0, 12.0), (12.0, 20.0)]
    words = recognised(listener, [voice, noise], windows, windows)
    assert told[:4] == [""] * 4
    assert {word.text for word in words if word.start < 12.0} & set(" ".join(told[4:]).split())


def test_a_word_across_a_joint_is_heard_once(listener: Listener, voice: Samples) -> None:
    """The joint is in the middle of a word, so that a cut there would spoil it."""
    end = voice.size / SAMPLE_RATE_HZ
    whole = recognised(listener, [voice], [(0.0, end)], [(0.0, end)])
    middle = len(whole) // 2
    before, word = (plain(one.text) for one in whole[middle - 1 : middle + 1])
    joint = (whole[middle].start + whole[middle].end) / 2
    windows = [(0.0, joint), (joint, end)]
    wide = widened(windows, SungLevel(voice))
    assert wide == [(0.0, joint + OVERLAP_SECONDS), (joint - OVERLAP_SECONDS, end)]
    heard = recognised(listener, [voice], windows, wide)
    around = [
        plain(one.text) for one in heard if joint - OVERLAP_SECONDS < one.end and one.start < joint + OVERLAP_SECONDS
    ]
    assert around.count(word) == 1
    assert (before, word) in pairwise(around)
    assert [one for one, _ in groupby(plain(one.text) for one in heard)] == [plain(one.text) for one in heard]


def test_windows_that_meet_at_a_rest_do_not_overlap() -> None:
    sound = np.full(20 * SAMPLE_RATE_HZ, 0.3, np.float32)
    sound[10 * SAMPLE_RATE_HZ : 11 * SAMPLE_RATE_HZ] *= 0.01
    level = SungLevel(sound)
    assert widened([(0.0, 10.5), (10.5, 20.0)], level) == [(0.0, 10.5), (10.5, 20.0)]
    assert widened([(0.0, 9.0), (9.0, 20.0)], level) == [(0.0, 9.0 + OVERLAP_SECONDS), (9.0 - OVERLAP_SECONDS, 20.0)]
    assert widened([(0.0, 8.0), (9.0, 20.0)], level) == [(0.0, 8.0), (9.0, 20.0)]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("we walk along the river to", "the river to the sea"),  # both hear what is at the joint
        ("we walk along the river two", "that river to the sea"),  # cut words at their edges
        ("we walk along the river", "to the sea"),  # neither hears further than the joint
    ],
)
def test_at_a_joint_each_window_gives_the_words_further_inside_it(left: str, right: str) -> None:
    after = {"the": 1.2, "that": 1.2, "to": 2.0}[right.split()[0]]
    windows, wide = [(0.0, 2.0), (2.0, 5.0)], [(0.0, 3.0), (1.0, 5.0)]
    phrases = joined([[timed(left, 0.0)], [timed(right, after)]], windows, wide)
    assert " ".join(word.text for phrase in phrases for word in phrase) == "we walk along the river to the sea"


def test_tokens_between_timestamps_are_phrases() -> None:
    begun, ended, later = TIME_ZERO, TIME_ZERO + 100, TIME_ZERO + 150
    assert phrases_of([begun, 1, 2, ended, ended, 3, later], TIME_ZERO) == ([[1, 2], [3]], True)
    assert phrases_of([begun, 1, 2, ended, ended, 3], TIME_ZERO) == ([[1, 2]], False)  # a phrase that did not end
    assert phrases_of([begun, 1, 2], TIME_ZERO) == ([[1, 2]], False)
    assert phrases_of([], TIME_ZERO) == ([], False)


def test_loops_and_uncertain_phrases_are_dropped() -> None:
    assert is_believable("over the mountain, over the sea", -0.5)
    assert not is_believable("over the mountain, over the sea", -1.2)
    assert not is_believable("thank you so much " * 20, -0.1)
    unsure = [{"word": " You", "start": 0.0, "end": 1.0, "probability": 0.05}]
    assert words_of(unsure, 0.0, "en") == []


def test_words_after_an_unfinished_phrase_follow_it() -> None:
    one, two = Transcript((tuple(timed("a b c", 0.0)),), -0.2), Transcript((tuple(timed("d", 5.0)),), -0.6)
    both = one.followed_by(two)
    assert [word.text for word in both.words] == list("abcd")
    assert both.log_probability == pytest.approx(-0.3)
    assert one.followed_by(Transcript()) == one
    assert Transcript().followed_by(two) == two


def part(word: str, start: float, end: float, probability: float) -> dict[str, Any]:
    return {"word": word, "start": start, "end": end, "probability": probability}


def test_a_word_with_a_hyphen_stays_one_word() -> None:
    heard = [part(" check", 1.1, 1.3, 0.9), part("-out", 1.3, 1.6, 0.5), part(" time", 1.6, 1.9, 0.8)]
    found = words_of(heard, 10.0, "en")
    assert [(word.text, word.confidence) for word in found] == [("check-out", 0.5), ("time", 0.8)]
    late = whisper_transcript.LATE_SECONDS
    assert (found[0].start, found[0].end) == pytest.approx((11.1 - late, 11.6 - late))


def test_symbols_of_subtitles_are_no_lyrics() -> None:
    sung = [part(" \u266a", 1.0, 1.2, 0.5), part(" Hello", 1.2, 1.5, 0.9), part(" there\u266a", 1.5, 1.9, 0.9)]
    assert [word.text for word in words_of(sung, 0.0, "en")] == ["Hello", "there"]
    assert words_of([part(" \U0001f3b5Music", 1.0, 1.2, 0.6), part(" \U0001f3b5", 1.2, 1.5, 0.6)], 0.0, "en") == []
