"""Page tokens are read back, and all other text is refused."""

import base64

import pytest

from services.common.errors import InvalidInputError
from services.download.tracks.paging import make_token, read_token


def test_a_token_has_its_value_and_id() -> None:
    assert read_token(make_token(1_790_000_000.125, "abc"), float) == (1_790_000_000.125, "abc")
    assert read_token("", float) is None


CONTENTS = [
    '[1e300, "x", ""]',
    '[-1e12, "x", ""]',
    '[NaN, "x", ""]',
    '[Infinity, "x", ""]',
    '["1", "x", ""]',
    '[true, "x", ""]',
    '[1, "x", ""]',
    '[1.0, 2, ""]',
    '[1.0, "a\\u0000", ""]',
    '[1.0, "x", "other"]',
    '[1.0, "x"]',
    "[1]",
    "{}",
    "7",
    "[" * 100_000,
]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: content[:20])
def test_a_token_with_other_content_is_refused(content: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_token(base64.urlsafe_b64encode(content.encode()).decode(), float)
    assert refused.value.reason == "BAD_PAGE_TOKEN"


@pytest.mark.parametrize("token", ["nonsense", "é", "====", "\0", "gA=="])
def test_other_text_is_refused_as_a_token(token: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_token(token, float)
    assert refused.value.reason == "BAD_PAGE_TOKEN"
