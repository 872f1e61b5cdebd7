"""Texts with control characters in every field of every RPC that stores something, then reads by HTTP."""

import random
from collections import Counter
from collections.abc import Iterator
from typing import cast

import grpc
import requests
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.common.rpc.auth import bearer
from stemtube.download.v1 import upload_pb2 as pb
from tests.fuzz import messages
from tests.fuzz.examples import each
from tests.fuzz.findings import Tally
from tests.fuzz.target import Account, Target

CALL_SECONDS = 20.0
CONTROLS = (*map(chr, range(0x20)), "\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\ufeff", "é", "\U0001f3b8")
ENDINGS = ("Injected: yes", "\r\nInjected: yes", "\n\nevent: end\ndata: {}", "; filename=x", '"', "%0d%0a", "x" * 9000)
READS = (
    *("/me", "/me/sessions", "/me/tokens", "/storage", "/tracks", "/playlists", "/jobs"),
    *("/tracks/{track_id}", "/tracks/{track_id}/audio?download=1", "/tracks/{track_id}/exports/jams"),
    *("/tracks/{track_id}/exports/reaper", "/tracks/{track_id}/exports/lrc", "/tracks/{track_id}/exports/chordpro"),
    *("/playlists/{playlist_id}", "/jobs/{job_id}", "/uploads/{upload_id}", "/tracks?query=Injected"),
)
_TUS = {"Tus-Resumable": "1.0.0"}


class Fuzzer(messages.Fuzzer):
    """Sends such texts by gRPC, and reads the results by HTTP.

    Args:
        target: gets the texts.
        tally: records the findings.
    """

    def __init__(self, target: Target, tally: Tally) -> None:
        super().__init__(target, tally)
        self._http = requests.Session()
        self._http.trust_env = False

    def close(self) -> None:
        """Closes the connections."""
        super().close()
        self._http.close()

    def run(self, seed: int, count: int) -> Counter[str]:
        """Sends up to `count` messages to each RPC that users may call and that stores something, and reads.

        Returns:
            The number of messages and of reads with each status (`HTTP 200` for reads).
        """
        account = self._target.account()
        outcomes: Counter[str] = Counter()
        for method in messages.methods():
            if method.containing_service.name in messages.FOR_SERVICES or not _keeps(method.name):
                continue
            dice = random.Random(f"{seed} {method.full_name}")

            def send(message: Message, method: object = method, dice: random.Random = dice) -> None:
                _insert_texts(message, dice)
                outcomes[self._send(method, account.token, [message.SerializeToString()])] += 1  # type: ignore[arg-type]

            each(messages.messages(method.input_type, account.ids), seed, count, send)
        uploads = [self._upload(account, random.Random(f"{seed} {number}")) for number in range(count)]
        for upload in filter(None, uploads):
            outcomes.update(self._read("HEAD", f"/uploads/{upload}", account))
        for path in READS:
            for verb in ("GET", "HEAD"):
                outcomes.update(self._read(verb, path.format(**account.ids), account))
        self._target.check(self._tally, "texts")
        return outcomes

    def _upload(self, account: Account, dice: random.Random) -> str:
        """Creates an upload with such texts; returns its id, or an empty string if it is refused."""
        message = pb.CreateUploadRequest(filename="a.wav", metadata="kept", size_bytes=1000)
        setattr(message, dice.choice(("filename", "metadata")), _text(dice))
        call = self._channels["stemtube.download.v1.UploadService"].unary_unary(
            "/stemtube.download.v1.UploadService/CreateUpload",
            request_serializer=pb.CreateUploadRequest.SerializeToString,
            response_deserializer=pb.CreateUploadResponse.FromString,
        )
        self._tally.inputs += 1
        try:
            return str(call(message, metadata=bearer(account.token), timeout=CALL_SECONDS).upload.id)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                self._tally.note("5xx", f"CreateUpload: {error.code().name}", message.SerializeToString())
            return ""

    def _read(self, verb: str, path: str, account: Account) -> list[str]:
        headers = {"Authorization": f"Bearer {account.token}", **(_TUS if verb == "HEAD" else {})}
        self._tally.inputs += 1
        answer = self._http.request(
            verb, f"{self._target.suite.url}/api/v1{path}", headers=headers, timeout=CALL_SECONDS
        )
        broken = "Injected" in answer.headers or not all(value.isprintable() for value in answer.headers.values())
        if answer.status_code >= 500 or broken:
            self._tally.note("5xx", f"{verb} {path}: {answer.status_code} {answer.headers}", b"", answer.text)
        return [f"HTTP {answer.status_code}"]


def _keeps(name: str) -> bool:
    """Whether an RPC stores its request and does not change the account."""
    return not name.startswith(("Delete", "Get", "List", "Watch", "Search", "LookUp")) and name not in messages.ENDING


def _text(dice: random.Random) -> str:
    return dice.choice(("a", "", "f" * 70)) + dice.choice(CONTROLS) * dice.choice((1, 1, 3)) + dice.choice(ENDINGS)


def _insert_texts(message: Message, dice: random.Random) -> None:
    """Puts such texts into some fields of a message; most valid ids stay."""
    for holder, field in list(_texts(message)):
        if dice.random() < (0.05 if field.name.endswith("id") else 0.6):
            setattr(holder, field.name, _text(dice))


def _texts(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """The text fields of a message and of its submessages, without lists and maps."""
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                for one in getattr(message, field.name):
                    yield from _texts(one)
        elif field.type == FieldDescriptor.TYPE_STRING and field.containing_oneof is None:
            yield message, cast(FieldDescriptor, field)
        elif field.message_type is not None and message.HasField(field.name):
            yield from _texts(getattr(message, field.name))
