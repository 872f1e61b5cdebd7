"""Fetches a model: `python -m services.analysis.pull MODEL` (`stemtube models pull whisper MODEL`, `… pull btc`)."""

import sys

from services.analysis.backends.chords import btc_weights
from services.analysis.backends.lyrics import whisper_models
from services.common.config import Settings, load
from services.common.errors import InvalidInputError
from services.common.weights.store import Weights, pull


def main() -> None:
    """Fetches what the command line names; ends with status 1 and one line if that cannot be."""
    pull(load(Settings).weight_store(), lambda: find(sys.argv[1]))


def find(name: str) -> Weights:
    """The weights of what can be fetched: btc, or a model of Whisper, with or without `whisper/` before it.

    Raises:
        InvalidInputError: there is no such model (reason UNKNOWN_MODEL).
    """
    if name == btc_weights.LARGE_VOCABULARY.name:
        return btc_weights.LARGE_VOCABULARY
    model = name.removeprefix("whisper/")
    if model not in whisper_models.MODELS:
        known = ", ".join(whisper_models.MODELS)
        raise InvalidInputError(f"there is no Whisper model {model!r}; choose one of {known}", "UNKNOWN_MODEL")
    return whisper_models.weights(model)


if __name__ == "__main__":
    main()
