"""What tests everywhere may ask for."""

import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.torture.harness import Torture

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs us in the background has it ignored, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def torture(request: pytest.FixtureRequest) -> Torture:
    """The size, seed and notebook of a row of the torture bench."""
    properties: list[tuple[str, object]] = request.node.user_properties
    return Torture.of(lambda name, value: properties.append((name, value)))
