"""Damaged media files: each is decoded, or refused with an error of our domain, within a time limit.

They are read in a child process, as in the suite, which an input may crash.
"""

import functools
import multiprocessing
import random
import resource
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, ID3, PictureType
from mutagen.mp4 import MP4, MP4Cover

from services.common import audio
from services.common.errors import StemTubeError
from services.download.fetching.pictures import picture_suffix
from songs.small_songs import music
from tests.common.audio_files import png, with_ffmpeg, with_soundfile
from tests.fuzz.findings import Tally
from tests.fuzz.mutations import mutated

SECONDS = 0.4
HANG_SECONDS = 60.0  # the slowest takes 0.3 s on a quiet machine
MEMORY_BYTES = 4 << 30
LIMITS = audio.Limits(max_seconds=60, max_bytes=2_000_000)

_SONG = music(SECONDS)
_SONG_48K = music(SECONDS, rate=48000)


# Without random ids, so that a seed always gives the same inputs.
_EXACT = {"fflags": "+bitexact"}


def _ffmpeg(codec: str, options: Mapping[str, str] = _EXACT, **more: Any) -> Callable[[Path], Path]:
    return lambda path: with_ffmpeg(path, _SONG, codec, options={**options, **_EXACT}, **more)


def _opus(path: Path) -> Path:
    return with_ffmpeg(path, _SONG_48K, "libopus", rate=48000, options=_EXACT)


def _vorbis(path: Path) -> Path:
    """FFmpeg has no good encoder for Vorbis, and libsndfile writes random ids."""
    encoded = with_soundfile(path.with_name(f"random-{path.name}"), _SONG)
    with av.open(str(encoded)) as source, av.open(str(path), "w", container_options=_EXACT) as copy:
        stream = copy.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    return path


def _wav(subtype: str) -> Callable[[Path], Path]:
    return lambda path: with_soundfile(path, _SONG, subtype=subtype)


def _flac_with_cover(path: Path) -> Path:
    cover = Picture()
    cover.data, cover.mime, cover.type = png(), "image/png", PictureType.COVER_FRONT
    song = FLAC(with_soundfile(path, _SONG))
    song.add_picture(cover)
    song.save()
    return path


def _mp3_with_cover(path: Path) -> Path:
    tags = ID3()
    tags.add(APIC(mime="image/png", type=PictureType.COVER_FRONT, data=png()))
    tags.save(with_ffmpeg(path, _SONG, "libmp3lame"))
    return path


def _m4a_with_cover(path: Path) -> Path:
    song = MP4(with_ffmpeg(path, _SONG, "aac"))
    song["covr"] = [MP4Cover(png(), MP4Cover.FORMAT_PNG)]
    song["\xa9nam"] = "Morning Light"
    song.save()
    return path


KINDS: Mapping[str, Callable[[Path], Path]] = {
    "8bit.wav": _wav("PCM_U8"),
    "16bit.wav": _wav("PCM_16"),
    "float.wav": _ffmpeg("pcm_f64le"),
    "ima.wav": _ffmpeg("adpcm_ima_wav"),
    "gsm.wav": lambda path: with_soundfile(path, music(SECONDS, rate=8000, channels=1), 8000, "GSM610"),
    "large.w64": _ffmpeg("pcm_s16le", muxer="w64"),
    "song.aiff": lambda path: with_soundfile(path, _SONG),
    "song.au": _ffmpeg("pcm_s16be", muxer="au"),
    "song.caf": _ffmpeg("alac", muxer="caf"),
    "cover.flac": _flac_with_cover,
    "vorbis.ogg": _vorbis,
    "song.opus": _opus,
    "cover.mp3": _mp3_with_cover,
    "layer2.mp2": _ffmpeg("mp2"),
    "song.aac": _ffmpeg("aac", muxer="adts"),
    "cover.m4a": _m4a_with_cover,
    "alac.m4a": _ffmpeg("alac"),
    "fragments.mp4": _ffmpeg("aac", options={"movflags": "+frag_keyframe+empty_moov", "frag_duration": "100000"}),
    "clip.mp4": _ffmpeg("aac", video=True),
    "clip.mkv": _ffmpeg("aac", video=True),
    "song.webm": _opus,
    "song.ts": _ffmpeg("aac", muxer="mpegts"),
    "song.mpg": _ffmpeg("mp2", muxer="mpeg"),
    "clip.flv": _ffmpeg("aac", muxer="flv"),
    "clip.avi": _ffmpeg("libmp3lame", muxer="avi"),
    "song.wma": _ffmpeg("wmav2", muxer="asf"),
    "song.wv": _ffmpeg("wavpack"),
    "song.tta": _ffmpeg("tta"),
    "song.ac3": _ffmpeg("ac3"),
    "song.eac3": _ffmpeg("eac3"),
}


@functools.cache
def originals() -> Mapping[str, bytes]:
    """A complete file of each accepted kind, half a second long."""
    with tempfile.TemporaryDirectory() as folder:
        return {name: make(Path(folder) / name).read_bytes() for name, make in KINDS.items()}


def verdict(content: bytes) -> str:
    """The outcome of a file.

    Returns:
        `decoded`, or the reason of the refusal.

    Raises:
        Exception: a bug.
    """
    with tempfile.TemporaryFile() as file:  # as in the library: a file fails in more ways than memory does
        file.write(content)
        return _verdict(file)


def _verdict(file: BinaryIO) -> str:
    picture_suffix(audio.picture(file))
    outcomes = set()
    for work in (audio.inspect, audio.decode):
        try:
            result = work(file, LIMITS)
        except StemTubeError as refusal:
            outcomes.add(refusal.reason)
            continue
        outcomes.add("decoded")
        if isinstance(result, np.ndarray):
            assert result.dtype == np.float32
            assert result.shape[0] == 2
            assert np.isfinite(result).all()
        else:
            assert np.isfinite(result.loudness_lufs)
            assert 0 < result.info.duration_seconds <= LIMITS.max_seconds
    (outcome,) = outcomes
    try:
        audio.probe(file, LIMITS)
    except StemTubeError:
        assert outcome != "decoded"
    return outcome


def _read(content: bytes) -> str:
    """Runs `verdict` in the child; a traceback if it fails."""
    try:
        return verdict(content)
    except Exception:
        return traceback.format_exc()


def _serve(work: Callable[[bytes], str], pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    while True:
        pipe.send(work(pipe.recv_bytes()))


class DiedError(Exception):
    """The process that read a file has ended."""


class Reader:
    """A child process that reads files; a new one starts after an input has crashed it.

    Args:
        work: the function to call with each file.
        seconds: the time limit for a file.
    """

    def __init__(self, work: Callable[[bytes], str] = _read, seconds: float = HANG_SECONDS) -> None:
        self._work = work
        self._seconds = seconds
        self._process: BaseProcess | None = None

    def read(self, content: bytes) -> str:
        """The child's result for a file.

        Raises:
            TimeoutError: no result within the time limit.
            DiedError: the process has ended.
        """
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, childs = context.Pipe()
            self._process = context.Process(target=_serve, args=(self._work, childs), daemon=True)
            self._process.start()
            childs.close()
        try:
            self._pipe.send_bytes(content)
            if self._pipe.poll(self._seconds):
                return str(self._pipe.recv())
        except (EOFError, OSError):
            self.close()
            raise DiedError from None
        self.close()
        raise TimeoutError

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def fuzz(seed: int, count: int, tally: Tally, reader: Reader | None = None) -> Counter[str]:
    """Reads `count` damaged files.

    Returns:
        The number of decoded files, and of refused ones for each reason.
    """
    dice, reader = random.Random(seed), reader or Reader()
    files = list(originals().items())
    verdicts: Counter[str] = Counter()
    try:
        for number in range(count):
            name, whole = files[number % len(files)]
            content = mutated(dice, whole, [other for _, other in files])
            tally.inputs += 1
            try:
                reason = reader.read(content)
            except TimeoutError:
                tally.note("hangs", f"reading {name}", content)
            except DiedError:
                tally.note("crashes", f"the process that read {name} died", content)
            else:
                if reason.startswith("Traceback"):
                    tally.note("crashes", f"{name}: {reason.splitlines()[-1]}", content, reason)
                else:
                    verdicts[reason] += 1
    finally:
        reader.close()
    return verdicts
