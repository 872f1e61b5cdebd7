"""Makes the wanted stems from the chunks of a model, and encodes them."""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np

from services.common import audio
from services.common.samples import Samples

SILENCE = 10 ** (-60 / 20)
LIVE_SECONDS = 5.0
REST = "no_"
Rest = Literal["sum", "minus"]

_COPY_SAMPLES = 1 << 20


def wanted_stems(asked: Sequence[str], given: Sequence[str]) -> list[str]:
    """The stems to make with a model whose stems are `given`, in its order; all of them if none is asked for.

    `no_NAME` is the mix without that stem.
    """
    known = [*given, *(REST + name for name in given)]
    return [name for name in known if name in asked] if asked else list(given)


def needed_sources(wanted: Sequence[str], given: Sequence[str], rest: Rest) -> tuple[str, ...]:
    """The stems that `make_stems` needs from a model whose stems are `given`."""
    needed: set[str] = set()
    for name in wanted:
        without = name.removeprefix(REST)
        if name in given:
            needed.add(name)
        else:
            needed |= {without} if rest == "minus" else set(given) - {without}
    return tuple(name for name in given if name in needed)


def make_stems(stems: dict[str, Samples], mix: Samples, wanted: Sequence[str], rest: Rest) -> dict[str, Samples]:
    """The wanted stems of a chunk.

    Args:
        stems: the model's stems by name, each float32 [2, samples].
        mix: the mix of the same chunk, float32 [2, samples].
        wanted: the result of `wanted_stems`.
        rest: whether `no_NAME` is the sum of the other stems, or the mix minus that stem. Demucs offers both.
    """

    def make(name: str) -> Samples:
        if name in stems:
            return stems[name]
        without = name.removeprefix(REST)
        if rest == "minus":
            return mix - stems[without]
        others = [piece for other, piece in stems.items() if other != without]
        return np.sum(others, axis=0, dtype=np.float32) if others else np.zeros_like(mix)

    return {name: make(name) for name in wanted}


class StemFile:
    """Writes a stem to a FLAC file at the mix's level, and measures its peaks.

    It also keeps the raw samples. If a stem exceeds full scale, all stems are written again at a lower level, which is
    known only at the end.
    """

    def __init__(self, folder: Path, name: str, sample_rate_hz: int) -> None:
        self._path = folder / f"{name}.flac"
        self._sample_rate_hz = sample_rate_hz
        self._resources = contextlib.ExitStack()
        self._raw = self._resources.enter_context((folder / f"{name}.raw").open("w+b"))
        self._writer = self._resources.enter_context(audio.writing(self._path, "flac", sample_rate_hz, channels=2))
        self._peaks = audio.PeakMeter(sample_rate_hz)
        self.loudest = 0.0
        self.samples = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._resources.__exit__(*exception)  # type: ignore[arg-type]

    def write(self, piece: Samples) -> None:
        """Adds samples, float32 [2, samples].

        Raises:
            InvalidInputError: a sample is not a finite number (reason NOT_FINITE).
        """
        self._writer.write(piece)
        self._raw.write(np.ascontiguousarray(piece.T).tobytes())
        self._peaks.add(piece)
        self.loudest = max(self.loudest, float(np.abs(piece).max(initial=0.0)))
        self.samples += piece.shape[1]

    def finish(self, gain: float) -> tuple[Path, audio.Peaks]:
        """Returns the complete FLAC file and its peaks, with all samples multiplied by `gain`."""
        if gain != 1.0:
            self._path = self._path.with_suffix(".gain.flac")
            self._peaks = audio.PeakMeter(self._sample_rate_hz)
            with audio.writing(self._path, "flac", self._sample_rate_hz, channels=2) as writer:
                for piece in self._again():
                    piece *= np.float32(gain)
                    writer.write(piece)
                    self._peaks.add(piece)
        self._resources.close()
        return self._path, self._peaks.peaks()

    @property
    def silent(self) -> bool:
        """Whether it cannot be heard: no sample reaches -60 dB of full scale."""
        return self.loudest < SILENCE

    def _again(self) -> Iterator[Samples]:
        self._raw.seek(0)
        while data := self._raw.read(_COPY_SAMPLES * 8):
            yield np.frombuffer(data, np.float32).reshape(-1, 2).T.copy()


def common_gain(stems: Sequence[StemFile]) -> float:
    """The factor for all stems that keeps each within full scale. With one factor, their sum stays a scaled mix."""
    loudest = max((stem.loudest for stem in stems), default=0.0)
    return 1.0 if loudest <= 1.0 else 1.0 / loudest


class LiveStem:
    """Cuts a stem into short files of equal length that can be played before the stem is complete.

    They have consecutive samples, so they can be played without a click. Samples beyond full scale are clipped.
    """

    def __init__(self, sample_rate_hz: int, put: Callable[[int, bytes], None]) -> None:
        """Starts with file 0.

        Args:
            sample_rate_hz: the stem's sample rate.
            put: called with the number, from 0, and the bytes of each FLAC file.
        """
        self._sample_rate_hz = sample_rate_hz
        self._put = put
        self._rest: Samples = np.zeros((2, 0), np.float32)
        self.count = 0

    @property
    def file_samples(self) -> int:
        """Number of samples in each file except the last."""
        return int(LIVE_SECONDS * self._sample_rate_hz)

    def write(self, piece: Samples) -> None:
        """Adds samples, float32 [2, samples]."""
        self._rest = np.concatenate([self._rest, piece], axis=1)
        while self._rest.shape[1] >= self.file_samples:
            self._store(self._rest[:, : self.file_samples])
            self._rest = self._rest[:, self.file_samples :]

    def finish(self) -> None:
        """Stores the remaining samples."""
        if self._rest.shape[1]:
            self._store(self._rest)

    def _store(self, samples: Samples) -> None:
        file = io.BytesIO()
        audio.encode(samples, self._sample_rate_hz, file, "flac")
        self._put(self.count, file.getvalue())
        self.count += 1


def live_key(prefix: str, stem: str, number: int) -> str:
    """The key of a live file in the object store."""
    return f"{prefix}/{stem}/{number:05}.flac"
