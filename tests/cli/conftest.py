"""One running service for each module, and a home where nothing runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .rig import QUICK, Home, Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A sandbox service with short times."""
    with serving(Home(tmp_path_factory.mktemp("served"), dict(QUICK))) as served:
        yield served


@pytest.fixture
def home(served: Served) -> Home:
    """The home of the running service."""
    return served.home


@pytest.fixture
def empty(tmp_path: Path) -> Home:
    """A home where nothing was ever run."""
    return Home(tmp_path)
