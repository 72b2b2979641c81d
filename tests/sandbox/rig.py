"""What the sandbox's tests stand on: a buyer for each family, a sink for callbacks, and a server for both.

Nothing here knows how the sandbox works inside; everything goes through its wire formats.
"""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.sandbox.app import Sandbox
from tests.measuring import HANG

# Reading the certificates of the world takes longer than most tests.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
FAMILIES = ("rivya", "apixo", "revid", "gateway", "kie", "kie-veo")
CALLING_BACK = ("apixo", "revid", "gateway", "kie", "kie-veo")

HEADERS = {
    "rivya": {"Authorization": "Bearer rvya_sk_any"},
    "apixo": {"Authorization": "Bearer any"},
    "revid": {"x-api-key": "any"},
    "gateway": {"Authorization": "Bearer any"},
    "kie": {"Authorization": "Bearer any"},
    "kie-veo": {"Authorization": "Bearer any"},
}


def order(family: str, prompt: str, callback_url: str | None = None) -> tuple[str, dict[str, Any]]:
    """The path and the body of a create request."""
    if family == "rivya":
        return "/rivya/api/v1/generations", {"model": "sora-2", "prompt": prompt, "params": {"n_frames": "10"}}
    if family == "apixo":
        body = {"provider": "official", "input": {"mode": "text-to-video", "prompt": prompt, "duration": 8}}
        hook = {} if callback_url is None else {"request_type": "callback", "callback_url": callback_url}
        return "/apixo/api/v1/generateTask/sora-2", {**body, **hook}
    if family == "revid":
        body = {"model": "sora-2-text-to-video", "input": {"prompt": prompt, "n_frames": "10"}}
        return "/revid/paid/sora2/create", {**body, **({} if callback_url is None else {"callBackUrl": callback_url})}
    if family == "kie":
        body = {"model": "wan/2-7-text-to-video", "input": {"prompt": prompt, "duration": 5}}
        return "/kie/api/v1/jobs/createTask", {
            **body,
            **({} if callback_url is None else {"callBackUrl": callback_url}),
        }
    if family == "kie-veo":
        flat = {"model": "veo3_fast", "prompt": prompt, "duration": 8}
        return "/kie/api/v1/veo/generate", {**flat, **({} if callback_url is None else {"callBackUrl": callback_url})}
    body = {"model": "sora-2", "prompt": prompt, "duration": "10"}
    hook = {} if callback_url is None else {"notify_hook": callback_url}
    return "/gateway/v2/videos/generations", {**body, **hook}


def id_in(answer: httpx.Response) -> str:
    """The task id in the answer to a create request of any family."""
    body = answer.json()
    return str(body.get("id") or body.get("task_id") or body["data"]["taskId"])


def id_told(body: Any) -> str:
    """The task id in the body of any family's callback."""
    data = body.get("data") or {}
    return str(body.get("task_id") or data.get("taskId") or data.get("task_id") or data.get("id"))


def tells_of_failure(body: Any) -> bool:
    """Whether any family's callback says that the work failed; Veo's has nothing but its code to say so."""
    data = body.get("data") or {}
    state = str(body.get("status") or data.get("state") or data.get("status") or "").lower()
    return "fail" in state or body.get("code", 200) not in (200, "success")


@dataclass
class Buyer:
    """A client of the sandbox that knows each family's paths and headers."""

    client: httpx.AsyncClient

    async def buy(
        self, family: str, prompt: str, callback_url: str | None = None, *, key: str | None = None
    ) -> httpx.Response:
        path, body = order(family, prompt, callback_url)
        headers = HEADERS[family] | ({} if key is None else {"Idempotency-Key": key})
        return await self.client.post(path, json=body, headers=headers)

    async def ask(self, family: str, task_id: str, model: str = "sora-2") -> httpx.Response:
        headers = HEADERS[family]
        if family == "rivya":
            return await self.client.get(f"/rivya/api/v1/generations/{task_id}", headers=headers)
        if family == "apixo":
            path = f"/apixo/api/v1/statusTask/{model}"
            return await self.client.get(path, params={"taskId": task_id}, headers=headers)
        if family == "revid":
            return await self.client.post("/revid/paid/get/taskid", params={"taskId": task_id}, headers=headers)
        if family in ("kie", "kie-veo"):
            path = "/kie/api/v1/jobs/recordInfo" if family == "kie" else "/kie/api/v1/veo/record-info"
            return await self.client.get(path, params={"taskId": task_id}, headers=headers)
        return await self.client.get(f"/gateway/v2/videos/generations/{task_id}", headers=headers)

    async def register(self, url: str, **more: Any) -> dict[str, Any]:
        """Register an endpoint for all events of the Rivya account; returns it with its secret."""
        body = {"name": "receiver", "url": url, "event_types": ["generation.succeeded", "generation.failed"], **more}
        answer = await self.client.post("/rivya/api/v1/webhooks", json=body, headers=HEADERS["rivya"])
        assert answer.status_code == 200, answer.text
        registered: dict[str, Any] = answer.json()
        return registered

    async def purchases(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = (await self.client.get("/ledger")).json()["purchases"]
        return listed

    async def settled(self, task_id: str, delivery: str = "end") -> dict[str, Any]:
        """Wait until a delivery of a purchase is through, as a rule its last, and return the purchase."""
        async with asyncio.timeout(HANG):
            while True:
                purchase = next(p for p in await self.purchases() if p["id"] == task_id)
                if delivery in purchase["delivered"]:
                    return purchase
                await asyncio.sleep(0.01)


@dataclass(frozen=True)
class Call:
    """One callback as it arrived."""

    token: str
    raw: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Sink:
    """Records callbacks and answers them: 200, unless `answers` still holds something else for that token.

    While `open` is not set, nobody is answered.
    """

    url: str
    calls: list[Call] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def link(self, token: str) -> str:
        return f"{self.url}/{token}"

    def of(self, token: str) -> list[Call]:
        return [call for call in self.calls if call.token == token]

    async def receive(self, request: Request) -> Response:
        token = request.path_params["token"]
        call = Call(token, await request.body(), request.headers["content-type"], request.headers)
        async with self.arrived:
            self.calls.append(call)
            self.arrived.notify_all()
        await self.open.wait()
        waiting = self.answers.get(token, [])
        return Response(status_code=waiting.pop(0) if waiting else 200)

    async def until(self, token: str, number: int = 1) -> list[Call]:
        """Wait until so many callbacks have come in under this token."""
        async with asyncio.timeout(HANG), self.arrived:
            await self.arrived.wait_for(lambda: len(self.of(token)) >= number)
        return self.of(token)


@dataclass
class Rig(Buyer):
    """A served sandbox, its sink, and a client to buy with."""

    sink: Sink


@dataclass
class Stage:
    """A server whose application changes from test to test, since starting one takes longer than most tests."""

    origin: str
    app: ASGIApp = field(default_factory=Starlette)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    @asynccontextmanager
    async def playing(self, sandbox: Sandbox) -> AsyncIterator[Rig]:
        """Serve a sandbox under /sandbox, beside a sink."""
        sink = Sink(f"{self.origin}/sink")
        self.app = Starlette(
            routes=[
                Mount("/sandbox", app=sandbox.app),
                Route("/sink/{token:path}", sink.receive, methods=["POST"]),
            ]
        )
        async with (
            sandbox.running(),
            httpx.AsyncClient(
                base_url=f"{self.origin}/sandbox", trust_env=False, timeout=HANG, verify=NO_TLS
            ) as client,
        ):
            yield Rig(client, sink)


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """Run a server on a free port."""
    # Without the protocol asyncio leaves Nagle on, and each answer takes 40 ms more.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        stage = Stage(f"http://127.0.0.1:{listener.getsockname()[1]}")
        # Connections are kept however far the loop's time moves on.
        config = uvicorn.Config(stage, lifespan="off", log_level="critical", ws="none", timeout_keep_alive=86_400)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield stage
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def unserved(sandbox: Sandbox) -> AsyncIterator[Buyer]:
    """Run a sandbox without a server of its own; it calls back over the network all the same."""
    transport = httpx.ASGITransport(sandbox.app)
    async with (
        sandbox.running(),
        httpx.AsyncClient(transport=transport, base_url="http://sandbox.example") as client,
    ):
        yield Buyer(client)
