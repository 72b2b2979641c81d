"""Messages from the command line and the API: sent by a single sweep, listed, sent again; wrong questions are named."""

import asyncio
from pathlib import Path

import pytest

from receiver.services import clock
from tests.behaviour.families import REVID
from tests.behaviour.provider import says
from tests.behaviour.service import Stage, environment
from tests.cli.rig import Home
from tests.notifications.receiver import OK, Receiver
from tests.notifications.rig import SECRET, notifications, succeed, until_tried

pytestmark = pytest.mark.anyio

GONE = "http://127.0.0.1:9/"


def home(stage: Stage, **variables: str) -> Home:
    """The command line of a stage."""
    settings = environment(stage.provider, stage.directory, RECEIVER_NOTIFY_SECRETS=SECRET, **variables)
    return Home(stage.directory.parent, settings)


async def test_a_single_sweep_sends_what_is_due_and_the_command_sends_it_again(
    stage: Stage, application: Receiver
) -> None:
    stage.clock.now = clock() - 60_000
    async with stage.serve(NOTIFY_URL=GONE) as service:
        task = await succeed(service)
        await until_tried(service)
    commands = home(stage, RECEIVER_NOTIFY_URL=application.url)
    application.answers(says({}, 410), says({}, 500), OK)
    polled = await asyncio.to_thread(commands.run, "poll")
    assert polled.code == 0, polled.err
    (received,) = application.received
    listed = await asyncio.to_thread(commands.run, "notifications", "--json", "--state", "failed", "--task", task["id"])
    (message,) = listed.document["notifications"]
    assert (message["id"], [one["status"] for one in message["tries"]]) == (received.id, [None, 410])
    shown = await asyncio.to_thread(commands.run, "notifications")
    assert "task.succeeded" in shown.out
    assert "the receiver answered 410" in shown.out
    failed, sent = [await asyncio.to_thread(commands.run, "notifications", "--send", received.id) for _ in range(2)]
    assert (failed.code, sent.code) == (1, 0)
    assert "delivered" in sent.out
    assert {it.id for it in application.received} == {received.id}
    assert application.received[-1].verified(SECRET)["data"]["id"] == task["id"]


async def test_wrong_questions_are_named(stage: Stage, tmp_path: Path) -> None:
    async with stage.serve() as service:
        for query, loc in (
            ({"state": "sent"}, "state"),
            ({"limit": "201"}, "limit"),
            ({"cursor": "tsk_1"}, "cursor"),
            ({"since": "now"}, "since"),
        ):
            answer = await service.client.get("/api/notifications", params=query)
            assert answer.status_code == 422
            assert [fault["loc"] for fault in answer.json()["errors"]] == [["query", loc]]
        assert (await service.stranger.get("/api/notifications")).status_code == 401
        assert (await service.stranger.post("/api/notifications/msg_1/send")).status_code == 401
        assert await notifications(service, cursor="msg_00000000000000000000000000") == []
    commands = home(stage)
    wrong = await asyncio.to_thread(commands.run, "notifications", "--state", "sent")
    assert (wrong.code, "waiting, delivered, failed" in wrong.err) == (2, True)
    unknown = await asyncio.to_thread(commands.run, "notifications", "--send", "msg_1")
    assert (unknown.code, "There is no notification msg_1." in unknown.err) == (1, True)


async def test_the_secret_is_printed_alone(stage: Stage) -> None:
    commands = home(stage)
    printed = await asyncio.to_thread(commands.run, "token", "--notify")
    assert (printed.code, printed.out) == (0, f"{SECRET}\n")


async def test_an_order_from_the_command_line_may_name_a_url(stage: Stage) -> None:
    stage.clock.now = clock()
    async with stage.serve() as service:
        order = REVID.order(notify_url="https://app.example.com/x", metadata={}, validate=True)
        task = await service.order(order, Idempotency_Key="k")
    words = ("submit", "revid", REVID.model, "--prompt", "a lively classroom", "--key", "k", "--json")
    commands = home(stage)
    same = await asyncio.to_thread(commands.run, *words, "--notify-url", "https://app.example.com/x")
    assert same.document["id"] == task["id"]
    refused = await asyncio.to_thread(commands.run, *words[:-2], "l", "--notify-url", "http://app.example.com/")
    assert (refused.code, "notify_url: must begin with https:" in refused.err) == (2, True)
