"""Serves the page, built from `page/` into `gateway/web`: static files, and one document for all views."""

from pathlib import Path

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from gateway import pages

log = structlog.get_logger(__name__)

BUILT = Path(__file__).parent / "web"
POLICY = "; ".join(
    (
        "default-src 'none'",
        # For WebAssembly, which changes the tempo without the pitch.
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
# Their names change with their content.
ASSET_CACHING = "public, max-age=31536000, immutable"
# The addresses of the page's views.
VIEWS = ("/", "/songs/{track_id}", "/account", "/admin", "/admin/{section}", "/register")
# The service worker fetches for the page under its own policy. Its caching header decides when browsers see a new one.
WORKER = "sw.js"


def routes(folder: Path = BUILT) -> list[web.RouteDef]:
    """Routes of the page built in `folder`, or of a notice if it has not been built."""
    if not (folder / "index.html").is_file():
        log.warning("the page is not built: `make page` builds it; the API works without", folder=str(folder))
        return [web.get("/", _notice)]
    document = _file(folder / "index.html", {hdrs.CACHE_CONTROL: "no-cache", "Content-Security-Policy": POLICY})
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "index.html")
    return [
        *(web.get(view, document) for view in VIEWS),
        *(web.get(f"/{path.relative_to(folder).as_posix()}", _file(path, _headers(path))) for path in files),
    ]


async def _notice(_request: web.Request) -> web.Response:
    return pages.page_response(pages.start_page())


def _headers(path: Path) -> dict[str, str]:
    headers: dict[str, str] = {hdrs.CACHE_CONTROL: ASSET_CACHING if path.parent.name == "assets" else "no-cache"}
    if path.name == WORKER:
        headers["Content-Security-Policy"] = POLICY
    return headers


def _file(path: Path, headers: dict[str, str]) -> Handler:
    async def serve(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers=headers)

    return serve
