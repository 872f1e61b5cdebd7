"""Fetches a model for an analysis: `python -m services.analysis.pull NAME` (`stemtube models pull NAME`)."""

import sys

from services.analysis.backends import registry
from services.common.config import Settings, load
from services.common.weights.pull import pull
from services.common.weights.store import WeightStore


def main() -> None:
    """Fetches the model named on the command line, `BACKEND` or `BACKEND/MODEL`; exits like `pull`."""
    settings = load(Settings)
    pull(WeightStore(settings.weights_dir, offline=settings.offline), registry.weights, sys.argv[1:])


if __name__ == "__main__":
    main()
