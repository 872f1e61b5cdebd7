"""Word-timed lyrics with faster-whisper (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision",
2022, on CTranslate2)."""

from collections import defaultdict
from typing import Any

import structlog

from services.analysis.backends import whisper_models
from services.analysis.backends.base import Audio, Context, Lyrics, Progress, Samples, Word
from services.analysis.backends.features import mono
from services.analysis.backends.lyric_lines import UNSPACED, lines_of
from services.analysis.backends.lyric_windows import SAMPLE_RATE_HZ, Span, SungLevel
from services.common.errors import WeightsMissingError
from services.common.weights import WeightStore

log = structlog.get_logger(__name__)

# Whisper's times come from where its attention is while it predicts a word, which is inside the word rather than at its
# start: on five recordings with hand-made or aligned times tiny.en was late by 0.08 to 0.12 s (median), always.
LATE_SECONDS = 0.1
# A phrase below this mean log-probability is one that Whisper itself gives up on after six attempts ("Thank you for
# watching!" over guitars); of the words that were right in three real songs one in 1200 was in such a phrase.
LEAST_LOG_PROBABILITY = -1.0
# Single made-up words over noise ("You") come with 0.01 to 0.05; sung phrases rarely fall below 0.3.
LEAST_WORD_PROBABILITY = 0.2
MOST_COMPRESSION = 2.4
# What Whisper learned from subtitles: notes around sung text, and the bare word for music without any.
NOTES = " \u266a\u266b\U0001f3b5\U0001f3b6"
NOT_SUNG = "music"
LANGUAGE_WINDOWS = 4


class WhisperLyrics:
    """One Whisper model, loaded.

    Args:
        folder: of its weights.
        model: its name, as in `whisper_models.MODELS`.
        device: "cpu", "cuda", or "auto" (a GPU if the machine shows one).
    """

    def __init__(self, folder: str, model: str, device: str) -> None:
        from faster_whisper import WhisperModel

        on_gpu = whisper_models.preferred(device) == whisper_models.PREFERRED_ON_GPU
        self._model = WhisperModel(
            folder,
            device="cuda" if on_gpu else "cpu",
            compute_type="float16" if on_gpu else "int8",
            local_files_only=True,
        )
        self._name = model

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Lyrics:
        """See `services.analysis.backends.base.Backend`; `context.options["language"]` chooses the language.

        A confidence is Whisper's probability of the word.

        Raises:
            InvalidInputError: the model does not know the language (reason LANGUAGE_NOT_SUPPORTED).
        """
        asked = context.options.get("language") or ""
        whisper_models.check_language(self._name, asked)
        progress(0.0)
        sound = mono(audio, SAMPLE_RATE_HZ)
        level = SungLevel(sound)
        windows = level.windows()
        if not windows:
            progress(1.0)
            return Lyrics("", ())
        language = asked or self._language(sound, windows)
        total = sum(end - start for start, end in windows)
        done = 0.0
        phrases: list[list[Word]] = []
        for start, end in windows:
            for segment in self._listen(_piece(sound, (start, end)), language):
                if _is_believable(segment):
                    words = _words(segment, start, language)
                    phrases.append([word for word in words if level.is_sung(word.start, word.end)])
                progress((done + min(segment.end, end - start)) / total)
            done += end - start
            progress(min(done / total, 1.0))
        progress(1.0)
        lines = lines_of(phrases, audio.duration, language)
        return Lyrics(language if lines else "", lines)

    def _listen(self, piece: Samples, language: str) -> Any:
        """The phrases of one window, as they are recognised."""
        segments, _ = self._model.transcribe(
            piece,
            language=language,
            word_timestamps=True,
            condition_on_previous_text=False,
            vad_filter=False,
            beam_size=5,
        )
        return segments

    def _language(self, sound: Samples, windows: list[Span]) -> str:
        """The language that is the most likely over the longest windows together."""
        if whisper_models.is_english_only(self._name):
            return "en"
        chances: defaultdict[str, float] = defaultdict(float)
        longest = sorted(windows, key=lambda window: window[0] - window[1])[:LANGUAGE_WINDOWS]
        for window in longest:
            _, _, found = self._model.detect_language(audio=_piece(sound, window))
            for language, probability in found:
                chances[language] += probability
        return max(chances, key=lambda language: chances[language])


def load(store: WeightStore, model: str, device: str) -> WhisperLyrics:
    """See `services.analysis.backends.base.Loader`."""
    paths = store.fetch(whisper_models.weights(model))
    folders = {path.parent for path in paths}
    if len(folders) > 1:
        raise WeightsMissingError(
            f"only some files of the Whisper model {model} are in whisper/{model}/ of the models directory: put all of "
            "them there, or none",
            model=model,
        )
    log.info("loading whisper", model=model)
    return WhisperLyrics(str(folders.pop()), model, device)


def _piece(sound: Samples, span: Span) -> Samples:
    return sound[round(span[0] * SAMPLE_RATE_HZ) : round(span[1] * SAMPLE_RATE_HZ)]


def _is_believable(segment: Any) -> bool:
    words = segment.words or ()
    return bool(
        words
        and segment.avg_logprob >= LEAST_LOG_PROBABILITY
        and segment.compression_ratio <= MOST_COMPRESSION
        and sum(word.probability for word in words) / len(words) >= LEAST_WORD_PROBABILITY
    )


def _words(segment: Any, offset: float, language: str) -> list[Word]:
    """The words of a phrase, in the track's time; what Whisper wrote without a space ("check-out") is one word."""
    words: list[Word] = []
    for part in segment.words:
        start, end = (float(time) + offset - LATE_SECONDS for time in (part.start, part.end))
        text, confidence = part.word.strip(NOTES), float(part.probability)
        if words and language not in UNSPACED and not part.word.startswith(" "):
            first = words.pop()
            start, text, confidence = first.start, first.text + text, min(first.confidence, confidence)
        if any(character.isalnum() for character in text):
            words.append(Word(start, end, text, confidence))
    return [] if [word.text.lower() for word in words] == [NOT_SUNG] else words
