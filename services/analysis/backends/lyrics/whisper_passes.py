"""Recognises a track in passes over all its windows, which are independent in each pass and so decoded together.

The first pass tells roughly what the song is about. In those after it a window is decoded again with what the pass
before heard around it, before and after: a song says its words more than once. A window in which vocals and mix say the
same, or which says the same as in the pass before, is left at that.
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

# On three real songs (tiny.en) the word error rate after each pass was 0.26, 0.18 and 0.16; a fourth makes some worse:
# what was misheard then proves itself right.
PASSES = 3
# Windows that are kept in memory, about six minutes of singing: at most 150 MB of `Sound`s from two sources.
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
    """The phrases of a whole track, each window's from the source that is the clearest there.

    Args:
        listener: the Whisper model.
        sources: float32 [samples] at 16 kHz, the same music.
        windows: where something is sung, in order.
        wide: the same, with what is listened to beyond their joints.
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
    told: list[str | None] = [None] * len(windows)
    settled = [False] * len(windows)
    for _ in range(PASSES):
        texts = [
            _text([word for word in transcript.words if start <= (word.start + word.end) / 2 < end], language)
            for transcript, (start, end) in zip(best, windows, strict=True)
        ]
        prompts = [_around(before, texts, index, language) for index in range(len(windows))]
        again = [index for index in range(len(windows)) if not settled[index] and prompts[index] != told[index]]
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
            settled[index] = _agree(transcripts) or (told[index] is not None and _agree([surest, best[index]]))
            told[index] = prompts[index]
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
    """Whether several transcripts say the same."""
    texts = [[plain(word.text) for word in transcript.words] for transcript in transcripts]
    return len(texts) > 1 and all(text == texts[0] for text in texts)
