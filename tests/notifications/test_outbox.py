"""A message is written with the change that it tells of, for whoever wants to be told, and for nobody else."""

from pathlib import Path

import pytest

from receiver.core.message_types import MessageType
from receiver.core.states import State, Via
from receiver.lifecycle.messages import add_message
from receiver.lifecycle.transition import transition
from receiver.store import Transaction, tasks
from tests.archive.conftest import Site
from tests.archive.file_server import MP4, PNG, FileServer, says, serves
from tests.behaviour.families import REVID
from tests.behaviour.provider import says as provider_says
from tests.behaviour.provider import slams
from tests.behaviour.service import Service, Stage
from tests.notifications.receiver import Receiver
from tests.notifications.rig import SECRET, URL, notifications, send_due, succeed

pytestmark = pytest.mark.anyio

OWN = "https://app.example.com/told"
REFUSED = {"code": 400, "message": "no"}


async def told(service: Service, task_id: str) -> list[str]:
    """The types of a task's messages, in order."""
    return [message["type"] for message in reversed(await notifications(service, task=task_id))]


@pytest.mark.row("B9")
async def test_each_state_that_is_told_of_has_its_message_and_no_other_has(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_URL=application.url, DEADLINE="60") as service:
        succeeded = await succeed(service)
        stage.provider.on_create(REVID, provider_says(REFUSED, 400), slams(), provider_says(REVID.accepted("r-2")))
        failed, unconfirmed, expired = [await service.order(REVID.order(f"{n}")) for n in range(3)]
        await service.poll_after(61)
        await service.poll_after(61)
        assert await told(service, succeeded["id"]) == ["task.succeeded"]
        assert await told(service, failed["id"]) == ["task.failed"]
        assert await told(service, unconfirmed["id"]) == ["task.unconfirmed", "task.expired"]
        assert await told(service, expired["id"]) == ["task.expired"]


@pytest.mark.row("B9")
async def test_a_change_that_is_not_stored_has_no_message_either(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        services = service.app.state.services
        task = await service.order(REVID.order())

        def fail_and_break(tx: Transaction) -> None:
            row = tasks.current(tx, task["id"])
            assert row is not None
            assert transition(tx, row, State.FAILED, Via.CALLBACK, services.context("revid"))
            raise RuntimeError("broken off")

        with pytest.raises(RuntimeError):
            await services.store.write(fail_and_break)
        assert (await service.task(task["id"]))["state"] == "submitted"
        assert await notifications(service) == []


async def test_a_repeated_end_is_told_once(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        task = await succeed(service)
        await service.call_back(task["id"], REVID.done(task["remote_id"], URL))
        assert await told(service, task["id"]) == ["task.succeeded"]


async def test_that_all_files_are_stored_is_told_once(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        task = await succeed(service)
        services = service.app.state.services

        def all_stored(tx: Transaction) -> None:
            row = tasks.current(tx, task["id"])
            assert row is not None
            add_message(tx, row, MessageType.STORED, services.context("revid"))

        for _ in range(2):
            await services.store.write(all_stored)
        assert (await told(service, task["id"])).count("task.stored") == 1


@pytest.mark.row("B9")
async def test_that_all_files_are_stored_is_told_when_the_last_one_is(stage: Stage, application: Receiver) -> None:
    async with (
        FileServer().serving() as host,
        stage.serve(NOTIFY_URL=application.url, ARCHIVE=None, ARCHIVE_KEEP_FREE="0") as service,
    ):
        urls = [host.at("/a.png", serves(PNG)), host.at("/b.mp4", says(404), serves(MP4))]
        stage.provider.on_check(REVID, provider_says(REVID.working("r-1")))
        site = Site(service, stage)
        task = await site.succeeded(*urls)
        await site.until_output(task["id"], "stored", 0)
        assert await told(service, task["id"]) == ["task.succeeded"]
        for _ in range(2):
            stage.clock.advance(130)
            await service.poll()
        await site.until_output(task["id"], "stored", 1)
        await application.until_received(2)
        assert await told(service, task["id"]) == ["task.succeeded", "task.stored"]
        (stored,) = [it.json["data"] for it in application.received if it.json["type"] == "task.stored"]
        assert [output["archive"] for output in stored["outputs"]] == ["stored", "stored"]


async def test_without_a_receiver_there_are_no_messages(stage: Stage) -> None:
    async with stage.serve() as service:
        await succeed(service)
        assert await notifications(service) == []


async def test_only_the_wanted_types_are_sent(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_URL=application.url, NOTIFY_EVENTS="task.failed, task.expired") as service:
        assert await told(service, (await succeed(service))["id"]) == []
        stage.provider.on_create(REVID, provider_says(REFUSED, 400))
        assert await told(service, (await service.order(REVID.order()))["id"]) == ["task.failed"]


# --- a task's own URL


async def test_a_tasks_own_url_replaces_the_one_in_the_settings(stage: Stage, application: Receiver) -> None:
    async with Receiver().serving() as own, stage.serve(NOTIFY_URL=application.url, NOTIFY_HOSTS=own.host) as service:
        task = await succeed(service, notify_url=f"{own.url}/mine")
        (received,) = await own.until_received(1)
        assert (received.path, received.json["data"]["id"]) == ("/mine", task["id"])
        await send_due(service)
        assert application.received == []


async def test_a_task_with_its_own_url_is_told_of_without_one_in_the_settings(
    stage: Stage, application: Receiver
) -> None:
    async with stage.serve(NOTIFY_HOSTS=application.host) as service:
        await succeed(service)
        task = await succeed(service, notify_url=application.url)
        (received,) = await application.until_received(1)
        assert received.json["data"]["id"] == task["id"]


async def test_a_tracked_task_may_name_its_own_url(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_HOSTS=application.host) as service:
        order = {"provider": "revid", "model": REVID.model, "remote_id": "r-1", "notify_url": application.url}
        stage.provider.on_check(REVID, provider_says(REVID.done("r-1", URL)))
        task = await service.order(order)
        (received,) = await application.until_received(1)
        assert received.json["data"]["id"] == task["id"]


async def test_a_retry_keeps_the_url_of_its_task(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_HOSTS=application.host) as service:
        stage.provider.on_create(REVID, provider_says(REFUSED, 400))
        task = await service.order(REVID.order(notify_url=application.url))
        again = await service.post(f"/api/tasks/{task['id']}/retry")
        assert again.status_code == 201
        await application.until_received(2)
        assert {it.json["data"]["id"] for it in application.received} == {task["id"], again.json()["id"]}


async def test_another_url_is_another_order(stage: Stage) -> None:
    async with stage.serve() as service:
        await service.order(REVID.order(notify_url=OWN), Idempotency_Key="k")
        same = await service.post("/api/tasks", REVID.order(notify_url=OWN), Idempotency_Key="k")
        other = await service.post("/api/tasks", REVID.order(notify_url=f"{OWN}/x"), Idempotency_Key="k")
        assert (same.status_code, other.status_code) == (200, 409)


async def test_a_url_that_no_message_may_go_to_is_refused_by_its_name(stage: Stage) -> None:
    async with stage.serve(NOTIFY_HOSTS="app.internal:3000") as service:
        tracked = {"provider": "revid", "model": REVID.model, "remote_id": "r-1"}
        for url in ("http://app.internal/", "https://localhost/", "https://127.0.0.1/", "app", "", 7, "x" * 9000):
            for order in (REVID.order(), tracked):
                answer = await service.post("/api/tasks", {**order, "notify_url": url})
                assert answer.status_code == 422, url
                assert [fault["loc"] for fault in answer.json()["errors"]] == [["notify_url"]]
        assert (await service.client.get("/api/tasks")).json()["tasks"] == []
        assert stage.provider.received == []
        await service.order(REVID.order(notify_url="http://app.internal:3000/told"))


async def test_the_secret_is_generated_once_and_signs(stage: Stage, application: Receiver, tmp_path: Path) -> None:
    secrets = []
    for _ in range(2):
        async with stage.serve(NOTIFY_URL=application.url) as service:
            await succeed(service)
            secrets.append((stage.directory / "notify_secrets").read_text().strip())
            await application.until_received(len(secrets))
    assert secrets[0] == secrets[1] != SECRET
    assert secrets[0].startswith("whsec_")
