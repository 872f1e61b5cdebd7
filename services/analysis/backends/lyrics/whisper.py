"""Word-timed lyrics with faster-whisper (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision",
2022, on CTranslate2)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import structlog

from services.analysis.backends.base import Context, Lyrics, Progress, Word
from services.analysis.backends.lyrics import whisper_models
from services.analysis.backends.lyrics.alignment import lines_as_given, share_out
from services.analysis.backends.lyrics.joints import widened
from services.analysis.backends.lyrics.lines import lines_of
from services.analysis.backends.lyrics.text import GivenWord, check_text, is_same_song, words_of
from services.analysis.backends.lyrics.whisper_listener import Listener
from services.analysis.backends.lyrics.whisper_passes import recognise
from services.analysis.backends.lyrics.windows import SAMPLE_RATE_HZ, Span, SungLevel
from services.analysis.backends.signal.features import mono
from services.common.errors import DeviceNotReadyError, WeightsMissingError
from services.common.samples import Audio, Samples
from services.common.weights.catalogue import check_language
from services.common.weights.store import WeightStore

log = structlog.get_logger(__name__)

LANGUAGE_WINDOWS = 4


class WhisperLyrics:
    """One Whisper model, loaded.

    Args:
        folder: of its weights.
        model: its name, as in `whisper_models.MODELS`.
        device: "cpu", "cuda", or "auto" (a GPU if the machine shows one).
    """

    def __init__(self, folder: str, model: str, device: str) -> None:
        self._listener = Listener(folder, model, device)
        self._name = model

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Lyrics:
        """See `services.analysis.backends.base.Backend`; `context.options["language"]` chooses the language.

        The level of the vocals shows the sung passages. Each window is recognised in the vocals and, if there is one,
        in the mix. The transcript with the higher probability is used: separation makes some words clearer and damages
        others. A confidence is Whisper's probability of the word.

        Given words (`context.options["text"]`) keep their lines and get the times at which they are sung. So do found
        words (`found_text`), if they match the heard ones.

        Raises:
            InvalidInputError: the model does not support the language (reason LANGUAGE_NOT_SUPPORTED), or the text
                cannot be the lyrics of a song (INVALID_TEXT).
        """
        asked, text = context.options.get("language") or "", context.options.get("text") or ""
        check_language(f"whisper {self._name}", whisper_models.languages(self._name), asked)
        if text:
            check_text(text)
        progress(0.0)
        vocals = mono(audio, SAMPLE_RATE_HZ)
        level = SungLevel(vocals)
        windows = level.windows()
        if not windows:
            progress(1.0)
            return Lyrics("", ())
        sources = [vocals, _as_long(mono(context.mix(), SAMPLE_RATE_HZ), vocals)] if context.mix else [vocals]
        longest = sorted(windows, key=_length, reverse=True)[:LANGUAGE_WINDOWS]
        language = asked or self._listener.language([_piece(vocals, window) for window in longest])
        wide = widened(windows, level)
        phrases = [
            [level.begun(word) for word in phrase if level.is_sung(word.start, word.end)]
            for phrase in recognise(self._listener, sources, windows, wide, language, progress)
        ]
        heard = [word for phrase in phrases for word in phrase]
        given, words_from = _known_words(text, context.options.get("found_text") or "", heard)
        if given:
            shares = share_out(given, heard, windows)
            words = self._align(vocals, windows, shares, level, language)
            lines = lines_as_given(given, words, audio.duration, language)
        else:
            lines = lines_of(phrases, audio.duration, language)
        progress(1.0)
        return Lyrics(language if lines else "", lines, words_from)

    def _align(
        self,
        vocals: Samples,
        windows: Sequence[Span],
        shares: Sequence[Sequence[GivenWord]],
        level: SungLevel,
        language: str,
    ) -> list[Word]:
        """The given words with times, window by window; words that are too many for a window are put at its end."""
        words: list[Word] = []
        for window, share in zip(windows, shares, strict=True):
            if not share:
                continue
            texts = [word.text for word in share]
            aligned = self._listener.align(_piece(vocals, window), window[0], language, texts)
            words += [level.begun(word) for word in aligned]
            words += [Word(window[1], window[1], text, 0.0) for text in texts[len(aligned) :]]
        return words


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


def prove(device: str) -> None:
    """See `services.analysis.backends.base.BackendEntry.proves_device`."""
    import ctranslate2

    if not ctranslate2.get_cuda_device_count():
        raise DeviceNotReadyError(f"The device {device} cannot be used: CTranslate2, which Whisper needs, finds none.")


def _known_words(
    text: str, found_text: str, heard: Sequence[Word]
) -> tuple[list[GivenWord], Literal["heard", "given", "found"]]:
    """The words of the known text, if there is one, and their origin."""
    if text:
        return words_of(text), "given"
    found = words_of(found_text)
    if is_same_song([word.text for word in found], [word.text for word in heard]):
        return found, "found"
    if found:
        log.info("found lyrics do not match the heard words", found=len(found), heard=len(heard))
    return [], "heard"


def _piece(sound: Samples, span: Span) -> Samples:
    return sound[round(span[0] * SAMPLE_RATE_HZ) : round(span[1] * SAMPLE_RATE_HZ)]


def _as_long(sound: Samples, other: Samples) -> Samples:
    """The sound, cut or padded to the length of another."""
    return np.pad(sound[: other.size], (0, max(other.size - sound.size, 0)))


def _length(span: Span) -> float:
    return span[1] - span[0]
