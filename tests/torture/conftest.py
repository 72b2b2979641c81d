"""What the rows with a live service ask for."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
