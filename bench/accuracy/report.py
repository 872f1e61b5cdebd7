"""docs/accuracy.md: a head, and a section for each part, which is replaced when the part is measured again."""

from pathlib import Path

from services.common.parts import PARTS

REPORT = Path(__file__).parents[2] / "docs" / "accuracy.md"
HEAD = """# Accuracy

`python -m bench.accuracy --write` measures this, part by part.

The songs are made by the project from scores that are drawn at random (`songs/collection.py`): all meters, drums or
none, changes of tempo, players without a click, detuned and damaged recordings, each played by one of two synthesisers.
A hash of their names splits them once into two halves. Settings may be chosen with the first half. The tables have the
second half alone, by which nothing is chosen. Voices are not among the sounds, so lyrics are measured on other songs.

In brackets are 95 % intervals: the bootstrap over songs. A kind has few songs, and bootstrap intervals of few songs are
too narrow. `unmodified` is a library's own way, from a file to a result. `meter` is the share of songs with the right
number of beats in a bar; `tempo over time` and `key over time` are shares of the time of a song.

Tables of songs that were in view have recordings and renderings by others, which are not in the repository. Settings
were chosen with some of them, so these are not scores on unseen songs.
"""


def write(part: str, lines: list[str], report: Path = REPORT) -> None:
    """Replaces the section of a part, and the head."""
    old = report.read_text().split("\n## ")[1:] if report.exists() else []
    sections = {text.split("\n", 1)[0].strip().lower(): f"## {text.strip()}" for text in old}
    sections[part] = "\n".join(lines).strip()
    kept = [sections[name] for name in PARTS if name in sections]
    report.write_text("\n\n".join([HEAD.strip(), *kept]) + "\n")
