"""Reads a file's sound in one pass: FFmpeg decodes, blocks of float32 come out, and at the end the file is checked."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self, cast

import numpy as np
from av.audio.stream import AudioStream
from av.error import EOFError as FFmpegEOFError
from av.error import FFmpegError, PatchWelcomeError
from av.packet import Packet

from services.common.audio import mpeg
from services.common.audio.container import container_name, open_source, open_stream
from services.common.audio.conversion import Converter, Layout
from services.common.audio.covers import picture
from services.common.audio.frames import Levels, Unpacker, silence_absurd
from services.common.audio.tags import read_tags
from services.common.audio.timeline import Timeline
from services.common.audio.types import AudioInfo, Limits, Note, Progress, Source
from services.common.audio.verdict import Decoded, judge
from services.common.errors import InvalidInputError, LimitExceededError
from services.common.samples import Samples

BLOCK_SAMPLES = 65536

_DECLARING = frozenset({"flac", "tak", "tta", "wv", "ape", "mp4", "ogg"})
"""Containers whose header (or last page) states the number of samples, apart from the sizes in `endings`."""
_BY_SIZE = frozenset({"aiff", "au", "caf", "w64", "wav"})
"""Containers without packets: only their size shows whether the end is there."""
_MPEG_CODECS = frozenset({"mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float"})
_FLOAT_CODECS = frozenset({"pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le", "wavpack"})
_NOTED_SECONDS = 0.05
_SHARE_TO_JUDGE_BY, _CLEARLY = 0.03, 1.2
"""Share of a file after which its average bit rate is taken as known, and by how much it must be too long."""


class Reader:
    """Decodes a file once, block by block, in bounded memory.

    A packet that cannot be decoded becomes silence of its length, so that later sound keeps its time. `verdict` has the
    rule by which a file is whole, and its notes. Further notes: STARTS_LATE and GAPS (silence was added to keep the
    sound in time with the picture, see `Timeline`), SCALED (floats of another scale were brought to full scale),
    ABSURD_SAMPLES (samples that are not numbers, or absurdly large, were made silent), OTHER_SOUND (of several sound
    tracks, the default one is read).

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
        self._absurd = 0
        self._scale = 1.0
        self._counts: dict[int, int] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as resources:
            self._file = resources.enter_context(open_source(self._source, self._limits))
            self._container, self._stream = resources.enter_context(open_stream(self._file, self._limits))
            position = self._file.position
            self._declared_seconds = self._find_declared_seconds()
            tags = read_tags(self._file.raw, self._container, self._stream)
            self._file.seek(position)
            self._timeline = Timeline(self._container, self._stream)
            self.info = self._read_header(tags)
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
        if self._stream.codec_context.name in _FLOAT_CODECS:
            self._scale = self._find_scale()
        converter: Converter | None = None
        for block, layout in self._gathered():
            self._absurd += silence_absurd(block)
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
        notes = self._judge()
        self.info = replace(
            self.info,
            notes=notes,
            samples=self._samples,
            duration_seconds=self.decoded_seconds,
            bit_rate=self._bit_rate(self.decoded_seconds),
            sample_rate_hz=self.layout.sample_rate_hz,
            channels=self.layout.channels,
        )
        if self._on_progress is not None:
            self._on_progress(1.0)

    def _read_header(self, tags: Mapping[str, str]) -> AudioInfo:
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
            tags=tags,
        )

    def _find_declared_seconds(self) -> float:
        """The duration that the header states; 0 if it does not, or not that of the whole file."""
        name, ending = container_name(self._container), self._file.ending
        if name == "mp3":
            return mpeg.tagged_seconds(self._file)
        if ending.in_fragments or ending.in_a_page:
            return 0.0
        if name in _DECLARING and self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        if name == "matroska" and len(self._container.streams) == 1:
            return (self._container.duration or 0) / 1e6
        return 0.0

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
                    yield buffer[:, :filled], layout
                layout, filled = frame_layout, 0
                buffer = np.empty((layout.channels, BLOCK_SAMPLES), np.float32)
            done = 0
            while done < samples.shape[1]:
                count = min(samples.shape[1] - done, BLOCK_SAMPLES - filled)
                buffer[:, filled : filled + count] = samples[:, done : done + count]
                filled += count
                done += count
                if filled == BLOCK_SAMPLES:
                    yield buffer, layout
                    filled = 0
        if layout is not None and filled:
            yield buffer[:, :filled], layout

    def _decoded(self) -> Iterator[tuple[Samples, Layout]]:
        unpack = Unpacker(self._scale)
        # The demuxers of files without packets flag the last one of every stream of unknown size.
        by_size = container_name(self._container) in _BY_SIZE
        layout: Layout | None = None
        lost_samples = 0
        for packet in self._packets_of_stream():
            try:
                frames = packet.decode()
            except FFmpegError:
                if not packet.size:  # a decoder without packets has nothing to flush
                    continue
                self._fail()
                if layout is not None and packet.duration and packet.time_base is not None:
                    lost = int(packet.duration * packet.time_base * layout.sample_rate_hz)
                    self._timeline.skip(lost / layout.sample_rate_hz)
                    lost_samples += lost
                continue
            if packet.size:
                self._last_failed = False
            if (packet.is_corrupt and not by_size) or any(frame.is_corrupt for frame in frames):
                self._fail()
            for frame in frames:
                if not frame.samples:
                    continue
                layout = Layout.of(frame)
                lost_samples += self._timeline.silence_before(frame.time, frame.samples, layout.sample_rate_hz)
                yield from self._silence(lost_samples, layout)
                lost_samples = 0
                self._count(frame.samples, layout)
                if frame.time is not None:
                    self._end_time = frame.time + frame.samples / layout.sample_rate_hz
                yield unpack(frame), layout

    def _silence(self, samples: int, layout: Layout) -> Iterator[tuple[Samples, Layout]]:
        while samples > 0:
            count = min(samples, BLOCK_SAMPLES)
            self._count(count, layout)
            yield np.zeros((layout.channels, count), np.float32), layout
            samples -= count

    def _packets_of_stream(self) -> "Iterator[Packet[AudioStream]]":
        # FLAC and others check the checksums of their frames only on demand.
        self._stream.codec_context.options = {"err_detect": "crccheck"}
        # WavPack's and other decoders would start more threads, which a sandbox does not allow.
        self._stream.codec_context.thread_count = 1
        mpeg_audio = self._stream.codec_context.name in _MPEG_CODECS
        data = b""
        try:
            for packet in self._container.demux(self._timeline.streams):
                if packet.stream is not self._stream:
                    if packet.size:
                        self._timeline.see_picture(packet)
                    continue
                if packet.size:
                    self._packets += 1
                    data = bytes(packet)
                    self._packet_hash.update(data)
                yield cast("Packet[AudioStream]", packet)
        except PatchWelcomeError as error:
            raise InvalidInputError("the sound changes its format on the way", "UNSUPPORTED_CODEC") from error
        except FFmpegEOFError:
            pass  # a file without packets
        except FFmpegError:
            self._broken_end = True
        except IndexError:
            # PyAV fails when our stream is flushed at the end, if other streams appeared later (MPEG-TS, FLV).
            pass
        if mpeg_audio:
            # Data after the last frame (tags that FFmpeg does not know) is common and harmless; half a frame is not.
            self._last_failed = mpeg.is_partial_frame(data)

    def _find_scale(self) -> float:
        """Decodes a file of floats once more, before its sound is given out, to find its level."""
        position, levels, unpack = self._file.position, Levels(), Unpacker()
        with open_source(self._source, self._limits) as file, open_stream(file, self._limits) as (container, stream):
            stream.codec_context.thread_count = 1
            packets = container.demux(stream)
            while True:
                with contextlib.suppress(FFmpegError):
                    packet = next(packets, None)
                    if packet is None:
                        break
                    for frame in packet.decode():
                        levels.add(unpack(frame))
                if self._on_progress is not None:
                    self._on_progress(0.0)
        self._file.seek(position)
        return levels.scale()

    def _fail(self) -> None:
        self._failed += 1
        self._last_failed = True

    def _count(self, samples: int, layout: Layout) -> None:
        first = self._first_layout or layout
        self._counts[layout.sample_rate_hz] = self._counts.get(layout.sample_rate_hz, 0) + samples
        if self.decoded_seconds > self._limits.max_seconds or self._will_be_too_long():
            raise self._too_long()
        self._samples += round(samples * first.sample_rate_hz / layout.sample_rate_hz)

    def _will_be_too_long(self) -> bool:
        """Whether the header announces too long a sound, and the bytes read so far confirm it."""
        if self._declared_seconds <= self._limits.max_seconds:
            return False
        share = self._file.position / self._file.size
        return share > _SHARE_TO_JUDGE_BY and self.decoded_seconds / share > self._limits.max_seconds * _CLEARLY

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

    def _judge(self) -> tuple[Note, ...]:
        """Notes on the file; raises the error of a bad one. Called at the end."""
        name = container_name(self._container)
        decoded = Decoded(
            container=name,
            claimed_seconds=self._declared_seconds,
            seconds=self.decoded_seconds - self._timeline.late_seconds,
            end_seconds=self._end_time,
            gap_seconds=self._timeline.gap_seconds,
            missing=self._file.ending.missing,
            packets=self._packets,
            failed=self._failed,
            ends_in_packet=self._ends_in_packet(name),
        )
        return (*judge(decoded), *self._notes_on_reading())

    def _ends_in_packet(self, name: str) -> bool:
        if name in _BY_SIZE:
            return False
        return self._broken_end or self._last_failed or self._file.ending.in_a_page

    def _notes_on_reading(self) -> Iterator[Note]:
        late, gaps, others = self._timeline.late_seconds, self._timeline.gap_seconds, len(self._container.streams.audio)
        if late > _NOTED_SECONDS:
            yield Note("STARTS_LATE", f"the sound begins {late:.2f} s after the picture, with silence before it")
        if gaps and self._timeline.has_pictures:
            yield Note("GAPS", f"{gaps:.2f} s without sound are silent, so that it stays in time with the picture")
        if self._scale != 1.0:
            how = f"the floats were {1 / self._scale:.6g} times too large; all were brought to full scale"
            yield Note("SCALED", how)
        if self._absurd:
            yield Note(
                "ABSURD_SAMPLES", f"{self._absurd} samples were no sound (not a number, or too large) and are silent"
            )
        if others > 1:
            number = self._container.streams.audio.index(self._stream) + 1
            language = self._stream.language
            which = f"number {number}" + (f" ({language})" if language else "")
            yield Note("OTHER_SOUND", f"the file has {others} sound tracks; this is the default one, {which}")
