"""The same promises over a real connection, where it matters: clients that hang up, bodies that never end."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import uvicorn

from receiver.serving.connections import ConnectionLimit, DeadlineProtocol
from tests.behaviour.families import FAMILIES, REVID, RIVYA, Family
from tests.behaviour.provider import Received, after, says
from tests.behaviour.service import TOKEN, Service, Stage
from tests.measuring import HANG

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def listening(service: Service) -> AsyncIterator[int]:
    """Serve a running service on a free port as well, by the protocol of `receiver serve`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        http: Any = partial(DeadlineProtocol, ConnectionLimit(1000))
        config = uvicorn.Config(
            service.app, http=http, lifespan="off", log_level="critical", ws="none", access_log=False
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.001)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


async def send(port: int, head: str, body: bytes = b"", **headers: str) -> Connection:
    """Send a request and leave its answer to the caller."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{head} HTTP/1.1", "Host: service", *(f"{name.replace('_', '-')}: {it}" for name, it in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()
    return reader, writer


async def status(connection: Connection) -> int:
    """Read the status of the answer and close."""
    reader, writer = connection
    async with asyncio.timeout(HANG):
        line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


async def hang_up(connection: Connection) -> None:
    connection[1].transport.abort()
    await asyncio.sleep(0)


@every_family
async def test_a_client_that_hangs_up_while_its_order_is_under_way_changes_nothing(
    family: Family, stage: Stage
) -> None:
    gone = asyncio.Event()

    async def wait(_: Received) -> None:
        await gone.wait()

    stage.provider.on_create(family, after(wait, says(family.accepted("r-1"))))
    async with stage.serve() as service, listening(service) as port:
        body = json.dumps(family.order()).encode()
        order = {"Authorization": f"Bearer {TOKEN}", "Content_Length": f"{len(body)}", "Idempotency_Key": "k"}
        connection = await send(port, "POST /api/tasks", body, **order)
        await stage.provider.until(lambda: len(stage.provider.bought()) == 1)
        await hang_up(connection)
        gone.set()
        again = await service.post("/api/tasks", family.order(), Idempotency_Key="k")
        assert again.status_code == 200
        task = await service.until_state(again.json()["id"], "submitted")
        assert (task["remote_id"], task["attempts"]) == ("r-1", 1)
    assert len(stage.provider.bought()) == 1


async def test_a_client_that_hangs_up_before_its_order_has_arrived_orders_nothing(stage: Stage) -> None:
    async with stage.serve() as service, listening(service) as port:
        order = {"Authorization": f"Bearer {TOKEN}", "Content_Length": "500"}
        await hang_up(await send(port, "POST /api/tasks", b'{"provider": "revid", ', **order))
        assert await status(await send(port, "GET /healthz")) == 200
        assert (await service.client.get("/api/tasks")).json()["tasks"] == []
    assert stage.provider.received == []


async def test_a_client_that_hangs_up_while_it_waits_holds_nothing_up(stage: Stage) -> None:
    async with stage.serve() as service, listening(service) as port:
        task = await service.order(RIVYA.order())
        path = f"GET /api/tasks/{task['id']}?wait=0.5"
        for _ in range(20):
            await hang_up(await send(port, path, Authorization=f"Bearer {TOKEN}"))
        assert await status(await send(port, "GET /readyz")) == 200


async def test_a_callback_that_is_cut_off_is_not_taken_for_a_whole_one(stage: Stage) -> None:
    async with stage.serve() as service, listening(service) as port:
        stage.provider.on_create(REVID, says(REVID.accepted("r-1")))
        task = await service.order(REVID.order())
        body = json.dumps(REVID.done("r-1", URL)).encode()
        path = f"POST {service.link(task['id'])}"
        await hang_up(await send(port, path, body, Content_Length=f"{len(body) + 1}"))
        assert await status(await send(port, "GET /healthz")) == 200
        assert (await service.task(task["id"]))["state"] == "submitted"
        assert await status(await send(port, path, body, Content_Length=f"{len(body)}")) == 200
        assert (await service.task(task["id"]))["state"] == "succeeded"


async def test_a_body_that_never_ends_is_refused_as_soon_as_it_is_too_large(stage: Stage) -> None:
    async with stage.serve(MAX_CALLBACK_BYTES="4096") as service, listening(service) as port:
        task = await service.order(REVID.order())
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        connection = await send(
            port, f"POST {service.link(task['id'])}", chunk + b"1\r\nx\r\n", Transfer_Encoding="chunked"
        )
        assert await status(connection) == 413, "without waiting for the end"
        assert (await service.task(task["id"]))["deliveries"] == 0


async def test_a_declared_size_that_is_too_large_is_refused_before_the_body(stage: Stage) -> None:
    async with stage.serve() as service, listening(service) as port:
        task = await service.order(REVID.order())
        connection = await send(port, f"POST {service.link(task['id'])}", Content_Length="99999999999")
        assert await status(connection) == 413


async def test_what_was_answered_is_durable_also_for_another_process(stage: Stage) -> None:
    async with stage.serve() as service, listening(service) as port:
        stage.provider.on_create(REVID, says(REVID.accepted("r-1")))
        task = await service.order(REVID.order())
        body = json.dumps(REVID.done("r-1", URL)).encode()
        connection = await send(port, f"POST {service.link(task['id'])}", body, Content_Length=f"{len(body)}")
        assert await status(connection) == 200
        assert service.database.rows("SELECT state FROM task") == [("succeeded",)]
