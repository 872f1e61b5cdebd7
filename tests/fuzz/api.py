"""Requests that the gateway's OpenAPI document allows, and some that it does not: answers are as it describes them."""

import json
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.uploads import tus
from tests.fuzz.examples import each
from tests.fuzz.findings import Tally
from tests.fuzz.messages import ENDING, LEFT_OUT
from tests.fuzz.target import Account, Target

ANSWER_SECONDS = 30.0
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@schemathesis.serializer(tus.BODY_TYPE)
def _tus_body(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def _cases(operation: Any, ids: Mapping[str, str]) -> st.SearchStrategy[Any]:
    """Valid and invalid requests of an operation, with ids that the caller owns and any others."""
    own = {one.name: ids[one.name] for one in operation.path_parameters if one.name in ids}
    positive = operation.as_strategy(generation_mode=GenerationMode.POSITIVE, path_parameters=own or None)
    negative = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return st.one_of(positive, positive, positive, negative)


class Fuzzer:
    """Sends requests to the gateway of a target.

    Args:
        target: gets the requests.
        tally: records the findings.
        document: the OpenAPI document to compare with; None for the gateway's own.
    """

    def __init__(self, target: Target, tally: Tally, document: dict[str, Any] | None = None) -> None:
        self._target = target
        self._tally = tally
        self._http = requests.Session()
        self._http.trust_env = False
        schema = schemathesis.openapi.from_dict(document or target.openapi())
        named = {}
        for result in schema.get_all_operations():
            assert isinstance(result, Ok), result.err()
            named[result.ok().definition.raw["operationId"]] = result.ok()
        # As in messages.py, calls that end the caller's session come last.
        order = sorted(
            named.keys() - LEFT_OUT.keys(), key=lambda name: (name in ENDING, name.startswith("Delete"), name)
        )
        self._operations = {name: named[name] for name in order}

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def run(self, seed: int, count: int) -> Counter[str]:
        """Sends up to `count` requests of each operation, all of them by a user, or all by an admin.

        Returns:
            The number of answers with each status.
        """
        accounts = (self._target.account(), self._target.account(admin=True))
        statuses: Counter[str] = Counter()
        dice = random.Random(seed)
        for name, operation in self._operations.items():
            account = dice.choice(accounts)

            def send(case: Any, name: str = name, account: Account = account) -> None:
                statuses[self._send(name, case, account)] += 1

            each(_cases(operation, account.ids), seed, count, send)
        self._target.check(self._tally, "requests")
        return statuses

    def _send(self, name: str, case: Any, account: Account) -> str:
        headers = {"Authorization": f"Bearer {account.token}"}
        try:
            response = case.call(
                base_url=self._target.suite.url, session=self._http, headers=headers, timeout=ANSWER_SECONDS
            )
        except ValueError:  # no client can send such a header
            return "not sent"
        except requests.RequestException as error:
            self._note("hangs" if isinstance(error, requests.Timeout) else "crashes", name, case, repr(error))
            return "no answer"
        finally:
            self._tally.inputs += 1
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as failures:
            told = "\n\n".join(f"{type(one).__name__}: {one}" for one in failures.exceptions)
            self._note("5xx", f"{name} {response.status_code} {type(failures.exceptions[0]).__name__}", case, told)
        return str(response.status_code)

    def _note(self, kind: Any, what: str, case: Any, more: str) -> None:
        self._tally.note(kind, what, case.as_curl_command().encode(), more)
