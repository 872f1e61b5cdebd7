"""Section names from a language model: a real HTTP server gives good and bad chat completions."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.analysis.backends.base import Context, Endpoint, Lyrics, Section, Structure, Word
from services.analysis.backends.base import Line as LyricsLine
from services.analysis.backends.structure.language_model import LanguageModelAwayError, LanguageModelError
from services.analysis.backends.structure.llm import LlmStructure
from services.analysis.config import AnalysisSettings
from services.common.config import load
from services.common.samples import Audio
from songs.small_songs import silence

KEY = "sk-very-secret"
SECTIONS = Structure(
    (
        Section(0.0, 10.0, "verse", 0.9, 0, -20.0),
        Section(10.0, 20.0, "chorus", 0.8, 1, -14.0),
        Section(20.0, 30.0, "verse", 0.7, 0, -20.0),
    )
)
GOOD = '{"labels": ["intro", "chorus", "outro"]}'
Answer = Callable[[int], "web.StreamResponse | str"]


class ModelServer:
    """Answers requests in turn with `answer` and keeps them in `requests`."""

    def __init__(self) -> None:
        self.answer: Answer = lambda number: GOOD
        self.delay = 0.0
        self.requests: list[Any] = []
        self.keys: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/moved/chat/completions", self._move)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _move(self, request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(self.url + "/v1/chat/completions")

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self.keys.append(request.headers.get("Authorization", ""))
        await asyncio.sleep(self.delay)
        answer = self.answer(len(self.requests))
        if isinstance(answer, str):
            message = {"role": "assistant", "content": answer}
            return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        return answer

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    # The waits between tries are not under test.
    monkeypatch.setattr("services.analysis.backends.structure.language_model._WAITS_SECONDS", (0.01, 0.01))
    server = ModelServer()
    yield server
    server.close()


def named(endpoint: Endpoint | None, lyrics: Lyrics | None = None, vocals: Audio | None = None) -> Structure:
    context = Context(structure=SECTIONS, lyrics=lyrics, options={"language_model": endpoint})
    return LlmStructure().analyze(vocals or silence(30.0), context, lambda done: None)


def endpoint(server: ModelServer, **more: Any) -> Endpoint:
    return Endpoint(f"{server.url}/v1", "small-one", KEY, **more)


def test_the_model_names_sections_and_the_boundaries_stay(server: ModelServer) -> None:
    found = named(endpoint(server))
    assert [section.label for section in found.sections] == ["intro", "chorus", "outro"]
    assert [(section.start, section.end, section.group) for section in found.sections] == [
        (section.start, section.end, section.group) for section in SECTIONS.sections
    ]


def test_the_model_gets_the_known_facts(server: ModelServer) -> None:
    words = (Word(11.0, 11.5, "Carry", 1.0), Word(11.5, 12.0, "me,", 1.0), Word(21.0, 22.0, "Evening", 1.0))
    named(endpoint(server), Lyrics("en", (LyricsLine(11.0, 22.0, "Carry me, Evening", words),)))
    (request,) = server.requests
    assert request["model"] == "small-one"
    assert server.keys == [f"Bearer {KEY}"]
    system, user = request["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    first, second, third = json.loads(user["content"])
    assert first == {"start": 0.0, "seconds": 10.0, "sounds_like": "A", "level_db": -6.0, "voice": 0.0}
    assert (second["sounds_like"], second["words"]) == ("B", "carry me")
    assert third["words"] == "evening"


def test_without_a_key_no_authorization_is_sent(server: ModelServer) -> None:
    named(Endpoint(f"{server.url}/v1/", "small-one"))
    assert server.keys == [""]


def test_a_code_fence_around_the_answer_is_removed(server: ModelServer) -> None:
    server.answer = lambda number: f"```json\n{GOOD}\n```"
    assert named(endpoint(server)).sections[0].label == "intro"


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ("I think it is a chorus.", "not JSON"),
        ('["intro", "chorus", "outro"]', "not JSON"),
        ('{"labels": ["intro", "chorus"]}', "3 labels"),
        ('{"labels": ["intro", "refrain", "outro"]}', "must be of intro"),
        ('{"labels": ["intro", ["chorus"], "outro"]}', "must be of intro"),
    ],
)
def test_a_wrong_answer_may_be_corrected_once(server: ModelServer, wrong: str, fault: str) -> None:
    server.answer = lambda number: wrong if number == 1 else GOOD
    assert named(endpoint(server)).sections[0].label == "intro"
    assert server.requests[1]["messages"][2] == {"role": "assistant", "content": wrong}
    assert fault in server.requests[1]["messages"][3]["content"]
    server.answer = lambda number: wrong
    with pytest.raises(LanguageModelError, match=fault) as failure:
        named(endpoint(server))
    assert failure.value.reason == "LANGUAGE_MODEL_ANSWER"


def test_a_busy_endpoint_is_asked_again(server: ModelServer) -> None:
    server.answer = lambda number: web.Response(status=503) if number == 1 else GOOD
    assert named(endpoint(server)).sections[0].label == "intro"
    server.answer = lambda number: web.Response(status=500, text=f"internal: {KEY}")
    before = len(server.requests)
    with pytest.raises(LanguageModelAwayError, match="HTTP 500") as failure:
        named(endpoint(server))
    assert len(server.requests) - before == 3
    assert_silent(failure.value)


@pytest.mark.parametrize(("status", "message"), [(401, "refuses the key"), (404, "is its URL right")])
def test_a_refusal_is_final(server: ModelServer, status: int, message: str) -> None:
    server.answer = lambda number: web.Response(status=status, text=f"wrong key {KEY}")
    with pytest.raises(LanguageModelError, match=message) as failure:
        named(endpoint(server))
    assert not isinstance(failure.value, LanguageModelAwayError)
    assert len(server.requests) == 1
    assert_silent(failure.value)


def test_a_slow_endpoint_times_out(server: ModelServer) -> None:
    server.delay = 30.0
    with pytest.raises(LanguageModelAwayError, match="in time"):
        named(endpoint(server, timeout_seconds=0.2))


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b'{"error": "none"}', b'{"choices": [{"message": {"content": null}}]}', b"[]"]
)
def test_an_invalid_endpoint_is_reported(server: ModelServer, body: bytes) -> None:
    server.answer = lambda number: web.Response(body=body)
    with pytest.raises(LanguageModelError, match="OpenAI's shape"):
        named(endpoint(server))


def test_an_endless_answer_is_cut_off(server: ModelServer) -> None:
    server.answer = lambda number: web.Response(body=b" " * 1_000_001)
    with pytest.raises(LanguageModelError, match="too long"):
        named(endpoint(server))


def test_the_key_is_sent_to_no_other_host(server: ModelServer) -> None:
    with pytest.raises(LanguageModelError, match="HTTP 307"):
        named(Endpoint(f"{server.url}/moved", "small-one", KEY))
    assert server.requests == []
    assert KEY not in repr(endpoint(server))
    assert KEY not in repr(Context(options={"language_model": endpoint(server)}))


@pytest.mark.parametrize(
    "wrong",
    [
        Endpoint("http://127.0.0.1:9", "m", KEY),
        Endpoint("not an address", "m", KEY),
        Endpoint("http://127.0.0.1:9", "m", f"{KEY}\r\nX: y"),
    ],
    ids=["nobody there", "no address", "malformed key"],
)
def test_an_endpoint_that_cannot_be_reached(server: ModelServer, wrong: Endpoint) -> None:
    with pytest.raises(LanguageModelError) as failure:
        named(wrong)
    assert_silent(failure.value)


def test_without_an_endpoint_the_error_says_what_to_set() -> None:
    with pytest.raises(LanguageModelError, match="STEMTUBE_ANALYSIS__LANGUAGE_MODEL__URL") as failure:
        named(None)
    assert failure.value.reason == "LANGUAGE_MODEL_NOT_SET"


def test_one_section_needs_no_name(server: ModelServer) -> None:
    found = LlmStructure().analyze(
        silence(4.0), Context(options={"language_model": endpoint(server)}), lambda done: None
    )
    assert len(found.sections) == 1
    assert server.requests == []


def test_the_settings_of_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(AnalysisSettings).analysis.language_model.endpoint is None
    monkeypatch.setenv("STEMTUBE_ANALYSIS__LANGUAGE_MODEL__URL", "http://127.0.0.1:11434/v1")
    with pytest.raises(SystemExit, match="url and model are set together"):
        load(AnalysisSettings)
    monkeypatch.setenv("STEMTUBE_ANALYSIS__LANGUAGE_MODEL__MODEL", "small-one")
    monkeypatch.setenv("STEMTUBE_SECRETS_DIR", str(tmp_path))
    (tmp_path / "STEMTUBE_ANALYSIS__LANGUAGE_MODEL__API_KEY").write_text(KEY)
    settings = load(AnalysisSettings)
    assert settings.analysis.language_model.endpoint == Endpoint("http://127.0.0.1:11434/v1", "small-one", KEY)
    assert KEY not in repr(settings)
    monkeypatch.setenv("STEMTUBE_ANALYSIS__LANGUAGE_MODEL__URL", "127.0.0.1:11434")
    with pytest.raises(SystemExit, match="LANGUAGE_MODEL__URL"):
        load(AnalysisSettings)


def assert_silent(error: BaseException) -> None:
    """Neither the error nor its cause contains the key."""
    while error:
        assert KEY not in str(error)
        error = error.__cause__  # type: ignore[assignment]
