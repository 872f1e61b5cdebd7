"""One Whisper model: recognises windows of sound, and finds the times of known words in them."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from services.analysis.backends.base import Word
from services.analysis.backends.lyrics import whisper_models
from services.analysis.backends.lyrics.lines import UNSPACED
from services.analysis.backends.lyrics.whisper_batches import batches_by_length, halved_until_it_fits
from services.analysis.backends.lyrics.whisper_transcript import (
    LATE_SECONDS,
    Transcript,
    is_believable,
    phrases_of,
    words_of,
)
from services.analysis.backends.lyrics.windows import SAMPLE_RATE_HZ
from services.common.compute.devices import has_gpu
from services.common.samples import Samples

# Number of windows encoded and decoded together. On a CPU, decoding six windows of 20 s took 2.7 s one by one, 2.0 s in
# pairs and 1.5 s all at once (tiny.en, CPU time); encoding took 1.7 s one by one and 2.0 s all at once.
BATCHES_ON_CPU, BATCHES_ON_GPU = (1, 4), (8, 16)
BEAM = 5
# The decoder's context has 448 tokens, and a few of them start the text.
MOST_TOKENS = 440
# Whisper accepts up to 223. After the second pass, the word error rate on three real songs was 0.18 with 220, and 0.21
# with 150 and with 60; differences between 200 and 223 are chance.
PROMPT_TOKENS = 200
# If Whisper stops before a window's end, the rest is recognised by itself, unless it is shorter than this.
REST_SECONDS = 1.0
# Punctuation that belongs to the word after or before it, as in faster-whisper.
OPENING, CLOSING = "\"'\u201c\u00bf([{-", "\"'.\u3002,\uff0c!\uff01?\uff1f:\uff1a\u201d)]}\u3001"


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """A window of sound and the output of Whisper's encoder for it.

    Args:
        samples: float32 [samples] at 16 kHz.
        offset: start of the window in the track, in seconds.
        encoded: [frames, features]; 2 MB (tiny, float32) to 4 MB (large, float16).
    """

    samples: Samples
    offset: float
    encoded: npt.NDArray[Any]

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples.size / SAMPLE_RATE_HZ


class Listener:
    """Recognises windows of at most 30 s, several at once.

    Args:
        folder: of the model's weights.
        model: its name, as in `whisper_models.MODELS`.
        device: "cpu", "cuda", or "auto" (a GPU if the machine shows one).
    """

    def __init__(self, folder: str, model: str, device: str) -> None:
        from faster_whisper import WhisperModel

        on_gpu = has_gpu(device)
        self._model = WhisperModel(
            folder,
            device="cuda" if on_gpu else "cpu",
            compute_type="float16" if on_gpu else "int8",
            local_files_only=True,
        )
        self._name = model
        self._encoded_at_once, self._decoded_at_once = BATCHES_ON_GPU if on_gpu else BATCHES_ON_CPU

    def sounds(self, windows: Sequence[tuple[Samples, float]], done: Callable[[int], None]) -> list[Sound]:
        """Encodes windows; the results can be decoded several times.

        Args:
            windows: at least one, each as float32 [samples] at 16 kHz and its offset in the track in seconds.
            done: called with the number of windows encoded since the last call.
        """
        sounds: list[Sound] = []
        for start in range(0, len(windows), self._encoded_at_once):
            batch = windows[start : start + self._encoded_at_once]
            sounds += halved_until_it_fits(self._encode, batch)
            done(len(batch))
        return sounds

    def transcribe(
        self, sounds: Sequence[Sound], language: str, prompts: Sequence[str], done: Callable[[int], None]
    ) -> list[Transcript]:
        """The text of each window.

        Args:
            sounds: the windows.
            language: of `whisper_models.languages`.
            prompts: for each window the text around it, as context for the model; may be empty.
            done: called with the number of windows decoded since the last call.

        Returns:
            Words in the track's time, without unreliable ones.
        """
        tokenizer = self._tokenizer(language)
        prompt_tokens = [tokenizer.encode(f" {prompt}")[-PROMPT_TOKENS:] if prompt else [] for prompt in prompts]
        transcripts = [Transcript()] * len(sounds)
        rests: dict[int, tuple[Samples, float]] = {}

        def decode(batch: Sequence[int]) -> list[tuple[Transcript, float | None]]:
            return self._decode(
                [sounds[index] for index in batch], [prompt_tokens[index] for index in batch], tokenizer
            )

        for batch in batches_by_length([len(prompt) for prompt in prompt_tokens], self._decoded_at_once):
            found = halved_until_it_fits(decode, batch)
            for index, (transcript, until) in zip(batch, found, strict=True):
                sound = sounds[index]
                transcripts[index] = transcript
                if until is not None and REST_SECONDS <= until <= sound.duration - REST_SECONDS:
                    rests[index] = sound.samples[round(until * SAMPLE_RATE_HZ) :], sound.offset + until
            done(len(batch))
        if rests:
            more = self.transcribe(
                self.sounds(list(rests.values()), lambda _: done(0)),
                language,
                [prompts[index] for index in rests],
                lambda _: done(0),
            )
            for index, transcript in zip(rests, more, strict=True):
                transcripts[index] = transcripts[index].followed_by(transcript)
        return transcripts

    def align(self, samples: Samples, offset: float, language: str, words: Sequence[str]) -> list[Word]:
        """The times of a window's words, in the track's time.

        Args:
            samples: float32 [samples] at 16 kHz.
            offset: of the window in the track, in seconds.
            language: of the words.
            words: in order.

        Returns:
            As many as there are words, in order; fewer when the last ones are too many for the model.
        """
        if not words:
            return []
        tokenizer = self._tokenizer(language)
        separator = "" if language in UNSPACED else " "
        tokens = [tokenizer.encode(separator + word) for word in words]
        while sum(map(len, tokens)) > MOST_TOKENS:
            tokens.pop()
        flat = [token for word in tokens for token in word]
        [sound] = self._encode([(samples, offset)])
        frames = self._frames(sound)
        found = self._model.model.align(_view(sound.encoded[None]), tokenizer.sot_sequence, [flat], frames)[0]
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
        """The most likely language of all windows together."""
        if whisper_models.is_english_only(self._name):
            return "en"
        chances: defaultdict[str, float] = defaultdict(float)
        for window in windows:
            _, _, found = self._model.detect_language(audio=window)
            for language, probability in found:
                chances[language] += probability
        return max(chances, key=lambda language: chances[language])

    def _encode(self, windows: Sequence[tuple[Samples, float]]) -> list[Sound]:
        from faster_whisper.audio import pad_or_trim

        features = np.stack([pad_or_trim(self._model.feature_extractor(samples)) for samples, _ in windows])
        # Always copied to the CPU: a GPU's memory is needed for the windows that are being decoded.
        encoded = np.array(self._model.model.encode(_view(features), to_cpu=True))
        return [Sound(samples, offset, one) for (samples, offset), one in zip(windows, encoded, strict=True)]

    def _decode(
        self, sounds: Sequence[Sound], prompts: Sequence[list[int]], tokenizer: Any
    ) -> list[tuple[Transcript, float | None]]:
        """The text of each window, and where in the window it stops; None if it covers the window or is empty."""
        from faster_whisper.transcribe import get_suppressed_tokens

        encoded = _view(np.stack([sound.encoded for sound in sounds]))
        results = self._model.model.generate(
            encoded,
            [self._model.get_prompt(tokenizer, prompt) for prompt in prompts],
            beam_size=BEAM,
            return_scores=True,
            suppress_tokens=list(get_suppressed_tokens(tokenizer, [-1])),
        )
        phrases: list[list[list[int]]] = []
        scores: list[float] = []
        complete: list[bool] = []
        for result in results:
            tokens = result.sequences_ids[0]
            found, is_all = phrases_of(tokens, tokenizer.timestamp_begin)
            # A mean over the tokens and the end token, as in Whisper.
            scores.append(result.scores[0] * len(tokens) / (len(tokens) + 1))
            phrases.append(found if is_believable(tokenizer.decode(tokens), scores[-1]) else [])
            complete.append(is_all)
        words = self._timed(sounds, phrases, encoded, tokenizer)
        return [
            (
                Transcript(tuple(spoken), score) if spoken else Transcript(),
                None if is_all or not spoken else spoken[-1][-1].end + LATE_SECONDS - sound.offset,
            )
            for sound, spoken, score, is_all in zip(sounds, words, scores, complete, strict=True)
        ]

    def _timed(
        self, sounds: Sequence[Sound], phrases: Sequence[list[list[int]]], encoded: Any, tokenizer: Any
    ) -> list[list[tuple[Word, ...]]]:
        """The words of each phrase of each window, from the tokens."""
        from faster_whisper.transcribe import merge_punctuations

        flat = [[token for phrase in window for token in phrase] for window in phrases]
        frames = [self._frames(sound) for sound in sounds]
        timed: list[list[tuple[Word, ...]]] = []
        for sound, window, parts in zip(
            sounds, phrases, self._model.find_alignment(tokenizer, flat, encoded, frames), strict=True
        ):
            edges = list(accumulate(map(len, window)))
            firsts = accumulate((len(part["tokens"]) for part in parts), initial=0)
            numbers = [bisect_right(edges, first) for first, _ in zip(firsts, parts, strict=False)]
            merge_punctuations(parts, OPENING, CLOSING)
            spoken = [
                words_of(
                    [part for part, of in zip(parts, numbers, strict=True) if of == number],
                    sound.offset,
                    tokenizer.language_code,
                )
                for number in range(len(window))
            ]
            timed.append([tuple(words) for words in spoken if words])
        return timed

    def _tokenizer(self, language: str) -> Any:
        from faster_whisper.tokenizer import Tokenizer

        return Tokenizer(
            self._model.hf_tokenizer, self._model.model.is_multilingual, task="transcribe", language=language
        )

    def _frames(self, sound: Sound) -> int:
        """The number of frames with sound among those of Whisper's 30 s."""
        extractor = self._model.feature_extractor
        return int(min(sound.samples.size // extractor.hop_length, extractor.nb_max_frames))


def _view(array: npt.NDArray[Any]) -> Any:
    """An array for CTranslate2."""
    from ctranslate2 import StorageView

    return StorageView.from_array(np.ascontiguousarray(array))
