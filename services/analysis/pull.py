"""Fetches a model: `python -m services.analysis.pull MODEL` (`stemtube models pull whisper MODEL`, `… pull btc`)."""

import sys

from services.analysis.backends import btc_weights, whisper_models
from services.common.config import Settings, load
from services.common.errors import InvalidInputError
from services.common.weights import Weights, pull


def main() -> None:
    """Fetches what the command line names; ends with status 1 and one line if that cannot be."""
    pull(load(Settings).weight_store(), _weights)


def _weights() -> Weights:
    if sys.argv[1] == btc_weights.LARGE_VOCABULARY.name:
        return btc_weights.LARGE_VOCABULARY
    if sys.argv[1] not in whisper_models.MODELS:
        known = ", ".join(whisper_models.MODELS)
        raise InvalidInputError(f"there is no Whisper model {sys.argv[1]!r}; choose one of {known}", "UNKNOWN_MODEL")
    return whisper_models.weights(sys.argv[1])


if __name__ == "__main__":
    main()
