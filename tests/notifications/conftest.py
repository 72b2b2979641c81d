"""The stage of the behaviour tests, and an application beside it that is told of tasks."""

from collections.abc import AsyncIterator

import pytest

from tests.behaviour.conftest import anyio_backend, stage
from tests.notifications.receiver import Receiver

__all__ = ["anyio_backend", "application", "stage"]


@pytest.fixture
async def application() -> AsyncIterator[Receiver]:
    async with Receiver().serving() as receiver:
        yield receiver
