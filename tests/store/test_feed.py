"""The feed of changes on SQLite: numbers in the order of commits, the latest change of each task, nothing lost."""

from collections.abc import Awaitable, Callable

import pytest

from receiver.store import Store

from . import feeding

pytestmark = [pytest.mark.anyio, pytest.mark.row("B16")]


@pytest.mark.parametrize("holds", feeding.ALL, ids=lambda each: each.__name__.removeprefix("assert_"))
async def test_the_feed_holds(store: Store, holds: Callable[[Store], Awaitable[None]]) -> None:
    await holds(store)
