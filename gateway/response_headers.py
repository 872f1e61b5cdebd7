"""Headers of responses that are safe with any stored text in them."""

from aiohttp import web


def is_header_text(text: str) -> bool:
    """Whether it can be a header's value as it is: printable ASCII."""
    return text.isascii() and text.isprintable()


async def make_safe(_request: web.Request, response: web.StreamResponse) -> None:
    """Replaces in every header what no header may have: a line break there begins another header, or fails.

    The last signal before a response's head is written.
    """
    if all(is_header_text(value) for value in response.headers.values()):
        return
    headers = [(name, _safe(value)) for name, value in response.headers.items()]
    response.headers.clear()
    response.headers.extend(headers)


def _safe(text: str) -> str:
    return "".join(character if is_header_text(character) else "?" for character in text)
