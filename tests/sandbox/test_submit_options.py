"""What can go wrong while a task is bought, and what is in the ledger afterwards."""

import asyncio

import httpx
import pytest

from tests.measuring import HANG

from .rig import CALLING_BACK, FAMILIES, Rig, id_in

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("family", "http_status", "told"),
    [
        ("rivya", 400, "validation_failed"),
        ("apixo", 400, '"code": 400'),
        ("revid", 200, '"code": 402'),
        ("kie", 200, '"code": 402'),
        ("kie-veo", 200, '"code": 402'),
        ("gateway", 400, "Inpaint image must match the requested width and height"),
    ],
)
async def test_a_refusal_buys_nothing(rig: Rig, family: str, http_status: int, told: str) -> None:
    answer = await rig.buy(family, "A cat [sandbox: submit=refuse]")
    assert answer.status_code == http_status
    assert told in answer.text
    assert await rig.purchases() == []


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_busy_provider_takes_the_second_try(rig: Rig, family: str) -> None:
    prompt = "A cat [sandbox: submit=busy]"
    first = await rig.buy(family, prompt)
    assert (first.status_code, first.headers["retry-after"]) == (429, "1")
    assert await rig.purchases() == []
    assert id_in(await rig.buy(family, prompt)) == (await rig.purchases())[0]["id"]


async def test_being_busy_is_told_once_for_each_family_and_prompt(rig: Rig) -> None:
    orders = [("rivya", "A"), ("apixo", "A"), ("apixo", "B"), ("apixo", "A"), ("rivya", "A")]
    answers = [await rig.buy(family, f"{prompt} [sandbox: submit=busy]") for family, prompt in orders]
    assert [answer.status_code for answer in answers] == [429, 429, 429, 200, 200]


@pytest.mark.parametrize("family", CALLING_BACK)
async def test_a_broken_answer_is_a_purchase_each_time(rig: Rig, family: str) -> None:
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError):
            await rig.buy(family, "A cat [sandbox: submit=break]")
    assert len(await rig.purchases()) == 2


async def test_half_of_a_broken_answer_does_arrive(rig: Rig) -> None:
    seen = bytearray()

    async def read(answer: httpx.Response) -> None:
        async for chunk in answer.aiter_raw():
            seen.extend(chunk)

    path, body = "/revid/paid/sora2/create", {"model": "sora-2", "input": {"prompt": "A [sandbox: submit=break]"}}
    async with rig.client.stream("POST", path, json=body, headers={"x-api-key": "any"}) as answer:
        with pytest.raises(httpx.RemoteProtocolError):
            await read(answer)
    assert answer.status_code == 200
    assert len(seen) == int(answer.headers["content-length"]) // 2
    assert seen.startswith(b'{"code": 200')


@pytest.mark.parametrize("family", CALLING_BACK)
async def test_the_callback_of_a_broken_purchase_still_comes(rig: Rig, family: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await rig.buy(family, "A cat [sandbox: submit=break after=0]", rig.sink.link("t1"))
    (call,) = await rig.sink.until("t1")
    assert (await rig.purchases())[0]["id"] in call.raw.decode()


@pytest.mark.parametrize("family", CALLING_BACK)
async def test_a_mute_provider_has_sold_but_says_nothing_until_the_client_goes(rig: Rig, family: str) -> None:
    buying = asyncio.create_task(rig.buy(family, "A cat [sandbox: submit=mute after=0]", rig.sink.link("t1")))
    (call,) = await rig.sink.until("t1")
    assert (await rig.purchases())[0]["id"] in call.raw.decode()
    assert not buying.done()
    buying.cancel()


@pytest.mark.parametrize("trouble", ["break", "mute"])
async def test_a_repeat_under_the_same_key_is_answered_properly_and_buys_nothing(rig: Rig, trouble: str) -> None:
    prompt = f"A cat [sandbox: submit={trouble}]"
    buying = asyncio.create_task(rig.buy("rivya", prompt, key="k1"))
    async with asyncio.timeout(HANG):
        while not await rig.purchases():  # noqa: ASYNC110 - the ledger has no event
            await asyncio.sleep(0.01)
    if trouble == "mute":
        buying.cancel()
    with pytest.raises((httpx.RemoteProtocolError, asyncio.CancelledError)):
        await buying
    answer = await rig.buy("rivya", prompt, key="k1")
    assert answer.status_code == 200
    assert [purchase["id"] for purchase in await rig.purchases()] == [id_in(answer)]


async def test_racing_repeats_under_one_key_buy_once(rig: Rig) -> None:
    answers = await asyncio.gather(*(rig.buy("rivya", "A cat", key="k1") for _ in range(10)))
    assert len({id_in(answer) for answer in answers}) == 1
    assert len(await rig.purchases()) == 1


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_failing_status_is_a_page_for_people_every_time(rig: Rig, family: str) -> None:
    task_id = id_in(await rig.buy(family, "A cat [sandbox: status=fail after=0]"))
    for _ in range(2):
        answer = await rig.ask(family, task_id)
        assert answer.status_code == 500
        assert answer.headers["content-type"].startswith("text/html")
    assert (await rig.purchases())[0]["status_asks"] == 2


async def test_options_combine(rig: Rig) -> None:
    prompt = "A cat [sandbox: submit=break callback=twice status=fail result=fail after=0]"
    with pytest.raises(httpx.RemoteProtocolError):
        await rig.buy("apixo", prompt, rig.sink.link("t1"))
    calls = await rig.sink.until("t1", 2)
    assert [call.body["data"]["state"] for call in calls] == ["failed", "failed"]
    assert (await rig.ask("apixo", calls[0].body["data"]["taskId"])).status_code == 500
