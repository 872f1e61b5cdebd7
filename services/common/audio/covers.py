"""Pictures in audio files."""

from av.error import FFmpegError
from av.stream import Discard, Disposition

from services.common.audio.container import open_source, open_stream
from services.common.audio.types import NO_LIMITS, Source
from services.common.errors import StemTubeError


def picture(source: Source) -> bytes:
    """The cover picture in a file, unchanged (usually JPEG or PNG); empty if there is none."""
    try:
        with open_source(source, NO_LIMITS) as file, open_stream(file, NO_LIMITS) as (container, _stream):
            for stream in container.streams.video:
                if stream.disposition & Disposition.attached_pic:
                    stream.discard = Discard.default
                    packet = next(container.demux(stream), None)
                    return bytes(packet) if packet is not None and packet.size else b""
    except (StemTubeError, FFmpegError):
        pass
    return b""
