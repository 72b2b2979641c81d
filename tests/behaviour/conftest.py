"""The stage of every test here: one scripted provider, one clock, one directory, one empty database to begin with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.behaviour.provider import Provider
from tests.behaviour.service import Service, Stage, staged
from tests.measuring import LOOP


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return LOOP


@pytest.fixture
async def stage(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path, tmp_path_factory) as stage:
        yield stage


@pytest.fixture
def provider(stage: Stage) -> Provider:
    return stage.provider


@pytest.fixture
async def service(stage: Stage) -> AsyncIterator[Service]:
    """A service with the default settings, but for its poller: sweeps are asked for."""
    async with stage.serve() as service:
        yield service
