"""Malformed results in an old installation's database: each is imported or left out."""

import contextlib
import json
import traceback
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from cli.legacy import installation, results
from tests.fuzz.examples import each
from tests.fuzz.findings import Tally

_NAMES = (
    "timestamp",
    "time",
    "start",
    "end",
    "chord",
    "label",
    "name",
    "text",
    "words",
    "word",
    "confidence",
    "score",
    "segments",
)
_VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from((10**400, -(10**400)))
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(("C", "F#m7b5/A", "H", "N", "Am major", "1e999", "NaN", "-inf", "chorus", "0:01"))
)
_JSON = st.recursive(
    _VALUES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)
_ENTRIES = st.lists(
    st.fixed_dictionaries(
        dict.fromkeys(("start", "label"), _VALUES),
        optional={name: _JSON for name in _NAMES if name not in ("start", "label")},
    ),
    max_size=6,
)
_CONTENT = st.one_of(_VALUES, _JSON, _ENTRIES)
_SECONDS = st.sampled_from((0.0, 0.5, 200.0))

READERS: tuple[Callable[[Any, float], object], ...] = (
    lambda content, seconds: results.beats(content, content, content, seconds),
    lambda content, seconds: results.key(content, content),
    results.chords,
    results.structure,
    results.lyrics,
    lambda content, _seconds: installation.parse_json(json.dumps(content)),
    lambda content, _seconds: installation.parse_json(content),
)


def fuzz(seed: int, count: int, tally: Tally) -> None:
    """Reads `count` contents as each kind of result."""

    def read(example: tuple[Any, float]) -> None:
        for reader in READERS:
            tally.inputs += 1
            try:
                with contextlib.suppress(ValueError):  # a refusal: the command reports it and goes on
                    reader(*example)
            except Exception as error:
                tally.note("crashes", f"an old result: {error!r}", repr(example).encode(), traceback.format_exc())

    each(st.tuples(_CONTENT, _SECONDS), seed, count, read)
