"""Estimates how long a network takes."""

HTDEMUCS_GFLOP = 28.7
"""What `htdemucs` computes for a second of music, without overlap: 224 GFLOP for 7.8 s."""


def cost_of(gflop: float) -> float:
    """The cost, in units of `htdemucs`, of a network that computes `gflop` GFLOP for a second of music."""
    return max(0.1, round(gflop / HTDEMUCS_GFLOP, 1))
