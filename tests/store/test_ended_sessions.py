"""Sessions that were ended, in SQLite; `test_postgresql` has the other database."""

import pytest

from receiver.store import Store

from .ended import assert_ends_and_forgets

pytestmark = pytest.mark.anyio


@pytest.mark.row("F3")
async def test_an_ended_session_is_remembered_until_it_would_be_over_anyway(store: Store) -> None:
    await assert_ends_and_forgets(store)
