"""Makes outgoing connections; each host name is resolved on a thread of its own that nothing has to wait for.

`transport` connects with it. asyncio's own lookups share a few threads with the whole process and cannot be cancelled:
one name whose servers do not answer would block all providers, and the end of the process.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpcore

Resolve = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a name; may block, and raises `OSError` or `UnicodeError`."""

ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried as well (RFC 8305's Connection Attempt Delay)."""


def resolve(host: str, port: int) -> Sequence[str]:
    """Return a name's addresses, the system's preferred one first."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Network(httpcore.AsyncNetworkBackend):
    """Connects to hosts by name or address; shared by all accounts."""

    def __init__(self, resolve: Resolve = resolve) -> None:
        self._resolve = resolve
        self._sockets = httpcore.AnyIOBackend()
        self._lookups: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return a connection to the first of the host's addresses that answers, within the timeout."""

        def connect(address: str) -> Awaitable[httpcore.AsyncNetworkStream]:
            return self._sockets.connect_tcp(address, port, timeout, local_address, socket_options)

        try:
            async with asyncio.timeout(timeout):
                return await _race(connect, await self.addresses(host, port))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("no answer in time") from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host, in the order in which they are tried."""
        return [host] if _is_address(host) else await self._resolve_once(host, port)

    async def sleep(self, seconds: float) -> None:
        """Wait, as httpcore's interface requires; it would between retries, of which there are none."""
        await asyncio.sleep(seconds)

    async def _resolve_once(self, host: str, port: int) -> Sequence[str]:
        """Return a name's addresses, from the lookup that is under way or a new one."""
        lookup = self._lookups.get((host, port))
        if lookup is None:
            loop = asyncio.get_running_loop()
            lookup = self._lookups[host, port] = loop.create_future()
            # Not a pool: the process would wait for its threads before it ends.
            threading.Thread(
                target=self._run_lookup, args=(loop, host, port), name=f"lookup {host}", daemon=True
            ).start()
        return await asyncio.shield(lookup)  # others may be waiting for it, too

    def _run_lookup(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        found: Sequence[str] | Exception
        try:
            found = self._resolve(host, port)
        except Exception as error:  # noqa: BLE001 - passed on to the waiting callers
            found = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._finish_lookup, host, port, found)

    def _finish_lookup(self, host: str, port: int, found: Sequence[str] | Exception) -> None:
        lookup = self._lookups.pop((host, port))
        if isinstance(found, Exception):
            lookup.set_exception(found)
            lookup.exception()  # mark it as retrieved: every caller may be gone
        else:
            lookup.set_result(found)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _race(
    connect: Callable[[str], Awaitable[httpcore.AsyncNetworkStream]], addresses: Sequence[str]
) -> httpcore.AsyncNetworkStream:
    """Return a connection to the first address that answers. Raises the last error if none does."""
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
                running, timeout=ATTEMPT_DELAY if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for ended in done:
                if (error := ended.exception()) is None:
                    won = ended
                else:
                    fault = error
    finally:
        await _cancel_all([one for one in tries if one is not won])
    if won is None:
        raise fault
    return won.result()


async def _cancel_all(tries: Iterable[asyncio.Task[httpcore.AsyncNetworkStream]]) -> None:
    """Cancel connection attempts, and close the connections of those that succeeded."""
    for one in tries:
        one.cancel()
    for brought in await asyncio.gather(*tries, return_exceptions=True):
        if isinstance(brought, httpcore.AsyncNetworkStream):
            await brought.aclose()
