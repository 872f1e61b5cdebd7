"""How `make audit` finds licences, and which ones it allows."""

from email.message import Message
from importlib import metadata
from typing import Any

import pytest

from tests.audit import is_allowed, licence_of, npm_licences, refused


class Distribution(metadata.Distribution):
    """An installed package with this metadata."""

    def __init__(self, *headers: tuple[str, str]) -> None:
        self._message = Message()
        for name, value in (("Name", "some"), *headers):
            self._message[name] = value

    @property
    def metadata(self) -> Any:
        return self._message

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: Any) -> Any:
        return path


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        ([("License-Expression", "MIT OR Apache-2.0"), ("License", "a long text")], "MIT OR Apache-2.0"),
        ([("Classifier", "License :: OSI Approved :: BSD License")], "BSD-3-Clause"),
        (
            [
                ("Classifier", "License :: OSI Approved :: MIT License"),
                ("Classifier", "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"),
            ],
            "MIT AND GNU General Public License v3 (GPLv3)",
        ),
        ([("License", "Apache License 2.0\nand its whole text")], "Apache-2.0"),
        ([], ""),
    ],
)
def test_a_licence_is_found_wherever_a_package_states_it(headers: list[tuple[str, str]], licence: str) -> None:
    assert licence_of(Distribution(*headers)) == licence


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("(Apache-2.0 WITH LLVM-exception) AND (MIT OR AGPL-3.0-only)", True),
        ("MIT AND GNU General Public License v3 (GPLv3)", False),
        ("Free for non-commercial use", False),
        ("", False),
    ],
)
def test_allowed_licences(licence: str, allowed: bool) -> None:
    assert is_allowed(licence) is allowed
    assert list(refused({"some": licence})) == ([] if allowed else [f"some: {licence or 'no licence is stated'}"])


def test_the_page_is_built_with_allowed_packages() -> None:
    licences = npm_licences()
    assert licences["preact"] == "MIT"
    assert list(refused(licences)) == []
