"""How outgoing connections are made: a name is looked up once at a time, on a thread that nobody has to wait for.

`transport` connects by it. asyncio's own lookups share a few threads with everything else in the process, and cannot
be called off: a single name whose servers keep silent would hold up all providers, and the end of the process.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpcore

LookUp = Callable[[str, int], Sequence[str]]
"""Finds the addresses of a name; may take its time, and raises `OSError` or `UnicodeError`."""

HEAD_START = 0.25
"""Seconds that each of a name's addresses is tried alone, before the next one is tried beside it."""


def look_up(host: str, port: int) -> Sequence[str]:
    """Ask the system for a name's addresses, the best first."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Network(httpcore.AsyncNetworkBackend):
    """Connects to hosts by name or address, for all accounts."""

    def __init__(self, look_up: LookUp = look_up) -> None:
        self._look_up = look_up
        self._sockets = httpcore.AnyIOBackend()
        self._asked: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Look the host up and connect to the first of its addresses that answers, all in all within the timeout."""

        def connect(address: str) -> Awaitable[httpcore.AsyncNetworkStream]:
            return self._sockets.connect_tcp(address, port, timeout, local_address, socket_options)

        try:
            async with asyncio.timeout(timeout):
                return await _first(connect, [host] if _is_address(host) else await self._addresses(host, port))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("nobody answered in time") from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error

    async def sleep(self, seconds: float) -> None:
        """Wait; httpcore asks for it between its retries, of which there are none."""
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        """Wait for the lookup of a name that is under way, or begin one."""
        asked = self._asked.get((host, port))
        if asked is None:
            loop = asyncio.get_running_loop()
            asked = self._asked[host, port] = loop.create_future()
            # A thread of a pool would be waited for when the process ends.
            threading.Thread(target=self._ask, args=(loop, host, port), name=f"lookup {host}", daemon=True).start()
        return await asyncio.shield(asked)  # others may be waiting for it, too

    def _ask(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        found: Sequence[str] | Exception
        try:
            found = self._look_up(host, port)
        except Exception as error:  # noqa: BLE001 - handed to those who wait; they would wait for ever
            found = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._answer, host, port, found)

    def _answer(self, host: str, port: int, found: Sequence[str] | Exception) -> None:
        asked = self._asked.pop((host, port))
        if isinstance(found, Exception):
            asked.set_exception(found)
            asked.exception()  # those who waited may be gone
        else:
            asked.set_result(found)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _first(
    connect: Callable[[str], Awaitable[httpcore.AsyncNetworkStream]], addresses: Sequence[str]
) -> httpcore.AsyncNetworkStream:
    """Connect to the first address that answers; raises the last one's error where none does."""
    if len(addresses) == 1:
        return await connect(addresses[0])
    left: list[str] = list(addresses)
    tries: list[asyncio.Task[httpcore.AsyncNetworkStream]] = []
    running: set[asyncio.Task[httpcore.AsyncNetworkStream]] = set()
    won: asyncio.Task[httpcore.AsyncNetworkStream] | None = None
    fault: BaseException = OSError("the name has no address")
    try:
        while won is None and (left or running):
            if left:
                tries.append(asyncio.ensure_future(connect(left.pop(0))))
                running.add(tries[-1])
            done, running = await asyncio.wait(
                running, timeout=HEAD_START if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for ended in done:
                if (error := ended.exception()) is None:
                    won = ended
                else:
                    fault = error
    finally:
        await _give_up([one for one in tries if one is not won])
    if won is None:
        raise fault
    return won.result()


async def _give_up(tries: Iterable[asyncio.Task[httpcore.AsyncNetworkStream]]) -> None:
    """End tries that nobody needs, and close what they brought all the same."""
    for one in tries:
        one.cancel()
    for brought in await asyncio.gather(*tries, return_exceptions=True):
        if isinstance(brought, httpcore.AsyncNetworkStream):
            await brought.aclose()
