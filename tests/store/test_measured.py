"""What is measured of models is kept with the tasks that it was measured of."""

import pytest

from receiver.store import Store

from .measuring import assert_bounded_whatever_models_are_called, assert_kept_as_counted

pytestmark = pytest.mark.anyio


async def test_what_is_measured_is_kept_as_it_is_counted(store: Store) -> None:
    await assert_kept_as_counted(store)


@pytest.mark.row("B21")
async def test_any_number_of_models_by_any_name_takes_bounded_room(store: Store) -> None:
    await assert_bounded_whatever_models_are_called(store)
