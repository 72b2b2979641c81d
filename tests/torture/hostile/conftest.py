"""One live service for all rows with hostile input, and what is looked at after each of them."""

from collections.abc import Iterator

import pytest

from tests.torture.hostile.live import CALLING_BACK, Live, live

IDLE_AND = 80_000_000
"""Bytes that it may have more than when it is idle, whatever is sent (I9): 8 MB of bodies and 16 MB of heads that are
still coming, histories of 1 MB and answers that nobody reads, what the sockets of hundreds of senders hold while the
machine is busy, and what the allocator keeps of all of that."""


@pytest.fixture(scope="package")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("hostile")) as made:
        for family in CALLING_BACK:
            target = made.target(family)
            made.deliver(target.path, b"[")
            made.deliveries(target.task_id)
        made.idle = made.memory()
        yield made


@pytest.fixture(autouse=True)
def little_memory(serving: Live) -> Iterator[None]:
    """Hold it to its memory, whatever a test here sends."""
    serving.forget_memory()
    yield
    above = serving.most_memory() - serving.idle
    assert above <= IDLE_AND, f"{above / 1e6:.0f} MB above idle"
