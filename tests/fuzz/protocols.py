"""Garbage where HTTP, WebSocket, tus, multipart or HTTP/2 is expected: the server answers or closes, and survives."""

import random
import re
import select
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.fuzz import garbage
from tests.fuzz.findings import Tally
from tests.fuzz.target import Account, Target
from tests.suite.running import SERVICES

CONNECTIONS = 16
PATIENCE_SECONDS = 0.3
CLOSING_SECONDS = 20.0
_READ_BYTES = 1 << 16
_SERVER_FAULT = re.compile(rb"^HTTP/1\.[01] 5\d\d", re.MULTILINE)


class Fuzzer:
    """Sends garbage to the ports of a target.

    Args:
        target: gets the garbage.
        tally: records the findings.
    """

    def __init__(self, target: Target, tally: Tally) -> None:
        self._target = target
        self._tally = tally

    def close(self) -> None:
        """Does nothing: no connection stays open."""

    def run(self, seed: int, count: int) -> Counter[str]:
        """Sends `count` inputs of each kind.

        Returns:
            The number of answers.
        """
        ports = self._target.suite.ports
        account = self._target.account()
        answered: Counter[str] = Counter()
        kinds: Mapping[str, tuple[Sequence[str], Callable[[random.Random, Account], bytes]]] = {
            "HTTP": (("gateway",), garbage.http),
            "a form": (("gateway",), garbage.form),
            "tus": (("gateway",), garbage.tus),
            "WebSocket": (("gateway",), garbage.websocket),
            "HTTP/2": (SERVICES, garbage.http2),
        }
        with ThreadPoolExecutor(CONNECTIONS) as connections:
            for kind, (names, make) in kinds.items():
                dice = random.Random(f"{seed} {kind}")
                inputs = [(dice.choice(names), make(dice, account)) for _ in range(count)]
                answers = connections.map(
                    lambda one, kind=kind: self._exchange(kind, one[0], ports[one[0]], one[1]), inputs
                )
                answered[kind] = sum(map(bool, answers))
                self._tally.inputs += count
                self._target.check(self._tally, kind)
        return answered

    def _exchange(self, kind: str, name: str, port: int, content: bytes) -> bytes:
        answer = b""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=CLOSING_SECONDS) as connection:
                connection.sendall(content)
                # The server waits for the rest of a request, and does not answer a client that has disconnected.
                if select.select([connection], [], [], PATIENCE_SECONDS)[0]:
                    answer = connection.recv(_READ_BYTES)
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(_READ_BYTES):
                    answer += part
        except TimeoutError:
            self._tally.note("hangs", f"{name} neither answers nor closes after {kind}", content, repr(answer))
        except ConnectionRefusedError as error:
            self._tally.note("crashes", f"{name} refuses connections after {kind}", content, repr(error))
        except OSError:
            pass  # the server closed before it had read everything
        if _SERVER_FAULT.search(answer):
            self._tally.note("5xx", f"{kind}: {answer.splitlines()[0].decode(errors='replace')}", content, repr(answer))
        return answer
