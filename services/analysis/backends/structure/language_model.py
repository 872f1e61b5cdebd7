"""A client of language models with OpenAI's chat-completions API: OpenAI's service, or a server on this machine."""

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from services.analysis.backends.base import Endpoint, UnusableError
from services.common.errors import Code

# Waits between tries.
_WAITS_SECONDS = (0.5, 1.0)
_MOST_BYTES = 1_000_000
# HTTP statuses that a second try may avoid.
_PASSING = (408, 409, 429, 500, 502, 503, 504)
_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)


class LanguageModelError(UnusableError):
    """The endpoint is not set, refuses the request, or answers what it was not asked for."""

    reason = "LANGUAGE_MODEL_REFUSED"


class LanguageModelAwayError(LanguageModelError):
    """The endpoint does not answer now; it may answer later."""

    code = Code.UNAVAILABLE
    reason = "LANGUAGE_MODEL_AWAY"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


def ask(endpoint: Endpoint, messages: list[Message]) -> str:
    """The model's answer. Tries again, within the time limit, if the endpoint is away or busy.

    Raises:
        LanguageModelAwayError: there was no answer in time.
        LanguageModelError: the endpoint refuses (wrong key, model or address), or has another API.
    """
    deadline = time.monotonic() + endpoint.timeout_seconds
    waits = iter(_WAITS_SECONDS)
    while True:
        try:
            return _content(asyncio.run(_post(endpoint, messages, deadline - time.monotonic())))
        except LanguageModelAwayError:
            wait = next(waits, None)
            if wait is None or time.monotonic() + wait >= deadline:
                raise
            time.sleep(wait)


def parse_json(answer: str) -> Any:
    """Parses an answer as JSON; removes a Markdown fence, which many models add.

    Raises:
        ValueError: it is not JSON.
    """
    fenced = _FENCE.match(answer.strip())
    return json.loads(fenced[1] if fenced else answer)


async def _post(endpoint: Endpoint, messages: list[Message], seconds: float) -> bytes:
    body = {
        "model": endpoint.model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "temperature": 0,
    }
    headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            # No redirects: the key is meant only for this address.
            session.post(_address(endpoint), json=body, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise _refusal(response.status)
            return await _body(response)
    except TimeoutError as error:
        raise LanguageModelAwayError("The language model did not answer in time.") from error
    # Below, causes are not chained, because their texts could contain the key.
    except (aiohttp.InvalidURL, ValueError):
        raise LanguageModelError("The language model's address or key is malformed.") from None
    except aiohttp.ClientError:
        raise LanguageModelAwayError("The language model cannot be reached.") from None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise LanguageModelError("The language model's answer is too long.", "LANGUAGE_MODEL_ANSWER")
    return body


def _address(endpoint: Endpoint) -> str:
    return f"{endpoint.url.rstrip('/')}/chat/completions"


def _refusal(status: int) -> LanguageModelError:
    if status in _PASSING:
        return LanguageModelAwayError(f"The language model's endpoint is away or busy (HTTP {status}).")
    if status in (401, 403):
        return LanguageModelError(f"The language model's endpoint refuses the key (HTTP {status}).")
    return LanguageModelError(f"The language model's endpoint refuses the request (HTTP {status}): is its URL right?")


def _content(body: bytes) -> str:
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        content = None
    if not isinstance(content, str):
        raise LanguageModelError(
            "The language model's endpoint does not answer in OpenAI's shape.", "LANGUAGE_MODEL_ANSWER"
        )
    return content
