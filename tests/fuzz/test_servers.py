"""Hostile input at every port of a running suite. It is the same in each run; `make fuzz` has others."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fuzz import api, crowds, messages, protocols, races, texts, uploads
from tests.fuzz.findings import Tally
from tests.fuzz.target import Target, running_target


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with running_target(tmp_path_factory.mktemp("suite")) as target:
        yield target


def test_messages_of_every_rpc_get_a_proper_status(target: Target, tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    with closing(messages.Fuzzer(target, tally)) as fuzzer:
        codes = fuzzer.run(7, 8)
    assert tally.found == []
    # Requests that are refused at once prove nothing: many must be accepted, and every service must refuse some.
    assert codes["OK"] > 50
    assert codes["INVALID_ARGUMENT"] > 50
    assert codes["NOT_FOUND"] > 10


def test_texts_with_control_characters_do_not_break_reads(target: Target, tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    with closing(texts.Fuzzer(target, tally)) as fuzzer:
        outcomes = fuzzer.run(7, 8)
    assert tally.found == []
    assert outcomes["INVALID_ARGUMENT"] > 50
    assert outcomes["OK"] > 5
    assert outcomes["HTTP 200"] > 15


def test_requests_of_every_operation_are_answered_as_described(target: Target, tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    with closing(api.Fuzzer(target, tally)) as fuzzer:
        statuses = fuzzer.run(7, 6)
    assert tally.found == []
    assert statuses["200"] > 50
    assert statuses["400"] > 50
    assert statuses["404"] > 10


def test_garbage_is_answered_or_its_connection_closed(target: Target, tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    answered = protocols.Fuzzer(target, tally).run(7, 80)
    assert tally.found == []
    assert min(answered[kind] for kind in ("HTTP", "a form", "tus", "WebSocket", "HTTP/2")) > 20


def test_damaged_uploads_are_accepted_or_refused(target: Target, tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    with closing(uploads.Fuzzer(target, tally)) as fuzzer:
        outcomes = fuzzer.run(7, 20)
    assert tally.found == []
    assert outcomes["accepted"] > 3
    assert len(outcomes) > 2


def test_racing_or_interrupted_requests_have_one_effect_or_none(target: Target, tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    with closing(races.Fuzzer(target, tally)) as fuzzer:
        outcomes = fuzzer.run(7, 1)
    assert tally.found == []
    assert outcomes["equal requests 200"] == races.AT_ONCE
    assert outcomes["used ids REQUEST_ID_REUSED"] == 2
    assert 0 < outcomes["room for one QUOTA_EXCEEDED"] < races.AT_ONCE
    assert outcomes.total() > 3 * races.AT_ONCE


@pytest.mark.long  # other tests cover each of these alone
@pytest.mark.parametrize("kind", crowds.KINDS)
def test_many_requests_of_one_user_do_not_affect_another(target: Target, tmp_path: Path, kind: str) -> None:
    tally = Tally(tmp_path)
    outcomes = crowds.Fuzzer(target, tally).run(7, 1, [kind])
    assert tally.found == []
    assert outcomes[f"{kind} 200" if kind == "two owners" else f"Ben's {kind} 200"] >= 1


def test_an_answer_that_is_not_as_described_is_counted(target: Target, tmp_path: Path) -> None:
    document = target.openapi()
    document["paths"] = {"/api/v1/me": document["paths"]["/api/v1/me"]}
    document["components"]["schemas"]["stemtube.auth.v1.User"]["required"].append("colour")
    tally = Tally(tmp_path)
    with closing(api.Fuzzer(target, tally, document)) as fuzzer:
        fuzzer.run(7, 1)
    assert str(tally) == "inputs=1 crashes=0 5xx=1 hangs=0"
    assert "colour" in next(tmp_path.glob("*.txt")).read_text()


def test_a_traceback_and_a_dead_process_are_counted(target: Target, tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    with (target.suite.data / "download.log").open("a") as log:
        log.write("Traceback (most recent call last)\n")
    target.suite.kill("analysis-serve")
    target.check(tally, "a test")
    assert tally.counts["crashes"] == 2
    target.check(tally, "nothing")
    assert tally.counts["crashes"] == 2
