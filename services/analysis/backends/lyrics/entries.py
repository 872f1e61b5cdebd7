"""Backends for lyrics, and the Whisper models that `auto` tries, best first."""

from services.analysis.backends.base import BackendEntry
from services.analysis.backends.lyrics import whisper_models
from services.analysis.backends.packages import version

FASTER_WHISPER = ("faster_whisper", "faster-whisper")

ENTRIES = (
    BackendEntry(
        name="whisper",
        module="whisper",
        version=version("whisper", 4, FASTER_WHISPER),
        packages=(FASTER_WHISPER,),
        licence="MIT (faster-whisper, Whisper's models)",
        description="Word-timed lyrics from the vocals stem and the mix; times for words that are given",
        cost=20.0,
        models=whisper_models.MODELS,
        proves_device=True,
    ),
)

AUTO = ("whisper/large-v3-turbo@gpu", "whisper/small@cpu", "whisper/tiny.en")
