"""PostgreSQL keeps, claims and lists messages as SQLite does."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from receiver.config.addresses import check_database_url
from receiver.store import Store, Transaction, notifications, schema
from receiver.store.notifications import Message
from tests.behaviour.provider import says
from tests.behaviour.service import Service, Stage
from tests.behaviour.test_both_databases import url as empty_database
from tests.notifications.receiver import OK, Receiver
from tests.notifications.rig import notifications as listed
from tests.notifications.rig import send_due, succeed, until_all
from tests.store.rig import NOW, add_tasks, task_row, url_of
from tests.system import postgres

__all__ = ["empty_database"]

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.row("G7"),
    pytest.mark.skipif(postgres.binaries() is None, reason="SKIPPED, NOT TESTED: no PostgreSQL binaries"),
]

LEASE = 21_000


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@asynccontextmanager
async def serving(
    stage: Stage, request: pytest.FixtureRequest, database: str, application: Receiver
) -> AsyncIterator[Service]:
    url = request.getfixturevalue("url") if database == "postgresql" else None
    async with stage.serve(NOTIFY_URL=application.url, DATABASE_URL=url) as service:
        yield service


both = pytest.mark.parametrize("database", ["sqlite", "postgresql"])
url = empty_database


@both
async def test_messages_are_delivered_listed_and_sent_again(
    stage: Stage, request: pytest.FixtureRequest, application: Receiver, database: str
) -> None:
    async with serving(stage, request, database, application) as service:
        application.answers(says({}, 410), says({}, 500), OK)
        tasks = [await succeed(service, f"{number}") for number in range(3)]
        await until_all(service, lambda all_: [bool(it["tries"]) for it in all_] == [True] * 3)
        found = await listed(service)
        assert [message["task"] for message in found] == [task["id"] for task in reversed(tasks)]
        assert sorted(message["state"] for message in found) == ["delivered", "failed", "waiting"]
        (failed,) = await listed(service, state="failed")
        assert [message["id"] for message in await listed(service, task=failed["task"])] == [failed["id"]]
        first = (await service.client.get("/api/notifications", params={"limit": 2})).json()
        rest = (await service.client.get("/api/notifications", params={"limit": 2, "cursor": first["next"]})).json()
        assert [*first["notifications"], *rest["notifications"]] == found
        assert (len(first["notifications"]), rest["next"]) == (2, None)
        again = (await service.post(f"/api/notifications/{failed['id']}/send")).json()
        assert (again["state"], [one["status"] for one in again["tries"]]) == ("delivered", [410, 200])
        stage.clock.advance(6)
        await send_due(service)
        assert await listed(service, state="waiting") == []


@both
async def test_claims_leases_and_clocks_work_alike(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    url = check_database_url(request.getfixturevalue("url")) if database == "postgresql" else url_of(tmp_path / "a.db")
    schema.migrate(url)
    store = Store(url)
    try:
        await claim_take_over_and_reschedule(store)
    finally:
        await store.close()


async def claim_take_over_and_reschedule(store: Store) -> None:
    ahead = NOW + 86_400_000
    await store.write(add_tasks(task_row("tsk_1")))
    for number in range(7):
        await store.write(partial(add_message, webhook_id=f"msg_{number}", at=ahead))
    assert await store.read(lambda session: notifications.due_hosts(session, ahead - 1)) == []
    claimed, others = await claim(store, ahead, 3), await claim(store, ahead, 9)
    assert sorted(it.webhook_id for it in (*claimed, *others)) == [f"msg_{number}" for number in range(7)]
    assert (len(claimed), len(others)) == (3, 4)
    assert await claim(store, ahead + LEASE - 1, 9) == []
    for body in (b"first", b"second"):
        assert await store.write(partial(notifications.keep_body, message=claimed[0], body=body)) == b"first"
    (taken_over,) = [it for it in await claim(store, ahead + LEASE, 9) if it.id == claimed[0].id]
    assert (taken_over.claim, taken_over.body) == (claimed[0].claim + 1, b"first")
    assert await store.write(lambda tx: notifications.keep_body(tx, claimed[0], b"")) is None
    assert not await store.write(lambda tx: notifications.mark_failed(tx, claimed[0], ahead))
    assert await store.read(lambda session: notifications.has_tries_from_the_future(session, NOW))
    assert await store.write(lambda tx: notifications.reschedule_after_clock_change(tx, NOW)) == 7
    assert not await store.read(lambda session: notifications.has_tries_from_the_future(session, NOW))
    assert await store.write(lambda tx: notifications.redirect_waiting(tx, "http://other/", "other")) == 7
    assert await store.read(lambda session: notifications.due_hosts(session, NOW + LEASE)) == ["other"]
    assert len(await claim(store, NOW + LEASE, 9)) == 7
    await store.write(lambda tx: notifications.mark_delivered(tx, claimed[0], NOW))
    again = await store.write(lambda tx: notifications.claim_one(tx, "msg_0", NOW, NOW + LEASE))
    assert again is not None
    assert await store.write(lambda tx: notifications.claim_one(tx, "msg_0", NOW, NOW + LEASE)) is None


def add_message(tx: Transaction, webhook_id: str, at: int) -> None:
    """Add a message that is due then."""
    times = {"created_at": at, "updated_at": at, "next_try_at": at}
    url = {"url": "http://app/", "host": "app", "own_url": False}
    notifications.insert_message(tx, webhook_id=webhook_id, task_id="tsk_1", type="task.failed", **url, **times)


async def claim(store: Store, now: int, most: int) -> list[Message]:
    """Claim messages as a sender does."""
    hosts = await store.read(lambda session: notifications.due_hosts(session, now))
    claimed: list[Message] = []
    for host in hosts:
        claimed += await store.write(partial(notifications.claim_due, host=host, now=now, until=now + LEASE, most=most))
    return claimed
