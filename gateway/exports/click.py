"""A click track: a short tone on each beat, a higher one on downbeats, to play along with the mix or the stems."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gateway.exports.encodings import ENCODING, named
from gateway.exports.export import Export, Options, Rendering, Track
from gateway.exports.track import beats_of

if TYPE_CHECKING:
    from services.common.audio import Sandbox

SAMPLE_RATE_HZ = 44_100
BLOCK_SAMPLES = 65_536
CLICK_SECONDS = 0.04
BEAT_HZ, DOWNBEAT_HZ = 1000.0, 1600.0
LEVEL = 0.5
DECAY_SECONDS = 0.008


def make(track: Track, options: Options) -> Rendering:
    """Describes a click track as long as the mix."""
    beats = [(beat.time, beat.position == 1) for beat in beats_of(track)]
    parameters = {"encoding": options["encoding"], "beats": beats, "seconds": track.duration_seconds}
    return Rendering(named("click", options["encoding"]), parameters=parameters)


def render(
    _sources: Sequence[BinaryIO],
    parameters: dict[str, Any],
    path: Path,
    on_progress: Callable[[float], None],
    _sandbox: "Sandbox",
) -> None:
    """Writes mono sound; each click begins at its beat's sample."""
    import numpy as np

    from services.common import audio

    times = np.arange(round(CLICK_SECONDS * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    fading = LEVEL * np.exp(-times / DECAY_SECONDS)
    clicks = {
        accent: (fading * np.sin(2 * np.pi * hz * times)).astype(np.float32)
        for accent, hz in ((False, BEAT_HZ), (True, DOWNBEAT_HZ))
    }
    starts = [(round(time * SAMPLE_RATE_HZ), accent) for time, accent in parameters["beats"]]
    length = max(round(parameters["seconds"] * SAMPLE_RATE_HZ), 1)
    with audio.writing(path, parameters["encoding"], SAMPLE_RATE_HZ, 1) as writer:
        for first in range(0, length, BLOCK_SAMPLES):
            block = np.zeros((1, min(BLOCK_SAMPLES, length - first)), np.float32)
            for start, accent in starts:
                click = clicks[accent]
                begin, end = max(start, first), min(start + len(click), first + block.shape[1])
                if begin < end:
                    block[0, begin - first : end - first] += click[begin - start : end - start]
            writer.write(block)
            on_progress((first + block.shape[1]) / length)


EXPORT = Export(
    name="click",
    summary="A click track with accents on the downbeats, in time with the mix.",
    make=make,
    options=(ENCODING,),
    render=render,
)
