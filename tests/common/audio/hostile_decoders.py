"""Tasks for the sandbox that act like a decoder which a file has taken over."""

import ctypes
import errno
import json
import os
import signal
import socket
import time
from collections.abc import Callable

import numpy as np

from services.common.audio.sandbox_child import (
    BLOCK,
    BLOCK_HEAD,
    DONE,
    HEADER,
    HEARD,
    READ,
    REFUSED,
    WANTED,
    WISH,
    Wire,
)
from services.common.audio.types import Limits
from services.common.errors import InvalidInputError

INFO = {
    "duration_seconds": 1.0,
    "samples": 0,
    "sample_rate_hz": 1000,
    "channels": 2,
    "codec": "flac",
    "container": "flac",
    "bit_rate": 1,
    "tags": {},
    "notes": [],
}


def spin(_wire: Wire, _size: int, _limits: Limits) -> None:
    while True:
        pass


def hang(_wire: Wire, _size: int, _limits: Limits) -> None:
    time.sleep(1000)


def eat_memory(_wire: Wire, _size: int, _limits: Limits) -> None:
    eaten: list[bytearray] = []
    while len(eaten) < 10_000:
        eaten.append(bytearray(10_000_000))


def crash(_wire: Wire, _size: int, _limits: Limits) -> None:
    ctypes.string_at(0)


def give_up(_wire: Wire, _size: int, _limits: Limits) -> None:
    os.abort()


def leave(_wire: Wire, _size: int, _limits: Limits) -> None:
    os._exit(0)


def fail(_wire: Wire, _size: int, _limits: Limits) -> None:
    raise KeyError("no such thing")


def never_listen(wire: Wire, _size: int, _limits: Limits) -> None:
    while True:
        wire.send(READ, WANTED.pack(0, 100_000))


def drip(wire: Wire, _size: int, _limits: Limits) -> None:
    while True:
        wire.send(READ, WANTED.pack(0, 1))
        wire.receive(5)
        time.sleep(0.2)


ATTEMPTS: dict[str, Callable[[], object]] = {
    "read a file": lambda: os.open(__file__, os.O_RDONLY),
    "write a file": lambda: os.open("/tmp/written-by-a-song", os.O_WRONLY | os.O_CREAT),
    "remove a file": lambda: os.unlink("/tmp/nothing-is-here"),
    "connect": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "connect to a neighbour": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "start a process": os.fork,
    "signal its parent": lambda: os.kill(os.getppid(), signal.SIGTERM),
}


def attempt(*names: str) -> dict[str, str]:
    """Tries the named attempts; returns the outcome of each."""
    outcomes = {}
    for name in names:
        try:
            ATTEMPTS[name]()
            outcomes[name] = "works"
        except OSError as error:
            outcomes[name] = errno.errorcode[error.errno or 0]
    return outcomes


def attempt_everything(_wire: Wire, _size: int, _limits: Limits) -> None:
    raise InvalidInputError("this came of it", "OUTCOMES", **attempt(*ATTEMPTS))


def tell_environment(_wire: Wire, _size: int, _limits: Limits) -> None:
    raise InvalidInputError("this is", "ENVIRONMENT", **{name: name for name in os.environ})


def _told(wire: Wire, *, info: object = INFO, names: object = ("FL", "FR")) -> None:
    """Sends the output of a decoder before the sound."""
    wire.send(HEADER, json.dumps(info).encode())
    wire.receive(WISH.size)
    wire.send(HEARD, json.dumps({"rate": 1000, "channel_names": names}).encode())


def _block(wire: Wire, rows: int, value: float, samples: int = 100) -> None:
    wire.send(BLOCK, BLOCK_HEAD.pack(0.0, rows), np.full((rows, samples), value, np.float32).data)


def say_no_json(wire: Wire, _size: int, _limits: Limits) -> None:
    wire.send(HEADER, b"\xff{")


def nest_deeply(wire: Wire, _size: int, _limits: Limits) -> None:
    wire.send(HEADER, b"[" * 200_000)


def say_the_wrong_type(wire: Wire, _size: int, _limits: Limits) -> None:
    _told(wire, info={**INFO, "duration_seconds": "long"})


def say_no_number(wire: Wire, _size: int, _limits: Limits) -> None:
    _told(wire, info={**INFO, "duration_seconds": float("nan")})


def tag_with_half_a_letter(wire: Wire, _size: int, _limits: Limits) -> None:
    _told(wire, info={**INFO, "tags": {"title": "\ud800"}})


def tag_a_book(wire: Wire, _size: int, _limits: Limits) -> None:
    _told(wire, info={**INFO, "tags": {"title": "x" * 100_000}})


def announce_terabytes(wire: Wire, _size: int, _limits: Limits) -> None:
    wire._file.write(HEADER + b"\xff\xff\xff\xff")


def skip_ahead(wire: Wire, _size: int, _limits: Limits) -> None:
    wire.send(DONE, b"{}\n")


def send_other_channels(wire: Wire, _size: int, _limits: Limits) -> None:
    _told(wire)
    _block(wire, 5, 0.0)


def send_no_numbers(wire: Wire, _size: int, _limits: Limits) -> None:
    _told(wire)
    _block(wire, 2, float("nan"))


def send_half_a_number(wire: Wire, _size: int, _limits: Limits) -> None:
    _told(wire)
    wire.send(BLOCK, BLOCK_HEAD.pack(0.0, 2), bytes(9))


def ask_half_a_question(wire: Wire, _size: int, _limits: Limits) -> None:
    wire.send(READ, b"?")


def play_for_ever(wire: Wire, _size: int, _limits: Limits) -> None:
    _told(wire)
    while True:
        _block(wire, 2, 0.5, 10_000)


def refuse_with_another_message(wire: Wire, _size: int, _limits: Limits) -> None:
    facts = {"message": "no", "reason": "DECODER_CRASHED", "metadata": {"message": "yes", "reason": "YES"}}
    wire.send(REFUSED, json.dumps(facts).encode())


def refuse_with_a_page(wire: Wire, _size: int, _limits: Limits) -> None:
    wire.send(REFUSED, json.dumps({"message": "\x1b[2J" * 9, "reason": "X", "metadata": {}}).encode())
