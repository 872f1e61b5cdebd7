"""The provenance of a separation, as users and programs read it."""

import pytest

from services.common.weights.catalogue import Choice
from services.separation.models import registry


@pytest.mark.parametrize(
    ("model", "backend"), [("htdemucs", "demucs"), ("mdx_extra", "demucs"), ("spleeter_2stems", "spleeter")]
)
def test_the_backend_is_the_one_that_the_contract_names(model: str, backend: str) -> None:
    maker = Choice(registry.entry(model), substitution="why").made_by
    assert (maker["backend"], maker["model"], maker["substitution"]) == (backend, model, "why")
