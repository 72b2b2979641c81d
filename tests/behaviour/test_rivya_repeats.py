"""Interface, section 1, "Sent or not", where the provider takes an idempotency key: Rivya.

An ambiguous try stays `submitting` and is repeated byte for byte under the same key for at most 15 minutes.
"""

import pytest

from tests.behaviour.families import RIVYA
from tests.behaviour.provider import Provider, Script, cuts, hangs, says, shows, slams
from tests.behaviour.service import DEAD_PORT, NOW, Service, Stage, milliseconds

pytestmark = pytest.mark.anyio

ACCEPTED = says(RIVYA.accepted("r-1"))
CONFLICT = says({"error": {"code": "idempotency_conflict", "message": "other body", "requestId": "req_1"}}, 409)
OUR_CODES = {"timeout", "broken_answer", "server_error", "crashed"}

AMBIGUOUS = [
    pytest.param(slams(), id="reset"),
    pytest.param(cuts(RIVYA.accepted("lost")), id="cut"),
    pytest.param(shows("<html>bad gateway</html>", 502), id="502"),
    pytest.param(says({"error": {"code": "internal", "message": "oops"}}, 500), id="500"),
    pytest.param(says({}), id="200-without-an-id"),
    pytest.param(shows("", 302, Location="/elsewhere"), id="redirect"),
]


@pytest.mark.parametrize("first", AMBIGUOUS)
async def test_an_ambiguous_try_is_repeated_byte_for_byte_under_the_same_key(
    first: Script, service: Service, provider: Provider
) -> None:
    provider.on_create(RIVYA, first, slams(), ACCEPTED)
    task = await service.order(RIVYA.order("a prompt with ünïcode 🐈"))
    assert (task["state"], task["attempts"], task["remote_id"]) == ("submitting", 1, None)
    for _ in range(2):
        await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (task["state"], task["attempts"], task["remote_id"]) == ("submitted", 3, "r-1")
    assert task["error"] is None
    tries = provider.bought()
    assert len(tries) == 3
    assert len({it.body for it in tries}) == 1
    assert len({it.headers["idempotency-key"] for it in tries}) == 1
    assert len({(it.method, it.path, it.headers["content-type"]) for it in tries}) == 1
    assert milliseconds(task["submitted_at"]) > NOW, "the departure of the last try"


async def test_a_silent_try_is_repeated_too(stage: Stage) -> None:
    stage.provider.on_create(RIVYA, hangs(), ACCEPTED)
    async with stage.serve() as service:
        task = await service.when_time_is_over(service.order(RIVYA.order()), lambda: len(stage.provider.bought()) == 1)
        task = await service.until(task["id"], lambda it: bool(it["notices"]))
        assert task["state"] == "submitting"
        await service.poll_when_due(task["id"])
        assert (await service.task(task["id"]))["state"] == "submitted"


async def test_repeats_end_after_15_minutes_and_then_the_task_is_unconfirmed(
    service: Service, provider: Provider
) -> None:
    provider.on_create(RIVYA, slams())
    task = await service.order(RIVYA.order())
    for _ in range(100):
        await service.poll_when_due(task["id"])
        if (task := await service.task(task["id"]))["state"] != "submitting":
            break
    assert task["state"] == "unconfirmed"
    assert task["error"]["code"] in OUR_CODES
    assert service.clock.now == NOW + 15 * 60_000, "given up at the end of the 15 minutes, not before"
    tries = len(provider.bought())
    assert 8 <= tries <= 30, "pauses grow from 10 to 120 s"
    provider.on_create(RIVYA, ACCEPTED)
    await service.poll_after(600)
    assert len(provider.bought()) == tries, "never sent again by itself"


async def test_a_repeat_that_is_late_is_not_sent_any_more(service: Service, provider: Provider) -> None:
    provider.on_create(RIVYA, slams(), ACCEPTED)
    task = await service.order(RIVYA.order())
    await service.poll_after(15 * 60)
    assert (await service.task(task["id"]))["state"] == "unconfirmed"
    assert len(provider.bought()) == 1


async def test_a_409_conflict_on_a_repeat_proves_arrival(service: Service, provider: Provider) -> None:
    provider.on_create(RIVYA, slams(), CONFLICT, ACCEPTED)
    task = await service.order(RIVYA.order())
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert task["state"] == "unconfirmed"
    assert task["error"]["code"] in OUR_CODES
    assert "other body" in task["error"]["message"]
    await service.poll_after(3600)
    assert len(provider.bought()) == 2


async def test_a_refusal_of_what_the_request_says_holds_for_the_first_try_too(
    service: Service, provider: Provider
) -> None:
    provider.on_create(RIVYA, slams(), says({"error": {"code": "validation_failed", "message": "no"}}, 400))
    task = await service.order(RIVYA.order())
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (task["state"], task["error"]["code"]) == ("failed", "validation_failed")


@pytest.mark.parametrize(
    ("status", "code"), [(401, "api_key_revoked"), (402, "insufficient_credits"), (403, "api_scope_denied")]
)
async def test_a_refusal_that_may_be_news_of_the_meantime_does_not_prove_that_the_first_try_failed(
    status: int, code: str, service: Service, provider: Provider
) -> None:
    provider.on_create(RIVYA, slams(), says({"error": {"code": code, "message": "not now"}}, status))
    task = await service.order(RIVYA.order())
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert task["state"] == "unconfirmed"
    assert task["error"]["code"] in OUR_CODES


@pytest.mark.parametrize("then", [says({"error": {"code": "rate_limited", "message": "slow"}}, 429, Retry_After="90")])
async def test_a_429_on_a_repeat_does_not_prove_that_the_first_try_was_lost(
    then: Script, service: Service, provider: Provider
) -> None:
    provider.on_create(RIVYA, slams(), then, ACCEPTED)
    task = await service.order(RIVYA.order())
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert task["state"] == "submitting"
    assert milliseconds(task["next_check_at"]) - service.clock.now == 90_000
    await service.poll_when_due(task["id"])
    assert len({it.headers["idempotency-key"] for it in provider.bought()}) == 1


async def test_a_repeat_without_a_connection_is_still_a_repeat(stage: Stage) -> None:
    stage.provider.on_create(RIVYA, slams(), ACCEPTED)
    async with stage.serve() as service:
        task = await service.order(RIVYA.order())
    origin = stage.provider.url
    async with stage.serve(RIVYA_BASE_URL=DEAD_PORT) as service:
        # The bytes are the first try's, its address too: nothing about it may change under one key.
        await service.poll_when_due(task["id"])
        assert (await service.task(task["id"]))["state"] == "submitted"
    assert all(it.headers["host"] == origin.removeprefix("http://") for it in stage.provider.bought())


async def test_a_try_that_was_not_taken_gets_a_new_key(service: Service, provider: Provider) -> None:
    provider.on_create(RIVYA, says({"error": {"code": "rate_limited", "message": "slow"}}, 429), slams(), ACCEPTED)
    task = await service.order(RIVYA.order())
    assert task["state"] == "queued"
    for _ in range(2):
        await service.poll_when_due(task["id"])
    first, second, third = (it.headers["idempotency-key"] for it in provider.bought())
    assert first != second
    assert second == third


async def test_a_repeat_that_finds_the_work_done_is_the_end(service: Service, provider: Provider) -> None:
    provider.on_create(RIVYA, slams(), says(RIVYA.done("r-1", "https://cdn.example.com/out.mp4")))
    task = await service.order(RIVYA.order())
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (task["state"], task["settled_by"]) == ("succeeded", "submission")
    assert [output["url"] for output in task["outputs"]] == ["https://cdn.example.com/out.mp4"]


async def test_a_short_deadline_does_not_make_repeats_run_in_a_circle(stage: Stage) -> None:
    stage.provider.on_create(RIVYA, slams())
    async with stage.serve(DEADLINE="20") as service:
        task = await service.order(RIVYA.order())
        for sweeps in range(1, 6):
            await service.poll_after(30)
            assert len(stage.provider.bought()) <= sweeps + 1, "one try a sweep"
        assert (await service.task(task["id"]))["state"] in ("submitting", "unconfirmed", "expired")


async def test_a_restart_between_two_tries_keeps_the_key_and_the_bytes(stage: Stage) -> None:
    stage.provider.on_create(RIVYA, slams(), ACCEPTED)
    async with stage.serve() as service:
        task = await service.order(RIVYA.order())
    async with stage.serve(RIVYA_API_KEY="rvya_sk_rotated") as service:
        await service.poll_when_due(task["id"])
        assert (await service.task(task["id"]))["state"] == "submitted"
    first, second = stage.provider.bought()
    assert (first.body, first.headers["idempotency-key"]) == (second.body, second.headers["idempotency-key"])
    assert second.headers["authorization"] == "Bearer rvya_sk_rotated"


async def test_without_its_key_a_try_is_not_repeated_for_more_than_15_minutes_either(stage: Stage) -> None:
    stage.provider.on_create(RIVYA, slams())
    async with stage.serve() as service:
        task = await service.order(RIVYA.order())
    async with stage.serve(RIVYA_API_KEY=None) as service:
        await service.poll_after(60)
        assert (await service.task(task["id"]))["state"] == "submitting"
        await service.poll_after(15 * 60)
        assert (await service.task(task["id"]))["state"] == "unconfirmed"
    assert len(stage.provider.bought()) == 1
