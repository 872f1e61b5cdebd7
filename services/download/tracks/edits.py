"""Checks parts that a user has corrected or an import sends, and fixes small errors."""

import math
import re
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NoReturn

from google.protobuf.json_format import MessageToDict

from services.common.errors import InvalidInputError
from services.common.harte import is_chord_label
from services.common.limits import JOIN_SECONDS, MAX_BEATS_PER_BAR, MAX_LINE_TEXT, MAX_SECTION_LABEL
from services.download.tracks.sorting import MODES, TONIC
from services.download.tracks.text import has_controls
from stemtube.analysis.v1 import music_pb2
from stemtube.common.v1 import provenance_pb2
from stemtube.download.v1 import import_pb2
from stemtube.download.v1 import track_pb2 as pb

BACKEND = "edit"
MAX_SEGMENTS, MAX_BEATS, MAX_LINES, MAX_WORDS = 10_000, 50_000, 5_000, 50_000
MAX_BPM = 1000.0
MAX_CENTS = 50.0
LANGUAGE = re.compile(r"[a-z]{2,3}")


def checked_part(
    request: pb.EditPartRequest | import_pb2.ImportPartRequest, duration: float
) -> tuple[str, dict[str, Any]]:
    """Checks the part in a request.

    Args:
        request: a request with one part.
        duration: the song's duration in seconds.

    Returns:
        The part's name, and its content as ProtoJSON.

    Raises:
        InvalidInputError: there is no part, or it does not fit the song (reason BAD_REQUEST, BAD_SEGMENTS, BAD_CHORD,
            BAD_BEATS, BAD_KEY, BAD_LYRICS, BAD_TUNING).
    """
    part = request.WhichOneof("part")
    if part is None:
        _refuse("BAD_REQUEST", f"name one part: {', '.join(_CHECKS)}")
    message = _CHECKS[part](getattr(request, part), duration)
    message.made_by.CopyFrom(provenance_pb2.Provenance(backend=BACKEND))
    return part, MessageToDict(message)


def _beats(beats: music_pb2.Beats, duration: float) -> music_pb2.Beats:
    found = music_pb2.Beats()
    found.CopyFrom(beats)
    if len(beats.beats) > MAX_BEATS:
        _refuse("BAD_BEATS", f"at most {MAX_BEATS} beats")
    if not 0 <= beats.beats_per_bar <= MAX_BEATS_PER_BAR:
        _refuse("BAD_BEATS", f"a bar has at most {MAX_BEATS_PER_BAR} beats")
    times = [beat.time for beat in beats.beats]
    if not all(0 <= time <= duration for time in times) or any(one >= other for one, other in pairwise(times)):
        _refuse("BAD_BEATS", f"beats come in order, each between 0 and {duration:.3f} s")
    places = [beat.position for beat in beats.beats]
    if any(places) and (
        not all(1 <= place <= MAX_BEATS_PER_BAR for place in places)
        or any(other not in (1, one + 1) for one, other in pairwise(places))
    ):
        _refuse("BAD_BEATS", "positions are all 0, or each is 1 or one more than the last")
    if not (0 <= beats.tempo.bpm <= MAX_BPM and _is_share(beats.tempo.confidence)):
        _refuse("BAD_BEATS", f"the tempo is between 0 and {MAX_BPM:.0f} BPM, its confidence in [0, 1]")
    if not beats.tempo.bpm and len(times) > 1:
        found.tempo.bpm = 60 / statistics.median(other - one for one, other in pairwise(times))
        found.tempo.confidence = 1.0
    # Users do not correct these, and the computed values may contradict the corrected beats.
    del found.tempo.curve[:]
    found.first_downbeat = next((beat.time for beat in beats.beats if beat.position == 1), 0.0)
    return found


def _key(key: music_pb2.Key, duration: float) -> music_pb2.Key:
    is_none = not (key.tonic or key.mode or key.regions)
    named = [(key.tonic, key.mode), *((region.tonic, region.mode) for region in key.regions)]
    is_known = all(TONIC.fullmatch(tonic) and mode in MODES for tonic, mode in named)
    if not (is_none or is_known) or not _is_share(key.confidence):
        _refuse("BAD_KEY", "a key has a tonic such as C, F# or Bb, and is major or minor")
    found = music_pb2.Key()
    found.CopyFrom(key)
    if not is_none:
        if not found.regions:
            found.regions.add(end=duration, tonic=key.tonic, mode=key.mode, confidence=key.confidence)
        _join(found.regions, duration)
    return found


def _chords(chords: music_pb2.Chords, duration: float) -> music_pb2.Chords:
    for chord in chords.chords:
        if not is_chord_label(chord.label):
            _refuse("BAD_CHORD", f"{chord.label[:40]!r} is not a chord in Harte syntax, such as C:maj7/3, A:min or N")
    found = music_pb2.Chords()
    found.CopyFrom(chords)
    _join(found.chords, duration)
    return found


def _structure(structure: music_pb2.Structure, duration: float) -> music_pb2.Structure:
    for section in structure.sections:
        if not section.label.strip() or len(section.label) > MAX_SECTION_LABEL or has_controls(section.label):
            _refuse("BAD_SEGMENTS", f"a section has a label of at most {MAX_SECTION_LABEL} characters")
    found = music_pb2.Structure()
    found.CopyFrom(structure)
    _join(found.sections, duration)
    return found


def _join(segments: Any, duration: float) -> None:
    """Closes small gaps, so that segments cover the song: from 0 to its end, each from the end of the last one."""
    if not segments or len(segments) > MAX_SEGMENTS:
        _refuse("BAD_SEGMENTS", f"there are 1 to {MAX_SEGMENTS} segments")
    end = 0.0
    for number, segment in enumerate(segments, start=1):
        # Written so that NaN is refused.
        if not abs(segment.start - end) <= JOIN_SECONDS:
            _refuse("BAD_SEGMENTS", f"segment {number} does not begin at {end:.3f} s, where the last one ends")
        if not _is_share(segment.confidence):
            _refuse("BAD_SEGMENTS", "confidences lie in [0, 1]")
        segment.start = end
        if number == len(segments):
            if not abs(segment.end - duration) <= JOIN_SECONDS:
                _refuse("BAD_SEGMENTS", f"the last segment does not end with the song, at {duration:.3f} s")
            segment.end = duration
        if not segment.start < segment.end <= duration:
            _refuse("BAD_SEGMENTS", f"segment {number} does not end after its start and within the song")
        end = segment.end


def _lyrics(lyrics: music_pb2.Lyrics, duration: float) -> music_pb2.Lyrics:
    found = music_pb2.Lyrics()
    found.CopyFrom(lyrics)
    if lyrics.language and not LANGUAGE.fullmatch(lyrics.language):
        _refuse("BAD_LYRICS", "a language is named by ISO 639, such as en")
    if len(lyrics.lines) > MAX_LINES or sum(len(line.words) for line in lyrics.lines) > MAX_WORDS:
        _refuse("BAD_LYRICS", f"at most {MAX_LINES} lines and {MAX_WORDS} words")
    _expect_order(found.lines, 0.0, duration)
    for line in found.lines:
        _expect_order(line.words, line.start, line.end)
        if not all(word.text.strip() and _is_share(word.confidence) for word in line.words):
            _refuse("BAD_LYRICS", "a word has a text, and a confidence in [0, 1]")
        line.text = line.text or " ".join(word.text.strip() for word in line.words)
        for text in (line.text, *(word.text for word in line.words)):
            if not text.strip() or len(text) > MAX_LINE_TEXT or has_controls(text):
                _refuse(
                    "BAD_LYRICS", f"a line has a text of at most {MAX_LINE_TEXT} characters, without control characters"
                )
    return found


def _tuning(tuning: music_pb2.Tuning, _duration: float) -> music_pb2.Tuning:
    # Written so that NaN is refused.
    if not -MAX_CENTS <= tuning.cents <= MAX_CENTS or not _is_share(tuning.confidence):
        _refuse("BAD_TUNING", f"a tuning is {-MAX_CENTS:.0f} to {MAX_CENTS:.0f} cents, its confidence in [0, 1]")
    return music_pb2.Tuning(cents=tuning.cents, confidence=tuning.confidence)


def _expect_order(spans: Sequence[Any], first: float, last: float) -> None:
    """Checks that lines or words lie within a span, in the order of their starts. They may overlap, as voices do."""
    for span in spans:
        if not first - JOIN_SECONDS <= span.start <= span.end <= last + JOIN_SECONDS:
            _refuse("BAD_LYRICS", f"lines lie within the song, words within their line; see {span.start:.3f} s")
    if any(one.start > other.start for one, other in pairwise(spans)):
        _refuse("BAD_LYRICS", "lines and words come in the order of their starts")


_CHECKS: dict[str, Callable[[Any, float], Any]] = {
    "beats": _beats,
    "key": _key,
    "chords": _chords,
    "structure": _structure,
    "lyrics": _lyrics,
    "tuning": _tuning,
}


def _is_share(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= 1


def _refuse(reason: str, message: str) -> NoReturn:
    raise InvalidInputError(message, reason)
