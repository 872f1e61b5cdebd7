import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Torch's threads wait for each other by spinning: on two busy cores the tests took 120 s, with one thread 16 s."""
    import torch

    torch.set_num_threads(1)
