"""Real files of every kind, made with PyAV and libsndfile, for the audio tests."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from av.container import OutputContainer

from services.common.audio import Samples

RATE = 44100


def with_soundfile(path: Path, samples: Samples, rate: int = RATE, subtype: str | None = None) -> Path:
    """Writes a format of libsndfile (WAV, AIFF, FLAC, Ogg Vorbis, MP3), chosen by the suffix."""
    soundfile.write(path, samples.T, rate, subtype=subtype)
    return path


def _audio_stream(container: OutputContainer, codec: str, rate: int) -> av.AudioStream:
    stream = container.add_stream(codec, rate=rate)
    assert isinstance(stream, av.AudioStream)
    return stream


def with_ffmpeg(
    path: Path,
    samples: Samples | None,
    codec: str = "",
    *,
    rate: int = RATE,
    layout: str = "stereo",
    muxer: str | None = None,
    video: bool = False,
    options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> Path:
    """Writes a format of FFmpeg, with a video stream of ten frames a second if asked for."""
    with av.open(str(path), "w", format=muxer, container_options=options or {}) as container:
        container.metadata.update(tags or {})
        if samples is not None:
            sound = _audio_stream(container, codec, rate)
            sound.layout = layout
            sound.bit_rate = 128_000
        if video:
            picture = container.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=10)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        if video:
            for number in range(30):
                image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 8, np.uint8), format="rgb24")
                image.pts = number
                container.mux(picture.encode(image))
            container.mux(picture.encode(None))
        if samples is not None:
            for start in range(0, samples.shape[1], 4096):
                block = np.ascontiguousarray(samples[:, start : start + 4096].T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


def flac_of_hours(path: Path, hours: float, declared: bool) -> Path:
    """Hours of silence in some hundred kilobytes; the header may leave out the duration."""
    rate, block = 8000, 65536
    silence = av.AudioFrame.from_ndarray(np.zeros((1, block), np.int16), format="s16", layout="mono")
    silence.sample_rate = rate
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=rate)
        stream.layout = "mono"
        for number in range(round(hours * 3600 * rate / block)):
            silence.pts = number * block
            container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    if not declared:
        data = bytearray(path.read_bytes())
        # STREAMINFO's 36 bits of total samples: 0 means unknown.
        data[21] &= 0xF0
        data[22:26] = bytes(4)
        path.write_bytes(data)
    return path


def aac_of_hours(path: Path, hours: float) -> Path:
    """One silent frame repeated for hours, without a header with the duration."""
    rate, frame_samples = 8000, 1024
    silence = np.zeros((1, rate), np.float32)
    data = with_ffmpeg(path, silence, "aac", rate=rate, layout="mono", muxer="adts").read_bytes()
    start = end = 0
    while end < len(data):
        start, end = end, end + ((data[end + 3] & 3) << 11 | data[end + 4] << 3 | data[end + 5] >> 5)
    path.write_bytes(data[start:end] * round(hours * 3600 * rate / frame_samples))
    return path


def opus_of_hours(path: Path, hours: float) -> Path:
    """One second of encoded silence repeated for hours: an Ogg file with a few bytes per 20 ms."""
    rate, frame = 48000, 960
    silence = av.AudioFrame.from_ndarray(np.zeros((1, frame), np.float32), format="flt", layout="mono")
    silence.sample_rate = rate
    with av.open(str(path), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=rate)
        stream.layout = "mono"
        packets = []
        for number in range(50):
            silence.pts = number * frame
            packets += [bytes(packet) for packet in stream.encode(silence)]
        for number in range(round(hours * 3600 * rate / frame)):
            packet = av.Packet(packets[-1])
            packet.stream, packet.time_base = stream, Fraction(1, rate)
            packet.pts = packet.dts = number * frame
            packet.duration = frame
            container.mux(packet)
    return path


def png() -> bytes:
    """A picture."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return memory.getvalue()


def snr_db(reference: Samples, other: Samples) -> float:
    """The level of the reference above that of the difference, in dB."""
    noise = float(np.mean((reference - other) ** 2))
    return 10 * float(np.log10(np.mean(reference**2) / max(noise, 1e-30)))
