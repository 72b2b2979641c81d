"""Interface, section 4: the answers at `POST /callbacks/{provider}/{token}`, in the order of their checks."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.behaviour.families import CALLING_BACK, REVID, Body, Family
from tests.behaviour.provider import says
from tests.behaviour.service import Service, Stage, Task, staged
from tests.measuring import Stopwatch
from tests.torture.harness import Torture

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
DONE = REVID.done("r-1", URL)
every_family = pytest.mark.parametrize("family", CALLING_BACK, ids=[family.name for family in CALLING_BACK])
WRONG = "/callbacks/revid/no-token-of-ours"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def stage(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path, tmp_path_factory) as stage:
        yield stage


@pytest.fixture
async def service(stage: Stage) -> AsyncIterator[Service]:
    async with stage.serve() as service:
        yield service


async def ordered(service: Service, family: Family = REVID) -> Task:
    service.provider.on_create(family, says(family.accepted("r-1")))
    return await service.order(family.order())


async def chunked(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


# --- 200


@every_family
async def test_what_is_stored_is_answered_with_exactly_200_and_its_outcome(family: Family, service: Service) -> None:
    task = await ordered(service, family)
    bodies: list[Body | bytes] = [family.working("r-1"), family.done("r-1", URL), b"garbage", family.working("r-1")]
    outcomes = []
    for body in bodies:
        answer = await service.deliver(service.link(task["id"]), body)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert list(answer.json()) == ["outcome"]
        outcomes.append(answer.json()["outcome"])
    assert outcomes == ["applied", "applied", "unreadable", "late"]
    assert (await service.task(task["id"]))["deliveries"] == 4


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "a/b;c=d", ""])
async def test_any_content_type_is_read(kind: str, service: Service) -> None:
    task = await ordered(service)
    headers = {"Content-Type": kind} if kind else {}
    answer = await service.stranger.post(service.link(task["id"]), content=json.dumps(DONE), headers=headers)
    assert answer.json() == {"outcome": "applied"}


async def test_no_bearer_token_is_needed_and_a_wrong_one_does_no_harm(service: Service) -> None:
    task = await ordered(service)
    headers = {"Authorization": "Bearer wrong"}
    answer = await service.stranger.post(service.link(task["id"]), content=json.dumps(DONE), headers=headers)
    assert answer.status_code == 200


async def test_what_was_answered_with_200_survives_a_restart(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service)
        assert await service.call_back(task["id"], DONE) == "applied"
    async with stage.serve() as service:
        assert (await service.task(task["id"]))["state"] == "succeeded"
        assert await service.call_back(task["id"], DONE) == "repeated"


# --- 405, before anything else


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_anything_but_a_post_is_a_405(method: str, service: Service) -> None:
    task = await ordered(service)
    for path in (service.link(task["id"]), WRONG, "/callbacks/nobody/x"):
        answer = await service.stranger.request(method, path, headers={"Content-Encoding": "gzip"})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await service.task(task["id"]))["deliveries"] == 0


# --- 404


def mutations(path: str) -> dict[str, str]:
    """What a stranger might try with a callback path."""
    head, _, token = path.rpartition("/")
    task_id, _, signature = token.partition(".")
    other = task_id[:-1] + ("0" if task_id[-1] != "0" else "1")
    return {
        "another-task": f"{head}/{other}.{signature}",
        "no-signature": f"{head}/{task_id}",
        "empty-signature": f"{head}/{task_id}.",
        "cut": path[:-4],
        "reversed": f"{head}/{task_id}.{signature[::-1]}",
        "upper-case": f"{head}/{task_id.upper()}.{signature}",
        "other-family": path.replace("/revid/", "/apixo/"),
        "polled-family": path.replace("/revid/", "/rivya/"),
        "unknown-provider": path.replace("/revid/", "/nobody/"),
        "provider-in-upper-case": path.replace("/revid/", "/REVID/"),
        "garbage": WRONG,
        "long": f"{head}/{'x' * 5000}",
        "not-ascii": f"{head}/%F0%9F%90%88.{signature}",
        "nul": f"{head}/%00.{signature}",
        "double-signed": f"{path}.{signature}",
    }


@pytest.mark.parametrize("name", list(mutations("/callbacks/revid/tsk_x.sig")))
async def test_an_unknown_token_is_not_found_and_nothing_more_is_revealed(name: str, service: Service) -> None:
    task = await ordered(service)
    answer = await service.deliver(mutations(service.link(task["id"]))[name], DONE)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.content == (await service.deliver(WRONG, DONE)).content
    assert (await service.task(task["id"]))["state"] == "submitted"


@pytest.mark.parametrize("path", ["/callbacks", "/callbacks/", "/callbacks/revid", "/callbacks/revid/", f"{WRONG}/x"])
async def test_no_address_at_all_is_not_found(path: str, service: Service) -> None:
    assert (await service.deliver(path, DONE)).status_code == 404


async def test_a_404_comes_before_a_415_and_a_413(service: Service) -> None:
    for headers in ({"Content-Encoding": "gzip"}, {"Content-Length": "99999999"}):
        answer = await service.stranger.post(WRONG, content=b"x" * 10, headers=headers)
        assert answer.status_code == 404


async def test_a_token_of_a_task_of_another_database_is_not_found(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service)
        path = service.link(task["id"])
    elsewhere = stage.beside("elsewhere")
    async with elsewhere.serve() as service:
        answer = await service.deliver(path, DONE)
        assert (answer.status_code, answer.content) == (404, (await service.deliver(WRONG, DONE)).content)


# --- rotated keys


@pytest.mark.row("C6")
async def test_tokens_of_an_older_key_verify_until_it_is_removed(stage: Stage) -> None:
    async with stage.serve(SECRET_KEYS="old") as service:
        old = await ordered(service)
    async with stage.serve(SECRET_KEYS="new,old") as service:
        stage.provider.on_create(REVID, says(REVID.accepted("r-2")))
        new = await service.order(REVID.order())
        assert await service.call_back(old["id"], REVID.working("r-1")) == "applied"
        assert await service.call_back(new["id"], REVID.working("r-2")) == "applied"
    async with stage.serve(SECRET_KEYS="new") as service:
        assert (await service.deliver(service.link(old["id"]), DONE)).status_code == 404
        assert (await service.task(old["id"]))["state"] == "running"
        assert await service.call_back(new["id"], REVID.done("r-2", URL)) == "applied"


async def test_the_first_key_signs(stage: Stage) -> None:
    async with stage.serve(SECRET_KEYS="new,old") as service:
        task = await ordered(service)
    async with stage.serve(SECRET_KEYS="new") as service:
        assert await service.call_back(task["id"], DONE) == "applied"


@pytest.mark.row("C3")
@pytest.mark.parametrize("days", [1 / 24, -30, 60])
async def test_a_token_does_not_age_whatever_the_clock_said_when_it_was_signed(days: float, stage: Stage) -> None:
    began = stage.clock.now
    stage.clock.advance(days * 86_400)
    async with stage.serve() as service:
        task = await ordered(service)
    stage.clock.now = began
    async with stage.serve() as service:
        assert await service.call_back(task["id"], REVID.working("r-1")) == "applied"
        assert await service.call_back(task["id"], DONE) == "applied"


@pytest.mark.row("C3")
async def test_the_token_of_an_old_task_is_taken_and_what_is_settled_stays(stage: Stage) -> None:
    async with stage.serve() as service:
        stage.provider.on_create(REVID, says(REVID.accepted("r-1")), says(REVID.accepted("r-2")))
        closed, still_open = [await service.order(REVID.order()) for _ in range(2)]
        assert await service.call_back(closed["id"], DONE) == "applied"
        before = await service.task(closed["id"])
        stage.clock.advance(60 * 86_400)
        assert await service.call_back(closed["id"], DONE) == "repeated"
        after = await service.task(closed["id"])
        moving = {"deliveries", "updated_at"}
        assert {k: v for k, v in after.items() if k not in moving} == {
            k: v for k, v in before.items() if k not in moving
        }
        assert await service.call_back(still_open["id"], REVID.done("r-2", URL)) == "applied"
        stage.clock.advance(-90 * 86_400)
        assert await service.call_back(still_open["id"], REVID.done("r-2", URL)) == "repeated"


# --- 415 and 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP", "gzip, identity"])
async def test_a_content_encoding_is_a_415(encoding: str, service: Service) -> None:
    task = await ordered(service)
    headers = {"Content-Encoding": encoding, "Content-Length": "99999999"}
    answer = await service.stranger.post(service.link(task["id"]), content=b"x", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")
    assert (await service.task(task["id"]))["deliveries"] == 0


async def test_identity_is_no_encoding(service: Service) -> None:
    task = await ordered(service)
    answer = await service.stranger.post(
        service.link(task["id"]), content=json.dumps(DONE), headers={"Content-Encoding": "identity"}
    )
    assert answer.json() == {"outcome": "applied"}


@pytest.mark.parametrize("how", ["declared", "chunked"])
@pytest.mark.parametrize(("limit", "size"), [(None, 1_048_576), ("2000", 2000)])
async def test_a_body_beyond_the_limit_is_a_413_and_one_at_it_is_taken(
    how: str, limit: str | None, size: int, stage: Stage
) -> None:
    async with stage.serve(MAX_CALLBACK_BYTES=limit) as service:
        task = await ordered(service)

        async def send(length: int) -> httpx.Response:
            body = json.dumps(DONE).encode().ljust(length)
            return await service.stranger.post(
                service.link(task["id"]), content=body if how == "declared" else chunked(body)
            )

        answer = await send(size + 1)
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
        assert (await service.task(task["id"]))["deliveries"] == 0
        assert (await send(size)).json() == {"outcome": "applied"}


# --- 503


@pytest.mark.row("A8")
async def test_what_cannot_be_stored_is_a_503_within_four_seconds_and_works_again_without_a_restart(
    torture: Torture,
    service: Service,
) -> None:
    task = await ordered(service)
    with service.database.locked():
        watch = Stopwatch()
        answers = await asyncio.gather(*(service.deliver(service.link(task["id"]), DONE) for _ in range(50)))
        torture.within(watch.read(), 4)
        for answer in answers:
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert int(answer.headers["retry-after"]) > 0
        assert (await service.stranger.get("/healthz")).status_code == 200, "the process itself is well"
        assert (await service.task(task["id"]))["state"] == "submitted"
    assert await service.call_back(task["id"], DONE) == "applied"
    task = await service.task(task["id"])
    assert (task["state"], task["deliveries"]) == ("succeeded", 1), "nothing of what was answered with 503 was stored"


async def test_a_short_lock_is_not_noticed(service: Service) -> None:
    task = await ordered(service)
    with service.database.locked():
        delivering = asyncio.create_task(service.call_back(task["id"], DONE))
        done, _ = await asyncio.wait({delivering}, timeout=0.6)
        assert not done
    assert await delivering == "applied"
