"""Files as programs leave them: sizes that were not known, streams that end anywhere, tags of other formats around."""

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from services.common.audio import Samples
from tests.common.audio_files import RATE, with_ffmpeg, with_soundfile

PLACEHOLDERS = (0, 0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0x80000024, 0xFFFF0000, 0xFFFFFFDB, 0xFFFFFFFF)
"""Sizes that programs write to a pipe, before they know it."""


def streamed_wav(path: Path, samples: Samples, size: int) -> Path:
    data = bytearray(with_soundfile(path, samples, subtype="PCM_16").read_bytes())
    data[4:8] = struct.pack("<I", (size + 36) & 0xFFFFFFFF if size else 0)
    data[40:44] = struct.pack("<I", size)
    return _written(path, data)


def streamed_aiff(path: Path, samples: Samples, size: int) -> Path:
    data = bytearray(with_soundfile(path, samples, subtype="PCM_16").read_bytes())
    common, sound = data.index(b"COMM"), data.index(b"SSND")
    data[4:8] = data[sound + 4 : sound + 8] = struct.pack(">I", size)
    data[common + 10 : common + 14] = struct.pack(">I", size // 4)
    return _written(path, data)


def streamed_au(path: Path, samples: Samples, size: int) -> Path:
    data = bytearray(with_ffmpeg(path, samples, "pcm_s16be", muxer="au").read_bytes())
    data[8:12] = struct.pack(">I", size)
    return _written(path, data)


def streamed_w64(path: Path, samples: Samples, size: int) -> Path:
    data = bytearray(with_ffmpeg(path, samples, "pcm_s16le", muxer="w64").read_bytes())
    at = data.index(bytes.fromhex("64617461f3acd3118cd100c04f8edb8a"))
    data[at + 16 : at + 24] = struct.pack("<Q", size)
    return _written(path, data)


def streamed_caf(path: Path, samples: Samples, size: int) -> Path:
    data = bytearray(with_ffmpeg(path, samples, "pcm_s16le", muxer="caf").read_bytes())
    at = data.index(b"data")
    data[at + 4 : at + 12] = struct.pack(">q", -1 if size == 0xFFFFFFFF else size)
    return _written(path, data)


def flac_counting(path: Path, samples: Samples, count: int) -> Path:
    """A FLAC file whose header states a number of samples."""
    data = bytearray(with_soundfile(path, samples).read_bytes())
    data[21] = data[21] & 0xF0 | count >> 32
    data[22:26] = struct.pack(">I", count & 0xFFFFFFFF)
    return _written(path, data)


def wavpack_counting(path: Path, samples: Samples, count: int) -> Path:
    data = bytearray(with_ffmpeg(path, samples, "wavpack").read_bytes())
    data[12:16] = struct.pack("<I", count)
    return _written(path, data)


def ogg_pages(data: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        segments = data[position + 26]
        size = 27 + segments + sum(data[position + 27 : position + 27 + segments])
        yield data[position : position + size]
        position += size


def without_end_flag(data: bytes) -> bytes:
    """An Ogg file whose last page does not say that it is the last, as AOSP's writer leaves it."""
    *pages, last = ogg_pages(data)
    changed = bytearray(last)
    changed[5] &= ~4
    return b"".join([*pages, _with_checksum(changed)])


def joined_midway(data: bytes, skipped: int = 1) -> bytes:
    """An Ogg stream as a listener receives it who comes late: its headers, and pages from later on."""
    pages = list(ogg_pages(data))
    headers = [page for page in pages if int.from_bytes(page[6:14], "little") == 0]
    return b"".join(headers + pages[len(headers) + skipped :])


def mp3_frames(data: bytes) -> list[bytes]:
    """The frames of a Layer III file at 44.1 kHz without tags; the last may be incomplete."""
    kbps = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    position = data.index(b"\xff\xfb")
    frames = []
    while position < len(data):
        size = 144000 * kbps[data[position + 2] >> 4] // RATE + (data[position + 2] >> 1 & 1)
        frames.append(data[position : position + size])
        position += size
    return frames


def with_xing_count(data: bytes, count: int) -> bytes:
    """An MP3 whose Xing or Info tag states a number of frames."""
    at = next(data.index(name) for name in (b"Xing", b"Info") if name in data)
    return data[: at + 8] + struct.pack(">I", count) + data[at + 12 :]


def with_vbri_count(data: bytes, count: int) -> bytes:
    """An MP3 without tags, with a VBRI tag before it that states a number of frames."""
    first = mp3_frames(data)[0]
    tag = b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, len(data), count, 0, 1, 2, 1)
    return (first[:4] + bytes(32) + tag).ljust(len(first), b"\0") + data


def id3v1(title: bytes = b"Title", artist: bytes = b"Artist") -> bytes:
    return b"TAG" + title[:30].ljust(30, b"\0") + artist[:30].ljust(30, b"\0") + bytes(65)


def id3v2(frames: Mapping[str, bytes], version: int = 3) -> bytes:
    """An ID3v2 tag; the frames begin with the byte of their encoding."""

    def size(number: int) -> bytes:
        return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))

    body = b""
    for name, content in frames.items():
        length = struct.pack(">I", len(content)) if version == 3 else size(len(content))
        body += name.encode() + length + b"\0\0" + content
    return b"ID3" + bytes((version, 0, 0)) + size(len(body)) + body


def video(
    path: Path,
    samples: Samples,
    codec: str,
    *,
    rate: int = RATE,
    late_seconds: float = 0.0,
    pause_seconds: float = 0.0,
    muxer: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """A video whose sound begins late, or pauses in its middle for a while."""
    pictures = round((samples.shape[1] / rate + late_seconds + pause_seconds) * 10)
    half = samples.shape[1] // 2 // 4096 * 4096
    with av.open(str(path), "w", format=muxer, container_options=dict(options or {})) as container:
        sound = container.add_stream(codec, rate=rate)
        assert isinstance(sound, av.AudioStream)
        sound.layout = "stereo"
        picture = container.add_stream("libvpx" if path.suffix == ".webm" else "mpeg2video", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        picture.codec_context.time_base = Fraction(1, 25)
        for number in range(pictures * 5 // 2):
            image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number % 256, np.uint8), format="rgb24")
            image.pts, image.time_base = number, Fraction(1, 25)
            container.mux(picture.encode(image))
        container.mux(picture.encode(None))
        for start in range(0, samples.shape[1], 4096):
            frame = _frame(samples[:, start : start + 4096], rate)
            shift = late_seconds + (pause_seconds if start >= half else 0.0)
            frame.pts = start + round(shift * rate)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def with_sounds(path: Path, sounds: list[Samples], default: int) -> Path:
    """A file with several sound tracks, one of them marked as the default."""
    with av.open(str(path), "w") as container:
        streams = []
        for number, _ in enumerate(sounds):
            stream = container.add_stream("aac", rate=RATE)
            assert isinstance(stream, av.AudioStream)
            stream.layout = "stereo"
            stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            streams.append(stream)
        for start in range(0, sounds[0].shape[1], 4096):
            for stream, samples in zip(streams, sounds, strict=True):
                frame = _frame(samples[:, start : start + 4096], RATE)
                frame.pts = start
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def ffmpeg_seconds(data: bytes) -> float:
    """The length that FFmpeg decodes, whatever the header states; packets that it cannot decode count nothing."""
    seconds = 0.0
    with av.open(io.BytesIO(data), "r", metadata_errors="replace") as container:
        stream = container.streams.best("audio")
        assert isinstance(stream, av.AudioStream)
        try:
            for packet in container.demux(stream):
                seconds += sum(frame.samples / frame.sample_rate for frame in _frames(packet.decode))
        except av.FFmpegError:
            pass
    return seconds


def _frames(decode: Callable[[], list[av.AudioFrame]]) -> list[av.AudioFrame]:
    try:
        return decode()
    except av.FFmpegError:
        return []


def _frame(samples: Samples, rate: int) -> av.AudioFrame:
    block = np.ascontiguousarray(samples.T).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(block, format="flt", layout="stereo")
    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
    return frame


def _with_checksum(page: bytearray) -> bytes:
    """A page with its checksum (RFC 3533: polynomial 0x04c11db7, no reflection)."""
    page[22:26] = bytes(4)
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ 0x04C11DB7 if checksum & 0x80000000 else checksum << 1) & 0xFFFFFFFF
    page[22:26] = struct.pack("<I", checksum)
    return bytes(page)


def _written(path: Path, data: bytes | bytearray) -> Path:
    path.write_bytes(data)
    return path
