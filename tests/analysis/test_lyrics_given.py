"""Given lyrics: matched with the words heard, divided among windows, and timed by the audio."""

import re

import numpy as np
import pytest

from services.analysis.backends.base import Context, Word
from services.analysis.backends.lyrics import whisper, whisper_models
from services.analysis.backends.lyrics.alignment import lines_as_given, share_out
from services.analysis.backends.lyrics.text import check_text, is_same_song, match, words_of
from services.analysis.backends.lyrics.windows import SAMPLE_RATE_HZ, SungLevel
from services.common.errors import InvalidInputError
from services.common.limits import MAX_LYRICS_TEXT
from services.common.samples import Audio
from services.common.weights.store import WeightStore
from songs.song import DemoSong, short_song

RATE = 44_100


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> whisper.WhisperLyrics:
    return whisper.load(WeightStore(tmp_path_factory.mktemp("models"), offline=True), whisper_models.BUNDLED, "cpu")


@pytest.fixture(scope="module")
def song() -> DemoSong:
    return short_song()


def heard(text: str, start: float) -> list[Word]:
    return [Word(start + index, start + index + 0.5, word, 0.9) for index, word in enumerate(text.split())]


def test_a_misheard_chorus_is_not_matched_with_the_next_one() -> None:
    given = ["we", "are", "here", "to", "stay", "then", "comes", "a", "verse", "we", "are", "here", "to", "stay"]
    found = match(
        given, ["weary", "hair", "two", "sty", "then", "comes", "a", "verse", "we", "are", "here", "to", "stay"]
    )
    assert found[5:] == list(range(4, 13))


def test_words_are_compared_without_case_accents_and_punctuation() -> None:
    assert match(["Fiancé,", "Don't"], ["fiance", "dont"]) == [0, 1]
    assert match([], ["a"]) == []
    assert match(["a"], []) == [None]


def test_headings_are_not_sung() -> None:
    words = words_of("[Chorus]\nHello, there -\n\nyou")
    assert [word.text for word in words] == ["Hello,", "there", "you"]
    assert words[0].line == words[1].line != words[2].line


@pytest.mark.parametrize("text", ["", "- ...\n", "[Chorus]", "a " * MAX_LYRICS_TEXT])
def test_a_text_that_cannot_be_lyrics_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        check_text(text)
    assert refusal.value.reason == "INVALID_TEXT"


def test_words_are_placed_where_they_were_heard_and_others_between() -> None:
    given = words_of("one two three four five six")
    shares = share_out(given, [*heard("one two", 0.0), *heard("six", 24.0)], [(0.0, 5.0), (20.0, 25.0)])
    assert [word.text for share in shares for word in share] == [word.text for word in given]
    assert [word.text for word in shares[0]][:2] == ["one", "two"]
    assert shares[1][-1].text == "six"


def test_given_lines_stay_lines_and_no_word_is_lost() -> None:
    given = words_of("one two\nthree")
    lines = lines_as_given(given, [Word(3, 4, "one", 1), Word(2, 9, "two", 1), Word(99, 99, "three", 0)], 5.0, "en")
    assert [line.text for line in lines] == ["one two", "three"]
    flat = [time for line in lines for word in line.words for time in (word.start, word.end)]
    assert flat == sorted(flat)
    assert flat[-1] <= 5.0


def test_given_words_are_timed_where_they_are_sung(model: whisper.WhisperLyrics, song: DemoSong) -> None:
    text = " ".join(word for _, _, word in song.truth.words)
    mix = np.sum(list(song.stems.values()), axis=0)[:, : 15 * RATE]  # the rest of it is missing
    context = Context(mix=lambda: Audio(mix, RATE), options={"text": text})
    lyrics = model.analyze(Audio(song.stems["vocals"], RATE), context, lambda _: None)
    words = [word for line in lyrics.lines for word in line.words]
    assert [re.sub(r"\W", "", word.text) for word in words] == [re.sub(r"\W", "", w) for _, _, w in song.truth.words]
    errors = [abs(word.start - start) for word, (start, _, _) in zip(words, song.truth.words, strict=True)]
    assert np.median(errors) < 0.2


def test_found_words_count_if_they_match_the_words_heard() -> None:
    song = ["boats", "come", "in", "and", "boats", "go", "out", "again"]
    misheard = ["votes", "come", "in", "an", "boats", "go", "about", "again"]
    assert is_same_song(song, misheard)
    assert not is_same_song(song, ["you", "and", "me", "go", "out", "to", "the", "river", "in", "the", "rain"])
    # The words of a whole song do not match one of its lines, nor the reverse.
    assert not is_same_song(song * 4, song)
    assert not is_same_song(song, song * 4)
    assert not is_same_song([], [])


@pytest.mark.parametrize(("has_right_words", "words_from"), [(True, "found"), (False, "heard")])
def test_found_words_replace_the_recognised_ones(
    model: whisper.WhisperLyrics, song: DemoSong, has_right_words: bool, words_from: str
) -> None:
    sung = [word for _, _, word in song.truth.words]
    text = " ".join(sung) if has_right_words else "nobody has ever written anything of this kind for it"
    lyrics = model.analyze(Audio(song.stems["vocals"], RATE), Context(options={"found_text": text}), lambda _: None)
    assert lyrics.words_from == words_from
    words = [word.text for line in lyrics.lines for word in line.words]
    assert words
    assert (words == sung) == has_right_words


def test_a_word_does_not_start_in_the_rest_before_it() -> None:
    sound = np.zeros(4 * SAMPLE_RATE_HZ, np.float32)
    sound[2 * SAMPLE_RATE_HZ : 3 * SAMPLE_RATE_HZ] = 0.3
    level = SungLevel(sound)
    assert level.begun(Word(0.5, 2.8, "I", 0.9)).start == pytest.approx(2.0)
    assert level.begun(Word(2.2, 2.8, "I", 0.9)).start == 2.2
