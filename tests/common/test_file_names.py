"""File names are valid on every system, for any title."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.common.file_names import MAX_NAME_BYTES, file_name

HOSTILE = st.text(st.one_of(st.sampled_from('<>:"/\\|?*. \0\n\u202e\u200f~%$-'), st.characters()), max_size=300)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("", "track"),
        (" ..", "track"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\Windows\\win.ini", "C_Windows_win.ini"),
        ("song.flac:stream", "song.flac_stream"),
        ("夜\u202etxt", "夜_txt"),
        ("half \ud800", "half _"),
        ("Con", "_Con"),
        ("aux.flac", "_aux.flac"),
        ("COM¹ .x", "_COM¹ .x"),
        ("Concert", "Concert"),
        ("Nul points", "Nul points"),
        ("x" * 300, "x" * 180),
        ("夜" * 100, "夜" * 60),
        ("x" * 179 + " . tail", "x" * 179),
    ],
)
def test_names_of_files(title: str, expected: str) -> None:
    assert file_name(title) == expected


@given(HOSTILE)
@example("con")
@example("x" * 178 + "夜.")
def test_any_text_gives_a_name(title: str) -> None:
    name = file_name(title)
    assert 0 < len(name.encode()) <= MAX_NAME_BYTES
    assert name.isprintable()
    assert not set(name) & set('<>:"/\\|?*')
    assert name[0] not in ". "
    assert name[-1] not in ". "
    assert name not in (".", "..")
    assert PureWindowsPath(name).name == PurePosixPath(name).name == name
    assert not PureWindowsPath(f"{name}.flac").is_reserved()
    assert file_name(name) == name
