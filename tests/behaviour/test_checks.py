"""Interface, sections 1 and 2: when a provider is asked, how often, and what its answers do."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.behaviour.families import APIXO, CALLING_BACK, FAMILIES, GATEWAY, REVID, RIVYA, Body, Family
from tests.behaviour.provider import Provider, Received, Script, after, cuts, hangs, says, shows, slams, writes
from tests.behaviour.service import NOW, Service, Stage, Task, milliseconds

pytestmark = pytest.mark.anyio

DAY = "Fri, 20 Nov 2026 00:00:00 GMT"
URL = "https://cdn.example.com/out.mp4"
ID = "the-remote-id"
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))


async def ordered(service: Service, family: Family) -> Task:
    service.provider.on_create(family, says(family.accepted(ID)))
    return await service.order(family.order())


# --- the first check


@dataclass(frozen=True)
class First:
    """Settings, and the seconds from submission to the first check under them."""

    family: Family
    seconds: float
    settings: dict[str, str | None] = field(default_factory=dict)


SILENT: dict[str, str | None] = {"PUBLIC_URL": None}
FIRSTS = [
    *(pytest.param(First(family, 300), id=f"{family.name}-called-back") for family in CALLING_BACK),
    pytest.param(First(RIVYA, 30), id="rivya-has-no-callbacks-of-a-task"),
    pytest.param(First(APIXO, 180, SILENT), id="apixo-advises-180"),
    pytest.param(First(REVID, 30, SILENT), id="revid-advises-nothing"),
    pytest.param(First(GATEWAY, 30, SILENT), id="gateway-advises-nothing"),
    pytest.param(First(APIXO, 7.5, {**SILENT, "POLL_AFTER": "7.5"}), id="a-setting-beats-advice"),
    pytest.param(First(REVID, 12.25, {"CALLBACK_GRACE": "12.25"}), id="grace"),
    pytest.param(First(REVID, 300, {"POLL_AFTER": "5"}), id="poll-after-is-not-for-callbacks"),
    pytest.param(First(REVID, 100, {"DEADLINE": "100"}), id="never-after-the-deadline"),
]


@pytest.mark.parametrize("first", FIRSTS)
async def test_the_first_check_comes_in_its_time_and_not_before(first: First, stage: Stage) -> None:
    async with stage.serve(**first.settings) as service:
        task = await ordered(service, first.family)
        assert milliseconds(task["next_check_at"]) - milliseconds(task["submitted_at"]) == first.seconds * 1000
        report = await service.poll_after(first.seconds - 0.001)
        assert (report["checked"], stage.provider.asked()) == (0, [])
        report = await service.poll_after(0.001)
        assert report["checked"] == len(stage.provider.asked()) == 1


async def test_the_first_check_is_counted_from_the_submission_however_slow_its_answer(
    service: Service, provider: Provider
) -> None:
    async def slowly(_: Received) -> None:
        service.clock.advance(20)

    provider.on_create(REVID, after(slowly, says(REVID.accepted(ID))))
    task = await service.order(REVID.order())
    assert milliseconds(task["submitted_at"]) == NOW
    assert milliseconds(task["next_check_at"]) == NOW + 300_000


async def test_a_progress_callback_does_not_put_the_check_off(service: Service) -> None:
    task = await ordered(service, GATEWAY)
    service.clock.advance(200)
    await service.call_back(task["id"], GATEWAY.working(ID))
    assert milliseconds((await service.task(task["id"]))["next_check_at"]) == NOW + 300_000


# --- how a provider is asked


async def test_each_family_is_asked_in_its_own_way(service: Service, provider: Provider) -> None:
    for family in FAMILIES.values():
        provider.on_create(family, says(family.accepted("veo3:1756693796-YQ/V?1")))
        task = await service.order(family.order())
        assert (await service.post(f"/api/tasks/{task['id']}/check")).status_code == 200
    asked = {it.account: (it.method, it.path, dict(it.query)) for it in provider.asked()}
    quoted = "veo3%3A1756693796-YQ%2FV%3F1"
    assert asked == {
        "rivya": ("GET", f"/api/v1/generations/{quoted}", {}),
        "apixo": ("GET", "/api/v1/statusTask/sora-2", {"taskId": ["veo3:1756693796-YQ/V?1"]}),
        "revid": ("POST", "/paid/get/taskid", {"taskId": ["veo3:1756693796-YQ/V?1"]}),
        "gateway": ("GET", f"/v2/videos/generations/{quoted}", {}),
    }
    assert [it.body for it in provider.asked()] == [b""] * 4


# --- what an answer does

ANSWERS: dict[str, Callable[[Family], Body]] = {
    "submitted": lambda family: family.waiting(ID),
    "running": lambda family: family.working(ID),
    "succeeded": lambda family: family.done(ID, URL),
    "failed": lambda family: family.failed(ID, "CODE", "words"),
}


@every_family
@pytest.mark.parametrize("told", ANSWERS)
async def test_a_status_answer_moves_the_task(family: Family, told: str, service: Service, provider: Provider) -> None:
    task = await ordered(service, family)
    provider.on_check(family, says(ANSWERS[told](family)))
    report = await service.poll_when_due(task["id"])
    ended = told in ("succeeded", "failed")
    assert report == {"submitted": 0, "checked": 1, "settled": int(ended), "expired": 0, "failed": 0}
    task = await service.task(task["id"])
    assert (task["state"], task["checks"], task["deliveries"]) == (told, 1, 0)
    assert task["settled_by"] == ("check" if ended else None)
    assert (task["next_check_at"] is None) == ended
    assert task["evidence"]["token"] is False
    assert task["error"] == ({"code": "CODE", "message": "words"} if told == "failed" else None)
    assert [output["url"] for output in task["outputs"]] == ([URL] if told == "succeeded" else [])


@every_family
@pytest.mark.parametrize("told", ["succeeded", "failed"])
async def test_what_is_settled_is_not_asked_about_again(
    family: Family, told: str, service: Service, provider: Provider
) -> None:
    task = await ordered(service, family)
    provider.on_check(family, says(ANSWERS[told](family)))
    await service.poll_when_due(task["id"])
    await service.poll_after(8000)
    assert len(provider.asked()) == 1
    assert (await service.task(task["id"]))["state"] == told


# --- a failed check is not a failed task

USELESS: dict[str, Script] = {
    "404": says({"error": {"code": "not_found", "message": "no such task"}}, 404),
    "401": says({"code": 401, "msg": "key"}, 401),
    "403-html": shows("<html>forbidden</html>", 403),
    "400": says({"code": 400, "message": "bad", "data": {"error": "bad"}}, 400),
    "429": says({"error": {"message": "slow down"}}, 429),
    "500": says({"code": 500, "msg": "oops"}, 500),
    "503-html": shows("<html>maintenance</html>", 503),
    "no-in-200": says({"code": 404, "msg": "task not found", "data": None}),
    "422-in-200": says({"code": 422, "message": "recordInfo is null", "data": None}),
    "429-in-200": says({"code": 429, "msg": "rate"}),
    "error-in-200": says({"error": {"message": "internal", "code": "x"}}),
    "null-state": says({"code": 200, "data": {"taskId": ID, "state": None}, "task_id": ID, "status": None}),
    "empty": shows(""),
    "html-200": shows("<html>hello</html>"),
    "a-list": says([]),
    "cut": cuts({"task_id": ID, "status": "FAILURE"}),
    "reset": slams(),
    "no-http": writes(b"\x00\x01"),
    "redirect": shows("", 302, Location="/"),
}


@every_family
@pytest.mark.row("E2")
@pytest.mark.row("E5")
async def test_a_failed_check_never_fails_the_task(family: Family, service: Service, provider: Provider) -> None:
    task = await ordered(service, family)
    for number, (name, script) in enumerate(USELESS.items(), 1):
        provider.on_check(family, script)
        report = await service.poll_when_due(task["id"])
        assert report == {"submitted": 0, "checked": 1, "settled": 0, "expired": 0, "failed": 1}, name
        task = await service.task(task["id"])
        assert (task["state"], task["error"], task["checks"]) == ("submitted", None, number), name
    provider.on_check(family, says(family.done(ID, URL)))
    await service.poll_when_due(task["id"])
    assert (await service.task(task["id"]))["state"] == "succeeded"
    assert len(provider.bought()) == 1


@pytest.mark.row("E3")
async def test_a_silent_check_never_fails_the_task(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service, REVID)
        stage.provider.on_check(REVID, hangs(b"HTTP/1.1 200 OK\r\n"))
        report = await service.when_time_is_over(
            service.poll_when_due(task["id"]), lambda: len(stage.provider.asked()) == 1
        )
        assert (report["checked"], report["failed"]) == (1, 1)
        assert (await service.task(task["id"]))["state"] == "submitted"


@every_family
async def test_an_answer_about_another_task_is_never_applied(
    family: Family, service: Service, provider: Provider
) -> None:
    task = await ordered(service, family)
    provider.on_check(family, says(family.done("of-somebody-else", URL)))
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (task["state"], task["remote_id"], task["outputs"]) == ("submitted", ID, [])
    assert any("of-somebody-else" in notice for notice in task["notices"])
    assert task["next_check_at"] is not None


async def test_a_success_inside_an_envelope_that_says_no_is_a_success(service: Service, provider: Provider) -> None:
    task = await ordered(service, REVID)
    provider.on_check(REVID, says({**REVID.done(ID, URL), "code": 500, "msg": "error"}))
    await service.poll_when_due(task["id"])
    assert (await service.task(task["id"]))["state"] == "succeeded", "only the state field settles"


# --- gaps


@pytest.mark.row("E2")
async def test_gaps_between_checks_grow_up_to_their_cap(stage: Stage) -> None:
    async with stage.serve(POLL_EVERY="10", POLL_MAX="60") as service:
        task, gaps = await ordered(service, REVID), []
        await service.poll_when_due(task["id"])
        for _ in range(6):
            gaps.append((milliseconds((await service.task(task["id"]))["next_check_at"]) - service.clock.now) / 1000)
            await service.poll_when_due(task["id"])
    for gap, grown in zip(gaps, (10, 16, 25.6, 40.96, 60, 60), strict=True):
        assert 0.8 * grown <= gap <= 1.2 * grown


@pytest.mark.row("E2")
async def test_gaps_are_jittered(service: Service, provider: Provider) -> None:
    for number in range(8):
        provider.on_create(REVID, says(REVID.accepted(f"r-{number}")))
        await service.order(REVID.order())
    await service.poll_after(300)
    tasks = (await service.client.get("/api/tasks")).json()["tasks"]
    assert len({task["next_check_at"] for task in tasks}) > 1


RETRIES = [
    pytest.param({"Retry_After": "77"}, 77, id="seconds"),
    pytest.param({"Retry_After": "Fri, 20 Nov 2026 00:01:40 GMT", "Date": DAY}, 100, id="date"),
]


@pytest.mark.parametrize(("headers", "seconds"), RETRIES)
@every_family
@pytest.mark.row("E1")
async def test_a_429_to_a_check_is_respected(
    family: Family, headers: dict[str, str], seconds: float, service: Service, provider: Provider
) -> None:
    task = await ordered(service, family)
    provider.on_check(family, says({"message": "slow down"}, 429, **headers))
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert milliseconds(task["next_check_at"]) - service.clock.now == seconds * 1000


@pytest.mark.row("E1")
async def test_a_retry_after_beyond_the_deadline_waits_until_the_deadline(service: Service, provider: Provider) -> None:
    task = await ordered(service, REVID)
    service.clock.advance(7000)
    provider.on_check(REVID, says({"message": "slow down"}, 429, Retry_After="3000"))
    await service.poll()
    assert milliseconds((await service.task(task["id"]))["next_check_at"]) == NOW + 7_200_000


# --- by hand


async def test_a_check_by_hand_asks_now(service: Service, provider: Provider) -> None:
    task = await ordered(service, REVID)
    provider.on_check(REVID, says(REVID.done(ID, URL)))
    answer = await service.post(f"/api/tasks/{task['id']}/check")
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["settled_by"], answer.json()["checks"]) == ("succeeded", "check", 1)


async def test_a_check_by_hand_that_fails_answers_with_the_task(service: Service, provider: Provider) -> None:
    task = await ordered(service, REVID)
    provider.on_check(REVID, slams())
    answer = await service.post(f"/api/tasks/{task['id']}/check")
    assert (answer.status_code, answer.json()["state"], answer.json()["checks"]) == (200, "submitted", 1)


@pytest.mark.parametrize("script", [slams(), says({"message": "busy"}, 429), says({"code": 400, "msg": "no"}, 400)])
async def test_a_check_by_hand_without_a_remote_id_is_a_conflict(
    script: Script, service: Service, provider: Provider
) -> None:
    provider.on_create(REVID, script)
    task = await service.order(REVID.order())
    answer = await service.post(f"/api/tasks/{task['id']}/check")
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert provider.asked() == []


async def test_a_check_by_hand_may_find_that_a_failed_task_was_done(service: Service, provider: Provider) -> None:
    task = await ordered(service, REVID)
    await service.call_back(task["id"], REVID.failed(ID))
    provider.on_check(REVID, says(REVID.done(ID, URL)))
    answer = await service.post(f"/api/tasks/{task['id']}/check")
    assert (answer.json()["state"], answer.json()["settled_by"], answer.json()["error"]) == ("succeeded", "check", None)


@pytest.mark.parametrize("answer", [says(REVID.failed(ID)), says(REVID.working(ID)), says(REVID.waiting(ID)), slams()])
async def test_a_check_by_hand_does_not_undo_success(answer: Script, service: Service, provider: Provider) -> None:
    task = await ordered(service, REVID)
    await service.call_back(task["id"], REVID.done(ID, URL))
    provider.on_check(REVID, answer)
    await service.post(f"/api/tasks/{task['id']}/check")
    task = await service.task(task["id"])
    assert (task["state"], len(task["outputs"]), task["next_check_at"]) == ("succeeded", 1, None)


# --- the timed sweep


async def test_the_poller_sweeps_by_itself(stage: Stage) -> None:
    async with stage.serve(POLLER="on") as service:
        task = await ordered(service, REVID)
        stage.provider.on_check(REVID, says(REVID.done(ID, URL)))
        stage.clock.advance(300)
        task = await service.until_state(task["id"], "succeeded")
        assert task["settled_by"] == "check"


async def test_without_poller_nothing_is_asked_unless_somebody_causes_it(stage: Stage) -> None:
    async with stage.serve(POLLER="off") as service:
        task = await ordered(service, REVID)
        stage.clock.advance(300)
        assert (await service.task(task["id"], wait=0.7))["state"] == "submitted"
        assert stage.provider.asked() == []
        assert await service.call_back(task["id"], b"?") == "unreadable"
        await service.until_checked(task["id"])


@pytest.mark.row("E3")
async def test_one_slow_provider_does_not_hold_up_another(service: Service, provider: Provider) -> None:
    slow, fast = await ordered(service, REVID), await ordered(service, APIXO)

    async def wait(_: Received) -> None:
        await service.until_state(fast["id"], "succeeded")

    provider.on_check(REVID, after(wait, says(REVID.done(ID, URL))))
    provider.on_check(APIXO, says(APIXO.done(ID, URL)))
    report = await service.poll_after(300)
    assert report["settled"] == 2
    assert (await service.task(slow["id"]))["state"] == "succeeded"


async def test_a_sweep_looks_at_everything_that_is_due(service: Service, provider: Provider) -> None:
    for number in range(30):
        provider.on_create(REVID, says(REVID.accepted(f"r-{number}")))
        await service.order(REVID.order())
    assert await service.poll_after(300) == {"submitted": 0, "checked": 30, "settled": 0, "expired": 0, "failed": 0}
    assert len({it.query["taskId"][0] for it in provider.asked()}) == 30
