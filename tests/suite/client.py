"""A client that works as a page in a browser does: by HTTP and WebSocket only."""

import asyncio
import json
from pathlib import Path
from typing import Any, Self

import aiohttp

from services.common.jobs.states import FINISHED_JSON_NAMES

Json = dict[str, Any]


class Client:
    def __init__(self, url: str) -> None:
        self._session = aiohttp.ClientSession(base_url=url, timeout=aiohttp.ClientTimeout(total=120))
        self.token = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._session.close()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def sign_in(self, username: str, password: str) -> None:
        status, answer = await self.call("POST", "/auth/login", json={"username": username, "password": password})
        assert status == 200, answer
        self.token = answer["accessToken"]

    async def call(
        self, method: str, path: str, headers: dict[str, str] | None = None, **arguments: Any
    ) -> tuple[int, Json]:
        all_headers = (self.headers if self.token else {}) | (headers or {})
        async with self._session.request(method, f"/api/v1{path}", headers=all_headers, **arguments) as answer:
            return answer.status, await answer.json() if answer.content_type == "application/json" else {}

    async def begin_upload(self, headers: dict[str, str]) -> str:
        """Begins an upload by tus; returns its id."""
        async with self._session.post("/api/v1/uploads", headers=self.headers | headers) as answer:
            assert answer.status == 201, await answer.text()
            return answer.headers["Location"].rpartition("/")[2]

    async def get(self, path: str) -> Json:
        status, answer = await self.call("GET", path)
        assert status == 200, answer
        return answer

    async def bytes(self, path: str, **headers: str) -> tuple[int, bytes, Any]:
        async with self._session.get(f"/api/v1{path}", headers=self.headers | headers) as answer:
            return answer.status, await answer.read(), answer.headers

    async def upload(self, path: Path, options: Json | None = None) -> tuple[int, Json]:
        form = aiohttp.FormData(quote_fields=False)  # as browsers do
        if options is not None:
            form.add_field("options", json.dumps(options))
        with path.open("rb") as file:
            form.add_field("file", file, filename=path.name)
            return await self.call("POST", "/tracks/upload", data=form)

    async def uploaded(self, path: Path, options: Json | None = None) -> Json:
        status, answer = await self.upload(path, options)
        assert status == 200, answer
        return answer

    async def end_of(self, job_id: str, seconds: float = 150) -> Json:
        """Follows a job on its WebSocket until it ends."""
        async with asyncio.timeout(seconds):
            while True:
                async with self.watch(job_id) as socket:
                    async for message in socket:
                        job: Json = json.loads(message.data)["job"]
                        if job["job"]["state"] in FINISHED_JSON_NAMES:
                            return job
                await asyncio.sleep(0.2)

    def watch(self, job_id: str) -> Any:
        return self._session.ws_connect(f"/api/v1/jobs/{job_id}/watch", headers=self.headers)

    def events(self) -> Any:
        return self._session.ws_connect("/api/v1/events", headers=self.headers)


def reason(answer: Json) -> str:
    return str(answer["details"][0]["reason"])


def states(job: Json) -> dict[str, str]:
    return {part["name"]: part["state"].removeprefix("JOB_STATE_").lower() for part in job["parts"]}


def part_of(job: Json, name: str) -> Json:
    part: Json = next(part for part in job["parts"] if part["name"] == name)
    return part


async def until_part(client: Client, job_id: str, name: str, stage: str, progress: float = 0.1) -> None:
    """Waits until a part is in a stage and its own progress is beyond `progress`."""
    async with asyncio.timeout(60):
        while True:
            part = part_of((await client.get(f"/jobs/{job_id}"))["job"], name)
            if part["stage"] == stage and part["progress"] > progress:
                return
            assert part["state"] not in FINISHED_JSON_NAMES, f"{name} was too quick to be caught"
            await asyncio.sleep(0.05)


async def patient_end(client: Client, job_id: str) -> Json:
    """Follows a job as a page does: reconnects when the connection breaks."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await client.end_of(job_id)
            except OSError:
                await asyncio.sleep(0.3)
