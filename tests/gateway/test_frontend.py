"""The page as the gateway serves it: what was built, or a notice."""

from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.frontend import routes


async def _client(folder: Path) -> TestClient[web.Request, web.Application]:
    app = web.Application()
    app.add_routes(routes(folder))
    client = TestClient(TestServer(app))
    await client.start_server()
    return client


async def test_every_view_is_the_same_document_with_a_strict_policy(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<title>the page</title>")
    (tmp_path / "icon.svg").write_text("<svg/>")
    (tmp_path / "sw.js").write_text("1")
    (tmp_path / "assets" / "index-abc.js").write_text("1")
    client = await _client(tmp_path)
    try:
        for view in ("/", "/songs/some-track", "/account", "/admin", "/admin/logs", "/register"):
            answer = await client.get(view)
            assert "the page" in await answer.text()
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe-inline" not in policy
        script = await client.get("/assets/index-abc.js")
        assert script.content_type.endswith("/javascript")  # differs between Python 3.11 and 3.12
        assert "immutable" in script.headers["Cache-Control"]
        assert (await client.get("/icon.svg")).headers["Cache-Control"] == "no-cache"
        worker = await client.get("/sw.js")  # it fetches by its own policy, and a new one must take effect at once
        assert "connect-src 'self'" in worker.headers["Content-Security-Policy"]
        assert worker.headers["Cache-Control"] == "no-cache"
        assert (await client.get("/assets/../index.html")).status == 404
        assert (await client.get("/assets/..%2findex.html")).status == 404
    finally:
        await client.close()


async def test_without_a_built_page_a_notice_says_how_to_build_it(tmp_path: Path) -> None:
    client = await _client(tmp_path)
    try:
        text = await (await client.get("/")).text()
        assert "make page" in text
        assert (await client.get("/songs/some-track")).status == 404
    finally:
        await client.close()
