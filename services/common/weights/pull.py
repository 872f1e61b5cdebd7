"""Fetches a model's weights at a terminal."""

import logging
import sys
from collections.abc import Callable, Sequence

import structlog

from services.common.errors import StemTubeError
from services.common.weights.store import Weights, WeightStore

UNKNOWN_MODEL_STATUS = 2
"""Exit status of `pull` if the service has no such model."""


def pull(store: WeightStore, find: Callable[[str], Weights], arguments: Sequence[str]) -> None:
    """Fetches a model's weights and shows the progress in per cent, and the licence before and after.

    Args:
        store: the store to put them in.
        find: returns a model's files by its name.
        arguments: of the command line: the name; with `--find` before it, only checks whether there is such a model.

    Raises:
        SystemExit: with one line on standard error; status 1 if they cannot be fetched, 2 if there is no such model.
    """
    # What the store logs is shown below in a form for people.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    shown = -1

    def show(fraction: float) -> None:
        nonlocal shown
        if int(fraction * 100) > shown:
            shown = int(fraction * 100)
            sys.stderr.write(f"\r{shown:3d} %")

    try:
        weights = find(arguments[-1])
        if "--find" in arguments:
            return
        store.forget()
        licence = f"licence of {weights.name}: {weights.licence}\n" if weights.licence else ""
        sys.stderr.write(licence)
        store.fetch(weights, show)
        found = store.availability(weights)
    except StemTubeError as error:
        sys.stderr.write(f"\rstemtube: {error.message}\n")
        sys.exit(UNKNOWN_MODEL_STATUS if error.reason == "UNKNOWN_MODEL" else 1)
    sys.stderr.write(f"\rthe weights are here: {found.reason}\n{licence}")
