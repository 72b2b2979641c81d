"""The pages over a migrated database, with a browser that is logged in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from receiver.store.schema import migrate
from tests.web.site import REAL, Site, opened


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate a database once; every test gets a copy."""
    file = tmp_path_factory.mktemp("pages") / "empty.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
async def site(empty: Path, tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(empty, tmp_path, {}) as site:
        yield site


@pytest.fixture
async def real(empty: Path, tmp_path: Path) -> AsyncIterator[Site]:
    """With a provider's key, and a path in the public URL."""
    async with opened(empty, tmp_path, REAL) as site:
        yield site
