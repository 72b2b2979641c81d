"""Both clients, and a service that does as it is told."""

from collections.abc import Iterator

import pytest

from receiver.client import AsyncClient, Client

from .rig import Either, Fake, answer, in_turn


@pytest.fixture(params=[Client, AsyncClient], ids=["blocking", "awaited"])
def call(request: pytest.FixtureRequest) -> Either:
    """Each of the two clients."""
    return Either(request.param)


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A running service that answers everything with one task."""
    with Fake(in_turn(answer())).serving() as fake:
        yield fake
