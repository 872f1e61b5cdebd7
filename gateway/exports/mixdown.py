"""A new mix of any stems: a minus-one track, a rehearsal mix."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gateway.exports.encodings import ENCODING, named
from gateway.exports.export import Export, Option, Options, Rendering, Track, TrackStem
from gateway.exports.track import MODEL, stems_of
from services.common.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from services.common.audio import Samples, Sandbox

LOWEST_DB, HIGHEST_DB = -60.0, 12.0


def make(track: Track, options: Options) -> Rendering:
    """Describes a mix of the requested stems with their gains and pans.

    Raises:
        NotFoundError: there are no stems, or not all of these (reason NO_STEMS, NO_SUCH_STEM).
        InvalidInputError: `stems` is malformed (reason BAD_REQUEST).
    """
    known = {stem.name: stem for stem in stems_of(track, options)}
    stems: list[TrackStem] = []
    factors, pans = [], []
    for wish in options["stems"].split(","):
        name, decibels, pan, *more = *wish.strip().split(":"), "", ""
        if not name or any(more):
            raise _bad_request("stems lists the stems of the mix, such as stems=vocals:-3,drums.")
        if name not in known:
            raise NotFoundError(f"There is no stem {name!r}, only {', '.join(known)}.", "NO_SUCH_STEM")
        if known[name] in stems:
            raise _bad_request(f"The stem {name} is named twice.")
        stems.append(known[name])
        # All stems are stored with the same gain, so that none clips; without it their sum is the mix.
        gain_db = _number(decibels, LOWEST_DB, HIGHEST_DB, "A gain is between {} and {} dB.")
        factors.append(10 ** (gain_db / 20) / (known[name].gain or 1.0))
        pans.append(_number(pan, -1, 1, "A pan is between {} (left) and {} (right)."))
    parameters = {
        "encoding": options["encoding"],
        "factors": factors,
        "pans": pans,
        "sample_rate_hz": stems[0].sample_rate_hz,
    }
    return Rendering(named("mixdown", options["encoding"]), stems, parameters=parameters)


def _number(text: str, lowest: float, highest: float, refusal: str) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        number = math.nan
    if not lowest <= number <= highest:
        raise _bad_request(refusal.format(f"{lowest:g}", f"{highest:g}"))
    return number


def _bad_request(message: str) -> InvalidInputError:
    return InvalidInputError(message, "BAD_REQUEST")


def render(
    sources: Sequence[BinaryIO],
    parameters: dict[str, Any],
    path: Path,
    on_progress: Callable[[float], None],
    _sandbox: "Sandbox",
) -> None:
    """Writes stereo sound. It reads the stems twice, to turn down a mix that would exceed full scale."""
    from services.common import audio

    rate = parameters["sample_rate_hz"]
    pairs = zip(parameters["factors"], parameters["pans"], strict=True)
    matrices = [_matrix(factor, pan) for factor, pan in pairs]
    peak = 0.0
    for block in _mixed(sources, matrices, rate, lambda done: on_progress(done / 2)):
        peak = max(peak, float(abs(block).max(initial=0)))
    if peak > 1:
        matrices = [matrix / peak for matrix in matrices]
    with audio.writing(path, parameters["encoding"], rate, 2) as writer:
        for block in _mixed(sources, matrices, rate, lambda done: on_progress((1 + done) / 2)):
            writer.write(block)


def _matrix(factor: float, pan: float) -> "Samples":
    """The 2 x 2 matrix from a stem's channels to the mix's, for a gain and a pan as in Web Audio's StereoPannerNode.

    Equal power: at the far left, both channels are heard there (https://www.w3.org/TR/webaudio/#stereopanner-algorithm).
    """
    import numpy as np

    near, far = math.cos(abs(pan) * math.pi / 2), math.sin(abs(pan) * math.pi / 2)
    placed = [[1, far], [0, near]] if pan < 0 else [[near, 0], [far, 1]]
    return np.asarray(placed, np.float32) * np.float32(factor)


def _mixed(
    sources: Sequence[BinaryIO],
    matrices: "Sequence[Samples]",
    sample_rate_hz: int,
    on_progress: Callable[[float], None],
) -> "Iterator[Samples]":
    """The sum of the stems, block by block; stems of one separation have equal lengths."""
    import numpy as np

    from services.common.audio import NO_LIMITS
    from services.common.audio.reader import Reader

    with contextlib.ExitStack() as resources:
        readers = []
        for number, source in enumerate(sources):
            source.seek(0)
            readers.append(resources.enter_context(Reader(source, NO_LIMITS, None if number else on_progress)))
        for blocks in zip(*(reader.blocks(sample_rate_hz, 2) for reader in readers), strict=True):
            yield sum(
                (matrix @ block for matrix, block in zip(matrices, blocks, strict=True)),
                start=np.zeros_like(blocks[0]),
            )


EXPORT = Export(
    name="mixdown",
    summary="Any stems mixed into one file.",
    make=make,
    options=(
        Option(
            "stems",
            f"The stems of the mix, each with its gain in dB if that is not 0 ({LOWEST_DB:g} to {HIGHEST_DB:g}), and "
            "its pan from -1 (left) to 1 (right): `vocals:-3,drums,bass:0:0.5`.",
        ),
        MODEL,
        ENCODING,
    ),
    render=render,
)
