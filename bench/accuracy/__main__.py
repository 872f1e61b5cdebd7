"""Measures the accuracy of the analysis: `python -m bench.accuracy [--parts beats,key …] [--write]`.

Runs every backend, and its library's own way, on the songs of `songs.collection` that are kept for reporting, scores
them with mir_eval, and prints the means with 95 % intervals, by kind too. A second table has the songs of a folder
beside the project, which were in view when settings were chosen. `--set choosing` measures on the other part of the
collection, for choosing settings. Songs and results are kept in the system's temporary folder, by version, so that a
second run computes only changes.
"""

import argparse
import os
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import mir_eval

from bench.accuracy import tables
from bench.accuracy.references import Song, made_songs, songs_in
from bench.accuracy.report import write
from bench.accuracy.running import Runner, show
from bench.accuracy.scores import has_truth
from bench.accuracy.systems import Systems, ways
from services.common.parts import PARTS
from songs.collection import CHOOSING, REPORTING, recipes

SHARED = Path(__file__).parents[3] / "shared" / "eval"
KEPT = Path(tempfile.gettempdir()) / "stemtube-accuracy"


def main() -> None:
    """Runs, prints, and writes the report if asked."""
    options = _options()
    kinds = options.kinds.split(",") if options.kinds else []
    only = tuple(options.backends.split(",")) if options.backends else ()
    chosen = [recipe for recipe in recipes(options.set) if not kinds or recipe.kind in kinds]
    made = made_songs(chosen, KEPT / "songs", options.jobs, show)
    shared = songs_in(options.songs) if options.songs and not kinds else []
    with closing(Runner(options.jobs, KEPT)) as runner:
        for part in options.parts.split(","):
            lines = _section(runner, part, ways(part, Systems(KEPT).store, only, options.originals), made, shared)
            print("\n".join(lines), flush=True)
            if options.write:
                write(part, lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="separated by commas; all unless given")
    parser.add_argument("--set", choices=(REPORTING, CHOOSING), default=REPORTING, help="songs of the collection")
    parser.add_argument("--kinds", help="only these kinds of the collection, separated by commas")
    parser.add_argument("--backends", help="only these backends of one part, separated by commas")
    parser.add_argument("--no-originals", dest="originals", action="store_false", help="without libraries' own ways")
    parser.add_argument(
        "--songs", type=Path, default=SHARED if SHARED.is_dir() else None, help="a folder of songs that were in view"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--write", action="store_true", help="writes the parts' sections of docs/accuracy.md")
    options = parser.parse_args()
    unknown = set(options.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"no such parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    known = {recipe.kind for recipe in recipes()}
    if options.kinds and set(options.kinds.split(",")) - known:
        parser.error(f"--kinds takes some of: {', '.join(sorted(known))}")
    if options.backends and "," in options.parts:
        parser.error("--backends is for one part; add --parts")
    if options.write and (options.set != REPORTING or options.kinds):
        parser.error("--write is for all songs that are kept for reporting: leave out --set and --kinds")
    return options


def _section(runner: Runner, part: str, tried: list[str], made: list[Song], shared: list[Song]) -> list[str]:
    """The section of a part in the report."""
    lines = [f"## {part.capitalize()}", "", f"{datetime.now(UTC):%Y-%m-%d}, mir_eval {mir_eval.__version__}.", ""]
    for title, songs in (("", made), ("### Songs that were in view", shared)):
        heard = [song for song in songs if has_truth(part, song.truth)]
        if heard and tried:
            found = runner.scores(part, tried, heard)
            lines += [title, ""] if title else []
            lines += tables.overall(tried, heard, found) + tables.by_kind(part, tried, heard, found)
    return lines


if __name__ == "__main__":
    main()
