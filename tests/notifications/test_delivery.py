"""Each message reaches its receiver at least once, under one id and with the same bytes, or is given up in the open."""

import asyncio
import json
import socket
from email.utils import formatdate

import pytest

from receiver.core.errors import StoreUnavailable
from receiver.notifications.retries import DELAYS, JITTER, next_delay
from receiver.outbound.guard import GuardedNetwork
from receiver.outbound.webhooks import SEND_SECONDS, Webhooks
from receiver.services import clock
from tests.behaviour.families import REVID
from tests.behaviour.provider import Exchange, Script, after, hangs, says, shows, slams, writes
from tests.behaviour.service import NOW, Service, Stage, milliseconds
from tests.measuring import move_on
from tests.measuring import until as wait_until
from tests.notifications.receiver import OK, Receiver
from tests.notifications.rig import (
    SECRET,
    Document,
    notifications,
    send_due,
    succeed,
    until,
    until_all,
    until_delivered,
    until_tried,
)

pytestmark = pytest.mark.anyio

NEXT_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
HOUR = 3600
LEASE = 21
"""Seconds after which a dead service's messages are sent by whoever looks then."""


def pause(message: Document, stage: Stage) -> float:
    """The seconds until a message is tried again."""
    assert message["next_try_at"] is not None
    return (milliseconds(message["next_try_at"]) - stage.clock.now) / 1000


async def attention(service: Service) -> list[tuple[str, str]]:
    """The tasks on the attention list with their reasons."""
    return [(row[0], row[1]) for row in service.database.rows("SELECT task_id, reason FROM attention")]


async def test_an_application_verifies_a_message_and_finds_the_task_in_it(stage: Stage, application: Receiver) -> None:
    stage.clock.now = clock()
    async with stage.serve(NOTIFY_URL=f"{application.url}/in?from=receiver", NOTIFY_SECRETS=SECRET) as service:
        task = await succeed(service)
        (received,) = await application.until_received(1)
        body = received.verified(SECRET)
        assert received.path == "/in?from=receiver"
        assert received.headers["content-type"] == "application/json"
        assert body["data"] == await service.task(task["id"])
        assert (body["type"], milliseconds(body["timestamp"])) == ("task.succeeded", stage.clock.now)
        message = await until_tried(service)
        assert {name: message[name] for name in ("id", "task", "type", "url", "state", "next_try_at")} == {
            "id": received.id,
            "task": task["id"],
            "type": "task.succeeded",
            "url": f"{application.url}/in?from=receiver",
            "state": "delivered",
            "next_try_at": None,
        }
        assert [(one["status"], one["problem"]) for one in message["tries"]] == [(200, None)]


@pytest.mark.row("C6")
async def test_every_secret_verifies_every_message(stage: Stage, application: Receiver) -> None:
    stage.clock.now = clock()
    async with stage.serve(NOTIFY_URL=application.url, NOTIFY_SECRETS=f"{NEXT_SECRET},{SECRET}") as service:
        await succeed(service)
        (received,) = await application.until_received(1)
        assert received.verified(NEXT_SECRET) == received.verified(SECRET) == json.loads(received.body)
        assert len(received.signatures) == 2


@pytest.mark.row("B9")
async def test_a_repeat_has_the_same_id_and_bytes_and_a_time_of_its_own(stage: Stage, application: Receiver) -> None:
    stage.clock.now = clock()
    async with stage.serve(NOTIFY_URL=application.url, NOTIFY_SECRETS=SECRET) as service:
        application.answers(says({}, 500), slams(), OK)
        task = await succeed(service)
        await until_tried(service)
        await service.call_back(task["id"], REVID.failed(task["remote_id"]))  # changes the document by a notice
        for times in (2, 3):
            stage.clock.advance(DELAYS[times - 2] * (1 + JITTER))
            await until_tried(service, times)
        first, *repeats = application.received
        assert [(it.id, it.body) for it in repeats] == [(first.id, first.body)] * 2
        assert len({it.headers["webhook-timestamp"] for it in application.received}) == 3
        assert len({it.headers["webhook-signature"] for it in application.received}) == 3
        assert (await until_tried(service, 3))["state"] == "delivered"


@pytest.mark.row("B9")
async def test_a_message_is_tried_ten_times_over_three_days_and_then_given_up_in_the_open(
    stage: Stage, application: Receiver
) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(says({}, 503))
        task = await succeed(service)
        for number, seconds in enumerate(DELAYS, 1):
            message = await until_tried(service, number)
            assert message["state"] == "waiting"
            assert seconds <= pause(message, stage) <= seconds * (1 + JITTER)
            stage.clock.advance(pause(message, stage) - 0.001)
            await send_due(service)
            assert len(application.received) == number, "not before its time"
            assert await attention(service) == []
            stage.clock.advance(0.001)
        message = await until_tried(service, 10)
        assert (message["state"], message["next_try_at"]) == ("failed", None)
        assert [(one["status"], one["problem"]) for one in message["tries"]] == [
            (503, "the receiver answered 503")
        ] * 10
        assert await attention(service) == [(task["id"], "notification_failed")]
        stage.clock.advance(100 * HOUR)
        await send_due(service)
        assert len(application.received) == 10
        assert (stage.clock.now - NOW) / 1000 / HOUR > 75


def test_pauses_are_longer_by_chance_and_by_what_the_receiver_asks_for_and_never_shorter() -> None:
    assert [next_delay(number, 0.0, None) for number in (1, 9, 10)] == [5, 86_400, None]
    assert next_delay(1, 1.0, None) == 5.5
    assert next_delay(1, 0.0, 120.0) == 120
    assert next_delay(2, 0.0, 1.0) == 300
    assert next_delay(10, 0.0, 60.0) is None


# --- what receivers answer


@pytest.mark.row("B9")
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(stage: Stage, application: Receiver, status: int) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(shows("thanks", status))
        await succeed(service)
        assert (await until_tried(service))["state"] == "delivered"


@pytest.mark.row("B9")
async def test_a_receiver_that_is_gone_gets_no_more_tries(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(says({}, 410))
        task = await succeed(service)
        message = await until_tried(service)
        assert (message["state"], message["next_try_at"]) == ("failed", None)
        assert await attention(service) == [(task["id"], "notification_failed")]


@pytest.mark.row("B9")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(stage: Stage, application: Receiver, status: int) -> None:
    async with Receiver().serving() as elsewhere, stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(says({}, status, Location=elsewhere.url))
        await succeed(service)
        message = await until_tried(service)
        assert message["state"] == "waiting"
        assert "redirects are not followed" in message["tries"][0]["problem"]
        assert elsewhere.received == []


@pytest.mark.row("B9")
@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ({"Retry_After": "120"}, 120),
        ({"Retry_After": formatdate(NOW / 1000 + 90, usegmt=True)}, 90),
        ({"Retry_After": formatdate(NOW / 1000 + 90, usegmt=True), "Date": formatdate(NOW / 1000, usegmt=True)}, 90),
        ({"Retry_After": "999999999"}, HOUR),
        ({"Retry_After": "1"}, 5),
        ({"Retry_After": "-1"}, 5),
        ({"Retry_After": "soon"}, 5),
    ],
)
async def test_a_receiver_is_given_the_time_that_it_asks_for_within_bounds(
    stage: Stage, application: Receiver, asked: dict[str, str], seconds: float
) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(says({}, 429, **asked), OK)
        await succeed(service)
        message = await until_tried(service)
        assert seconds <= pause(message, stage) <= max(seconds, 5 * (1 + JITTER))


def _head(status: int) -> bytes:
    return f"HTTP/1.1 {status} Scripted\r\nContent-Length: 1000\r\n\r\n".encode()


@pytest.mark.row("B9")
@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nX-", _head(503)])
async def test_a_receiver_that_hangs_is_given_up_in_time_and_tried_again(
    stage: Stage, application: Receiver, beginning: bytes
) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(hangs(beginning), OK)
        await succeed(service)
        await application.until_received(1)
        await settle_bytes()
        move_on(SEND_SECONDS)
        message = await until_tried(service)
        assert message["state"] == "waiting"
        assert message["tries"][0]["status"] == (503 if beginning == _head(503) else None)
        stage.clock.advance(6)
        assert (await until_tried(service, 2))["state"] == "delivered"


async def settle_bytes() -> None:
    """Let what was written to a connection arrive."""
    for _ in range(20):
        await asyncio.sleep(0.005)


@pytest.mark.row("B9")
@pytest.mark.parametrize(
    "script",
    [
        writes(_head(200)),
        writes(_head(200) + b"x" * 100),
        writes(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + b"x" * 4_000_000),
        writes(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbomb"),
    ],
    ids=["cut", "cut later", "4 MB", "no gzip"],
)
async def test_what_comes_after_a_2xx_does_not_matter(stage: Stage, application: Receiver, script: Script) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(script)
        await succeed(service)
        assert (await until_tried(service))["state"] == "delivered"


@pytest.mark.row("B9")
@pytest.mark.parametrize("script", [slams(), writes(b""), writes(b"220 smtp\r\n\r\n")])
async def test_an_answer_that_is_none_is_a_failure(stage: Stage, application: Receiver, script: Script) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(script)
        await succeed(service)
        message = await until_tried(service)
        assert (message["state"], message["tries"][0]["status"]) == ("waiting", None)
        assert message["tries"][0]["problem"].startswith("no answer: ")


async def test_a_receiver_that_is_away_is_a_failure(stage: Stage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        async with stage.serve(NOTIFY_URL=f"http://127.0.0.1:{taken.getsockname()[1]}/") as service:
            await succeed(service)
            assert (await until_tried(service))["state"] == "waiting"


# --- which addresses are connected to


@pytest.mark.row("E9")
@pytest.mark.parametrize("answers", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["10.0.0.1"], ["::1"]])
async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(
    stage: Stage, application: Receiver, answers: list[str]
) -> None:
    port = application.url.rpartition(":")[2]
    async with stage.serve() as service:
        guarded = GuardedNetwork(resolve=lambda _host, _port: answers)
        object.__setattr__(service.app.state.services, "webhooks", Webhooks(guarded=guarded))
        await succeed(service, notify_url=f"https://app.example.com:{port}/")
        message = await until_tried(service)
        assert "which is not a public address" in message["tries"][0]["problem"]
        assert application.received == []


@pytest.mark.row("E9")
async def test_a_host_that_is_not_listed_any_more_is_sent_nothing(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_HOSTS=application.host) as service:
        task = await service.order(REVID.order(notify_url=application.url))
    async with stage.serve() as service:
        await service.call_back(task["id"], REVID.done(task["remote_id"], "https://cdn.example.com/a.mp4"))
        message = await until_tried(service)
        assert "RECEIVER_NOTIFY_HOSTS" in message["tries"][0]["problem"]
        assert application.received == []


# --- one receiver beside another


@pytest.mark.row("B9")
async def test_a_receiver_that_hangs_delays_neither_another_one_nor_the_polling(
    stage: Stage, application: Receiver
) -> None:
    async with (
        Receiver().serving() as stuck,
        stage.serve(NOTIFY_URL=application.url, NOTIFY_HOSTS=stuck.host, POLLER="on", CALLBACK_GRACE="0.01") as service,
    ):
        stuck.answers(hangs())
        for number in range(12):
            await succeed(service, f"{number}", notify_url=stuck.url)
        await stuck.until_received(5)
        stage.provider.on_check(REVID, says(REVID.done("revid-13", "https://cdn.example.com/a.mp4")))
        task = await service.order(REVID.order())
        stage.clock.advance(0.01)
        await service.until_state(task["id"], "succeeded")
        (received,) = await application.until_received(1)
        assert received.json["data"]["id"] == task["id"]
        assert stuck.most_at_once == 5, "few at once"
        stuck.answers(OK)
        stuck.release()
        await stuck.until_received(12)


async def test_messages_for_the_url_in_the_settings_follow_it(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_URL="http://127.0.0.1:9/") as service:
        await succeed(service)
        await until_tried(service)
        stage.clock.advance(6)
    async with stage.serve(NOTIFY_URL=application.url) as service:
        await application.until_received(1)
        assert (await until_delivered(service))["url"] == application.url


# --- sending again


@pytest.mark.row("B9")
@pytest.mark.parametrize("script", [OK, says({}, 410)], ids=["delivered", "failed"])
async def test_a_message_is_sent_again_under_its_id_with_its_bytes(
    stage: Stage, application: Receiver, script: Script
) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(script, OK)
        await succeed(service)
        message = await until_tried(service)
        answer = await service.post(f"/api/notifications/{message['id']}/send")
        assert (answer.status_code, answer.json()["state"]) == (200, "delivered")
        assert answer.json()["id"] == message["id"]
        assert len(answer.json()["tries"]) == 2
        first, second = application.received
        assert (first.id, first.body) == (second.id, second.body)
        assert await attention(service) == [], "what was over is off the list"


async def test_a_message_that_is_sent_again_in_vain_is_tried_again_from_the_beginning(
    stage: Stage, application: Receiver
) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(says({}, 410), says({}, 500), OK)
        await succeed(service)
        message = await until_tried(service)
        answer = (await service.post(f"/api/notifications/{message['id']}/send")).json()
        assert (answer["state"], len(answer["tries"])) == ("waiting", 2)
        assert 5 <= pause(answer, stage) <= 5 * (1 + JITTER)
        stage.clock.advance(6)
        assert (await until_tried(service, 3))["state"] == "delivered"


async def test_a_message_that_is_being_sent_is_not_sent_beside_that(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(hangs())
        await succeed(service)
        await application.until_received(1)
        (message,) = await notifications(service)
        answer = await service.post(f"/api/notifications/{message['id']}/send")
        assert (answer.status_code, answer.json()["state"]) == (200, "waiting")
        assert len(application.received) == 1
        application.release()


async def test_an_unknown_message_is_not_found(stage: Stage) -> None:
    async with stage.serve() as service:
        assert (await service.post("/api/notifications/msg_none/send")).status_code == 404


# --- clocks, stops and databases


@pytest.mark.row("G1")
@pytest.mark.parametrize("back", [HOUR, 30 * 24 * HOUR])
async def test_a_clock_that_is_set_back_lets_no_message_wait_longer_than_its_pause(
    stage: Stage, application: Receiver, back: int
) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        application.answers(says({}, 500), OK)
        await succeed(service)
        await until_tried(service)
        stage.clock.advance(-back)
        message = await until(service, lambda it: pause(it, stage) <= 5.5)
        assert pause(message, stage) >= 5
        stage.clock.advance(5.5)
        assert (await until_tried(service, 2))["state"] == "delivered"


@pytest.mark.row("G1")
async def test_a_lease_left_by_a_clock_that_was_ahead_is_not_waited_for(stage: Stage, application: Receiver) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        stage.clock.advance(24 * HOUR)
        application.answers(hangs(), OK)
        await succeed(service)
        await application.until_received(1)
        killed = stage.beside("killed")
        service.database.image(killed.directory / "receiver.db")
        application.release()
    stage.clock.advance(-24 * HOUR)
    async with killed.serve(NOTIFY_URL=application.url) as service:
        message = await until(service, lambda it: pause(it, stage) <= LEASE)
        stage.clock.advance(pause(message, stage))
        assert (await until_delivered(service))["id"] == application.received[0].id


@pytest.mark.row("G1")
async def test_a_clock_that_jumps_over_a_lease_does_not_let_this_service_send_twice(
    stage: Stage, application: Receiver
) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        answered = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await answered.wait()
            await OK(exchange)

        application.answers(wait)
        await succeed(service)
        await application.until_received(1)
        stage.clock.advance(HOUR)
        await until_leased(service, stage.clock.now)
        answered.set()
        assert (await until_delivered(service))["tries"][0]["status"] == 200
        assert len(application.received) == 1


async def until_leased(service: Service, after: int) -> None:
    """Wait until the one message that there is was claimed later than that."""
    await wait_until(lambda: bool(service.database.rows("SELECT 1 FROM notification WHERE leased_until > ?", after)))


@pytest.mark.row("G2")
async def test_a_stop_gives_back_what_is_being_sent_and_the_next_start_sends_it_at_once(
    stage: Stage, application: Receiver
) -> None:
    application.answers(hangs())
    async with stage.serve(NOTIFY_URL=application.url) as service:
        await succeed(service)
        await application.until_received(1)
        stopping = asyncio.create_task(service.app.state.services.close(0))
        await stopping
        assert service.database.rows("SELECT leased_until, tries FROM notification") == [(None, 0)]
    application.answers(OK)
    async with stage.serve(NOTIFY_URL=application.url) as service:
        message = await until_delivered(service)
        assert [one["problem"] for one in message["tries"]] == [
            "the service stopped before the receiver answered",
            None,
        ]
        assert [it.id for it in application.received] == [message["id"]] * 2


@pytest.mark.row("B9")
async def test_an_answer_is_recorded_although_the_database_was_locked_for_longer_than_a_write_waits(
    stage: Stage, application: Receiver
) -> None:
    async with stage.serve(NOTIFY_URL=application.url) as service:
        store = service.app.state.services.store
        write, failures = store.write, iter([StoreUnavailable("locked")] * 3)

        async def refuse(unit: object) -> object:
            for error in failures:
                raise error
            return await write(unit)

        async def lock(_: object) -> None:
            store.write = refuse

        application.answers(after(lock, OK))
        await succeed(service)
        assert (await until_delivered(service))["tries"][0]["status"] == 200
        assert next(failures, None) is None
        assert len(application.received) == 1


@pytest.mark.row("B9")
async def test_two_services_send_each_message_once(stage: Stage, application: Receiver) -> None:
    async with (
        stage.serve(NOTIFY_URL=application.url) as service,
        stage.serve(NOTIFY_URL=application.url) as other,
    ):
        for number in range(30):
            await succeed(service, f"{number}")
        await asyncio.gather(send_due(service), send_due(other))
        await application.until_received(30)
        await until_all(service, lambda found: {it["state"] for it in found} == {"delivered"})
        assert len({it.id for it in application.received}) == len(application.received) == 30
