"""Word-timed lyrics with faster-whisper (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision",
2022, on CTranslate2).

Whisper's speech detector throws singing away, so it stays off. In its place stretches are chosen by the level of the
vocals stem: where nothing is sung nothing is recognised, and nothing can be made up.
"""

import math
from typing import Any

import numpy as np
import structlog

from services.analysis.backends import whisper_models
from services.analysis.backends.base import Audio, Context, Lyrics, Progress, Samples, Word
from services.analysis.backends.features import mono
from services.analysis.backends.lyric_lines import lines_of
from services.common.weights import WeightStore

log = structlog.get_logger(__name__)

SAMPLE_RATE_HZ = 16_000
FRAME_SECONDS = 0.05
SILENCE_DBFS = -55.0
BELOW_LOUD_DB = 35.0
MARGIN_SECONDS = 0.4
LONGEST_REST_SECONDS = 3.0
SHORTEST_SUNG_SECONDS = 0.3
# Whisper's own measures of doubt; its defaults are -1 and 2.4. A phrase is dropped when it repeats itself, or when both
# its likelihood is low and Whisper itself thinks that there is no speech.
LEAST_LOG_PROBABILITY = -1.0
MOST_COMPRESSION = 2.4
MOST_NO_SPEECH = 0.6


class WhisperLyrics:
    """One Whisper model, loaded."""

    def __init__(self, folder: str, model: str, device: str) -> None:
        from faster_whisper import WhisperModel

        on_gpu = whisper_models.preferred(device) == whisper_models.PREFERRED_ON_GPU
        self._model = WhisperModel(
            folder,
            device="cuda" if on_gpu else "cpu",
            compute_type="float16" if on_gpu else "int8",
            local_files_only=True,
        )
        self._english_only = whisper_models.is_english_only(model)
        self._name = model

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Lyrics:
        """See `services.analysis.backends.base.Backend`; `context.options["language"]` chooses the language.

        Raises:
            InvalidInputError: the model does not know the language (reason LANGUAGE_NOT_SUPPORTED).
        """
        language = context.options.get("language", "")
        whisper_models.check_language(self._name, language)
        progress(0.0)
        sound = mono(audio, SAMPLE_RATE_HZ)
        stretches = sung_stretches(sound)
        total = sum(end - start for start, end in stretches)
        done = 0.0
        segments: list[list[Word]] = []
        for start, end in stretches:
            piece = sound[round(start * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)]
            found, info = self._model.transcribe(
                piece,
                language="en" if self._english_only else (language or None),
                word_timestamps=True,
                condition_on_previous_text=False,
                vad_filter=False,
                beam_size=5,
            )
            for segment in found:
                if _is_believable(segment):
                    segments.append(_words(segment, start))
                progress((done + min(segment.end, end - start)) / total)
            language = language or info.language
            done += end - start
            progress(done / total)
        progress(1.0)
        lines = lines_of(segments, audio.duration)
        return Lyrics(language if lines else "", lines)


def load(store: WeightStore, model: str, device: str) -> WhisperLyrics:
    """See `services.analysis.backends.base.Loader`."""
    paths = store.fetch(whisper_models.weights(model))
    log.info("loading whisper", model=model)
    return WhisperLyrics(str(paths[0].parent), model, device)


def sung_stretches(sound: Samples) -> list[tuple[float, float]]:
    """Where something is sung: (start, end) in seconds, with margins, short rests included.

    A frame counts when its level lies above -55 dBFS and at most 35 dB below the loud parts (95th percentile).

    Args:
        sound: float32 [samples] at 16 kHz, the vocals.
    """
    frame = round(FRAME_SECONDS * SAMPLE_RATE_HZ)
    count = math.ceil(sound.size / frame)
    if not count:
        return []
    padded = np.pad(sound, (0, count * frame - sound.size)).reshape(count, frame)
    level = 10 * np.log10(np.square(padded, dtype=np.float64).mean(axis=1) + 1e-12)
    sung = np.flatnonzero(level > max(SILENCE_DBFS, float(np.percentile(level, 95)) - BELOW_LOUD_DB))
    stretches: list[tuple[float, float]] = []
    for index in sung:
        start, end = index * FRAME_SECONDS, (index + 1) * FRAME_SECONDS
        if stretches and start - stretches[-1][1] <= LONGEST_REST_SECONDS:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((start, end))
    duration = sound.size / SAMPLE_RATE_HZ
    return [
        (max(start - MARGIN_SECONDS, 0.0), min(end + MARGIN_SECONDS, duration))
        for start, end in stretches
        if end - start >= SHORTEST_SUNG_SECONDS
    ]


def _is_believable(segment: Any) -> bool:
    doubtful = segment.avg_logprob < LEAST_LOG_PROBABILITY and segment.no_speech_prob > MOST_NO_SPEECH
    return bool(segment.compression_ratio <= MOST_COMPRESSION and not doubtful)


def _words(segment: Any, offset: float) -> list[Word]:
    return [
        Word(float(word.start) + offset, float(word.end) + offset, word.word.strip(), float(word.probability))
        for word in segment.words or ()
    ]
