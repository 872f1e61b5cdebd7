from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.api import ApiError
from cli.commands.process import make_options
from cli.show import Bars, clock, folder_name, print_summary, substitutions

MISSING = "spleeter_2stems is used in place of htdemucs: it cannot be fetched (no answer within 5 s)"
SPLEETER = {"backend": "spleeter", "model": "spleeter_2stems", "version": "1", "substitution": MISSING}
MADMOM = {"backend": "madmom", "model": "", "version": "1", "substitution": ""}


def track(**changes: Any) -> dict[str, Any]:
    stems = [{"name": name, "model": "spleeter_2stems", "madeBy": SPLEETER} for name in ("vocals", "accompaniment")]
    return {
        "id": "1",
        "title": "Code [Monkey]",
        "artist": "Jonathan Coulton",
        "durationSeconds": 189.96,
        "tempo": {"bpm": 160.04, "confidence": 0.9},
        "beatsPerBar": 4,
        "beats": [{"time": 0.4, "position": 1}, {"time": 0.78, "position": 2}],
        "key": {"tonic": "E", "mode": "major", "confidence": 0.87, "madeBy": MADMOM},
        "chords": [{"start": n, "end": n + 1, "label": f"E:maj{n}", "confidence": 1} for n in range(20)],
        "sections": [
            {"start": 0.0, "end": 12.34, "label": "intro", "confidence": 1},
            {"start": 12.34, "end": 190.0, "label": "verse", "confidence": 1},
        ],
        "lyrics": {
            "language": "en",
            "lines": [{"start": n * 4.0, "end": n * 4.0 + 3, "text": f"line {n}", "words": []} for n in range(20)],
            "madeBy": {"backend": "whisper", "model": "tiny.en", "version": "1", "substitution": ""},
        },
        "stems": stems,
        "madeBy": {"beats": MADMOM, "chords": MADMOM, "structure": MADMOM},
        **changes,
    }


def printed(found: dict[str, Any], seconds: dict[str, float], stems: tuple[Path, ...] = ()) -> list[str]:
    out = StringIO()
    print_summary(Console(file=out, width=120), found, seconds, stems)
    return out.getvalue().splitlines()


def test_summary_of_a_whole_song() -> None:
    stems = (Path("out/Code/vocals.flac"), Path("out/Code/accompaniment.flac"))
    lines = printed(track(), {"separation": 21.04, "lyrics": 4.5, "acquire": 0.0}, stems)
    assert lines[1:6] == [
        "Title       Code [Monkey] by Jonathan Coulton",
        "Duration    3:10.0",
        "Tempo       160.0 BPM, 4 beats a bar, 2 beats (confidence 0.90)",
        "Key         E major (confidence 0.87)",
        "Chords      " + "  ".join(f"E:maj{n}" for n in range(13)),
    ]
    text = "\n".join(lines)
    assert "E:maj15  … 20 in all" in text
    assert "Sections    0:00.0 intro  0:12.3 verse" in lines
    assert "            1:00.0  line 15\n            … and 4 more lines" in text
    assert "Stems       out/Code/vocals.flac\n            out/Code/accompaniment.flac" in text
    assert "Made by     separation  spleeter spleeter_2stems  21.0 s" in lines
    assert "            lyrics      whisper tiny.en            4.5 s" in lines
    assert "acquire" not in text
    assert " ".join(text.split()).count(MISSING) == 1
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "A = 431.9 Hz (-32 cents) (confidence 0.80)"),
        ({"ambiguous": True}, "A = 431.9 Hz (-32 cents; between two semitones: names may be a semitone off)"),
        (
            {"curve": [{"time": 1, "cents": -40}, {"time": 9, "cents": 5}]},
            "A = 431.9 Hz (-32 cents, drifts from -40 to +5)",
        ),
        ({"confidence": 0}, "no notes"),
    ],
)
def test_summary_of_a_tuning(changes: dict[str, Any], shown: str) -> None:
    lines = printed(track(tuning={"cents": -32, "confidence": 0.8, "madeBy": MADMOM, **changes}), {})
    assert any(line.startswith(f"Tuning      {shown}") for line in lines)


def test_summary_of_a_song_that_changes_key() -> None:
    regions = [
        {"start": 0.0, "end": 150.0, "tonic": "E", "mode": "major"},
        {"start": 150.0, "end": 190.0, "tonic": "F", "mode": "major"},
    ]
    key = {"tonic": "E", "mode": "major", "confidence": 0.87, "madeBy": MADMOM}
    lines = printed(track(key={**key, "regions": regions}), {})
    assert lines[4:6] == ["Key         E major (confidence 0.87)", "            0:00.0 E major  2:30.0 F major"]
    assert printed(track(key={**key, "regions": regions[:1]}), {}) == printed(track(key=key), {})


def test_summary_of_a_job_that_failed_in_part() -> None:
    nothing: dict[str, Any] = {"tempo": None, "key": None, "chords": [], "sections": [], "lyrics": None}
    lines = printed(track(**nothing, stems=[], madeBy={}), {})
    assert [line.split()[0] for line in lines if line] == ["Title", "Duration", "Made"]


def test_a_tempo_that_drifts_and_where_bars_begin() -> None:
    curve = [{"time": 1.0, "bpm": 96.4}, {"time": 4.0, "bpm": 110.8}]
    tempo = {"bpm": 104.2, "confidence": 0.5, "curve": curve}
    text = "\n".join(printed(track(tempo=tempo, firstDownbeat=1.32), {}))
    assert "Tempo       104.2 BPM (96 to 111), 4 beats a bar, the first at 0:01.3, 2 beats (confidence 0.50)" in text


def test_summary_of_noise() -> None:
    nothing = {
        "tempo": {"bpm": 0, "confidence": 0},
        "key": {"tonic": "", "mode": "", "confidence": 0, "madeBy": MADMOM},
        "lyrics": {"language": "", "lines": [], "madeBy": MADMOM},
    }
    text = "\n".join(printed(track(**nothing), {}))
    assert "Tempo       no pulse" in text
    assert "Key         none" in text
    assert "Lyrics      nothing is sung" in text


def test_a_substitution_is_shown_once() -> None:
    assert substitutions(track()) == [MISSING]


def job(**parts: tuple[str, float, str]) -> dict[str, Any]:
    return {
        "parts": [
            {"name": name, "state": f"JOB_STATE_{state}", "progress": progress, "stage": stage, "eta": "12.4s"}
            for name, (state, progress, stage) in parts.items()
        ]
    }


def test_progress_as_lines_where_there_is_no_terminal() -> None:
    out = StringIO()
    with Bars(Console(file=out, width=80)) as bars:
        bars.show_job(job(separation=("QUEUED", 0, "")))
        for progress in (0.01, 0.02, 0.11, 0.12, 0.35):
            bars.show_job(job(separation=("RUNNING", progress, "separating [1/2]")))
        bars.show_job(job(separation=("SUCCEEDED", 1, "")))
        bars.show_job(job(separation=("SUCCEEDED", 1, "")))
    assert out.getvalue().splitlines() == [
        "separation     0 % queued",
        "separation     1 % running (separating [1/2], 12 s left)",
        "separation    11 % running (separating [1/2], 12 s left)",
        "separation    35 % running (separating [1/2], 12 s left)",
        "separation   100 % succeeded",
    ]
    assert set(bars.seconds) == {"separation"}


def test_progress_as_bars_in_a_terminal() -> None:
    out = StringIO()
    with Bars(Console(file=out, width=100, force_terminal=True)) as bars:
        bars.show_job(job(beats=("RUNNING", 0.4, "beats"), key=("QUEUED", 0, "")))
        bars.show_job(job(beats=("SUCCEEDED", 1, ""), key=("FAILED", 0.5, "")))
    last = out.getvalue()[-1500:]
    assert "━━━━" in last
    assert "beats" in last
    assert "100 %" in last
    assert set(bars.seconds) == {"beats", "key"}


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00.0"), (59.96, "1:00.0"), (61.25, "1:01.2"), (3600, "60:00.0")])
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Morning Light", "Morning Light"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("AC/DC: Who? <live>", "AC_DC_ Who_ _live_"),
        ("...", "track"),
        ("", "track"),
        ("x" * 300, "x" * 100),
    ],
)
def test_folder_name(title: str, name: str) -> None:
    assert folder_name(title) == name


def test_options_without_wishes_mean_everything() -> None:
    assert make_options([], [], "") is None


def test_options_with_wishes() -> None:
    options = make_options(["htdemucs_6s"], ["chords=madmom", "lyrics=whisper/small"], "en")
    assert options == {
        "separations": [{"model": "htdemucs_6s"}],
        "analyses": [
            {"part": "PART_BEATS"},
            {"part": "PART_KEY"},
            {"part": "PART_CHORDS", "backend": "madmom", "model": ""},
            {"part": "PART_STRUCTURE"},
            {"part": "PART_LYRICS", "backend": "whisper", "model": "small", "language": "en"},
            {"part": "PART_TUNING"},
        ],
    }


@pytest.mark.parametrize("wish", ["chords", "chords=", "drums=madmom", "=madmom"])
def test_options_that_make_no_sense(wish: str) -> None:
    with pytest.raises(ApiError, match="is not PART=BACKEND"):
        make_options([], [wish], "")
