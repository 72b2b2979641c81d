"""The probe that `receiver doctor` sends like a callback: only this installation sends and answers it."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from receiver.core.links import Links
from receiver.round_trip import MAX_BODY, Probe, body_was_changed, read_answer
from receiver.services import Services
from tests.behaviour.families import REVID
from tests.behaviour.service import NOW, Service, Stage, staged

pytestmark = pytest.mark.anyio

KEYS = ["the-signing-key"]
UNKNOWN = "/callbacks/revid/no-token-of-ours"


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


def path(probe: Probe, purpose: str = "question", keys: list[str] = KEYS) -> str:
    return f"/callbacks/doctor/{Links(keys, None).sign_text(purpose, probe.text)}"


async def post(service: Service, to: str, body: bytes = b"{}") -> httpx.Response:
    return await service.stranger.post(to, content=body)


def heartbeats(service: Service) -> list[tuple[object, ...]]:
    return service.database.rows("SELECT at FROM heartbeat WHERE name = 'round_trip'")


async def test_a_probe_is_answered_once_its_heartbeat_is_on_disk(service: Service) -> None:
    probe = Probe.new(NOW - 5)
    response = await post(service, path(probe), probe.body)
    answer = read_answer(Links(KEYS, None), response, probe)
    assert answer is not None
    assert (response.status_code, answer.clock, body_was_changed(answer, probe)) == (200, NOW, False)
    assert heartbeats(service) == [(NOW - 5,)]
    assert service.database.rows("SELECT 1 FROM delivery") == []


async def test_an_answer_belongs_to_its_probe_alone(service: Service) -> None:
    probe, other = Probe.new(NOW), Probe.new(NOW)
    response = await post(service, path(probe), probe.body)
    assert read_answer(Links(KEYS, None), response, other) is None
    assert read_answer(Links(["another-key"], None), response, probe) is None
    forged = Links(["another-key"], None).sign_text("answer", f"{probe.nonce}-{NOW}-00")
    assert read_answer(Links(KEYS, None), httpx.Response(200, json={"answer": forged}), probe) is None


async def test_a_body_that_was_changed_is_noticed(service: Service) -> None:
    probe = Probe.new(NOW)
    response = await post(service, path(probe), probe.body.strip())
    answer = read_answer(Links(KEYS, None), response, probe)
    assert answer is not None
    assert body_was_changed(answer, probe)


async def test_without_our_key_a_probe_gets_the_answer_of_an_unknown_callback_url(service: Service) -> None:
    service.provider.on_create(REVID)
    await service.order(REVID.order())
    (created,) = service.provider.bought()
    callback_token = str(created.callback_url).rpartition("/")[2]
    probe = Probe.new(NOW)
    services: Services = service.app.state.services
    others = [
        path(probe, keys=["another-key"]),
        path(probe, purpose="answer"),
        path(probe)[:-1],
        f"{path(probe)}x",
        "/callbacks/doctor/x",
        f"/callbacks/doctor/{'x' * 10_000}",
        f"/callbacks/doctor/{callback_token}",
        f"/callbacks/doctor/{services.links.sign_timed('question', probe.text)}",
        path(probe).replace("/doctor/", "/revid/"),
        path(Probe.new(NOW - 3_601_000)),
        path(Probe.new(NOW + 3_601_000)),
    ]
    unknown = await post(service, UNKNOWN)
    assert unknown.status_code == 404
    for other in others:
        answer = await post(service, other, b"x" * (MAX_BODY + 1))
        assert (answer.status_code, answer.content, answer.headers) == (404, unknown.content, unknown.headers), other
    assert heartbeats(service) == []


async def test_a_probe_is_held_to_the_limits_of_callbacks(service: Service) -> None:
    to = path(Probe.new(NOW))
    assert (await post(service, to, b"x" * (MAX_BODY + 1))).status_code == 413
    assert (await service.stranger.post(to, content=b"", headers={"Content-Encoding": "gzip"})).status_code == 415
    assert (await service.stranger.get(to)).status_code == 405


async def test_a_service_that_cannot_write_answers_as_to_a_callback(service: Service) -> None:
    probe = Probe.new(NOW)
    with service.database.locked():
        answer = await post(service, path(probe), probe.body)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "answer" not in answer.json()


async def test_a_wrong_clock_within_the_hour_does_not_keep_it_from_answering(service: Service) -> None:
    for seconds in (-3500, 3500):
        probe = Probe.new(NOW + seconds * 1000)
        response = await post(service, path(probe), probe.body)
        answer = read_answer(service.app.state.services.links, response, probe)
        assert answer is not None
        assert answer.clock == NOW
