"""Messages of every RPC, made from the contracts, and bytes that are not messages: each gets a proper status."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from gateway.app import SERVICES
from services.common.rpc.auth import bearer
from tests.fuzz.examples import each
from tests.fuzz.findings import Tally
from tests.fuzz.mutations import mutated
from tests.fuzz.target import Account, Target

CALL_SECONDS = 20.0
DEPTH = 3
LEFT_OUT = {
    "RotateSigningKey": "withdraws the key of the tokens that are used here",
    "SearchSongs": "starts a process that asks the internet",
    "LookUpLink": "starts a process that asks the internet",
}
FOR_SERVICES = ("SeparationService", "AnalysisService")
ENDING = ("ChangePassword", "EndSession", "EndOtherSessions")
# Bugs. UNAVAILABLE too, because every service runs.
_FAULTS = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
_WORDS = (
    *("", "\0", "a\0b", "../../etc/passwd", "🎸" * 300, "x" * 70_000, "\u202e\ufeff", "%00%ff", "' OR 1=1 --", "{}"),
    *("auto", "spleeter_2stems", "htdemucs", "vocals", "separation", "librosa", "madmom", "flac", "wav", "C", "major"),
    *("C:maj7/3", "en", "title", "fuzz-0", "https://127.0.0.1/song.wav", "http://[::1", "1", "-1", "9" * 40),
)


def methods() -> list[MethodDescriptor]:
    """Every RPC that can be fuzzed: those that delete, and then those that end the caller's session, come last."""
    found = [
        method
        for group in SERVICES.values()
        for service in group
        for method in service.methods
        if method.name not in LEFT_OUT
    ]
    return sorted(found, key=lambda method: (method.name in ENDING, method.name.startswith("Delete")))


def messages(descriptor: Descriptor, ids: Mapping[str, str], depth: int = DEPTH) -> st.SearchStrategy[Message]:
    """Messages of a type, with ids of the caller's items in some text fields."""
    fields = {
        field.name: _several(field, ids, depth) for field in descriptor.fields if depth or field.message_type is None
    }
    # Without valid ids most requests would be refused at once.
    wanted = {name: field for name, field in fields.items() if name in ids and depth == DEPTH}
    further = {name: field for name, field in fields.items() if name not in wanted}
    build = message_factory.GetMessageClass(descriptor)
    return st.fixed_dictionaries(wanted, optional=further).map(lambda content: build(**content))


def _several(field: FieldDescriptor, ids: Mapping[str, str], depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return st.dictionaries(_value(key, ids, depth), _value(value, ids, depth - 1), max_size=3)
    one = _value(field, ids, depth)
    return st.lists(one, max_size=4) if field.is_repeated else one


def _value(field: FieldDescriptor, ids: Mapping[str, str], depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, ids, depth - 1)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        known = [value.number for value in field.enum_type.values]
        return st.sampled_from(known) | st.integers(*_INTEGERS[field.cpp_type])
    if field.cpp_type in _INTEGERS:
        low, high = _INTEGERS[field.cpp_type]
        return st.integers(max(low, -2), 5) | st.integers(low, high) | st.sampled_from((low, high))
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return st.floats(0, 1, width=32) | st.floats(width=32)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=2000)
    text = st.sampled_from(_WORDS) | st.text(st.characters(codec="utf-8"), max_size=40)
    assert field.containing_type is not None
    names = [field.json_name for field in field.containing_type.fields]
    own = [value for name, value in ids.items() if name in (field.name, field.name.removesuffix("s"))]
    return st.one_of(*[st.sampled_from(own)] * 3, text) if own else text | st.sampled_from(names)


def _requests(method: MethodDescriptor, caller: Account) -> st.SearchStrategy[tuple[str, list[bytes]]]:
    """A caller's token, and the messages to send."""
    one = messages(method.input_type, caller.ids).map(lambda message: message.SerializeToString())
    return st.tuples(st.just(caller.token), st.lists(one, min_size=1, max_size=3 if method.client_streaming else 1))


class Fuzzer:
    """Sends messages to the services of a target.

    Args:
        target: gets the messages.
        tally: records the findings.
    """

    def __init__(self, target: Target, tally: Tally) -> None:
        self._target = target
        self._tally = tally
        self._channels = {
            service.full_name: grpc.insecure_channel(
                f"127.0.0.1:{target.suite.ports[name]}", options=[("grpc.enable_http_proxy", 0)]
            )
            for name, group in SERVICES.items()
            for service in group
        }

    def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels.values():
            channel.close()

    def run(self, seed: int, count: int) -> Counter[str]:
        """Sends up to `count` messages, and a fourth as many invalid ones, to each RPC.

        Returns:
            The number of calls that ended with each status.
        """
        user, admin = self._target.account(), self._target.account(admin=True)
        service = Account(self._target.service_token(), user.ids)
        codes: Counter[str] = Counter()
        for method in methods():
            dice = random.Random(f"{seed} {method.full_name}")
            usual = service if method.containing_service.name in FOR_SERVICES else user
            callers = (usual, usual, usual, admin, admin, service)
            requests = st.one_of(*(_requests(method, caller) for caller in callers))

            def send(request: tuple[str, Sequence[bytes]], method: MethodDescriptor = method) -> None:
                codes[self._send(method, *request)] += 1

            each(requests, seed, count, send)
            for _ in range(count // 4 + 1):
                send((dice.choice(callers).token, [mutated(dice, dice.randbytes(dice.choice((1, 5, 300))), [b"\x0a"])]))
        self._target.check(self._tally, "messages")
        return codes

    def _send(self, method: MethodDescriptor, token: str, requests: Sequence[bytes]) -> str:
        path = f"/{method.containing_service.full_name}/{method.name}"
        self._tally.inputs += 1
        try:
            self._call(method, requests, token)
        except grpc.RpcError as error:
            code = error.code()
            text = f"{path} ends with {code.name}: {error.details()}"
            if code in _FAULTS:
                self._tally.note("5xx", text, b"".join(requests), text)
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._tally.note("hangs", text, b"".join(requests), text)
            return str(code.name)
        return "OK"

    def _call(self, method: MethodDescriptor, requests: Sequence[bytes], token: str) -> None:
        channel = self._channels[method.containing_service.full_name]
        path = f"/{method.containing_service.full_name}/{method.name}"
        options: dict[str, Any] = {"metadata": bearer(token), "timeout": CALL_SECONDS}
        if method.server_streaming:
            stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
            answers = stream(requests[0], **options)
            next(answers, None)
            answers.cancel()
        elif method.client_streaming:
            send: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(path)
            send(iter(requests), **options)
        else:
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            ask(requests[0], **options)
