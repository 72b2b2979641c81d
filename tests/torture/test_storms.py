"""Providers in a storm: they fail, turn away, answer nonsense, and each task ends as it should, bought at most once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from receiver.core.errors import Unconfirmed
from receiver.outbound.client import Outbound
from receiver.outbound.decoding import MAX_ANSWER_BYTES
from tests.behaviour.families import APIXO, FAMILIES, GATEWAY, REVID, RIVYA, Family
from tests.behaviour.provider import Exchange, Script, asked_about, family_of, says, shows, writes
from tests.behaviour.service import NOW, Stage, milliseconds, staged
from tests.measuring import HANG
from tests.outbound.test_client import Peer, buy
from tests.torture.harness import Torture

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def stage(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path, tmp_path_factory) as stage:
        yield stage


# --- E1: "not now"


@dataclass(frozen=True)
class Pause:
    """A `Retry-After`, and the seconds between which the next request may come."""

    value: str
    least: float
    most: float


OWN = (8.0, 12.0)
"""The first gap of our own, jittered."""
PAUSES = {
    "seconds": Pause("77", 77, 77),
    "a date": Pause("Fri, 20 Nov 2026 12:06:30 GMT", 90, 90),
    "a date that is past": Pause("Fri, 20 Nov 2026 11:00:00 GMT", 1, 12),
    "nothing": Pause("0", 1, 12),
    "a negative number": Pause("-1", *OWN),
    "a number in other words": Pause("1e9", *OWN),
    "for ever": Pause("1000000000", 3600, 3600),
    "no number": Pause("abc", *OWN),
    "two numbers": Pause("7, 9", *OWN),
}
DATE = "Fri, 20 Nov 2026 12:05:00 GMT"


@pytest.mark.row("E1")
@pytest.mark.parametrize("pause", PAUSES)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_check_that_is_turned_away_comes_not_before_its_time(pause: str, status: int, stage: Stage) -> None:
    it = PAUSES[pause]
    async with stage.serve() as service:
        task = await service.order(REVID.order())
        stage.provider.on_check(REVID, says({"message": "later"}, status, Retry_After=it.value, Date=DATE))
        await service.poll_after(300)
        assert len(stage.provider.asked()) == 1
        waits = (milliseconds((await service.task(task["id"]))["next_check_at"]) - stage.clock.now) / 1000
        assert it.least <= waits <= it.most
        await service.poll_after(waits - 0.001)
        assert len(stage.provider.asked()) == 1
        await service.poll_after(0.001)
        assert len(stage.provider.asked()) == 2


@pytest.mark.row("E1")
async def test_a_repeat_under_a_key_waits_as_long_as_a_503_says(stage: Stage) -> None:
    async with stage.serve() as service:
        stage.provider.on_create(RIVYA, says({"error": {"message": "down"}}, 503, Retry_After="77"))
        await service.order(RIVYA.order())
        stage.provider.on_create(RIVYA)
        await service.poll_after(76.999)
        assert len(stage.provider.bought()) == 1
        assert (await service.poll_after(0.001))["submitted"] == 1


@pytest.mark.row("E1")
async def test_a_code_of_429_inside_a_200_waits_as_long_as_it_says(stage: Stage) -> None:
    async with stage.serve() as service:
        busy = says({"code": 429, "msg": "rate limit", "data": None}, Retry_After="77")
        stage.provider.on_create(REVID, busy, says(REVID.accepted("r-1")))
        await service.order(REVID.order())
        await service.poll_after(76.999)
        assert len(stage.provider.bought()) == 1
        await service.poll_after(0.001)
        assert len(stage.provider.bought()) == 2


# --- E2: a storm of server errors


@pytest.mark.row("E2")
@every_family
async def test_a_storm_of_server_errors_is_asked_through_with_growing_gaps(
    family: Family, stage: Stage, torture: Torture
) -> None:
    number, asked = torture.size(3, 100), Counter[tuple[int, str]]()
    async with stage.serve() as service:
        for n in range(number):
            await service.order(family.order(f"boat {n}"))
        await service.poll_after(301)
        stage.provider.on_check(family, shows("down", 500), shows("<h1>bad gateway</h1>", 502), shows("", 504))
        for second in range(0, 600, 5):
            before = len(stage.provider.asked())
            await service.poll_after(5)
            for request in stage.provider.asked()[before:]:
                asked[second // 60, asked_about(request)] += 1
        assert max(asked.values()) <= 12
        assert max(times for (minute, _), times in asked.items() if minute > 4) <= 2, "the gaps have grown"
        stage.provider.on_check(family, is_done)
        for _ in range(30):
            await service.poll_after(5)
        tasks = (await service.client.get("/api/tasks", params={"limit": 200})).json()["tasks"]
        assert [task["state"] for task in tasks] == ["succeeded"] * number
        assert len(stage.provider.bought()) == number
    torture.figures(**{f"checks a minute and task at {family.name}, at most": max(asked.values())})


async def is_done(exchange: Exchange) -> None:
    request = exchange.request
    await says(family_of(request.account).done(asked_about(request), URL))(exchange)


# --- E5: what an answer inside an HTTP 200 means

REFUSED, LATER, UNCLEAR = "failed", "queued", "unconfirmed"
CODES = {
    400: REFUSED, 401: REFUSED, 402: REFUSED, 404: REFUSED, 422: REFUSED, 433: REFUSED, 455: REFUSED, 505: REFUSED,
    429: LATER,
    500: UNCLEAR, 501: UNCLEAR, 550: UNCLEAR,
}  # fmt: skip


@pytest.mark.row("E5")
@pytest.mark.parametrize("family", [APIXO, REVID, GATEWAY], ids=lambda family: family.name)
async def test_each_code_inside_a_200_means_one_thing_for_an_order(family: Family, stage: Stage) -> None:
    async with stage.serve() as service:
        ended = {}
        for code in CODES:
            answer = {"code": code, "message": "Something happened.", "msg": "Something happened.", "data": None}
            stage.provider.on_create(family, says(answer))
            task = await service.order(family.order(f"{code}"))
            ended[code] = task["state"]
            told = [*task["notices"], (task["error"] or {}).get("message", "")]
            assert any("Something happened." in words for words in told)
        assert ended == CODES
        stage.provider.on_create(family)
        for _ in range(20):
            await service.poll_after(60)
        sent = Counter(str(request.json.get("prompt") or request.json["input"]["prompt"])
                       for request in stage.provider.bought())  # fmt: skip
        assert sent == {str(code): 2 if end == LATER else 1 for code, end in CODES.items()}


@pytest.mark.row("E5")
@every_family
async def test_no_code_inside_a_200_settles_a_task_that_is_asked_about(family: Family, stage: Stage) -> None:
    async with stage.serve() as service:
        task = await service.order(family.order())
        for code in CODES:
            answer = {"code": code, "message": "Something happened.", "msg": "Something happened.", "data": None}
            stage.provider.on_check(family, says(answer))
            await service.poll_when_due(task["id"])
        task = await service.task(task["id"])
        assert (task["state"], task["error"], task["checks"]) == ("submitted", None, len(CODES))


NO_IDS = {"null": None, "a list": ["a"], "an object": {"a": 1}, "a flag": True, "empty": "", "blank": "  "}


@pytest.mark.row("E5")
@pytest.mark.parametrize("family", [APIXO, REVID, GATEWAY], ids=lambda family: family.name)
@pytest.mark.parametrize("kind", NO_IDS)
async def test_what_is_no_id_leaves_the_order_unconfirmed(family: Family, kind: str, stage: Stage) -> None:
    async with stage.serve() as service:
        told = NO_IDS[kind]
        answer = {"code": 200, "msg": "success", "data": {"taskId": told}, "task_id": told}
        stage.provider.on_create(family, says(answer), says(family.accepted("second")))
        task = await service.order(family.order())
        assert (task["state"], task["remote_id"], task["error"]["code"]) == ("unconfirmed", None, "broken_answer")
        await service.poll_after(3600)
        assert len(stage.provider.bought()) == 1


HALF = b'{"code":200,"msg":"success","data":{"taskId":"281e5b0'
CUT: dict[str, Script] = {
    "without a length": writes(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + HALF),
    "with its own length": writes(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(HALF) + HALF),
    "with the whole length": writes(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n" + HALF),
    "chunked": writes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(HALF), HALF)),
}


@pytest.mark.row("E5")
@pytest.mark.parametrize("cut", CUT)
async def test_half_an_answer_is_no_answer(cut: str, stage: Stage) -> None:
    async with stage.serve() as service:
        stage.provider.on_create(REVID, CUT[cut], says(REVID.accepted("second")))
        task = await service.order(REVID.order())
        assert (task["state"], task["remote_id"], task["error"]["code"]) == ("unconfirmed", None, "broken_answer")
        await service.poll_after(3600)
        assert len(stage.provider.bought()) == 1


@pytest.mark.row("E5")
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
async def test_of_an_answer_of_fifty_megabytes_no_more_is_taken_than_is_read(declared: bool) -> None:  # noqa: FBT001 - a column of the table
    """What is not read is not kept, so that memory stays bounded however much comes."""
    whole, taken = 50 * 1024 * 1024, 0

    async def behave(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await peer.take(reader)
        length = b"Content-Length: %d\r\n" % whole if declared else b""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + length + b"\r\n")
        while taken < whole:
            writer.write(b'"' + b"x" * 65_535)
            await writer.drain()
            taken += 65_536

    outbound = Outbound(HANG, lambda: NOW)
    async with Peer(behave).listening() as peer:
        with pytest.raises(Unconfirmed, match="more than"):
            await buy(outbound, peer.url)
    await outbound.close()
    assert taken <= MAX_ANSWER_BYTES + 16 * 1024 * 1024, "what both sides' sockets hold comes on top"
