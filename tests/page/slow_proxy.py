"""A TCP proxy whose connections a test can slow down or break."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

PIECE_BYTES = 8192


class SlowProxy:
    """Forwards TCP connections; it can slow down what clients send, and cut connections.

    Attributes:
        url: where it listens.
        bytes_per_second: the rate at which each client can send; 0 for no limit.
        broken: whether new connections are cut at once.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.bytes_per_second = 0
        self.broken = False

    def break_off(self) -> None:
        """Cuts all connections; new ones are cut at once until `broken` is reset."""
        self.broken = True

        def cut() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._loop.call_soon_threadsafe(cut)

    @contextlib.contextmanager
    def running(self) -> Iterator["SlowProxy"]:
        """Listens while the context lasts; in a thread, because the caller's may already have an event loop."""
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._close(server), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    async def _listen(self) -> asyncio.Server:
        listener = socket.socket()
        # Bytes in buffers count as sent, as a browser sees it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE_BYTES)
        listener.bind(("127.0.0.1", 0))
        return await asyncio.start_server(self._serve, sock=listener, limit=PIECE_BYTES)

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.broken:
            writer.transport.abort()
            return
        answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, requests}
        try:
            await asyncio.gather(self._pass(reader, requests, slow=True), self._pass(answers, writer, slow=False))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, requests):
                each.transport.abort()
                self._writers.discard(each)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool) -> None:
        while data := await reader.read(PIECE_BYTES):
            writer.write(data)
            await writer.drain()
            if slow and self.bytes_per_second:
                await asyncio.sleep(len(data) / self.bytes_per_second)
        writer.transport.abort()
