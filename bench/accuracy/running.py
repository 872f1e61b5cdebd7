"""Scores ways on songs, in several processes."""

import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from bench.accuracy.references import Song
from bench.accuracy.scores import SCORINGS, Scores
from bench.accuracy.systems import Systems
from bench.accuracy.tables import Found


class Runner:
    """Processes that score songs; results are kept in a folder."""

    def __init__(self, jobs: int, folder: Path) -> None:
        # Not forked: libraries of models start threads.
        context = get_context("spawn")
        self._pool = ProcessPoolExecutor(
            jobs, mp_context=context, initializer=_prepare, initargs=(folder / "compiled", context.Value("i", 0))
        )
        self._folder = folder

    def scores(self, part: str, ways: list[str], songs: list[Song]) -> Found:
        """Scores by way and song; a way that fails on a song is reported, and has none."""
        found: Found = {}
        # One way after the other: each process loads little, and a way that is wrong shows early.
        waiting = {
            self._pool.submit(_score, self._folder, part, way, song): (way, song) for way in ways for song in songs
        }
        for done, future in enumerate(as_completed(waiting), 1):
            way, song = waiting[future]
            try:
                found[way, song.name] = future.result()
            except BrokenProcessPool as error:
                raise RuntimeError(
                    f"a process of {part}, {way} crashed, or was killed for its memory: try fewer --jobs"
                ) from error
            except Exception as error:  # a library's own way may refuse a song
                show(done, len(waiting), f"{part}, {way}: {song.name} FAILED: {error!r}")
            else:
                show(done, len(waiting), f"{part}, {way}: {song.name}")
        return found

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(cancel_futures=True)


def show(done: int, total: int, what: str) -> None:
    """Shows progress."""
    print(f"{done}/{total} {what}", file=sys.stderr, flush=True)


def _prepare(compiled: Path, started: "Synchronized[int]") -> None:
    warnings.simplefilter("ignore")
    # Of each process its own: numba's files of compiled ufuncs break if two processes write them, and then crash both.
    with started:
        started.value += 1
        os.environ["NUMBA_CACHE_DIR"] = str(compiled / str(started.value))


@cache
def _systems(folder: Path) -> Systems:
    """The systems of this process."""
    return Systems(folder)


def _score(folder: Path, part: str, way: str, song: Song) -> Scores:
    return SCORINGS[part].score(song.truth, _systems(folder).run(part, way, song))
