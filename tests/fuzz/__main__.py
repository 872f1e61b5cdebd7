"""`make fuzz`: hostile input for some minutes, half of them with SQLite, half with PostgreSQL.

Each half runs in rounds. The seed and the number of a round determine its inputs, so a run with the same seed has the
same inputs in the same order. It ends with one line, and fails if anything but inputs was counted.
"""

import argparse
import itertools
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.common.postgres import create_database
from tests.fuzz import api, containers, crowds, imports, media, messages, protocols, races, texts, uploads
from tests.fuzz.findings import Tally
from tests.fuzz.target import Target, running_target
from tests.suite.running import SERVICES

# Inputs of one round, which takes about a minute.
FILES, CONTAINERS, IMPORTS, MESSAGES, TEXTS, REQUESTS, EXCHANGES, UPLOADS, RACES, CROWDS = (
    1500,
    300,
    500,
    25,
    15,
    20,
    150,
    40,
    4,
    1,
)


def rounds(target: Target, seed: int, seconds: float, tally: Tally) -> None:
    """Runs rounds until the time is up; a round that has begun is completed.

    Args:
        target: a running suite.
        seed: of the first round; each further round adds 1.
        seconds: how long to run.
        tally: counts the inputs and the findings.
    """
    until = time.monotonic() + seconds
    fuzzers = (
        (messages.Fuzzer(target, tally), MESSAGES),
        (texts.Fuzzer(target, tally), TEXTS),
        (api.Fuzzer(target, tally), REQUESTS),
        (protocols.Fuzzer(target, tally), EXCHANGES),
        (uploads.Fuzzer(target, tally), UPLOADS),
        (races.Fuzzer(target, tally), RACES),
        (crowds.Fuzzer(target, tally), CROWDS),
    )
    try:
        for number in itertools.count(seed):
            print(f"  {tally}, next seed {number}", flush=True)
            media.fuzz(number, FILES, tally)
            containers.fuzz(number, CONTAINERS, tally)
            imports.fuzz(number, IMPORTS, tally)
            for fuzzer, count in fuzzers:
                fuzzer.run(number, count)
            if time.monotonic() > until:
                return
    finally:
        for fuzzer, _ in fuzzers:
            fuzzer.close()


def main() -> int:
    """Runs the fuzzers; the exit code is 1 if something broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stemtube-fuzz-"))
    tally = Tally(folder / "found")
    print(f"fuzzing for {arguments.minutes:g} min, SEED={arguments.seed}, logs in {folder}")
    for store in ("SQLite", "PostgreSQL"):
        print(f"with {store}:")
        databases = (
            {f"{name.upper()}__DATABASE_URL": create_database() for name in SERVICES} if store == "PostgreSQL" else {}
        )
        data = folder / store
        data.mkdir()
        with running_target(data, databases) as target:
            rounds(target, arguments.seed, arguments.minutes * 30, tally)
    for finding in tally.found:
        print("  " + finding)
    if tally.found:
        print(f"the inputs are in {tally.folder}")
    print(tally)
    return 1 if tally.found else 0


if __name__ == "__main__":
    sys.exit(main())
