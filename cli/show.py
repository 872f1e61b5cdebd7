"""What people see in the terminal: progress bars while a song is processed, and the summary at the end."""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

Json = dict[str, Any]
CHORDS_SHOWN = 16
LINES_SHOWN = 12


class Bars:
    """One bar a part; plain lines where there is no terminal. An ordinary context.

    Attributes:
        seconds: how long each part ran.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=40),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._told: dict[str, tuple[str, int]] = {}
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> "Bars":
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._live:
            self._progress.stop()

    def show(self, name: str, fraction: float, state: str = "running", note: str = "") -> None:
        """Shows where a part is: fraction in [0, 1], state (queued, running, succeeded, failed, cancelled), a note."""
        now = time.monotonic()
        if state != "queued":
            self._began.setdefault(name, now)
        if state in ("succeeded", "failed", "cancelled") and name not in self.seconds:
            self.seconds[name] = now - self._began.get(name, now)
        if not self._live:
            self._tell(name, fraction, state, note)
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

    def _tell(self, name: str, fraction: float, state: str, note: str) -> None:
        tenth = int(fraction * 10)
        told = self._told.get(name)
        if told is None or told[0] != state or (state == "running" and tenth > told[1]):
            self._told[name] = (state, tenth)
            detail = f" ({note})" if note and note != state else ""
            self._console.print(f"{name:<12} {fraction * 100:3.0f} % {state}{detail}", highlight=False, markup=False)


def _note(part: Json, state: str) -> str:
    if part.get("error"):
        return str(part["error"]["message"])
    eta = part.get("eta")
    left = f"{part.get('stage') or state}"
    if state == "running" and eta:
        left += f", {float(eta.removesuffix('s')):.0f} s left"
    if state == "queued" and part.get("queuePosition"):
        left += f", number {part['queuePosition']} in the queue"
    return left


def summary(track: Json, seconds: dict[str, float], stems: Iterable[Path]) -> str:
    """What was found, as text."""
    lines = [f"Title      {track['title']}" + (f" by {track['artist']}" if track.get("artist") else "")]
    lines.append(f"Duration   {clock(track['durationSeconds'])}")
    if tempo := track.get("tempo"):
        bars = f", {track['beatsPerBar']} beats a bar" if track.get("beatsPerBar") else ""
        found = f"{tempo['bpm']:.1f} BPM{bars} (confidence {tempo['confidence']:.2f})" if tempo["bpm"] else "no pulse"
        lines.append(f"Tempo      {found}")
    if key := track.get("key"):
        found = f"{key['tonic']} {key['mode']} (confidence {key['confidence']:.2f})" if key["tonic"] else "none"
        lines.append(f"Key        {found}")
    if chords := track.get("chords"):
        more = " …" if len(chords) > CHORDS_SHOWN else ""
        lines.append("Chords     " + "  ".join(chord["label"] for chord in chords[:CHORDS_SHOWN]) + more)
    if sections := track.get("sections"):
        lines.append("Sections   " + "  ".join(f"{clock(section['start'])} {section['label']}" for section in sections))
    if lyrics := track.get("lyrics"):
        lines.append(f"Lyrics     ({lyrics['language'] or 'none'})")
        lines += [f"    {clock(line['start'])}  {line['text']}" for line in lyrics["lines"][:LINES_SHOWN]]
        if len(lyrics["lines"]) > LINES_SHOWN:
            lines.append(f"    … and {len(lyrics['lines']) - LINES_SHOWN} lines more")
    lines += [f"Stem       {path}" for path in stems]
    if seconds:
        lines.append("Seconds    " + "  ".join(f"{name} {time:.1f}" for name, time in seconds.items()))
    lines += [f"Note       {note}" for note in substitutions(track)]
    return "\n".join(lines)


def substitutions(track: Json) -> list[str]:
    """Why a bundled model was used in place of the preferred one, where that happened."""
    makers = [*track.get("madeBy", {}).values(), *(stem["madeBy"] for stem in track.get("stems", []))]
    makers += [track[part]["madeBy"] for part in ("key", "lyrics") if track.get(part)]
    return list(dict.fromkeys(maker["substitution"] for maker in makers if maker.get("substitution")))


def clock(seconds: float) -> str:
    """A time as minutes and seconds."""
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def folder_name(title: str) -> str:
    """A title as the name of a folder on any system."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]+', "_", title).strip(". ")[:100] or "track"
