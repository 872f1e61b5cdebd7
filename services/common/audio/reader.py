"""Reads a file's sound in one pass: FFmpeg decodes, blocks of float32 come out, and at the end the file is checked."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError, PatchWelcomeError
from av.packet import Packet

from services.common.audio import mpeg
from services.common.audio.container import container_name, cut_off, damaged, open_source, open_stream, read_tags
from services.common.audio.conversion import Converter, Layout
from services.common.audio.covers import picture
from services.common.audio.types import AudioInfo, Limits, Progress, Source
from services.common.errors import InvalidInputError, LimitExceededError
from services.common.samples import Samples

BLOCK_SAMPLES = 65536

_EXACT = frozenset({"aiff", "au", "flac", "tak", "tta", "wav", "wv"})
_DECLARING = _EXACT | {"ape", "caf", "mp4", "ogg"}
"""Containers that declare the number of samples, in the header or on the last page; others estimate it, or do not."""
_RESYNCING = frozenset({"mp3", "aac", "ac3", "eac3", "mpeg", "mpegts", "amr"})
"""Containers whose demuxers search for the next frame, so they find frames in any data."""
_MPEG_CODECS = frozenset({"mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float"})

_MAX_FAILED_SHARE = 0.01
_FEW_FAILURES = 3

_MAX_AMPLITUDE = 1000.0
"""60 dB above full scale."""
_FULL_SCALE = {"u8": 1 / 128, "s16": 1 / 32768, "s32": 1 / 2147483648, "flt": 1.0, "dbl": 1.0}


class Reader:
    """Decodes a file once, block by block, in bounded memory.

    A packet that cannot be decoded becomes silence of its length, so that later sound keeps its time. If more than 1 %
    of the packets (and more than 3) fail, the file is CORRUPT.

    Args:
        source: the file.
        limits: see `Limits`.
        on_progress: called after each block with the share of the file that was read.

    Raises (on entering, and out of `blocks`):
        InvalidInputError: reasons EMPTY_FILE, NOT_AUDIO, NO_AUDIO_STREAM, NO_SAMPLES, TRUNCATED, CORRUPT,
            UNSUPPORTED_CODEC.
        LimitExceededError: reasons TOO_LARGE, TOO_LONG, TOO_MANY_CHANNELS.
    """

    info: AudioInfo

    def __init__(self, source: Source, limits: Limits, on_progress: Progress | None = None) -> None:
        self._source = source
        self._limits = limits
        self._on_progress = on_progress
        self._resources = contextlib.ExitStack()
        self._packet_hash = hashlib.sha256()
        self._first_layout: Layout | None = None
        self._progress = 0.0
        self._samples = 0
        self._packets = 0
        self._failed = 0
        self._last_failed = False
        self._broken_end = False
        self._end_time = 0.0
        self._counts: dict[int, int] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as resources:
            self._file = resources.enter_context(open_source(self._source, self._limits))
            self._container, self._stream = resources.enter_context(open_stream(self._file, self._limits))
            self._declared_seconds = _declared_seconds(self._container, self._stream)
            if container_name(self._container) == "mp3":
                position = self._file.position
                self._declared_seconds = mpeg.tagged_seconds(self._file.raw)
                self._file.seek(position)
            self.info = self._read_header()
            if self._declared_seconds > self._limits.max_seconds:
                raise self._too_long()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    @property
    def layout(self) -> Layout:
        """The layout of the first frame; known after the first block."""
        if self._first_layout is None:
            raise RuntimeError("nothing has been decoded yet")
        return self._first_layout

    @property
    def sample_rate_hz(self) -> int:
        """The sample rate of the first frame; known after the first block."""
        return self.layout.sample_rate_hz

    @property
    def channel_names(self) -> tuple[str, ...]:
        """FFmpeg's names of the channels of the first frame, see `Layout`; known after the first block."""
        return self.layout.channel_names

    @property
    def picture(self) -> bytes:
        """The file's cover, see `covers.picture`; known at the end."""
        return picture(self._source)

    @property
    def decoded_seconds(self) -> float:
        """The length decoded so far; exact, because samples are counted."""
        return sum(samples / rate for rate, samples in self._counts.items())

    @property
    def content_hash(self) -> str:
        """SHA-256 in hex over codec, rate, channels, the compressed audio and its length in samples; known at the end.

        Tags, pictures and the container's own bytes are left out, so a retagged or remuxed copy has the same hash. It
        uses the compressed bytes because decoded samples differ in the last bit between processors.
        """
        summary = f"{self.info.codec} {self.info.sample_rate_hz} {self.info.channels} {self._samples}"
        complete = self._packet_hash.copy()
        complete.update(summary.encode())
        return complete.hexdigest()

    def blocks(self, sample_rate_hz: int | None = None, channels: int | None = None) -> Iterator[Samples]:
        """Yields the sound in blocks; can be called once.

        Args:
            sample_rate_hz: of the blocks; None for the rate of the file's first frame.
            channels: of the blocks; None for those of the file's first frame. See `Converter` for the mixing.

        Yields:
            float32 [channels, up to about 65536 samples], never more than 60 dB above full scale; valid until the next
            one is asked for.
        """
        converter: Converter | None = None
        for block, layout in self._gathered():
            if self._first_layout is None:
                self._first_layout = layout
            if converter is None or converter.source != layout:
                if converter is not None:
                    yield converter.flush()
                first = self._first_layout
                converter = Converter(layout, sample_rate_hz or first.sample_rate_hz, channels or first.channels)
            yield converter.convert(block)
            self._report_progress()
        if converter is not None:
            yield converter.flush()
        self._judge()
        self.info = replace(
            self.info,
            samples=self._samples,
            duration_seconds=self.decoded_seconds,
            bit_rate=self._bit_rate(self.decoded_seconds),
            sample_rate_hz=self.layout.sample_rate_hz,
            channels=self.layout.channels,
        )
        if self._on_progress is not None:
            self._on_progress(1.0)

    def _read_header(self) -> AudioInfo:
        seconds = self._declared_seconds
        if not seconds and self._stream.duration is not None and self._stream.time_base is not None:
            seconds = float(self._stream.duration * self._stream.time_base)
        if not seconds:
            seconds = (self._container.duration or 0) / 1e6
        return AudioInfo(
            duration_seconds=max(seconds, 0.0),
            samples=0,
            sample_rate_hz=self._stream.rate or 0,
            channels=self._stream.channels,
            codec=self._stream.codec_context.codec.canonical_name,
            container=container_name(self._container),
            bit_rate=self._bit_rate(seconds),
            tags=read_tags(self._container, self._stream),
        )

    def _bit_rate(self, seconds: float) -> int:
        return round(self._file.size * 8 / seconds) if seconds > 0 else 0

    def _gathered(self) -> Iterator[tuple[Samples, Layout]]:
        """Joins frames of about a thousand samples to blocks of up to BLOCK_SAMPLES, each of one layout."""
        buffer: Samples = np.empty((0, 0), np.float32)
        layout: Layout | None = None
        filled = 0
        for samples, frame_layout in self._decoded():
            if frame_layout != layout:
                if layout is not None and filled:
                    yield _plausible(buffer[:, :filled]), layout
                layout, filled = frame_layout, 0
                buffer = np.empty((layout.channels, BLOCK_SAMPLES), np.float32)
            done = 0
            while done < samples.shape[1]:
                count = min(samples.shape[1] - done, BLOCK_SAMPLES - filled)
                buffer[:, filled : filled + count] = samples[:, done : done + count]
                filled += count
                done += count
                if filled == BLOCK_SAMPLES:
                    yield _plausible(buffer), layout
                    filled = 0
        if layout is not None and filled:
            yield _plausible(buffer[:, :filled]), layout

    def _decoded(self) -> Iterator[tuple[Samples, Layout]]:
        unpack = _Unpacker()
        layout: Layout | None = None
        lost_samples = 0
        for packet in self._packets_of_stream():
            try:
                frames = packet.decode()
            except FFmpegError:
                self._fail()
                if layout is not None and packet.duration and packet.time_base is not None:
                    lost_samples += int(packet.duration * packet.time_base * layout.sample_rate_hz)
                continue
            if packet.size:
                self._last_failed = False
            if packet.is_corrupt or any(frame.is_corrupt for frame in frames):
                self._fail()
            for frame in frames:
                if not frame.samples:
                    continue
                layout = Layout.of(frame)
                if lost_samples:
                    self._count(lost_samples, layout)
                    yield np.zeros((layout.channels, lost_samples), np.float32), layout
                    lost_samples = 0
                self._count(frame.samples, layout)
                if frame.time is not None:
                    self._end_time = frame.time + frame.samples / layout.sample_rate_hz
                yield unpack(frame), layout

    def _packets_of_stream(self) -> "Iterator[Packet[AudioStream]]":
        # FLAC and others check the checksums of their frames only on demand.
        self._stream.codec_context.options = {"err_detect": "crccheck"}
        # WavPack's and other decoders would start more threads, which a sandbox does not allow.
        self._stream.codec_context.thread_count = 1
        mpeg_audio = self._stream.codec_context.name in _MPEG_CODECS
        data = b""
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    self._packets += 1
                    data = bytes(packet)
                    self._packet_hash.update(data)
                yield packet
        except PatchWelcomeError as error:
            raise InvalidInputError("the sound changes its format on the way", "UNSUPPORTED_CODEC") from error
        except FFmpegError:
            self._broken_end = True
        except IndexError:
            # PyAV fails when our stream is flushed at the end, if other streams appeared later (MPEG-TS, FLV).
            pass
        if mpeg_audio:
            # Data after the last frame (tags that FFmpeg does not know) is common and harmless; half a frame is not.
            self._last_failed = mpeg.is_partial_frame(data)

    def _fail(self) -> None:
        self._failed += 1
        self._last_failed = True

    def _count(self, samples: int, layout: Layout) -> None:
        first = self._first_layout or layout
        self._counts[layout.sample_rate_hz] = self._counts.get(layout.sample_rate_hz, 0) + samples
        if self.decoded_seconds > self._limits.max_seconds:
            raise self._too_long()
        self._samples += round(samples * first.sample_rate_hz / layout.sample_rate_hz)

    def _too_long(self) -> LimitExceededError:
        return LimitExceededError(
            f"the file plays longer than {self._limits.max_seconds / 60:g} minutes",
            "TOO_LONG",
            max_seconds=f"{self._limits.max_seconds:g}",
        )

    def _report_progress(self) -> None:
        if self._on_progress is not None:
            self._progress = max(self._progress, min(self._file.position / self._file.size, 1.0))
            self._on_progress(self._progress)

    def _judge(self) -> None:
        """Raises the error of a bad file; called at the end."""
        name = container_name(self._container)
        if name in _RESYNCING and self._failed * 2 > self._packets:
            raise InvalidInputError("the file is neither audio nor video", "NOT_AUDIO")
        in_the_middle = self._failed - self._last_failed
        if in_the_middle > max(_FEW_FAILURES, self._packets * _MAX_FAILED_SHARE):
            raise damaged()
        # The WAV demuxer flags the last packet of a stream of unknown size; its sizes were compared when it was opened.
        if self._broken_end or (self._last_failed and name != "wav"):
            raise cut_off()
        missing = self._declared_seconds - self.decoded_seconds
        if missing > _tolerance_seconds(name, self._declared_seconds):
            reached_the_end = self._end_time > self._declared_seconds - missing / 2
            raise damaged() if in_the_middle or reached_the_end else cut_off()
        if self._samples == 0:
            raise InvalidInputError("there are no samples in the file", "NO_SAMPLES")


class _Unpacker:
    """Converts frames of any sample format to float32 [channels, samples], full scale at 1."""

    def __init__(self) -> None:
        self._packers: dict[tuple[str, Layout], AudioResampler] = {}

    def __call__(self, frame: AudioFrame) -> Samples:
        channels = frame.layout.nb_channels
        if frame.format.is_planar and channels >= 8:
            # PyAV looks for a null pointer after the planes of a frame; from 8 channels on FFmpeg puts none there.
            frame = self._packed(frame)
        raw = frame.to_ndarray()
        if not frame.format.is_planar:
            raw = raw.reshape(-1, channels).T
        kind = frame.format.packed.name
        if kind == "u8":
            raw = raw.astype(np.float32) - np.float32(128)
        if kind == "s32":
            # A float32 holds 24 bits: 24-bit sound stays exact, 32-bit sound is rounded to 24 bits.
            return (raw * _FULL_SCALE[kind]).astype(np.float32)
        with np.errstate(all="ignore"):
            return np.multiply(raw, np.float32(_FULL_SCALE[kind]), dtype=np.float32, casting="unsafe")

    def _packed(self, frame: AudioFrame) -> AudioFrame:
        key = (frame.format.name, Layout.of(frame))
        if key not in self._packers:
            self._packers[key] = AudioResampler(frame.format.packed, frame.layout, frame.sample_rate)
        (packed,) = self._packers[key].resample(frame)
        return packed


def _plausible(block: Samples) -> Samples:
    """Float files can hold NaN, infinity and absurd values, which no model can use. Such samples become silence."""
    if not np.abs(block).max(initial=0) <= _MAX_AMPLITUDE:
        block[~(np.abs(block) <= _MAX_AMPLITUDE)] = 0
    return block


def _declared_seconds(container: InputContainer, stream: AudioStream) -> float:
    """The duration that the header states reliably; 0 if it does not."""
    name = container_name(container)
    if name in _DECLARING and stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if name == "matroska" and all(other is stream for other in container.streams):
        return (container.duration or 0) / 1e6
    return 0.0


def _tolerance_seconds(container: str, declared_seconds: float) -> float:
    """The allowed error of a declared duration: none for lossless files; others round it or include codec delay."""
    return 0.05 if container in _EXACT else max(0.1, min(0.5, declared_seconds * 0.05))
