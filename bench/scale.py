"""Measures scaling: `python -m bench.scale [workers] [day] [--write]`; --write writes the tables to docs/scaling.md.

`workers`: the queue with 1 to 8 worker processes and simulated work (`bench.scale_workers`). `day`: a day of songs
under the autoscaling rule of deploy/k8s (`bench.scale_day`).
"""

import argparse
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from bench import scale_day, scale_workers
from services.common.config import LogSettings
from services.common.observe.telemetry import configure_logging

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
TABLES = {"workers": scale_workers.table, "day": scale_day.table, "faster": scale_day.faster_table}


def main() -> None:
    """Prints the named tables, by default all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    arguments = parser.parse_args()
    if unknown := set(arguments.tables) - TABLES.keys():
        parser.error(f"no such table: {', '.join(unknown)}")
    configure_logging(LogSettings(level="warning"), "bench")
    for name in arguments.tables or TABLES:
        load = os.getloadavg()[2]
        lines = TABLES[name]()
        if arguments.write:
            _write(name, lines, load)


def _write(name: str, lines: list[str], load: float) -> None:
    """Writes a table between its marks in the page, under a line with date, command and load of the machine."""
    machine = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    place = (
        f"{os.cpu_count()} cores of an {machine[1] if machine else 'unknown processor'}, load {load:.0f} of other work"
    )
    head = f"{datetime.now(UTC):%Y-%m-%d}, {place}, `python -m bench.scale {name} --write`:"
    text = "\n".join(["", head, "", *lines, ""])
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = PAGE.read_text()
    before, _, rest = page.partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        raise SystemExit(f"{PAGE} has no place for the table {name!r}")
    PAGE.write_text(before + begin + text + end + after)


if __name__ == "__main__":
    main()
