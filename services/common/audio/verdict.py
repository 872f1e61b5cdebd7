"""Decides at the end of a decode whether a file is whole, and words notes on what it lacks.

FFmpeg, mpg123, libsndfile and opusdec play whatever is there. Here a header's claim is a hint: it counts only together
with the bytes.

- CORRUPT: more than 1 % of the packets (and more than 3) cannot be decoded, or sound is missing in the middle.
- TRUNCATED: the file is cut off in its middle. Its sizes state more bytes than it has, or it ends inside a packet and
  its header announces more sound. Up to 0.5 s may be missing, but at most 5 % of the sound (0.1 s of a short one).
- A claim of more than ten times what was decoded is unknown, and so is one that contradicts a file that ends with a
  whole packet: encoders state it ahead, and editors leave that of another file.
- What has no claim, such as a recorded stream, may end anywhere. A partial packet at its end is dropped.

The notes: END_DAMAGED (the last packet, or up to 0.5 s), MAY_BE_CUT_OFF (the file ends inside a packet, and nothing
states its length), LENGTH_DIFFERS (the header announces more than there is), PACKETS_DAMAGED (some in the middle).
"""

from dataclasses import dataclass

from services.common.audio.endings import FAR
from services.common.audio.types import Note
from services.common.errors import InvalidInputError

_MAX_FAILED_SHARE = 0.01
_FEW_FAILURES = 3
_RESYNCING = frozenset({"mp3", "aac", "ac3", "eac3", "mpeg", "mpegts", "amr"})
"""Containers whose demuxers search for the next frame, so they find frames in any data."""
_WITH_PAUSES = frozenset({"mp4", "matroska"})
"""Containers with time stamps in which sound may pause."""
_LEAST_NOTED_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a decode has found.

    Args:
        container: short name, see `container_name`.
        claimed_seconds: duration that the header states; 0 if none.
        seconds: duration that was decoded, without silence before sound that begins after the picture.
        end_seconds: time at which the last frame ends, by the file's time stamps; 0 if it has none.
        gap_seconds: sum of the gaps between its time stamps.
        missing: see `Ending`.
        packets: how many were read.
        failed: how many could not be decoded.
        ends_in_packet: whether the last packet is incomplete.
    """

    container: str
    claimed_seconds: float
    seconds: float
    end_seconds: float
    gap_seconds: float
    missing: float | None
    packets: int
    failed: int
    ends_in_packet: bool


def judge(decoded: Decoded) -> list[Note]:
    """Notes on a file's faults.

    Raises:
        InvalidInputError: reasons NOT_AUDIO, CORRUPT, TRUNCATED, NO_SAMPLES.
    """
    if decoded.container in _RESYNCING and decoded.failed * 2 > decoded.packets:
        raise InvalidInputError("the file is neither audio nor video", "NOT_AUDIO")
    in_the_middle = decoded.failed - (decoded.ends_in_packet and decoded.failed > 0)
    if in_the_middle > max(_FEW_FAILURES, decoded.packets * _MAX_FAILED_SHARE):
        raise damaged()
    if decoded.seconds <= 0:
        claims_sound = decoded.claimed_seconds > tolerance_seconds(decoded.claimed_seconds)
        lacks_sound = decoded.missing or claims_sound or decoded.ends_in_packet
        raise cut_off() if lacks_sound else InvalidInputError("there are no samples in the file", "NO_SAMPLES")
    notes = [_packets_damaged(in_the_middle, decoded.packets)] if in_the_middle else []
    return notes + _judge_end(decoded, in_the_middle)


def _judge_end(decoded: Decoded, in_the_middle: int) -> list[Note]:
    claim = decoded.claimed_seconds if decoded.claimed_seconds <= FAR * decoded.seconds else 0.0
    lacking = max(claim - decoded.seconds, 0.0)
    if decoded.missing:
        lacking = decoded.seconds * decoded.missing / max(1 - decoded.missing, 1e-9)
        if lacking > tolerance_seconds(lacking + decoded.seconds):
            raise cut_off()
        return [_end_damaged(lacking)] if lacking > _LEAST_NOTED_SECONDS else []
    if lacking > tolerance_seconds(claim):
        if decoded.ends_in_packet:
            raise cut_off()
        has_holes = decoded.gap_seconds > tolerance_seconds(claim) and decoded.container not in _WITH_PAUSES
        if in_the_middle or has_holes:
            raise damaged()
        if decoded.end_seconds > claim - tolerance_seconds(claim):
            return []  # a stream that was joined midway, whose clock ran before
        return [Note("LENGTH_DIFFERS", f"the header announces {claim:.1f} s, but the file has {decoded.seconds:.1f} s")]
    if not decoded.ends_in_packet:
        return []
    if claim:
        return [_end_damaged(lacking)] if lacking > _LEAST_NOTED_SECONDS else []
    return [Note("MAY_BE_CUT_OFF", "the file ends in the middle of a packet; if it was longer, the rest is missing")]


def tolerance_seconds(seconds: float) -> float:
    """How much of a sound of this length may be missing at its end."""
    return max(0.1, min(0.5, seconds * 0.05))


def cut_off() -> InvalidInputError:
    """The error for a file whose end is missing."""
    return InvalidInputError("the file is cut off: its end is missing", "TRUNCATED")


def damaged() -> InvalidInputError:
    """The error for a file that is damaged in the middle."""
    return InvalidInputError("the file is damaged", "CORRUPT")


def _end_damaged(seconds: float) -> Note:
    shown = max(seconds, 0.01)
    return Note("END_DAMAGED", f"the last {shown:.2f} s of the file are damaged or missing")


def _packets_damaged(count: int, packets: int) -> Note:
    return Note("PACKETS_DAMAGED", f"{count} of {packets} packets are damaged; what was lost of them is silent")
