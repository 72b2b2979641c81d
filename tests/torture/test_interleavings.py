"""Whatever the order in which claimants of one submission take their steps, it is bought once at most."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from receiver.config.settings import Settings
from receiver.core.states import State
from receiver.providers import CONFIG_TYPES
from receiver.services import Services
from receiver.store import schema
from tests.behaviour.families import GATEWAY, RIVYA, Family
from tests.store.rig import task_row
from tests.torture.harness import Torture
from tests.torture.interleavings import ANSWERS, LEASE_OVER, NOW, TASK_ID, Explorer, World

KEYED = ("accepted", "timeout", "lost")
"""Answers that the suite tries of a family that supports keys: one that is known, and those that are repeated."""
TWO_AND_A_FAULT = partial(Explorer, who=("first", "sweep"), leases=1, faults=1, stops=0)
TWO_AND_A_STOP = partial(Explorer, who=("first", "sweep"), leases=1, faults=0, stops=1)
TWO_AND_ALL = partial(Explorer, who=("first", "sweep"), leases=2, faults=1, stops=1)
THREE = partial(Explorer, who=("first", "sweep", "start"), leases=1, faults=0, stops=0)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory, where there is one: nothing here is about disks."""
    memory = Path("/dev/shm")  # noqa: S108 - a fresh directory is made in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


@pytest.fixture
def world(family: Family, place: Path) -> Iterator[World]:
    """A database with one order, whose first try was given the lease."""
    file = place / "receiver.db"
    schema.migrate(f"sqlite:///{file}")
    row = task_row(
        TASK_ID,
        provider=family.name,
        model=family.model,
        input='{"prompt":"a paper boat"}',
        state=State.QUEUED.value,
        claim=1,
        leased_until=NOW + LEASE_OVER - 1000,
        next_check_at=NOW,
    )
    world = World(file, row)
    yield world
    world.close()


@pytest.fixture
def services(family: Family, place: Path, world: World) -> Services:
    name = family.name.upper()
    environ = {f"{name}_API_KEY": "a-key", f"{name}_BASE_URL": "https://api.example.com"}
    secrets = {"secret_keys": (SecretStr("a-signing-key"),), "api_tokens": (SecretStr("a-token"),), "data_dir": place}
    settings = Settings.load(environ, CONFIG_TYPES).model_copy(update=secrets)
    return replace(Services.open(settings), clock=lambda: world.now, chance=lambda: 0.5)


@pytest.mark.row("B11")
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("family", [GATEWAY, RIVYA], ids=lambda family: family.name)
def test_no_order_of_the_steps_of_two_claimants_buys_twice(
    family: Family, answer: str, torture: Torture, world: World, services: Services
) -> None:
    if not torture.full and family is RIVYA and answer not in KEYED:
        pytest.skip("only at full size: what a repeat under a key may end with is covered by the others")
    bounded, full = (
        [TWO_AND_A_FAULT, *([TWO_AND_A_STOP] if family is GATEWAY and answer in KEYED else [])],
        [TWO_AND_ALL, THREE],
    )
    states, ends = 0, Counter[str]()
    for what in full if torture.full else bounded:
        explorer = what(world, services)
        explorer.explore((answer, "accepted"))
        states += explorer.states
        ends.update(explorer.ends)
    torture.figures(states=states, **ends)
    assert states > 300, "it tried too little"
