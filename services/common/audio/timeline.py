"""Keeps the sound of a video in time with its picture, by silence where the file has no sound."""

from fractions import Fraction
from typing import Any

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

_SHORTEST_GAP_SECONDS = 0.1
_LONGEST_GAP_SECONDS = 60.0
_LATEST_SECONDS = 600.0
"""More are jumps of a clock: of joined recordings, or of a counter that began again."""


class Timeline:
    """Compares the time of each frame with the sound so far.

    Only a file with a picture has silence added: before sound that begins after the picture, and in gaps of 0.1 to 60 s
    between packets. A file with sound alone begins with its sound.

    Args:
        container: the open file.
        stream: the sound in it.

    Attributes:
        late_seconds: by how much the sound begins after the picture.
        gap_seconds: sum of the gaps, silent or not.
        has_pictures: whether silence is added.
        streams: those to read, the sound first.
    """

    def __init__(self, container: InputContainer, stream: AudioStream) -> None:
        self.late_seconds = 0.0
        self.gap_seconds = 0.0
        self._pictures = [
            other
            for other in container.streams
            if isinstance(other, VideoStream) and not other.disposition & Disposition.attached_pic
        ]
        # They are read up to the first sound: without their decoders FFmpeg's own start times can be wrong.
        for picture in self._pictures:
            picture.discard = Discard.default
        self.streams: list[Stream] = [stream, *self._pictures]
        self.has_pictures = bool(self._pictures)
        self._seen_start: float | None = None
        self._next: float | None = None
        # FFmpeg knows the time of an Ogg FLAC stream that was joined midway only after its first page.
        self._knows_time = stream.codec_context.name != "flac"

    def see_picture(self, packet: "Packet[Any]") -> None:
        """Takes the start of the picture from packets that come before the sound."""
        time = _seconds(packet.pts, packet.time_base)
        if time is not None:
            self._seen_start = time if self._seen_start is None else min(self._seen_start, time)

    def silence_before(self, time: float | None, samples: int, sample_rate_hz: int) -> int:
        """How many silent samples come before a frame.

        Args:
            time: of the frame in seconds, if it has one.
            samples: of the frame.
            sample_rate_hz: of the frame.
        """
        seconds = samples / sample_rate_hz
        if time is None:
            self._advance(seconds)
            return 0
        gap = 0.0
        if self._next is None:
            if self._pictures:
                late = time - self._picture_start(time)
                gap = self.late_seconds = late if 0 < late <= _LATEST_SECONDS else 0.0
                for picture in self._pictures:
                    picture.discard = Discard.all
            self._next = time
        elif abs(time - self._next) >= _SHORTEST_GAP_SECONDS:
            if self._next < time <= self._next + _LONGEST_GAP_SECONDS:
                gap = time - self._next
                self.gap_seconds += gap if self._knows_time else 0.0
                self._knows_time = True
            self._next = time
        self._next += seconds
        return round(gap * sample_rate_hz) if self._pictures else 0

    def skip(self, seconds: float) -> None:
        """Counts sound that could not be decoded, and was made silence."""
        self._advance(seconds)

    def _picture_start(self, otherwise: float) -> float:
        if self._seen_start is not None:
            return self._seen_start
        starts = [_seconds(picture.start_time, picture.time_base) for picture in self._pictures]
        return min((start for start in starts if start is not None), default=otherwise)

    def _advance(self, seconds: float) -> None:
        if self._next is not None:
            self._next += seconds


def _seconds(count: int | None, unit: Fraction | None) -> float | None:
    return None if count is None or unit is None else float(count * unit)
