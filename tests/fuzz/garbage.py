"""Bytes that are almost HTTP, a form, tus, WebSocket or HTTP/2, or nothing like it."""

import base64
import random
import struct

from tests.fuzz.mutations import mutated
from tests.fuzz.target import Account

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_BOUNDARY = "a1b2"
_LINES = (
    "Content-Length: -1",
    "Content-Length: 99999999999999999999",
    "Content-Length: 5\r\nContent-Length: 6",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked, gzip",
    "Content-Encoding: br",
    "Content-Encoding: gzip",
    "Host: a\r\nHost: b",
    "Host:",
    "Expect: 100-continue",
    "Expect: nonsense",
    "Connection: upgrade",
    "Upgrade: h2c",
    "Range: bytes=-0",
    "Range: bytes=9-1",
    "Range: bytes=0-1,5-6,7-",
    "If-Range: x",
    "If-None-Match: *",
    "TE: \x00",
    "Cookie: a=b; =; stemtube_access=\xff",
    "Authorization: Bearer \xff\xfe",
    "Authorization: Bearer a.b.c",
    " folded",
    "X-Forwarded-For: " + "1.2.3.4, " * 500,
    "X-Forwarded-For: ::ffff:300.1.1.1",
    "X-Request-Id: \u00e9",
    "A" * 20_000,
    "Content-Type: application/json; charset=utf-7",
    "Content-Type: multipart/form-data",
    "Accept: text/event-stream",
    "X-HTTP-Method-Override: PATCH",
    "X-HTTP-Method-Override: GET",
    "Origin: null",
    "Sec-Fetch-Site: cross-site",
)
_PATHS = (
    "/",
    "/api/v1/me",
    "/api/v1/tracks",
    "/api/v1/tracks/upload",
    "/api/v1/uploads",
    "/api/v1/events",
    "/api/docs",
    "/api/v1/auth/login",
    "/%00",
    "/..%2f..%2fetc/passwd",
    "//",
    "*",
    "http://other/",
    "/api/v1/tracks/%ff%fe",
    "/healthz",
    "/api/v1/tracks?pageSize=1&pageSize=2",
    "/api/v1/tracks?" + "a=b&" * 2000,
    "/" + "x" * 9000,
    "/api/v1/openapi.json",
)
_TUS_VALUES = (
    "",
    "-1",
    "0",
    "1",
    "1000",
    "9" * 15,
    "9" * 40,
    "1e3",
    "0x10",
    "\u0661",
    "1000 ",
    "NaN",
    "filename",
    "1, 2",
)


def _request(verb: str, path: str, account: Account, *lines: str, body: bytes = b"") -> bytes:
    head = [f"{verb} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {account.token}", *lines, "", ""]
    return "\r\n".join(head).encode("utf-8", "surrogateescape") + body


def _damaged(dice: random.Random, content: bytes) -> bytes:
    return mutated(dice, content, [content]) if dice.random() < 0.5 else content


def http(dice: random.Random, account: Account) -> bytes:
    if dice.random() < 0.1:
        return dice.randbytes(dice.choice((1, 20, 3000, 100_000)))
    verb = dice.choice(
        ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "\x00", "")
    )
    body = dice.choice(
        (b"", b'{"username": "a"}', b'5\r\n{"a":\r\n0\r\n\r\n', b"ffffffffff\r\n", b"[" * 3000, b"\xff\xfe")
    )
    kind = dice.choice(("Content-Type: application/json", "Content-Type: text/plain", "X: y"))
    lines = (*dice.sample(_LINES, dice.randint(0, 3)), kind, f"Content-Length: {len(body)}")
    request = _request(verb, dice.choice(_PATHS), account, *lines, body=body)
    return _damaged(dice, request) * dice.choice((1, 1, 1, 3))


def form(dice: random.Random, account: Account) -> bytes:
    parts = []
    for _ in range(dice.randint(0, 4)):
        name = dice.choice(("file", "options", "", "\xff", "other"))
        filename = dice.choice(("", '; filename="a.wav"', "; filename*=UTF-8''%ff", '; filename="' + "x" * 3000 + '"'))
        more = dice.choice(
            ("", "Content-Transfer-Encoding: base64\r\n", "Content-Encoding: gzip\r\n", "Content-Length: 3\r\n")
        )
        content = dice.choice(("{}", '{"separations": 1}', "RIFF", "", "{" * 99)).encode() + dice.randbytes(
            dice.choice((0, 0, 9000))
        )
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n{more}\r\n'
        parts.append(head.encode() + content + b"\r\n")
    body = _damaged(dice, b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode())
    boundary = dice.choice((_BOUNDARY, _BOUNDARY, _BOUNDARY, "", '"', "x" * 200))
    length = dice.choice((len(body), len(body), len(body) + 5, 3))
    lines = (f"Content-Type: multipart/form-data; boundary={boundary}", f"Content-Length: {length}")
    return _request("POST", "/api/v1/tracks/upload", account, *lines, body=body)


def tus(dice: random.Random, account: Account) -> bytes:
    body = dice.randbytes(dice.choice((0, 1, 100, 1000, 2000)))
    metadata = [
        f"{dice.choice(('filename', 'options', '', 'x'))} {dice.choice(_TUS_VALUES)}" for _ in range(dice.randint(0, 3))
    ]
    metadata.append("options " + base64.b64encode(dice.choice((b"{}", b"\xff", b"[]", b'{"a": 1}'))).decode())
    lines = [
        f"Tus-Resumable: {dice.choice(('1.0.0', '1.0.0', '1.0.0', '0.2', ''))}",
        f"Upload-Length: {dice.choice(_TUS_VALUES)}",
        f"Upload-Offset: {dice.choice(_TUS_VALUES)}",
        f"Upload-Metadata: {','.join(metadata)}",
        f"Content-Type: {dice.choice(('application/offset+octet-stream',) * 3 + ('text/plain', ''))}",
        f"X-HTTP-Method-Override: {dice.choice(('PATCH', 'HEAD', 'DELETE', 'TRACE', ''))}",
    ]
    kept = [line for line in lines if dice.random() < 0.8]
    verb, own = dice.choice(("POST", "PATCH", "HEAD", "DELETE", "OPTIONS")), account.ids["upload_id"]
    path = "/api/v1/uploads" + dice.choice(("", "", f"/{own}", f"/{own}", "/", "/..", f"/{'0' * 32}"))
    return _damaged(dice, _request(verb, path, account, *kept, f"Content-Length: {len(body)}", body=body))


def websocket(dice: random.Random, account: Account) -> bytes:
    lines = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: " + "A" * 22 + "==",
    )
    compressing = ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",)
    path = dice.choice(("/api/v1/events", f"/api/v1/jobs/{account.ids['job_id']}/watch"))
    request = _request("GET", path, account, *lines, *(compressing if dice.random() < 0.5 else ()))
    frames = b"".join(_frame(dice) for _ in range(dice.randint(1, 6)))
    return request + _damaged(dice, frames)


def _frame(dice: random.Random) -> bytes:
    """A frame (RFC 6455), often one that is not allowed: reserved bits, no mask, wrong lengths, bad UTF-8."""
    first = dice.choice((0x80, 0x00, 0xC0, 0xF0)) | dice.choice((0, 1, 2, 8, 9, 10, 3, 15))
    content = dice.choice(
        (b"", b"hello", b"\xff\xfe\xc0", b"\x03\xe8bye", b"\x00\x01", b"\x03\xed", dice.randbytes(130))
    )
    if dice.random() < 0.05:
        content = bytes(6 << 20)
    length = dice.choice((len(content),) * 6 + (2**63, 2**64 - 1, 70_000))
    masked = dice.choice((0x80, 0x80, 0x80, 0))
    if length < 126:
        size = bytes([masked | length])
    elif length < 1 << 16:
        size = bytes([masked | 126]) + struct.pack(">H", length)
    else:
        size = bytes([masked | 127]) + struct.pack(">Q", length)
    return bytes([first]) + size + (bytes(4) if masked else b"") + content


def http2(dice: random.Random, _account: Account) -> bytes:
    if dice.random() < 0.1:
        return dice.randbytes(dice.choice((1, 24, 5000)))
    frames = b"".join(_http2_frame(dice) for _ in range(dice.choice((1, 3, 10, 200))))
    return _damaged(dice, _PREFACE + dice.choice((b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"")) + frames)


def _http2_frame(dice: random.Random) -> bytes:
    """A frame (RFC 9113) of any type, flags and stream, its length often wrong."""
    content = dice.choice(
        (b"", bytes(4), bytes(8), b"\x82\x86\x84\x41\x8a", b"\x00\x00\x00\x00\x05\x0a\xff", dice.randbytes(200))
    )
    length = dice.choice((len(content),) * 6 + (0, 16385, (1 << 24) - 1))
    kind, flags = dice.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 77)), dice.choice((0, 1, 4, 5, 8, 0x20, 0xFF))
    stream = dice.choice((0, 1, 1, 3, 2, 2**31 - 1, 2**32 - 1))
    return struct.pack(">I", length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content
