"""The tools of the Model Context Protocol, over the Python client. `mcp` serves them; the extra `mcp` is needed.

A tool's docstring and the descriptions of its arguments are what the assistant reads. Answers are kept short, since
they fill its context: lists name tasks, `show` has the rest.
"""

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from receiver import __version__
from receiver.client import SETTLED, AsyncClient, Attention, ClientError, Provider, State, Unreachable

INSTRUCTIONS = """Receiver submits video and image tasks to paid providers and keeps their results.
Read the model's input with `providers`, call `submit` once, then `wait` until the task is settled.
Orders cost money. A task that is `unconfirmed` may have been bought: do not order it again, tell the user."""
REPORT_SECONDS = 10.0
"""Seconds between two reports of progress while a tool waits."""
LONGEST_WAIT = 600.0
SHOWN_PROMPT = 200
SHORT = (
    "id", "state", "provider", "model", "progress", "outputs", "result", "error", "credits", "notices", "created_at",
    "finished_at",
)  # fmt: skip

Document = dict[str, Any]
TaskId = Annotated[str, Field(description="the task's id, tsk_...")]
Seconds = Annotated[float, Field(ge=0, le=LONGEST_WAIT, description="how long to wait at most")]


def make_server(connect: Callable[[], AsyncClient], report_seconds: float = REPORT_SECONDS) -> MCPServer[Any]:
    """Return a server with all tools. Each call of a tool makes a connection of its own."""
    tools = Tools(connect, report_seconds)
    server: MCPServer[Any] = MCPServer("receiver", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")
    buys = ToolAnnotations(destructive_hint=False, idempotent_hint=True, open_world_hint=True)
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    server.add_tool(tools.submit, annotations=buys)
    for tool in (tools.wait, tools.show, tools.list, tools.attention, tools.providers):
        server.add_tool(tool, annotations=reads)
    return server


class Tools:
    """The tools. `connect` makes a client of the service."""

    def __init__(self, connect: Callable[[], AsyncClient], report_seconds: float) -> None:
        self._connect = connect
        self._report_seconds = report_seconds
        self._session = uuid.uuid4().hex

    async def submit(
        self,
        provider: Annotated[str, Field(description="the account, as `providers` names it")],
        model: Annotated[str, Field(description="the provider's model id")],
        input: Annotated[  # noqa: A002 - the API's word
            Document, Field(description='the model\'s parameters, such as {"prompt": "A paper boat"}')
        ],
        key: Annotated[
            str | None, Field(description="your own text for this order; give another one to buy the same again")
        ] = None,
    ) -> Document:
        """Submit a task. This costs money.

        The same order under the same key, or again in this session without a key, returns the same task and buys
        nothing: so it is safe to repeat after an error.
        """
        async with self._connected() as client:
            return summarize(await client.submit(provider, model, input, key=key or self._key(provider, model, input)))

    async def wait(
        self,
        task_id: TaskId,
        context: Context[Any, Any],
        seconds: Seconds = 45,
    ) -> Document:
        """Wait until a task is settled (succeeded, failed, cancelled or expired), or as long as given.

        Returns the task as it then is. If it is not settled yet, call this again.
        """
        began = now = monotonic()
        async with self._connected() as client:
            while True:
                left = max(began + seconds - now, 0)
                task = await client.wait(task_id, min(left, self._report_seconds))
                now = monotonic()
                if task["state"] in SETTLED or now >= began + seconds:
                    return summarize(task)
                await context.report_progress(now - began, seconds, f"{task_id} is {task['state']}")

    async def show(
        self,
        task_id: TaskId,
        history: Annotated[bool, Field(description="also everything that was sent and received; this is long")] = False,
    ) -> Document:
        """Show all of a task: its outputs, error, cost, notices, and why its result is believed."""
        async with self._connected() as client:
            document: Document = {**await client.get(task_id)}
            return document | ({"history": await client.history(task_id)} if history else {})

    async def list(
        self,
        state: Annotated[State | None, Field(description="only tasks in this state")] = None,
        provider: Annotated[str | None, Field(description="only tasks of this account")] = None,
        q: Annotated[str | None, Field(description="part of a prompt, id or remote id")] = None,
        limit: Annotated[int, Field(ge=1, le=200, description="how many at most")] = 20,
    ) -> Document:
        """List tasks in short, newest first."""
        async with self._connected() as client:
            tasks = client.list(state=state or (), provider=provider, q=q, limit=limit)
            return {"tasks": [summarize(task) async for task in tasks]}

    async def attention(self) -> Document:
        """List the tasks that a person should look at, most costly first, with reason and advice."""
        async with self._connected() as client:
            found: Attention = await client.attention()
            items = [{**item, "task": summarize(item["task"])} for item in found["items"]]
            return {"items": items, "counts": found["counts"]}

    async def providers(
        self,
        provider: Annotated[str | None, Field(description="only this account")] = None,
        model: Annotated[str | None, Field(description="only this model; then with its input as JSON Schema")] = None,
    ) -> Document:
        """List provider accounts and their models with prices. Name a model to see what its input may be."""
        async with self._connected() as client:
            found = [each for each in await client.providers() if provider in (None, each["name"])]
            return {"providers": [describe_provider(each, model) for each in found]}

    def _key(self, *order: Any) -> str:
        """Return the key of an order that has none: the same for the same order in this session."""
        written = json.dumps([self._session, *order], sort_keys=True)
        return f"mcp-{hashlib.sha256(written.encode()).hexdigest()}"

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncClient]:
        """Yield a client; its errors reach the assistant in words."""
        try:
            async with self._connect() as client:
                yield client
        except Unreachable as error:
            raise ToolError(f"{error} `receiver serve` runs the service.") from error
        except (ClientError, ValueError) as error:
            raise ToolError(str(error)) from error


def summarize(task: Mapping[str, object]) -> Document:
    """Return what an assistant needs to know of a task at first sight; what is empty is left out."""
    short = {name: task[name] for name in SHORT if task.get(name)}
    given = task.get("input")
    if isinstance(given, dict) and isinstance(prompt := given.get("prompt"), str):
        short["prompt"] = prompt if len(prompt) <= SHOWN_PROMPT else f"{prompt[:SHOWN_PROMPT]}..."
    return short


def describe_provider(provider: Provider, model: str | None) -> Document:
    """Return an account with its models in short, or with one model and what its input may be."""
    if model is not None:
        return {**provider, "models": [each for each in provider["models"] if each["id"] == model]}
    models = [{"id": each["id"], "price": each["price"]} for each in provider["models"]]
    return {"name": provider["name"], "configured": provider["configured"], "models": models}
