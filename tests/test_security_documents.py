"""The tests that docs/security.md and docs/asvs.md name exist, and no item of the list is missing."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py|…)::(\w+)`")
# Of ASVS 5.0.0: the levels of each section's requirements, one after another.
LEVELS = """
1.1 22, 1.2 1111122223, 1.3 112222222223, 1.4 222, 1.5 123, 2.1 122, 2.2 112, 2.3 12223, 2.4 23, 3.1 3, 3.2 113, 3.3
12223, 3.4 11222233, 3.5 11122333, 3.6 3, 3.7 22333, 4.1 12233, 4.2 23333, 4.3 22, 4.4 1222, 5.1 2, 5.2 112333, 5.3
113, 5.4 222, 6.1 122, 6.2 111111112222, 6.3 11223333, 6.4 112233, 6.5 22222333, 6.6 2223, 6.7 33, 6.8 2222, 7.1 222,
7.2 1111, 7.3 22, 7.4 11222, 7.5 223, 7.6 22, 8.1 1233, 8.2 1123, 8.3 133, 8.4 23, 9.1 111, 9.2 1222, 10.1 22, 10.2
223, 10.3 22223, 10.4 1111122222233333, 10.5 22222, 10.6 22, 10.7 222, 11.1 2233, 11.2 22233, 11.3 11233, 11.4 1222,
11.5 23, 11.6 23, 11.7 33, 12.1 12233, 12.2 11, 12.3 22223, 13.1 2333, 13.2 222223, 13.3 2233, 13.4 1222233, 14.1 22,
14.2 12223333, 14.3 122, 15.1 12233, 15.2 12233, 15.3 1222222, 15.4 3333, 16.1 2, 16.2 22222, 16.3 2222, 16.4 222,
16.5 2223, 17.1 23, 17.2 22223333, 17.3 22
"""


def wanted() -> list[tuple[str, str]]:
    """Items of levels 1 and 2, with their level."""
    sections = [section.split() for section in LEVELS.split(",")]
    return [
        (f"{section}.{number}", level)
        for section, levels in sections
        for number, level in enumerate(levels, start=1)
        if level in "12"
    ]


def items() -> list[list[str]]:
    """The rows of docs/asvs.md: item, level, requirement, state, reason."""
    lines = (ROOT / "docs" / "asvs.md").read_text().splitlines()
    return [line.strip("| ").split(" | ") for line in lines if re.match(r"\| \d", line)]


def missing(text: str) -> list[str]:
    """The tests that a document names and that do not exist."""
    file, found = "", []
    for place, name in NAMED.findall(text):
        file = file if place == "…" else place
        path = ROOT / file
        if not path.is_file() or not re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE):
            found.append(f"{file}::{name}")
    return found


@pytest.mark.parametrize("document", ["security.md", "asvs.md"])
def test_every_test_that_is_named_exists(document: str) -> None:
    text = (ROOT / "docs" / document).read_text()
    assert len(NAMED.findall(text)) > 40
    assert missing(text) == []


def test_every_item_is_listed_once() -> None:
    assert len(wanted()) == 253
    assert [(row[0], row[1]) for row in items()] == wanted()


def test_met_items_name_a_test_or_a_document_and_others_a_reason() -> None:
    for item, _, what, state, why in items():
        assert what, item
        assert state in ("met", "n/a", "**gap**"), item
        if state == "met":
            assert NAMED.search(why) or re.search(r"\]\(\w+\.md\)", why), item
        else:
            assert len(why) > 5, item


def test_the_numbers_at_the_top_are_those_of_the_list() -> None:
    states = [row[3] for row in items()]
    text = " ".join((ROOT / "docs" / "asvs.md").read_text().split())
    for told in (
        f"{states.count('met')} are met",
        f"{states.count('n/a')} do not",
        f"{states.count('**gap**')} are gaps",
    ):
        assert told in text


def test_items_that_security_md_names_are_items_of_the_list() -> None:
    known = {item for item, _ in wanted()}
    sections = {item.rpartition(".")[0] for item in known}
    text = (ROOT / "docs" / "security.md").read_text()
    cells = re.findall(r"\| (\d+\.\d[^|`a-z]*) \|", text)
    assert len(cells) > 30
    for number in re.findall(r"\d+(?:\.\d+)+", " ".join(cells)):
        assert number in known | sections, number
