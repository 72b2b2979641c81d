"""A timeout counts the time in which the process runs: what came while it was suspended is still read."""

import asyncio
import time
from collections.abc import Callable

import pytest

from receiver.outbound.active_timeout import TICK, active_timeout
from tests.measuring import LOOP, Stopwatch, move_on

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return LOOP


async def over_after(seconds: float, then: Callable[[], object]) -> bool:
    """Whether a timeout is over once `then` was done and everything that it made due has happened."""
    waiting = asyncio.create_task(_wait(seconds))
    await asyncio.sleep(0)
    then()
    for _ in range(1500):
        await asyncio.sleep(0)
    ended = waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return ended


async def _wait(seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with active_timeout(seconds):
            await asyncio.Event().wait()


@pytest.mark.parametrize("seconds", [0.05, 0.3, 1, 30])
async def test_it_is_over_when_its_time_has_passed_and_not_before(seconds: float) -> None:
    assert await over_after(seconds, lambda: move_on(seconds + 40 * TICK))
    assert not await over_after(seconds + 60, lambda: move_on(seconds))


async def test_it_really_takes_its_time() -> None:
    watch = Stopwatch()
    await _wait(0.6)
    assert watch.read().at_least(0.6)


async def test_the_time_of_a_suspended_process_does_not_count() -> None:
    assert not await over_after(2, lambda: time.sleep(3))


async def test_what_was_answered_while_it_was_suspended_is_read() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    async with active_timeout(0.5):
        time.sleep(1)  # nothing of this process runs  # noqa: ASYNC251
        for byte in b"here":
            assert await reader.readexactly(1) == bytes([byte])
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_what_ends_in_time_leaves_nothing_behind() -> None:
    async with active_timeout(1):
        await asyncio.sleep(0)
    move_on(5)
    for _ in range(50):
        await asyncio.sleep(0)


async def test_another_error_passes_through() -> None:
    with pytest.raises(KeyError):
        async with active_timeout(1):
            raise KeyError
