"""The sandbox served over real HTTP with short times, and the same without a network on a clock that stands still."""

from collections.abc import AsyncIterator

import pytest

from receiver.sandbox.app import Sandbox

from .rig import Buyer, Rig, Stage, staged, unserved


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


@pytest.fixture
async def rig(stage: Stage) -> AsyncIterator[Rig]:
    async with stage.playing(Sandbox(late_by=0.4, retry_factor=0.01)) as rig:
        yield rig


class Clock:
    """Epoch seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1757584164.49

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def shop(clock: Clock) -> AsyncIterator[Buyer]:
    """The sandbox without network and without callbacks, on the standing clock: for the shapes on the wire."""
    async with unserved(Sandbox(clock=clock)) as shop:
        yield shop
