"""Requests that race: equal ones, different ones with one id, uploads for the rest of a quota, changes of an account.

Each answer is compared with the rules: a request id creates one item, a quota is never exceeded, and a disabled
account or a changed password ends all sessions.
"""

import random
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests

from gateway.session.credentials import REFRESH_COOKIE
from tests.fuzz.findings import Tally
from tests.fuzz.media import originals
from tests.fuzz.target import Target
from tests.suite.running import PASSWORD

AT_ONCE = 8
ANSWER_SECONDS = 60.0
CLOSING_SECONDS = 20.0
TRICKLE_SECONDS = 0.02
Call = Callable[[], requests.Response]


class Fuzzer:
    """Sends racing requests to the gateway of a target.

    Args:
        target: gets the requests.
        tally: records the findings.
    """

    def __init__(self, target: Target, tally: Tally) -> None:
        self._target = target
        self._tally = tally
        self._http = requests.Session()
        self._http.trust_env = False
        # Requests share no cookies: a cookie is sent only on purpose.
        self._http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._http.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=2 * AT_ONCE))
        self._pool = ThreadPoolExecutor(2 * AT_ONCE)
        self._dice = random.Random(0)
        self._outcomes: Counter[str] = Counter()

    def close(self) -> None:
        """Closes the connections."""
        self._pool.shutdown()
        self._http.close()

    def run(self, seed: int, count: int, kinds: Sequence[str] = ()) -> Counter[str]:
        """Runs `count` races of each kind.

        Args:
            seed: of all choices.
            count: of each kind.
            kinds: of `KINDS`; all of them if none is named.

        Returns:
            The number of answers by kind and reason.
        """
        self._outcomes = Counter()
        for kind in kinds or KINDS:
            self._dice = random.Random(f"{seed} {kind}")
            for _ in range(count):
                KINDS[kind](self)
            self._target.check(self._tally, kind)
        return self._outcomes

    def equal_requests(self) -> None:
        """The same request many times at once: all answers have the same item."""
        token = self._target.account().token
        request = {"url": self._url(), "requestId": uuid.uuid4().hex}
        answers = self._at_once([lambda: self._post("/tracks", token, request)] * AT_ONCE, "equal requests")
        tracks = {answer["track"]["id"] for answer in answers if "track" in answer}
        jobs = {answer["job"]["job"]["id"] for answer in answers if "job" in answer}
        if len(tracks) > 1 or len(jobs) > 1:
            self._wrong("equal requests gave several things", request, answers)

    def used_ids(self) -> None:
        """Different requests with a used id, at once and later, are refused and create nothing."""
        token = self._target.account().token
        request_id = uuid.uuid4().hex
        first, second = ({"url": self._url(), "requestId": request_id} for _ in range(2))
        calls = [lambda one=one: self._post("/tracks", token, one) for one in (first, second)]
        answers = [*self._at_once(calls, "used ids"), *self._at_once(calls, "used ids")]
        made = [answer for answer in answers if "track" in answer]
        if len({answer["track"]["id"] for answer in made}) != 1:
            self._wrong("two requests of one id both gave something", [first, second], answers)
        if refused := [answer for answer in answers if _reason(answer) not in ("", "REQUEST_ID_REUSED")]:
            self._wrong("a used id was refused for another reason", [first, second], refused)

    def broken_uploads(self) -> None:
        """Uploads that trickle in, or whose connection breaks in the middle, leave nothing in the list."""
        token = self._target.account().token
        name, content = self._dice.choice(list(originals().items()))
        head = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + b"\r\n--cut--\r\n"
        cuts = [self._dice.randrange(len(body)) for _ in range(AT_ONCE)]
        before = self._tracks(token)
        list(self._pool.map(lambda cut: self._send_part(token, body, cut), cuts))
        if (after := self._tracks(token)) != before:
            self._wrong("an upload that broke off became a track", cuts, after)

    def room_for_one(self) -> None:
        """Simultaneous uploads with room for one or two: a quota is never exceeded."""
        account = self._target.account()
        content = self._distinct_songs()
        room = self._dice.randint(1, 2)
        quota = room * max(map(len, content)) + 100
        self._set_quota(account.token, quota)
        files = [("song.wav", one) for one in content]
        calls = [lambda file=file: self._upload(account.token, file) for file in files]
        answers = self._at_once(calls, "room for one")
        taken = sum(len(one) for one, answer in zip(content, answers, strict=True) if "track" in answer)
        if taken > quota:
            self._wrong(f"{taken} bytes were taken of a quota of {quota}", [len(one) for one in content], answers)

    def sign_ins(self) -> None:
        """Sign-ins while the account is disabled, demoted, or gets another password: no session survives this, and none
        has rights that the account has lost.
        """
        admin = self._target.admin_token()
        name = f"race-{uuid.uuid4().hex[:12]}"
        user_id = self._target.add_user(name)
        user, credentials = f"/admin/users/{user_id}", {"username": name, "password": PASSWORD}
        assert self._call("PATCH", user, admin, {"admin": True}).ok
        own = self._post("/auth/login", "", credentials).json()["accessToken"]
        passwords = {"oldPassword": PASSWORD, "newPassword": f"{PASSWORD} {name}"}
        changes: dict[str, Call] = {
            "disabled": lambda: self._call("PATCH", user, admin, {"disabled": True}),
            "demoted": lambda: self._call("PATCH", user, admin, {"admin": False}),
            "reset": lambda: self._post(f"{user}/reset-password", admin, {}),
            "given another password": lambda: self._post("/auth/password", own, passwords),
        }
        how = self._dice.choice(list(changes))
        calls: list[Call] = [lambda: self._post("/auth/login", "", credentials)] * AT_ONCE
        answers = self._at_once([*calls, changes[how]], "sign-ins")
        if (changed := answers.pop()).get("code"):
            self._wrong(f"a user was not {how}", credentials, changed)
        for cookie in filter(None, (answer.get("cookie") for answer in answers)):
            refreshed = self._http.post(
                f"{self._target.suite.url}/api/v1/auth/refresh",
                headers={"Cookie": f"{REFRESH_COOKIE}={cookie}", "Sec-Fetch-Site": "same-origin"},
                timeout=ANSWER_SECONDS,
            )
            self._outcomes[f"refresh {refreshed.status_code}"] += 1
            # A sign-in after a demotion is valid, but must not have an admin's rights.
            if refreshed.ok and (how != "demoted" or self._is_admin(refreshed.json()["accessToken"])):
                self._wrong(f"a session outlived that its user was {how}", credentials, refreshed.text)

    def _is_admin(self, token: str) -> bool:
        return self._call("GET", "/admin/users", token, {}).ok

    def _url(self) -> str:
        return f"https://example.com/{self._dice.randrange(10**9)}.mp3"

    def _distinct_songs(self) -> list[bytes]:
        whole = originals()["16bit.wav"]
        return [whole[:-8] + self._dice.randbytes(8) for _ in range(AT_ONCE)]

    def _at_once(self, calls: Sequence[Call], what: str) -> list[dict[str, Any]]:
        gate = threading.Barrier(len(calls))

        def call(one: Call) -> dict[str, Any]:
            gate.wait(ANSWER_SECONDS)
            return self._answer(one, what)

        return list(self._pool.map(call, calls))

    def _answer(self, call: Call, what: str) -> dict[str, Any]:
        self._tally.inputs += 1
        try:
            answer = call()
        except requests.Timeout as error:
            self._tally.note("hangs", what, b"", repr(error))
            return {}
        if answer.status_code >= 500:
            self._tally.note("5xx", f"{what}: {answer.status_code}", b"", answer.text)
        content: dict[str, Any] = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
        content["cookie"] = answer.cookies.get(REFRESH_COOKIE)
        self._outcomes[f"{what} {_reason(content) or answer.status_code}"] += 1
        return content

    def _call(self, method: str, path: str, token: str, content: dict[str, Any]) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self._http.request(
            method, f"{self._target.suite.url}/api/v1{path}", headers=headers, json=content, timeout=ANSWER_SECONDS
        )

    def _post(self, path: str, token: str, content: dict[str, Any]) -> requests.Response:
        return self._call("POST", path, token, content)

    def _upload(self, token: str, file: tuple[str, bytes]) -> requests.Response:
        return self._http.post(
            f"{self._target.suite.url}/api/v1/tracks/upload",
            headers={"Authorization": f"Bearer {token}"},
            files={"file": file},
            timeout=ANSWER_SECONDS,
        )

    def _tracks(self, token: str) -> list[str]:
        answer = self._http.get(
            f"{self._target.suite.url}/api/v1/tracks",
            headers={"Authorization": f"Bearer {token}"},
            timeout=ANSWER_SECONDS,
        )
        return sorted(track["id"] for track in answer.json().get("tracks", ()))

    def _send_part(self, token: str, body: bytes, cut: int) -> None:
        self._tally.inputs += 1
        head = (
            f"POST /api/v1/tracks/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: multipart/form-data; boundary=cut\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        port = self._target.suite.ports["gateway"]
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=CLOSING_SECONDS) as connection:
                connection.sendall(head.encode() + body[: cut // 2])
                for byte in body[cut // 2 : cut // 2 + 20]:
                    connection.sendall(bytes([byte]))
                    threading.Event().wait(TRICKLE_SECONDS)
                connection.sendall(body[cut // 2 + 20 : cut])
        except OSError:
            pass  # the server closed before it had read everything

    def _set_quota(self, token: str, quota: int) -> None:
        user = self._http.get(
            f"{self._target.suite.url}/api/v1/me",
            headers={"Authorization": f"Bearer {token}"},
            timeout=ANSWER_SECONDS,
        ).json()["user"]["id"]
        answer = self._call("PUT", f"/admin/storage/{user}", self._target.admin_token(), {"quotaBytes": str(quota)})
        assert answer.ok, answer.text

    def _wrong(self, what: str, given: object, answers: object) -> None:
        self._tally.note("5xx", what, repr(given).encode(), repr(answers))


KINDS: dict[str, Callable[[Fuzzer], None]] = {
    "equal requests": Fuzzer.equal_requests,
    "used ids": Fuzzer.used_ids,
    "broken uploads": Fuzzer.broken_uploads,
    "room for one": Fuzzer.room_for_one,
    "sign-ins": Fuzzer.sign_ins,
}


def _reason(answer: dict[str, Any]) -> str:
    """The reason of an error; empty if the answer is not an error."""
    details = answer.get("details") or [{}]
    return str(details[0].get("reason", "")) if isinstance(details, list) else ""
