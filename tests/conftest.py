"""What tests everywhere may ask for."""

import gc
import signal
from collections.abc import Generator, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests import skips
from tests.torture.harness import Torture

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs us in the background has it ignored, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.disable()  # until all tests are collected: there is no garbage before, only ever more modules to look at

LONGEST_FIRST = (
    "test_interleavings.py",
    "test_every_trouble_at_once.py",
    "test_liveness.py",
    "torture",
    "system",
    "cli",
)
"""Files and folders whose tests take longest: begun last, one of them would keep the others waiting at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; within a file the order stays."""

    def rank(item: pytest.Item) -> int:
        return next((place for place, name in enumerate(LONGEST_FIRST) if name in item.path.parts), len(LONGEST_FIRST))

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Collect garbage from now on, and none among the modules, which stay."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def default_log() -> Iterator[None]:
    """Undo the log that a command of ours has set up in this process: others look at what is written by default."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


@pytest.fixture
def torture(request: pytest.FixtureRequest) -> Torture:
    """The size, seed and notebook of a row of the torture bench."""
    properties: list[tuple[str, object]] = request.node.user_properties
    return Torture.of(lambda name, value: properties.append((name, value)))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Print, below everything but the counts, what was skipped and how to run it."""
    yield
    reports = terminalreporter.stats.get("skipped", [])
    for line in skips.summary(str(report.longrepr[2]) for report in reports):
        terminalreporter.write_line(line)
