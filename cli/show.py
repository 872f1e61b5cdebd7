"""Output in the terminal: progress bars while a song is processed, and the summary at the end."""

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from services.common.parts import PARTS

Json = dict[str, Any]
CHORDS_SHOWN = 16
LINES_SHOWN = 16
LEAST_SECONDS = 0.05
BAR_WIDTH = 30
NAME_WIDTH = 12
STANDARD_HZ = 440.0


class Bars:
    """A progress bar for each part; plain lines without a terminal. A context manager.

    Attributes:
        seconds: how long each part was seen running.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._progress = Progress(
            TextColumn(f"{{task.description:<{NAME_WIDTH}}}"),
            BarColumn(bar_width=BAR_WIDTH),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._printed: dict[str, tuple[str, int]] = {}
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._live:
            self._progress.stop()

    def show(self, name: str, fraction: float, state: str = "running", note: str = "") -> None:
        """Shows a part's progress.

        Args:
            name: of the part.
            fraction: in [0, 1].
            state: queued, running, succeeded, failed or cancelled.
            note: further text.
        """
        now = time.monotonic()
        if state != "queued":
            self._began.setdefault(name, now)
        if state in ("succeeded", "failed", "cancelled") and name not in self.seconds:
            self.seconds[name] = now - self._began.get(name, now)
        if not self._live:
            self._print_change(name, fraction, state, note)
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=1.0, start=False, note="")
        task = self._tasks[name]
        if state != "queued" and self._progress.tasks[task].start_time is None:
            self._progress.start_task(task)
        self._progress.update(task, completed=1.0 if state == "succeeded" else fraction, note=note or state)
        if name in self.seconds:
            self._progress.stop_task(task)

    def show_job(self, job: Json) -> None:
        """Shows every part of a track's job."""
        for part in job["parts"]:
            state = part["state"].removeprefix("JOB_STATE_").lower()
            self.show(part["name"], part["progress"], state, _note(part, state))

    def _print_change(self, name: str, fraction: float, state: str, note: str) -> None:
        tenth = int(fraction * 10)
        last = self._printed.get(name)
        if last is None or last[0] != state or (state == "running" and tenth > last[1]):
            self._printed[name] = (state, tenth)
            detail = f" ({note})" if note and note != state else ""
            shown = f"{100 if state == 'succeeded' else fraction * 100:3.0f} %"
            self._console.print(f"{name:<{NAME_WIDTH}} {shown} {state}{detail}", highlight=False, markup=False)


def _note(part: Json, state: str) -> str:
    if part.get("error"):
        return str(part["error"]["message"])
    note = str(part.get("stage") or state)
    if state == "running" and part.get("eta"):
        note += f", {float(part['eta'].removesuffix('s')):.0f} s left"
    if state == "queued" and part.get("queuePosition"):
        note += f", number {part['queuePosition']} in the queue"
    return note


def print_summary(console: Console, track: Json, seconds: dict[str, float], stems: Iterable[Path] = ()) -> None:
    """Prints the results.

    Args:
        console: for people.
        track: the gateway's JSON.
        seconds: how long each part took.
        stems: the saved files.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=NAME_WIDTH - 2, no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in _findings(track):
        table.add_row(name, Text(text))
    for number, path in enumerate(stems):
        table.add_row("" if number else "Stems", Text(str(path)))
    table.add_row("Made by", _makers(track, seconds))
    for note in substitutions(track):
        table.add_row("Note", Text(note, style="yellow"))
    with console.capture() as printed:
        console.print(table)
    console.print()
    # A table is padded to the width of its console, which is not wanted in a file or a pipe.
    console.out("\n".join(line.rstrip() for line in printed.get().splitlines()), highlight=False)


def _findings(track: Json) -> Iterator[tuple[str, str]]:
    yield "Title", track["title"] + (f" by {track['artist']}" if track.get("artist") else "")
    yield "Duration", clock(track["durationSeconds"])
    if tempo := track.get("tempo"):
        bars = f", {track['beatsPerBar']} beats a bar" if track.get("beatsPerBar") else ""
        first = f", the first at {clock(track['firstDownbeat'])}" if bars and track.get("firstDownbeat") else ""
        pulse = f"{tempo['bpm']:.1f} BPM{_range(tempo)}{bars}{first}, {len(track.get('beats', []))} beats"
        pulse += _confidence(tempo)
        yield "Tempo", pulse if tempo["bpm"] else "no pulse"
    if key := track.get("key"):
        yield "Key", f"{key['tonic']} {key['mode']}{_confidence(key)}" if key["tonic"] else "none"
        if len(regions := key.get("regions", [])) > 1:
            yield "", "  ".join(f"{clock(region['start'])} {region['tonic']} {region['mode']}" for region in regions)
    if tuning := track.get("tuning"):
        yield "Tuning", _tuning(tuning)
    if chords := track.get("chords"):
        more = f"  … {len(chords)} in all" if len(chords) > CHORDS_SHOWN else ""
        yield "Chords", "  ".join(chord["label"] for chord in chords[:CHORDS_SHOWN]) + more
    if sections := track.get("sections"):
        yield "Sections", "  ".join(f"{clock(section['start'])} {section['label']}" for section in sections)
    if lyrics := track.get("lyrics"):
        yield "Lyrics", f"language {lyrics['language']}" if lyrics["lines"] else "nothing is sung"
        for line in lyrics["lines"][:LINES_SHOWN]:
            yield "", f"{clock(line['start'])}  {line['text']}"
        if len(lyrics["lines"]) > LINES_SHOWN:
            yield "", f"… and {len(lyrics['lines']) - LINES_SHOWN} more lines"


def _tuning(tuning: Json) -> str:
    if not tuning["confidence"]:
        return "no notes"
    cents = [point["cents"] for point in tuning.get("curve", [])]
    drift = f", drifts from {min(cents):+.0f} to {max(cents):+.0f}" if cents else ""
    between = "; between two semitones: names may be a semitone off" if tuning.get("ambiguous") else ""
    hz = STANDARD_HZ * 2 ** (tuning["cents"] / 1200)
    return f"A = {hz:.1f} Hz ({tuning['cents']:+.0f} cents{drift}{between}){_confidence(tuning)}"


def _range(tempo: Json) -> str:
    """The lowest and highest tempo of a song that drifts."""
    bpm = [point["bpm"] for point in tempo.get("curve", [])]
    return f" ({min(bpm):.0f} to {max(bpm):.0f})" if bpm else ""


def _confidence(found: Json) -> str:
    return f" (confidence {found['confidence']:.2f})"


def _makers(track: Json, seconds: dict[str, float]) -> Table:
    """The model of each part, and how many seconds it took."""
    table = Table.grid(padding=(0, 2))
    makers = makers_of(track)
    for name in [*makers, *(name for name in seconds if name not in makers)]:
        maker = makers.get(name, {})
        shown = " ".join(dict.fromkeys(word for word in (maker.get("backend"), maker.get("model")) if word))
        took = seconds.get(name, 0.0)
        if shown or took >= LEAST_SECONDS:
            table.add_row(name, Text(shown), Text(f"{took:.1f} s" if took >= LEAST_SECONDS else "", justify="right"))
    return table


def makers_of(track: Json) -> dict[str, Json]:
    """The model or backend of each part of a track, by the part's name; the second separation is `separation:2`."""
    separations = list({stem["model"]: stem["madeBy"] for stem in track.get("stems", [])}.values())
    makers = {
        "separation" if number == 1 else f"separation:{number}": maker
        for number, maker in enumerate(separations, start=1)
    }
    own = {part: track[part]["madeBy"] for part in ("key", "lyrics", "tuning") if track.get(part)}
    analyses = track.get("madeBy", {}) | own
    return makers | {part: analyses[part] for part in PARTS if analyses.get(part)}


def substitutions(track: Json) -> list[str]:
    """Reasons why other models than the preferred ones were used."""
    notes = (maker.get("substitution") for maker in makers_of(track).values())
    return list(dict.fromkeys(note for note in notes if note))


def clock(seconds: float) -> str:
    """A time as minutes and seconds."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def folder_name(title: str) -> str:
    """A title as the name of a folder on any system."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]+', "_", title).strip(". ")[:100].rstrip(". ") or "track"
