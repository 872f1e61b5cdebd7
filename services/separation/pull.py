"""Fetches a model's weights: `python -m services.separation.pull MODEL` (`stemtube models pull MODEL`)."""

import sys

from services.common.config import Settings, load
from services.common.weights.pull import pull
from services.common.weights.store import WeightStore
from services.separation.models import registry


def main() -> None:
    """Fetches the model that the command line names. See `pull` for messages and exit statuses."""
    settings = load(Settings)
    store = WeightStore(settings.weights_dir, offline=settings.offline)
    pull(store, lambda name: registry.weights(name, store), sys.argv[1:])


if __name__ == "__main__":
    main()
