"""The stems as one Native Instruments Stem file, which DJ programs (Traktor, Mixxx, djay) play.

It is an MP4 with five stereo AAC tracks at 44.1 kHz: the mix, which other players play, then drums, bass, other and
vocals, whose sum is the mix. The box `moov/udta/stem` has their names as JSON.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gateway.exports.export import Export, FileType, Options, Rendering, Track, TrackStem
from gateway.exports.mp4 import add_user_data
from gateway.exports.track import MODEL, one_line, stems_of
from services.common.errors import NotFoundError

if TYPE_CHECKING:
    from services.common.audio import Samples, Sandbox
    from services.common.audio.sandbox import SoundReader

TYPE = FileType(".stem.mp4", "audio/mp4")
SAMPLE_RATE_HZ = 44_100
BITS_PER_SECOND = 256_000
# In the order and colours that are usual for DJs.
PARTS = {"drums": "#009E73", "bass": "#D55E00", "other": "#CC79A7", "vocals": "#56B4E9"}
# Effects that programs apply to the sum: none, because the mix is mastered. The values are those of Native Instruments'
# own tool.
MASTERING: dict[str, Any] = {
    "compressor": {
        "enabled": False,
        "input_gain": 0.5,
        "output_gain": 0.5,
        "threshold": 0,
        "ratio": 3,
        "attack": 0.003,
        "release": 0.3,
        "hp_cutoff": 300,
        "dry_wet": 50,
    },
    "limiter": {"enabled": False, "threshold": 0, "ceiling": -0.35, "release": 0.05},
}


def make(track: Track, options: Options) -> Rendering:
    """Describes a file of drums, bass, vocals, and all other stems as `other`.

    Raises:
        NotFoundError: there are no stems (reason NO_STEMS), or none for one of the four parts (reason NO_SUCH_STEM).
    """
    parts: dict[str, list[TrackStem]] = {part: [] for part in PARTS}
    for stem in stems_of(track, options):
        # no_vocals and similar stems are sums of others.
        if not stem.name.startswith("no_"):
            parts[stem.name if stem.name in PARTS else "other"].append(stem)
    if missing := [part for part, stems in parts.items() if not stems]:
        raise NotFoundError(
            f"A Stem file has {', '.join(PARTS)}; here is no {' and no '.join(missing)}. Separate the track with a "
            "model that has these.",
            "NO_SUCH_STEM",
        )
    stems = [stem for part in parts.values() for stem in part]
    parameters = {
        "title": one_line(track.title),
        "artist": one_line(track.artist),
        # The number of stems in each of the four parts, in order.
        "counts": [len(part) for part in parts.values()],
        "factors": [1 / (stem.gain or 1.0) for stem in stems],
    }
    return Rendering(TYPE, stems, with_mix=True, parameters=parameters)


def render(
    sources: Sequence[BinaryIO],
    parameters: dict[str, Any],
    path: Path,
    on_progress: Callable[[float], None],
    sandbox: "Sandbox",
) -> None:
    """Writes the file; the mix is the original, as long as the stems."""
    import av

    from services.common.audio import NO_LIMITS
    from services.common.audio.reader import Reader

    with contextlib.ExitStack() as resources:
        original, *separated = sources
        mix = resources.enter_context(sandbox.reader(original, NO_LIMITS))
        stems = [
            resources.enter_context(Reader(source, NO_LIMITS, None if place else on_progress))
            for place, source in enumerate(separated)
        ]
        container = resources.enter_context(av.open(str(path), "w", format="ipod"))
        container.metadata.update({name: parameters[name] for name in ("title", "artist") if parameters[name]})
        streams = [container.add_stream("aac", rate=SAMPLE_RATE_HZ) for _ in range(1 + len(PARTS))]
        for stream in streams:
            stream.codec_context.layout = "stereo"
            stream.codec_context.bit_rate = BITS_PER_SECOND
        feed = _Feed(mix)
        written = 0
        for blocks in zip(*(stem.blocks(SAMPLE_RATE_HZ, 2) for stem in stems), strict=True):
            length = blocks[0].shape[1]
            tracks = [feed.take(length), *_parts(blocks, parameters)]
            for stream, samples in zip(streams, tracks, strict=True):
                if length:
                    frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
                    frame.sample_rate, frame.time_base = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ)
                    frame.pts = written
                    container.mux(stream.encode(frame))
            written += length
        for stream in streams:
            container.mux(stream.encode(None))
    manifest = {
        "version": 1,
        "mastering_dsp": MASTERING,
        "stems": [{"name": name.capitalize(), "color": colour} for name, colour in PARTS.items()],
    }
    with path.open("r+b") as file:
        add_user_data(file, b"stem", json.dumps(manifest).encode())


def _parts(blocks: "Sequence[Samples]", parameters: dict[str, Any]) -> "list[Samples]":
    import numpy as np

    scaled = [np.float32(factor) * block for factor, block in zip(parameters["factors"], blocks, strict=True)]
    parts = []
    for count in parameters["counts"]:
        parts.append(np.ascontiguousarray(sum(scaled[:count], start=np.zeros_like(blocks[0]))))
        del scaled[:count]
    return parts


class _Feed:
    """A file's sound in pieces of any length, with silence after its end."""

    def __init__(self, reader: "SoundReader") -> None:
        self._blocks = reader.blocks(SAMPLE_RATE_HZ, 2)
        self._rest: Samples | None = None

    def take(self, length: int) -> "Samples":
        """The next samples: float32 [2, length]."""
        import numpy as np

        taken = np.zeros((2, length), np.float32)
        filled = 0
        while filled < length:
            block = self._rest if self._rest is not None else next(self._blocks, None)
            if block is None:
                break
            count = min(block.shape[1], length - filled)
            taken[:, filled : filled + count] = block[:, :count]
            self._rest = block[:, count:] if count < block.shape[1] else None
            filled += count
        return taken


EXPORT = Export(
    name="stem.mp4",
    summary="Mix and stems as one Native Instruments Stem file, for DJ programs.",
    make=make,
    options=(MODEL,),
    render=render,
)
