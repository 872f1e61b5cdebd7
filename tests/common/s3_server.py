"""A small S3 server in memory: the part of the REST protocol that object storage needs, for tests without a cloud."""

import asyncio
import functools
import hashlib
import itertools
import xml.etree.ElementTree as ET
from email.utils import formatdate
from xml.sax.saxutils import escape

from aiohttp import web


class S3Server:
    """One bucket; tests can inspect `objects` and the parts of unfinished `uploads`.

    Attributes:
        received_bytes: total size of received objects and parts, without copies within the bucket.
        sent_bytes: total size of sent objects.
        slow_seconds: how long it takes to store an object or a part.
        most_at_once: largest number of objects and parts that were being stored at the same time.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.content_types: dict[str, str] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[str] = []
        self.received_bytes = 0
        self.sent_bytes = 0
        self.slow_seconds = 0.0
        self.most_at_once = 0
        self._at_once = 0
        self._ids = itertools.count(1)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{bucket}", self._bucket)
        app.router.add_route("*", "/{bucket}/{key:.*}", self._object)
        return app

    async def _bucket(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and "delete" in request.query:
            root = ET.fromstring(await request.text())
            keys = [element.text or "" for element in root.iter() if element.tag.endswith("Key")]
            for key in keys:
                self.objects.pop(key, None)
            deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
            return xml(f"<DeleteResult>{deleted}</DeleteResult>")
        prefix = request.query.get("prefix", "")
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>{escape(etag(data))}</ETag>"
            "<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
            for key, data in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return xml(f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>")

    async def _object(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        if not key:
            return await self._bucket(request)
        self.requests.append(f"{request.method} {request.query_string.split('=')[0]}".strip())
        answer: web.StreamResponse = await getattr(self, f"_{request.method.lower()}")(request, key)
        return answer

    async def _put(self, request: web.Request, key: str) -> web.StreamResponse:
        if source := request.headers.get("x-amz-copy-source"):
            data = self.objects.get(source.lstrip("/").split("/", 1)[1])
            if data is None:
                return missing()
            self.objects[key] = data
            return xml(f"<CopyObjectResult><ETag>{escape(etag(data))}</ETag></CopyObjectResult>")
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        data = await request.read()
        await asyncio.sleep(self.slow_seconds)
        self._at_once -= 1
        self.received_bytes += len(data)
        if upload := request.query.get("uploadId"):
            self.uploads[upload][int(request.query["partNumber"])] = data
        else:
            self._store(key, data, request)
        return web.Response(headers={"ETag": etag(data)})

    def _store(self, key: str, data: bytes, request: web.Request) -> None:
        self.objects[key] = data
        self.content_types[key] = request.headers.get("Content-Type", "")

    async def _post(self, request: web.Request, key: str) -> web.StreamResponse:
        if "uploads" in request.query:
            upload = str(next(self._ids))
            self.uploads[upload] = {}
            self.content_types[key] = request.headers.get("Content-Type", "")
            return xml(f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")
        parts = self.uploads.pop(request.query["uploadId"])
        data = b"".join(parts[number] for number in sorted(parts))
        self.objects[key] = data
        return xml(f"<CompleteMultipartUploadResult><ETag>{escape(etag(data))}</ETag></CompleteMultipartUploadResult>")

    async def _delete(self, request: web.Request, key: str) -> web.StreamResponse:
        if upload := request.query.get("uploadId"):
            self.uploads.pop(upload, None)
        else:
            self.objects.pop(key, None)
        return web.Response(status=204)

    async def _head(self, request: web.Request, key: str) -> web.StreamResponse:
        response = await self._get(request, key)
        response.headers["Content-Length"] = str(len(self.objects.get(key, b"")))
        return response

    async def _get(self, request: web.Request, key: str) -> web.StreamResponse:
        data = self.objects.get(key)
        if data is None:
            return missing()
        headers = {"ETag": etag(data), "Last-Modified": formatdate(0, usegmt=True)}
        if request.headers.get("If-Match", etag(data)) != etag(data):
            return web.Response(status=412)
        asked = request.http_range
        piece = data[asked.start : asked.stop]
        if request.method == "GET":
            self.sent_bytes += len(piece)
        if asked.start is None:
            return web.Response(body=data, headers=headers)
        last = asked.start + len(piece) - 1
        return web.Response(
            status=206, body=piece, headers={**headers, "Content-Range": f"bytes {asked.start}-{last}/{len(data)}"}
        )


@functools.lru_cache(maxsize=16)  # an object is asked for in many pieces
def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def xml(body: str) -> web.Response:
    return web.Response(text=f'<?xml version="1.0" encoding="UTF-8"?>{body}', content_type="application/xml")


def missing() -> web.Response:
    return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>", content_type="application/xml")
