"""What tests everywhere may ask for."""

import pytest

from tests.torture.harness import Torture


@pytest.fixture
def torture(request: pytest.FixtureRequest) -> Torture:
    """The size, seed and notebook of a row of the torture bench."""
    properties: list[tuple[str, object]] = request.node.user_properties
    return Torture.of(lambda name, value: properties.append((name, value)))
