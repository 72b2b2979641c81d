"""The sandbox served over real HTTP with short times, and the same without a network on a clock that stands still."""

from collections.abc import AsyncIterator

import pytest

from receiver.sandbox.app import Sandbox
from tests.measuring import LOOP, move_on

from .rig import Buyer, Rig, Stage, staged, unserved


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return LOOP


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

    def move_on(self, seconds: float) -> None:
        """Let time pass, also for whoever sleeps."""
        self.now += seconds
        move_on(seconds)


@pytest.fixture
async def slow(stage: Stage, clock: Clock) -> AsyncIterator[Rig]:
    """The same with long times, on the standing clock: what is to come late comes when a test says so."""
    async with stage.playing(Sandbox(late_by=60, retry_factor=0.01, clock=clock)) as rig:
        yield rig


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def shop(clock: Clock) -> AsyncIterator[Buyer]:
    """The sandbox without network and without callbacks, on the standing clock: for the shapes on the wire."""
    async with unserved(Sandbox(clock=clock)) as shop:
        yield shop
