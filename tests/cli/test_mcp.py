"""`receiver mcp` as an assistant uses it: the SDK's own client, over standard input and output of the real command."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, TextContent
from typer.testing import CliRunner

from receiver import __version__
from receiver.cli.commands import cli
from receiver.cli.mcp_tools import make_server
from receiver.client import AsyncClient
from receiver.core.errors import ConfigError
from receiver.store import schema
from tests.client.rig import TASK, TOKEN, Fake, answer, in_turn
from tests.measuring import HANG

from .rig import QUICK, Home, serving

pytestmark = pytest.mark.anyio
Connect = Callable[[], AsyncClient]
REVID = {"provider": "revid", "model": "sora-2-text-to-video"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def connect(home: Home) -> Connect:
    """How the tools connect to the running service."""
    return lambda: AsyncClient(home.url, home.token(), timeout=HANG)


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool; returns its answer, which is there as a structure and as text."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    assert json.loads(text(result)) == result.structured_content
    found: dict[str, Any] = result.structured_content
    return found


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """Call a tool that refuses; returns its words."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return text(result)


def text(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


def order(knobs: str) -> dict[str, Any]:
    return {**REVID, "input": {"prompt": f"A paper boat [sandbox: {knobs}]"}}


async def test_an_assistant_submits_waits_and_shows_over_standard_input_and_output(tmp_path: Path) -> None:
    """The command is started before the service, which it finds when there is one."""
    home = Home(tmp_path, dict(QUICK))
    home.data.mkdir()
    schema.migrate(f"sqlite:///{home.database}")
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "receiver", "mcp"], env=home.environ(), cwd=home.directory
    )
    async with Client(command, read_timeout_seconds=HANG) as client:
        assert "`receiver serve` runs the service" in await refused(client, "list")
        with serving(home):
            made = await call(client, "submit", **order("after=0.2"))
            settled = await call(client, "wait", task_id=made["id"])
            assert (settled["state"], settled["outputs"][0]["kind"]) == ("succeeded", "video")
            shown = await call(client, "show", task_id=made["id"])
            assert (shown["settled_by"], shown["sandbox"]) == ("callback", True)
            assert "history" not in shown
            with_history = await call(client, "show", task_id=made["id"], history=True)
            assert {event["kind"] for event in with_history["history"]} >= {"move", "attempt", "delivery"}
            listed = await call(client, "list", q=made["id"])
            assert [task["id"] for task in listed["tasks"]] == [made["id"]]
            assert listed["tasks"][0]["prompt"].startswith("A paper boat")
            unclear = await call(client, "submit", **order("submit=break after=600 callback=drop"))
            (item,) = (await call(client, "attention"))["items"]
            assert (item["task"]["id"], item["reason"]) == (unclear["id"], "unconfirmed")


async def test_every_tool_says_what_it_does_and_only_ordering_changes_anything(connect: Connect) -> None:
    async with Client(make_server(connect)) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert "Orders cost money" in (client.instructions or "")
    assert set(tools) == {"submit", "wait", "show", "list", "attention", "providers"}
    for tool in tools.values():
        assert tool.description
        assert tool.annotations is not None
        assert bool(tool.annotations.read_only_hint) is (tool.name != "submit")
        assert all("description" in each for each in tool.input_schema.get("properties", {}).values()), tool.name
    assert "costs money" in str(tools["submit"].description)


async def test_the_same_order_buys_once_in_a_session_unless_another_key_is_given(connect: Connect) -> None:
    again = order("after=0.1")
    async with Client(make_server(connect)) as client:
        first, second, third = [
            (await call(client, "submit", **again, **more))["id"] for more in ({}, {}, {"key": "one more"})
        ]
    assert first == second != third
    async with Client(make_server(connect)) as client:
        assert (await call(client, "submit", **again))["id"] not in (first, third)
        assert (await call(client, "submit", **again, key="one more"))["id"] == third


async def test_waiting_reports_progress_and_ends_in_time() -> None:
    seen: list[str | None] = []

    async def reported(progress: float, total: float | None, message: str | None) -> None:
        assert total == 0.5
        assert 0 < progress <= total
        seen.append(message)

    with Fake(in_turn(answer(TASK | {"state": "running"}))).serving() as fake:
        server = make_server(lambda: AsyncClient(fake.url, TOKEN, timeout=HANG), report_seconds=0.3)
        async with Client(server) as client:
            result = await client.call_tool("wait", {"task_id": "tsk_1", "seconds": 0.5}, progress_callback=reported)
    assert seen == ["tsk_1 is running"]
    assert (result.structured_content or {})["state"] == "running"


async def test_providers_are_short_until_a_model_is_named(connect: Connect) -> None:
    async with Client(make_server(connect)) as client:
        everything = await call(client, "providers")
        (revid,) = (await call(client, "providers", **REVID))["providers"]
    assert {provider["name"] for provider in everything["providers"]} >= {"revid", "rivya", "apixo"}
    assert len(json.dumps(everything)) < 8000, "it fills the assistant's context"
    (model,) = revid["models"]
    assert model["id"] == REVID["model"]
    assert "n_frames" in model["input"]["properties"]


async def test_what_goes_wrong_is_told_in_words(connect: Connect, home: Home) -> None:
    async with Client(make_server(connect)) as client:
        assert "no task tsk_none" in await refused(client, "show", task_id="tsk_none")
        assert "must be a task's id" in await refused(client, "show", task_id="")
        wrong = order("after=0.1")
        wrong["input"]["n_frames"] = "12"
        assert 'input.n_frames: must be one of: "10", "15"' in await refused(client, "submit", **wrong)
        assert "less than or equal to 600" in await refused(client, "wait", task_id="tsk_none", seconds=1e9)
    async with Client(make_server(lambda: AsyncClient(home.url, "another", timeout=HANG))) as client:
        assert "401 Unauthorized" in await refused(client, "list")


async def test_attention_names_what_a_person_should_look_at() -> None:
    item = {"task": TASK | {"input": {"prompt": "A boat"}}, "reason": "expired", "since": "-", "advice": "Look."}
    with Fake(in_turn(answer({"items": [item], "counts": {"expired": 1}}))).serving() as fake:
        async with Client(make_server(lambda: AsyncClient(fake.url, TOKEN, timeout=HANG))) as client:
            found = await call(client, "attention")
    short = {"id": "tsk_1", "state": "succeeded", "prompt": "A boat"}
    assert found == {"items": [item | {"task": short}], "counts": {"expired": 1}}


def test_nothing_but_the_protocol_is_on_standard_output_and_it_ends_with_its_input(home: Home) -> None:
    """With a service elsewhere, and a client that begins with a handshake as all did before 2026."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "list", "arguments": {"limit": 1}}},
        {"id": 3, "method": "tools/call", "params": {"name": "list", "arguments": {"limit": 0}}},
        {"id": 4, "method": "tools/call", "params": {"name": "nonsense", "arguments": {}}},
    ]
    elsewhere = Home(home.directory / "elsewhere")
    elsewhere.directory.mkdir()
    with _start(elsewhere, "--url", home.url, RECEIVER_API_TOKENS=home.token(), RECEIVER_POLLR="on") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("this is no JSON\n")
        process.stdin.writelines(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in messages)
        process.stdin.flush()
        answers: dict[int, dict[str, Any]] = {}
        while not answers.keys() >= {1, 2, 3, 4}:
            found = json.loads(process.stdout.readline())
            assert found["jsonrpc"] == "2.0"
            answers[found.get("id")] = found
        process.stdin.close()
        assert all(json.loads(line)["jsonrpc"] == "2.0" for line in process.stdout)
        err = process.stderr.read()
        assert process.wait(HANG) == 0
    assert answers[1]["result"]["serverInfo"] == {"name": "receiver", "version": __version__}
    assert set(answers[2]["result"]["structuredContent"]) == {"tasks"}
    assert answers[3]["result"]["isError"]
    assert "did you mean RECEIVER_POLLER?" in err
    assert "Traceback" not in err
    assert not elsewhere.data.exists(), "it needs nothing here"


def _start(home: Home, *words: str, **changes: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "receiver", "mcp", *words],
        cwd=home.directory,
        env=home.environ(**changes),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refusal(home: Home, monkeypatch: pytest.MonkeyPatch, *words: str, **changes: str) -> str:
    """Return why the command does not begin to serve."""
    with monkeypatch.context() as patch:
        patch.chdir(home.directory)
        for name in os.environ.keys() - home.environ().keys():
            patch.delenv(name)
        ended = CliRunner().invoke(cli, ["mcp", *words], env=home.environ(**changes))
    assert isinstance(ended.exception, ConfigError), "exit code 2"
    assert ended.stdout == ""
    return str(ended.exception)


def test_what_is_missing_is_named_before_it_serves(empty: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(empty.database) in refusal(empty, monkeypatch)
    assert "RECEIVER_API_TOKENS: needed with --url" in refusal(empty, monkeypatch, "--url", "https://x.example")
    wrong = refusal(empty, monkeypatch, "--url", "receiver.example", RECEIVER_API_TOKENS="a-token")
    assert "--url: must be the service's URL" in wrong
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert 'pip install "receiver[mcp]"' in refusal(empty, monkeypatch)
    assert not empty.data.exists()
