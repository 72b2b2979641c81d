"""Interface, section 3: what monitoring relies on."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route

from tests.behaviour.families import REVID, RIVYA
from tests.behaviour.provider import says, slams
from tests.behaviour.service import Service, Stage, staged

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


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


async def test_alive_and_ready_need_no_token(service: Service) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await service.stranger.get(path)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.row("A8")
async def test_a_locked_database_is_not_ready_but_alive_and_ready_again_afterwards(service: Service) -> None:
    with service.database.locked():
        answer = await service.stranger.get("/readyz")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) > 0
        assert (await service.stranger.get("/healthz")).status_code == 200
    assert (await service.stranger.get("/readyz")).status_code == 200


# --- metrics


async def test_metrics_count_tasks_of_every_state(service: Service) -> None:
    await service.order(REVID.order())
    service.provider.on_create(REVID, slams())
    await service.order(REVID.order())
    service.provider.on_create(RIVYA, says(RIVYA.done("v-1", "https://cdn.example.com/out.mp4")))
    await service.order(RIVYA.order())
    answer = await service.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["receiver_tasks", "revid", "submitted"] == 1
    assert samples["receiver_tasks", "revid", "unconfirmed"] == 1
    assert samples["receiver_tasks", "revid", "succeeded"] == 0
    assert samples["receiver_tasks", "rivya", "succeeded"] == 1
    assert samples["receiver_settled_total", "submission"] == 1
    assert samples["receiver_credits_total", "rivya"] == 6


async def test_metrics_of_an_empty_database_are_readable(service: Service) -> None:
    answer = await service.client.get("/metrics")
    assert answer.status_code == 200
    assert list(text_string_to_metric_families(answer.text))


async def test_metrics_are_true_over_several_processes(stage: Stage) -> None:
    async with stage.serve() as one, stage.serve() as other:
        await one.order(REVID.order())
        assert (await one.client.get("/metrics")).text == (await other.client.get("/metrics")).text


async def test_metrics_show_when_a_sweep_last_ran(service: Service) -> None:
    name = "receiver_poller_seen_timestamp_seconds"

    async def seen() -> list[float]:
        families = text_string_to_metric_families((await service.client.get("/metrics")).text)
        return [sample.value for family in families for sample in family.samples if sample.name == name]

    assert await seen() == []
    await service.poll()
    assert await seen() == [service.clock() / 1000]
    await service.poll_after(90)
    assert await seen() == [service.clock() / 1000]


@dataclass(frozen=True)
class Sample:
    """One sample of the metrics, by the values of its labels."""

    name: str
    labels: tuple[str, ...]


async def read_metrics(service: Service) -> dict[Sample, float]:
    families = text_string_to_metric_families((await service.client.get("/metrics")).text)
    return {
        Sample(sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


ROWS = """
INSERT INTO output (task_id, position, url, kind, archive) VALUES ('{task}', 0, 'u', 'video', 'stored');
INSERT INTO output (task_id, position, url, kind, archive) VALUES ('{task}', 1, 'u', 'video', 'failed');
INSERT INTO output (task_id, position, url, kind, archive) VALUES ('{task}', 2, 'u', 'video', 'failed');
INSERT INTO notification (webhook_id, task_id, type, url, host, own_url, created_at, updated_at, state, tries, claim)
  VALUES ('w-1', '{task}', 'task.succeeded', 'u', 'h', FALSE, 5000, 5000, 'waiting', 0, 0);
INSERT INTO notification (webhook_id, task_id, type, url, host, own_url, created_at, updated_at, state, tries, claim)
  VALUES ('w-2', '{task}', 'task.failed', 'u', 'h', FALSE, 3000, 3000, 'waiting', 0, 0);
INSERT INTO notification (webhook_id, task_id, type, url, host, own_url, created_at, updated_at, state, tries, claim)
  VALUES ('w-3', '{task}', 'task.stored', 'u', 'h', FALSE, 1000, 1000, 'delivered', 1, 0);
INSERT INTO attention (task_id, reason, since) VALUES ('{task}', 'expired', 1);
INSERT INTO attention (task_id, reason, since) VALUES ('{task}', 'not_archived', 1);
"""


async def test_metrics_count_what_comes_after_the_end_of_a_task(service: Service) -> None:
    ended = await service.order(REVID.order())
    await service.call_back(ended["id"], REVID.done(ended["remote_id"], "https://cdn.example.com/out.mp4"))
    await service.order(REVID.order())
    await service.poll_after(7200)
    before = await read_metrics(service)
    with service.database.connected() as connection:
        connection.executescript(ROWS.format(task=ended["id"]))
    after = await read_metrics(service)
    assert {
        sample: value - before.get(sample, 0)
        for sample, value in after.items()
        if value != before.get(sample) and sample.name != "receiver_notification_oldest_waiting_timestamp_seconds"
    } == {
        Sample("receiver_outputs", ("stored",)): 1,
        Sample("receiver_outputs", ("failed",)): 2,
        Sample("receiver_notifications", ("waiting",)): 2,
        Sample("receiver_notifications", ("delivered",)): 1,
        Sample("receiver_attention", ("expired",)): 1,
        Sample("receiver_attention", ("not_archived",)): 1,
    }
    assert after[Sample("receiver_notification_oldest_waiting_timestamp_seconds", ())] == 3
    assert after[Sample("receiver_late_watch", ("revid",))] == 1
    assert after[Sample("receiver_callbacks_awaited", ("revid",))] == 1
    assert after[Sample("receiver_callbacks_arrived", ("revid",))] == 1
    assert after[Sample("receiver_feed_number", ())] >= 0


async def test_every_metric_is_documented_and_no_other(service: Service) -> None:
    table = re.findall(
        r"^\| `(receiver_\w+)(?:\{(.*?)\})?` \|", (ROOT / "docs" / "operating.md").read_text(), re.MULTILINE
    )
    families = text_string_to_metric_families((await service.client.get("/metrics")).text)
    shown = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert sorted(name for name, _ in table) == sorted(shown)
    labels = {name: set(filter(None, words.split(","))) for name, words in table}
    for sample in await read_samples(service):
        assert set(sample.labels) == labels[sample.name], sample.name


async def read_samples(service: Service) -> list[Any]:
    """Read the samples of a service to which something of everything has happened."""
    task = await service.order(REVID.order())
    await service.call_back(task["id"], REVID.done(task["remote_id"], "https://cdn.example.com/out.mp4"))
    await service.order(REVID.order())
    await service.poll_after(7200)
    with service.database.connected() as connection:
        connection.executescript(ROWS.format(task=task["id"]))
    families = text_string_to_metric_families((await service.client.get("/metrics")).text)
    return [sample for family in families for sample in family.samples]


# --- openapi


@pytest.fixture
async def openapi(service: Service) -> dict[str, Any]:
    answer = await service.stranger.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document: dict[str, Any] = answer.json()
    return document


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            if name == "$ref":
                yield part
            else:
                yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


async def test_openapi_is_3_1_and_every_reference_leads_somewhere(openapi: dict[str, Any]) -> None:
    assert openapi["openapi"].startswith("3.1")
    for reference in _references(openapi):
        place: Any = openapi
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
        assert place


async def test_openapi_describes_every_endpoint_of_the_api(openapi: dict[str, Any], service: Service) -> None:
    routes = {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in service.app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method not in ("HEAD", "OPTIONS") and route.path.startswith(("/api", "/callbacks", "/metrics", "/healthz"))
    }
    told = {(method.upper(), path) for path, methods in openapi["paths"].items() for method in methods}
    assert routes <= told
    for path in ("/api/tasks", "/api/tasks/{id}", "/api/poll", "/callbacks/{provider}/{token}", "/readyz"):
        assert path in openapi["paths"]


async def test_openapi_knows_every_field_of_a_task(openapi: dict[str, Any], service: Service) -> None:
    task = await service.order(REVID.order())
    schema = openapi["components"]["schemas"]["Task"]
    assert sorted(schema["properties"]) == sorted(schema["required"]) == sorted(task)
    assert task["state"] in openapi["components"]["schemas"]["State"]["enum"]


async def test_openapi_describes_both_orders_and_links_a_new_task_to_its_operations(openapi: dict[str, Any]) -> None:
    create = openapi["paths"]["/api/tasks"]["post"]
    forms = create["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert [set(form["required"]) for form in forms] == [
        {"provider", "model", "input"},
        {"provider", "model", "remote_id"},
    ]
    known = {operation["operationId"] for methods in openapi["paths"].values() for operation in methods.values()}
    links = create["responses"]["201"]["links"]
    of_a_task = {"get_task", "get_history", "check_task", "retry_task", "cancel_task", "adopt_task", "acknowledge_task"}
    assert of_a_task == set(links) <= known


async def test_openapi_says_what_needs_a_token(openapi: dict[str, Any]) -> None:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            open_to_all = operation.get("security") == []
            assert open_to_all != path.startswith(("/api", "/metrics")), (method, path)
            assert ("401" in operation["responses"]) == (not open_to_all or path.startswith("/callbacks"))
    json.dumps(openapi)
