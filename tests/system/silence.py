"""A proxy before a TCP server that can fall silent: it takes everything, passes nothing on, and resets nobody."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Proxy:
    """Passes bytes on in both directions, as long as it is not told otherwise."""

    def __init__(self, port: int) -> None:
        self.port = 0
        """Where it listens."""
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._speaking = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    def fall_silent(self) -> None:
        """From now on pass nothing on, until it may speak again; returns when it is so."""
        self._tell(self._speaking.clear)

    def speak(self) -> None:
        """Pass on what was held back, and whatever comes."""
        self._tell(self._speaking.set)

    def _tell(self, change: Callable[[], None]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(change)
        self._loop.call_soon_threadsafe(done.set)
        done.wait()

    def run(self, started: threading.Event, ended: asyncio.Event) -> None:
        """Serve on this thread until told to end."""

        async def serve() -> None:
            self._speaking.set()
            server = await asyncio.start_server(self._take, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await ended.wait()
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._loop.run_until_complete(serve())
        self._loop.close()

    def end(self, ended: asyncio.Event) -> None:
        self._loop.call_soon_threadsafe(ended.set)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
            with contextlib.closing(writer), contextlib.closing(back):
                await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self._speaking.wait()
            writer.write(data)
            await writer.drain()
        await self._speaking.wait()  # nor does it tell that somebody has hung up
        writer.close()


@contextlib.contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """Run a proxy before a port, on a thread of its own."""
    made, started, ended = Proxy(port), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=made.run, args=[started, ended])
    thread.start()
    started.wait()
    try:
        yield made
    finally:
        made.end(ended)
        thread.join()
