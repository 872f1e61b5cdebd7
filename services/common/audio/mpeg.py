"""MPEG audio frame headers (ISO/IEC 11172-3, 13818-3) and the Xing/Info/VBRI tag in the first frame of an MP3.

FFmpeg does not report whether the last frame of an MP3 was complete, or how many frames the encoder counted. Both show
whether a file was cut off.
"""

from dataclasses import dataclass

from services.common.audio.endings import Bytes
from services.common.audio.foreign_tags import id3v2_size

_SEARCH_BYTES = 8192
_KBPS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = (44100, 48000, 32000)
_SAMPLES = {(1, 1): 384, (2, 1): 384, (1, 2): 1152, (2, 2): 1152, (1, 3): 1152, (2, 3): 576}


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Length of a frame in bytes (header included), its samples per channel, its sample rate."""

    length: int
    samples: int
    sample_rate_hz: int


def frame_header(data: bytes) -> FrameHeader | None:
    """Reads the four header bytes at the start of `data`; None if they are not a header, or one of free format."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version_bits, layer_bits = data[1] >> 3 & 3, data[1] >> 1 & 3
    rate_index, bit_rate_index, padding = data[2] >> 2 & 3, data[2] >> 4, data[2] >> 1 & 1
    if version_bits == 1 or layer_bits == 0 or rate_index == 3 or bit_rate_index in (0, 15):
        return None
    version, layer = (1 if version_bits == 3 else 2), 4 - layer_bits
    rate = _RATES_HZ[rate_index] >> {3: 0, 2: 1, 0: 2}[version_bits]
    bit_rate = _KBPS[version, layer][bit_rate_index - 1] * 1000
    samples = _SAMPLES[version, layer]
    if layer == 1:
        return FrameHeader((12 * bit_rate // rate + padding) * 4, samples, rate)
    return FrameHeader(samples // 8 * bit_rate // rate + padding, samples, rate)


def is_partial_frame(packet: bytes) -> bool:
    """Whether a demuxed packet starts like a frame and ends before that frame does."""
    header = frame_header(packet)
    return header is not None and len(packet) < header.length


def tagged_seconds(file: Bytes) -> float:
    """The duration that the Xing, Info or VBRI tag of an MP3 declares, in seconds; 0 without such a tag."""
    file.seek(0)
    start = id3v2_size(file.read(10))
    file.seek(start)
    data = file.read(_SEARCH_BYTES)
    for offset in range(len(data) - 4):
        header = frame_header(data[offset : offset + 4])
        if header is not None:
            frames, trimmed = _tag(data[offset : offset + header.length])
            return max(frames * header.samples - trimmed, 0) / header.sample_rate_hz
    return 0.0


def _tag(frame: bytes) -> tuple[int, int]:
    """Frames that follow, and the samples of encoder delay and padding among them."""
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big"), 0
    # The tag follows the side information, whose size depends on version and channels.
    at = next((at for at in (4 + 32, 4 + 17, 4 + 9) if frame[at : at + 4] in (b"Xing", b"Info")), 0)
    if not at:
        return 0, 0
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    if not flags & 1:
        return 0, 0
    frames = int.from_bytes(frame[at + 8 : at + 12], "big")
    encoder = at + 8 + sum(size for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
    trim = int.from_bytes(frame[encoder + 21 : encoder + 24], "big") if frame[encoder : encoder + 1].isalpha() else 0
    return frames, (trim >> 12) + (trim & 0xFFF)
