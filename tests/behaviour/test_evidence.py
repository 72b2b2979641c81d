"""Interface, sections 2 and 4: when a final callback counts at once and when the provider is asked first
(`RECEIVER_CONFIRM`), and a success that brings nothing."""

from collections.abc import Callable

import pytest

from tests.behaviour.families import APIXO, CALLING_BACK, GATEWAY, REVID, Body, Family, revid_done
from tests.behaviour.provider import Provider, says, shows, slams
from tests.behaviour.service import Service, Stage, Task

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
ID = "the-remote-id"
every_family = pytest.mark.parametrize("family", CALLING_BACK, ids=[family.name for family in CALLING_BACK])

FINAL: dict[str, Callable[[Family], Body]] = {
    "succeeded": lambda family: family.done(ID, URL),
    "failed": lambda family: family.failed(ID),
}
every_end = pytest.mark.parametrize("end", FINAL)


async def ordered(service: Service, family: Family) -> Task:
    service.provider.on_create(family, says(family.accepted(ID)))
    return await service.order(family.order())


# --- auto


@every_family
@every_end
async def test_auto_takes_a_tasks_own_url_with_a_matching_id_for_enough(family: Family, end: str, stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service, family)
        assert await service.call_back(task["id"], FINAL[end](family)) == "applied"
        task = await service.task(task["id"])
        assert (task["state"], task["settled_by"]) == (end, "callback")
        assert task["evidence"] == {"token": True, "signature": None, "confirmed_at": None}
        await service.poll_after(7200)
    assert stage.provider.asked() == []


# --- always


@every_family
@every_end
async def test_always_confirms_every_final_callback_by_one_request(
    family: Family, end: str, stage: Stage, provider: Provider
) -> None:
    async with stage.serve(CONFIRM="always") as service:
        task = await ordered(service, family)
        provider.on_check(family, says(FINAL[end](family)))
        assert await service.call_back(task["id"], FINAL[end](family)) == "confirming"
        task = await service.until_state(task["id"], end)
        assert (task["settled_by"], task["checks"], task["deliveries"]) == ("callback", 1, 1)
        assert task["evidence"] == {"token": True, "signature": None, "confirmed_at": task["finished_at"]}
        assert await service.moves(task["id"]) == ["submitting", "submitted", end]
        await service.poll_after(7200)
    assert len(provider.asked()) == 1


@every_end
async def test_always_does_not_believe_what_the_provider_denies(end: str, stage: Stage, provider: Provider) -> None:
    async with stage.serve(CONFIRM="always") as service:
        task = await ordered(service, REVID)
        provider.on_check(REVID, says(REVID.waiting(ID)), says(REVID.done(ID, f"{URL}?true")))
        assert await service.call_back(task["id"], FINAL[end](REVID)) == "confirming"
        task = await service.until_checked(task["id"])
        assert (task["state"], task["settled_by"], task["outputs"], task["error"]) == ("submitted", None, [], None)
        await service.poll_when_due(task["id"])
        task = await service.task(task["id"])
        assert (task["state"], [output["url"] for output in task["outputs"]]) == ("succeeded", [f"{URL}?true"])
        assert task["settled_by"] == ("callback" if end == "succeeded" else "check")


async def test_always_asks_again_when_the_confirming_request_fails(stage: Stage, provider: Provider) -> None:
    async with stage.serve(CONFIRM="always") as service:
        task = await ordered(service, REVID)
        provider.on_check(REVID, shows("down", 502), says(REVID.done(ID, URL)))
        await service.call_back(task["id"], REVID.done(ID, URL))
        task = await service.until_checked(task["id"])
        assert task["state"] == "submitted"
        await service.poll_when_due(task["id"])
        assert (await service.task(task["id"]))["state"] == "succeeded"


@every_end
async def test_a_final_callback_still_awaiting_confirmation_is_applied_instead_of_expiring(
    end: str, stage: Stage, provider: Provider
) -> None:
    async with stage.serve(CONFIRM="always") as service:
        task = await ordered(service, REVID)
        provider.on_check(REVID, shows("down", 502))
        await service.call_back(task["id"], FINAL[end](REVID))
        await service.until_checked(task["id"])
        await service.poll_after(7199)
        assert (await service.task(task["id"]))["state"] == "submitted"
        report = await service.poll_after(1)
        task = await service.task(task["id"])
        assert (task["state"], task["settled_by"]) == (end, "callback")
        assert task["evidence"] == {"token": True, "signature": None, "confirmed_at": None}
        assert (report["settled"], report["expired"]) == (1, 0)


async def test_always_lets_news_that_is_not_final_pass(stage: Stage) -> None:
    async with stage.serve(CONFIRM="always") as service:
        task = await ordered(service, GATEWAY)
        assert await service.call_back(task["id"], GATEWAY.working(ID)) == "applied"
        assert (await service.task(task["id"]))["state"] == "running"
    assert stage.provider.asked() == []


@pytest.mark.parametrize("how", ["queued", "unconfirmed"])
async def test_always_never_sends_again_what_a_callback_was_heard_of(how: str, stage: Stage) -> None:
    async with stage.serve(CONFIRM="always") as service:
        first = says({"message": "busy"}, 429) if how == "queued" else slams()
        stage.provider.on_create(REVID, first, says(REVID.accepted("2nd")))
        stage.provider.on_check(REVID, shows("down", 502))
        task = await service.order(REVID.order())
        assert await service.call_back(task["id"], REVID.done(ID, URL)) == "confirming"
        await service.until_checked(task["id"])
        await service.poll_after(600)
        task = await service.task(task["id"])
        assert (task["state"], task["remote_id"]) == ("submitted", ID)
    assert len(stage.provider.bought()) == 1


# --- never


async def test_never_believes_a_final_callback_that_names_no_task(stage: Stage) -> None:
    async with stage.serve(CONFIRM="never") as service:
        task = await ordered(service, REVID)
        assert await service.call_back(task["id"], revid_done("", URL, taskId=None)) == "applied"
        task = await service.task(task["id"])
        assert (task["state"], task["settled_by"], task["evidence"]["confirmed_at"]) == ("succeeded", "callback", None)
    assert stage.provider.asked() == []


async def test_never_does_not_ask_about_contradictions_either(stage: Stage) -> None:
    async with stage.serve(CONFIRM="never") as service:
        task = await ordered(service, REVID)
        await service.call_back(task["id"], REVID.failed(ID))
        assert await service.call_back(task["id"], REVID.done(ID, URL)) == "late"
        task = await service.task(task["id"])
        assert (task["state"], len(task["notices"])) == ("failed", 1)
    assert stage.provider.asked() == []


# --- a success that brings nothing


EMPTY: dict[str, Callable[[Family], Body]] = {
    "gateway": lambda family: family.done(ID),
    "apixo": lambda family: family.done(ID),
    "revid": lambda _: revid_done(ID, resultJson=None),
    "revid-empty-text": lambda _: revid_done(ID, resultJson=""),
    "revid-no-urls": lambda _: revid_done(ID, resultJson='{"resultUrls":[]}'),
    "revid-broken": lambda _: revid_done(ID, resultJson='{"resultUrls":['),
}
EMPTIES = [
    pytest.param({"gateway": GATEWAY, "apixo": APIXO, "revid": REVID}[name.split("-")[0]], name, id=name)
    for name in EMPTY
]
each_empty = pytest.mark.parametrize(("family", "name"), EMPTIES)


@each_empty
async def test_a_success_without_a_result_is_asked_about_at_once(
    family: Family, name: str, service: Service, provider: Provider
) -> None:
    task = await ordered(service, family)
    provider.on_check(family, says(family.done(ID, URL)))
    assert await service.call_back(task["id"], EMPTY[name](family)) == "confirming"
    task = await service.until_state(task["id"], "succeeded")
    assert (task["settled_by"], task["checks"]) == ("callback", 1)
    assert [output["url"] for output in task["outputs"]] == [URL]
    assert await service.moves(task["id"]) == ["submitting", "submitted", "running", "succeeded"]


@each_empty
async def test_without_a_result_a_task_stays_running_and_is_asked_about_again(
    family: Family, name: str, service: Service, provider: Provider
) -> None:
    task = await ordered(service, family)
    provider.on_check(family, says(EMPTY[name](family)), says(family.done(ID, URL)))
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (task["state"], task["finished_at"], task["outputs"]) == ("running", None, [])
    await service.poll_when_due(task["id"])
    assert (await service.task(task["id"]))["state"] == "succeeded"


async def test_after_five_such_answers_it_is_succeeded_with_a_notice(service: Service, provider: Provider) -> None:
    task = await ordered(service, APIXO)
    provider.on_check(APIXO, says(APIXO.done(ID)))
    for _ in range(4):
        await service.poll_when_due(task["id"])
        assert (await service.task(task["id"]))["state"] == "running"
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (task["state"], task["outputs"], task["checks"], task["settled_by"]) == ("succeeded", [], 5, "check")
    assert task["notices"]


async def test_at_the_deadline_it_is_succeeded_with_a_notice(service: Service, provider: Provider) -> None:
    task = await ordered(service, APIXO)
    provider.on_check(APIXO, says(APIXO.done(ID)), shows("down", 502))
    await service.poll_when_due(task["id"])
    report = await service.poll_after(7200)
    task = await service.task(task["id"])
    assert (task["state"], task["outputs"]) == ("succeeded", [])
    assert task["notices"]
    assert (report["settled"], report["expired"]) == (1, 0)


@pytest.mark.parametrize("confirm", ["auto", "never"])
async def test_repeated_callbacks_without_a_result_do_not_end_the_asking(
    confirm: str, stage: Stage, provider: Provider
) -> None:
    async with stage.serve(CONFIRM=confirm) as service:
        task = await ordered(service, APIXO)
        empty = says(APIXO.done(ID))
        provider.on_check(APIXO, empty, empty, says(APIXO.done(ID, URL)))
        for _ in range(8):
            await service.call_back(task["id"], APIXO.done(ID))
        for _ in range(3):
            await service.poll_after(300)
        task = await service.until_state(task["id"], "succeeded")
        assert (len(task["outputs"]), task["deliveries"]) == (1, 8)


@pytest.mark.parametrize("confirm", ["auto", "never"])
async def test_a_callback_without_a_result_counts_at_the_deadline(
    confirm: str, stage: Stage, provider: Provider
) -> None:
    async with stage.serve(CONFIRM=confirm) as service:
        task = await ordered(service, APIXO)
        provider.on_check(APIXO, shows("down", 502))
        await service.call_back(task["id"], APIXO.done(ID))
        await service.poll_after(7200)
        task = await service.until_state(task["id"], "succeeded")
        assert task["outputs"] == []
        assert task["notices"]


async def test_never_asks_about_a_success_without_a_result_in_its_time_only(stage: Stage, provider: Provider) -> None:
    async with stage.serve(CONFIRM="never") as service:
        task = await ordered(service, APIXO)
        await service.call_back(task["id"], APIXO.done(ID))
        assert (await service.task(task["id"]))["state"] == "running"
        assert provider.asked() == []
        provider.on_check(APIXO, says(APIXO.done(ID, URL)))
        await service.poll_after(300)
        assert (await service.task(task["id"]))["state"] == "succeeded"
