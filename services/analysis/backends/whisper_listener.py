"""One Whisper model: what it hears in a window of sound, and when words that are known are said in it."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.analysis.backends import whisper_models
from services.analysis.backends.base import Samples, Word
from services.analysis.backends.lyric_lines import UNSPACED

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
# The decoder's context is 448 tokens, of which a few are the prompt.
MOST_TOKENS = 440


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that were recognised together, and their mean log-probability."""

    words: tuple[Word, ...]
    log_probability: float


class Hearing:
    """What is heard in one window, phrase by phrase."""

    def __init__(self) -> None:
        self.phrases: list[Phrase] = []

    def add(self, phrase: Phrase) -> None:
        """Takes the next phrase."""
        self.phrases.append(phrase)

    @property
    def words(self) -> list[Word]:
        """All words in order."""
        return [word for phrase in self.phrases for word in phrase.words]

    @property
    def log_probability(self) -> float:
        """Mean over the words; without any, less than that of all words."""
        if not (count := len(self.words)):
            return -math.inf
        return sum(len(phrase.words) * phrase.log_probability for phrase in self.phrases) / count


class Listener:
    """Listens to windows of at most 30 s, float32 [samples] at 16 kHz.

    Args:
        folder: of the model's weights.
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

    def hear(self, window: Samples, offset: float, language: str, prompt: str) -> Iterator[tuple[float, Phrase]]:
        """The phrases of a window as they are recognised, each with the time in the window up to which it is done.

        Args:
            window: the sound.
            offset: of the window in the track, in seconds.
            language: of `whisper_models.languages`.
            prompt: what was said before; may be empty.

        Returns:
            Words in the track's time; none in a phrase that is not to be believed.
        """
        if not window.size:
            return
        segments, _ = self._model.transcribe(
            window,
            language=language,
            word_timestamps=True,
            condition_on_previous_text=False,
            vad_filter=False,
            beam_size=5,
            initial_prompt=prompt or None,
        )
        for segment in segments:
            words = phrase_of(segment, offset, language) if is_believable(segment) else []
            yield segment.end, Phrase(tuple(words), segment.avg_logprob)

    def align(self, window: Samples, offset: float, language: str, words: Sequence[str]) -> list[Word]:
        """When the words of a window are said in it, in the track's time.

        Returns:
            As many as there are words, in order; fewer when the last ones are too many for the model.
        """
        from faster_whisper.audio import pad_or_trim
        from faster_whisper.tokenizer import Tokenizer

        if not words:
            return []
        tokenizer = Tokenizer(
            self._model.hf_tokenizer, self._model.model.is_multilingual, task="transcribe", language=language
        )
        separator = "" if language in UNSPACED else " "
        tokens = [tokenizer.encode(separator + word) for word in words]
        while sum(map(len, tokens)) > MOST_TOKENS:
            tokens.pop()
        features = self._model.feature_extractor(window)
        encoded = self._model.encode(pad_or_trim(features))
        flat = [token for word in tokens for token in word]
        frames = min(features.shape[-1], self._model.feature_extractor.nb_max_frames)
        found = self._model.model.align(encoded, tokenizer.sot_sequence, [flat], frames)[0]
        firsts: dict[int, int] = {}
        for token, frame in found.alignments:
            firsts.setdefault(token, frame)
        aligned: list[Word] = []
        first = 0
        for text, word in zip(words, tokens, strict=False):
            last = first + len(word)
            start, end = (
                firsts.get(token, frames // 2) / self._model.tokens_per_second + offset - LATE_SECONDS
                for token in (first, last)
            )
            probability = sum(found.text_token_probs[first:last]) / len(word)
            aligned.append(Word(start, end, text, min(max(probability, 0.0), 1.0)))
            first = last
        return aligned

    def language(self, windows: Sequence[Samples]) -> str:
        """The language that is the most likely over some windows together."""
        if whisper_models.is_english_only(self._name):
            return "en"
        chances: defaultdict[str, float] = defaultdict(float)
        for window in windows:
            _, _, found = self._model.detect_language(audio=window)
            for language, probability in found:
                chances[language] += probability
        return max(chances, key=lambda language: chances[language])


def is_believable(segment: Any) -> bool:
    """Whether a phrase is one that was said rather than made up."""
    words = segment.words or ()
    return bool(
        words
        and segment.avg_logprob >= LEAST_LOG_PROBABILITY
        and segment.compression_ratio <= MOST_COMPRESSION
        and sum(word.probability for word in words) / len(words) >= LEAST_WORD_PROBABILITY
    )


def phrase_of(segment: Any, offset: float, language: str) -> list[Word]:
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
