"""Recognises a track in passes over all windows; in one pass windows are independent, so they are decoded together.

The first pass gives a rough text. In later passes a window is decoded again with the text that the previous pass found
before and after it, because songs repeat their words. A window is final when vocals and mix give the same text, or when
two passes do.
"""

from collections.abc import Callable, Sequence

from services.analysis.backends.base import Word
from services.analysis.backends.lyrics.joints import joined
from services.analysis.backends.lyrics.lines import UNSPACED
from services.analysis.backends.lyrics.text import plain
from services.analysis.backends.lyrics.whisper_listener import Listener
from services.analysis.backends.lyrics.whisper_transcript import Transcript
from services.analysis.backends.lyrics.windows import SAMPLE_RATE_HZ, Span
from services.common.samples import Samples

# On three real songs (tiny.en) the word error rate after each pass was 0.26, 0.18 and 0.16. A fourth pass makes some
# songs worse, because misheard words confirm themselves.
PASSES = 3
# Number of windows kept in memory, about six minutes of singing: at most 150 MB of `Sound`s from two sources.
BLOCK_WINDOWS = 16
# More than a model takes as a prompt.
PROMPT_CHARACTERS = 1200


def recognise(
    listener: Listener,
    sources: Sequence[Samples],
    windows: Sequence[Span],
    wide: Sequence[Span],
    language: str,
    progress: Callable[[float], None],
) -> list[list[Word]]:
    """The phrases of a whole track; those of each window come from the source that is clearest there.

    Args:
        listener: the Whisper model.
        sources: recordings of the same music (vocals, mix), each float32 [samples] at 16 kHz.
        windows: where something is sung, in order.
        wide: the same windows, extended beyond their joints.
        language: of the words.
        progress: called with the share that is done.
    """
    transcripts: list[Transcript] = []
    for first in range(0, len(windows), BLOCK_WINDOWS):
        block = slice(first, first + BLOCK_WINDOWS)
        before = [_text(transcript.words, language) for transcript in transcripts]
        count = len(windows[block])

        def report(share: float, first: int = first, count: int = count) -> None:
            progress((first + share * count) / len(windows))

        transcripts += _block(listener, sources, windows[block], wide[block], before, language, report)
    return joined([transcript.phrases for transcript in transcripts], windows, wide)


def _block(
    listener: Listener,
    sources: Sequence[Samples],
    windows: Sequence[Span],
    wide: Sequence[Span],
    before: Sequence[str],
    language: str,
    progress: Callable[[float], None],
) -> list[Transcript]:
    """The text of neighbouring windows.

    Args:
        before: the text of each window before these.
    """
    total = len(windows) * len(sources) * (PASSES + 1)
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress(done / total)

    sounds = listener.sounds(
        [
            (source[round(start * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)], start)
            for start, end in wide
            for source in sources
        ],
        report,
    )
    best = [Transcript()] * len(windows)
    last_prompts: list[str | None] = [None] * len(windows)
    settled = [False] * len(windows)
    for _ in range(PASSES):
        texts = [
            _text([word for word in transcript.words if start <= (word.start + word.end) / 2 < end], language)
            for transcript, (start, end) in zip(best, windows, strict=True)
        ]
        prompts = [_around(before, texts, index, language) for index in range(len(windows))]
        again = [index for index in range(len(windows)) if not settled[index] and prompts[index] != last_prompts[index]]
        report((len(windows) - len(again)) * len(sources))
        heard = listener.transcribe(
            [sounds[index * len(sources) + number] for index in again for number in range(len(sources))],
            language,
            [prompts[index] for index in again for _ in sources],
            report,
        )
        for index, place in zip(again, range(0, len(heard), len(sources)), strict=True):
            transcripts = heard[place : place + len(sources)]
            surest = max(transcripts, key=lambda transcript: transcript.log_probability)
            settled[index] = _agree(transcripts) or (last_prompts[index] is not None and _agree([surest, best[index]]))
            last_prompts[index] = prompts[index]
            best[index] = surest if surest.words else best[index]
    return best


def _around(before: Sequence[str], texts: Sequence[str], index: int, language: str) -> str:
    """The text of all windows but number `index`: first those after it, then those before it, the nearest last."""
    separator = "" if language in UNSPACED else " "
    around = [*texts[index + 1 :], *before, *texts[:index]]
    return separator.join(filter(None, around))[-PROMPT_CHARACTERS:].strip()


def _text(words: Sequence[Word], language: str) -> str:
    return ("" if language in UNSPACED else " ").join(word.text for word in words)


def _agree(transcripts: Sequence[Transcript]) -> bool:
    """Whether there are several transcripts with the same text."""
    texts = [[plain(word.text) for word in transcript.words] for transcript in transcripts]
    return len(texts) > 1 and all(text == texts[0] for text in texts)
