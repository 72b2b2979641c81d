"""What is measured of models, which both databases must keep alike."""

import asyncio

from receiver.core.measured import ENOUGH_TASKS, Measured
from receiver.store import Store, Transaction, measured
from receiver.store.measured import MAX_MODELS, Ended
from receiver.store.transaction import Unit

from .rig import NOW


def ended(model: str = "sora-2", seconds: float = 40.0, *, arrived: bool = True, at: int = NOW) -> Unit[None]:
    return lambda tx: measured.add(tx, Ended("revid", model, seconds, awaited=True, arrived=arrived, at=at))


def expected(*seconds: float, missed: int = 0) -> Measured:
    found = Measured()
    for number, each in enumerate(seconds):
        found = found.add(each, awaited=True, arrived=number >= missed)
    return found


async def known(store: Store, model: str = "sora-2") -> Measured:
    return await store.write(lambda tx: measured.read(tx, "revid", model))


async def assert_kept_as_counted(store: Store) -> None:
    """One after the other and many at once, also beside a unit that fails: each task counts once."""
    assert await known(store) == Measured()
    for number in range(5):
        await store.write(ended(seconds=10.0 * number, arrived=number > 1))
    assert await known(store) == expected(0, 10, 20, 30, 40, missed=2)

    def failing(tx: Transaction) -> None:
        ended(seconds=9000.0)(tx)
        raise LookupError

    units = [ended(seconds=50.0) for _ in range(ENOUGH_TASKS)]
    results = await asyncio.gather(*map(store.write, [*units[:9], failing, *units[9:]]), return_exceptions=True)
    assert [type(result) for result in results if result is not None] == [LookupError]
    found = await known(store)
    assert found.times == expected(0, 10, 20, 30, 40, *[50.0] * ENOUGH_TASKS).times
    assert found.is_enough
    shown = await store.read(measured.read_all)
    assert shown == {("revid", "sora-2"): found}
    assert await store.read(measured.count_callbacks) == {"revid": (found.awaited, found.arrived)}


async def assert_bounded_whatever_models_are_called(store: Store) -> None:
    """More models than are kept, in one transaction and in many: the quietest make room, odd names are kept alike."""
    many = [ended(f"model-{number}", at=NOW + number) for number in range(MAX_MODELS + 20)]
    await asyncio.gather(*map(store.write, many))
    for name in ("a\0b", "x\ud83d", "'; DROP TABLE model_record; --", "漢字"):
        await store.write(ended(name, at=NOW + MAX_MODELS + 100))
        await store.write(ended(name, at=NOW + MAX_MODELS + 100))
    shown = await store.read(measured.read_all)
    assert len(shown) == MAX_MODELS
    assert ("revid", "model-0") not in shown
    assert ("revid", f"model-{MAX_MODELS + 19}") in shown
    assert shown["revid", "a\ufffdb"] == shown["revid", "漢字"] == expected(40, 40)
