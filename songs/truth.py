"""Compares the suite's results with the facts about the demo song."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from types import MappingProxyType
from typing import Any

from rich.table import Table

from services.common.harte import parse, pitch_class
from songs.song import Truth

Json = dict[str, Any]
Span = tuple[float, float, str]

# Tolerances of MIREX: https://www.music-ir.org/mirex/wiki/Audio_Beat_Tracking, …/wiki/Structural_Segmentation
BEAT_SECONDS = 0.07
BOUNDARY_SECONDS = 3.0
MINOR_THIRD = 3
NO_STEMS: Mapping[str, tuple[float, float]] = MappingProxyType({})


def comparison(track: Json, truth: Truth, stems: Mapping[str, tuple[float, float]] = NO_STEMS) -> Table:
    """Compares results with the truth, part by part.

    Args:
        track: the gateway's JSON.
        truth: of the song.
        stems: the SDR of each stem, and of the mix in its place, in dB (`songs.sdr`).
    """
    table = Table(
        "", "found", "true", "agreement", title="Compared with what is known of this song", title_justify="left"
    )
    tempo, key = track.get("tempo", {}).get("bpm", 0.0), track.get("key", {})
    table.add_row("tempo", f"{tempo:.1f} BPM", f"{truth.tempo_bpm:.1f} BPM", f"off by {_off(tempo, truth.tempo_bpm)}")
    found_key = (key.get("tonic", ""), key.get("mode", ""))
    table.add_row(
        "key", " ".join(found_key), " ".join(truth.key), "same" if same_key(found_key, truth.key) else "other"
    )
    beats = [beat["time"] for beat in track.get("beats", [])]
    true_beats = [time for time, _ in truth.beats]
    table.add_row("beats", str(len(beats)), str(len(true_beats)), _percent(f_measure(beats, true_beats, BEAT_SECONDS)))
    chords = [(chord["start"], chord["end"], chord["label"]) for chord in track.get("chords", [])]
    agreement = _percent(chord_overlap(chords, truth.chords))
    table.add_row("chords", str(len(chords)), str(len(truth.chords)), f"{agreement} of the time")
    starts = [section["start"] for section in track.get("sections", [])][1:]
    true_starts = [start for start, _, _ in truth.sections][1:]
    boundaries = _percent(f_measure(starts, true_starts, BOUNDARY_SECONDS))
    table.add_row("sections", str(len(starts) + 1), str(len(true_starts) + 1), f"{boundaries} of the boundaries")
    words = _words(line["text"] for line in track.get("lyrics", {}).get("lines", []))
    sung = _words([truth.lyrics])
    table.add_row("words", str(len(words)), str(len(sung)), f"{_percent(found_share(words, sung))} of the sung ones")
    for name, (found_sdr, mix_sdr) in stems.items():
        table.add_row(name, "", "", f"SDR {found_sdr:.1f} dB (the mix: {mix_sdr:.1f} dB)")
    return table


def same_key(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two keys, (tonic, mode), sound the same."""
    return bool(one[0] and other[0]) and one[1] == other[1] and pitch_class(one[0]) == pitch_class(other[0])


def f_measure(found: Sequence[float], true: Sequence[float], tolerance: float) -> float:
    """Harmonic mean of precision and recall of times in seconds, both ascending; a true time is matched only once."""
    hits, position = 0, 0
    for time in true:
        while position < len(found) and found[position] < time - tolerance:
            position += 1
        if position < len(found) and found[position] <= time + tolerance:
            hits, position = hits + 1, position + 1
    return 2 * hits / (len(found) + len(true)) if hits else 0.0


def chord_overlap(found: Sequence[Span], true: Sequence[Span]) -> float:
    """Share of time in which root and mode (major or minor) agree."""
    found_triads, true_triads = [triad(label) for *_, label in found], [triad(label) for *_, label in true]
    agreeing = sum(
        max(0.0, min(end, true_end) - max(start, true_start))
        for (start, end, _), found_triad in zip(found, found_triads, strict=True)
        for (true_start, true_end, _), true_triad in zip(true, true_triads, strict=True)
        if found_triad == true_triad
    )
    total = sum(end - start for start, end, _ in true)
    return agreeing / total if total else 0.0


def triad(label: str) -> tuple[int, str] | None:
    """Root as a pitch class, and "maj" or "min", of a chord in Harte syntax; None for no chord."""
    chord = parse(label)
    return (chord.root, "min" if MINOR_THIRD in chord.intervals else "maj") if chord else None


def found_share(found: list[str], true: list[str]) -> float:
    """Share of the true words that were found, in their order."""
    matcher = SequenceMatcher(None, found, true, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()) / len(true) if true else 0.0


def _words(lines: Iterable[str]) -> list[str]:
    return [word for line in lines for word in re.findall(r"[a-z']+", line.lower())]


def _off(found: float, true: float) -> str:
    return _percent(abs(found - true) / true, decimals=1)


def _percent(share: float, decimals: int = 0) -> str:
    return f"{share * 100:.{decimals}f} %"
