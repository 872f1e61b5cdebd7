"""Makes headers of responses safe, whatever stored text they contain."""

from aiohttp import web


def is_header_text(text: str) -> bool:
    """Whether a text can be a header's value unchanged: printable ASCII."""
    return text.isascii() and text.isprintable()


async def make_safe(_request: web.Request, response: web.StreamResponse) -> None:
    """Replaces characters that are not allowed in headers; a line break would begin another header, or fail.

    It must be the last signal before a response's head is written.
    """
    if all(is_header_text(value) for value in response.headers.values()):
        return
    headers = [(name, _safe(value)) for name, value in response.headers.items()]
    response.headers.clear()
    response.headers.extend(headers)


def _safe(text: str) -> str:
    return "".join(character if is_header_text(character) else "?" for character in text)
