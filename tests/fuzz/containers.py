"""Containers as programs and networks leave them: read in the length that FFmpeg decodes, or refused as cut off.

Their sound is whole up to their end. Only sizes, counts, flags and what stands around it are wrong.
"""

import functools
import io
import random
import struct
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import av

from services.common import audio
from services.common.errors import StemTubeError
from songs.small_songs import music
from tests.common import damaged_files as damaged
from tests.common.audio_files import with_ffmpeg, with_soundfile
from tests.fuzz.findings import Tally
from tests.fuzz.media import DiedError, Reader

SECONDS = 1.5
LIMITS = audio.Limits(max_seconds=60, max_bytes=2_000_000)
FRAME_SECONDS = 0.05
"""The longest frame of the lossy codecs here, by which a partial one at the end may differ."""
_EXACT = {"fflags": "+bitexact"}

_SONG = music(SECONDS)
_MAKERS: Mapping[str, Callable[[Path], Path]] = {
    "song.wav": lambda path: with_soundfile(path, _SONG, subtype="PCM_16"),
    "song.aiff": lambda path: with_soundfile(path, _SONG, subtype="PCM_16"),
    "song.au": lambda path: with_ffmpeg(path, _SONG, "pcm_s16be", muxer="au", options=_EXACT),
    "song.w64": lambda path: with_ffmpeg(path, _SONG, "pcm_s16le", muxer="w64", options=_EXACT),
    "song.caf": lambda path: with_ffmpeg(path, _SONG, "pcm_s16le", muxer="caf", options=_EXACT),
    "song.flac": lambda path: with_soundfile(path, _SONG),
    "song.wv": lambda path: with_ffmpeg(path, _SONG, "wavpack", options=_EXACT),
    "song.oga": lambda path: with_ffmpeg(path, _SONG, "flac", muxer="ogg", options=_EXACT),
    "song.opus": lambda path: with_ffmpeg(
        path, music(SECONDS, rate=48000), "libopus", rate=48000, muxer="ogg", options=_EXACT
    ),
    "tagged.mp3": lambda path: with_ffmpeg(path, _SONG, "libmp3lame", options=_EXACT),
    "plain.mp3": lambda path: with_ffmpeg(
        path, _SONG, "libmp3lame", options={**_EXACT, "write_xing": "0", "id3v2_version": "0"}
    ),
    "song.aac": lambda path: with_ffmpeg(path, _SONG, "aac", muxer="adts", options=_EXACT),
    "song.m4a": lambda path: with_ffmpeg(path, _SONG, "aac", options=_EXACT),
    "fragments.mp4": lambda path: with_ffmpeg(
        path, _SONG, "aac", options={**_EXACT, "movflags": "+frag_keyframe+empty_moov", "frag_duration": "300000"}
    ),
    "song.webm": lambda path: with_ffmpeg(path, music(SECONDS, rate=48000), "libopus", rate=48000, options=_EXACT),
}


@functools.cache
def _whole() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return {name: make(Path(folder) / name).read_bytes() for name, make in _MAKERS.items()}


def _count(dice: random.Random) -> int:
    return dice.choice((*damaged.PLACEHOLDERS, dice.getrandbits(32), dice.getrandbits(20), len(_whole()["song.wav"])))


def _wrong_size(dice: random.Random, name: str, data: bytes) -> bytes:
    """Another size or count of samples in the header."""
    number = _count(dice)
    changed = bytearray(data)
    if name == "song.wav":
        changed[40:44] = struct.pack("<I", number)
    elif name == "song.aiff":
        at = data.index(b"SSND") + 4
        changed[at : at + 4] = changed[4:8] = struct.pack(">I", number)
    elif name == "song.au":
        changed[8:12] = struct.pack(">I", number)
    elif name == "song.w64":
        at = data.index(bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")) + 16
        changed[at : at + 8] = struct.pack("<Q", number)
    elif name == "song.caf":
        at = data.index(b"data") + 4
        changed[at : at + 8] = struct.pack(">q", dice.choice((-1, number)))
    elif name == "song.flac":
        changed[22:26] = struct.pack(">I", number)
    elif name == "song.wv":
        changed[12:16] = struct.pack("<I", number)
    elif name == "tagged.mp3":
        return damaged.with_xing_count(data, number)
    elif name == "plain.mp3":
        return damaged.with_vbri_count(data, number)
    elif name in ("song.oga", "song.opus"):
        return damaged.without_end_flag(data) if dice.random() < 0.5 else damaged.joined_midway(data)
    return bytes(changed)


def _short(dice: random.Random, _name: str, data: bytes) -> bytes:
    """Some bytes less at the end."""
    return data[: len(data) - min(dice.choice((1, 2, 7, 50, 300, 2000, len(data) // 2)), len(data) - 1)]


def _surrounded(dice: random.Random, _name: str, data: bytes) -> bytes:
    """Tags of other formats around it."""
    before = damaged.id3v2({"TIT2": b"\x03" + b"x" * dice.randrange(300)}) * dice.randrange(3)
    return before + data + damaged.id3v1() * dice.randrange(2)


def _followed(dice: random.Random, _name: str, data: bytes) -> bytes:
    """Bytes behind it."""
    return data + bytes(dice.choice((1, 100, 5000)))


_DAMAGES = (_wrong_size, _short, _surrounded, _followed)


def damaged_file(dice: random.Random) -> tuple[str, bytes]:
    """A name that tells kind and damage, and the file."""
    name = dice.choice(tuple(_whole()))
    data, how = _whole()[name], []
    chosen = dice.sample(_DAMAGES, dice.choice((1, 1, 1, 2)))
    for damage in sorted(chosen, key=_DAMAGES.index):
        data = damage(dice, name, data)
        how.append(damage.__name__.strip("_"))
    return f"{name} {'+'.join(how)}", data


def _is_allowed(name: str, reason: str) -> bool:
    if "short+followed" in name and reason == "CORRUPT":
        return True  # its last packet lacks bytes, and others follow
    return reason in ("decoded", "TRUNCATED", "NO_SAMPLES")


def verdict(content: bytes) -> str:
    """The outcome of a file.

    Returns:
        `decoded`, or the reason of the refusal.

    Raises:
        Exception: a fault of ours, such as another length than FFmpeg's.
    """
    try:
        info = audio.check(io.BytesIO(content), LIMITS)
    except StemTubeError as refusal:
        return refusal.reason
    try:
        expected = damaged.ffmpeg_seconds(content)
    except av.FFmpegError:
        return "decoded"  # FFmpeg takes a placeholder for an error, or a tag for the sound
    assert abs(info.duration_seconds - expected) <= FRAME_SECONDS, (info, expected)
    return "decoded"


def _read(content: bytes) -> str:
    try:
        return verdict(content)
    except Exception:
        return traceback.format_exc()


def fuzz(seed: int, count: int, tally: Tally) -> Counter[str]:
    """Has `count` damaged files read.

    Returns:
        How many of them were decoded, and how many refused for each reason.
    """
    dice, reader = random.Random(seed), Reader(_read)
    verdicts: Counter[str] = Counter()
    try:
        for _ in range(count):
            name, content = damaged_file(dice)
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
                elif not _is_allowed(name, reason):
                    tally.note("crashes", f"{name} is refused as {reason}", content)
                else:
                    verdicts[reason] += 1
    finally:
        reader.close()
    return verdicts
