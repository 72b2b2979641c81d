"""Holds the README and the pages in docs/ to the truth: their tables are those of the code, and their links lead on."""

import asyncio
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from receiver.cli.commands import COMMANDS, load
from receiver.cli.mcp_tools import make_server
from receiver.config.settings import VARIABLES
from receiver.core.messages import Callback, Event, Order, Outcome, Output
from receiver.core.states import MOVES, State
from receiver.providers import CONFIG_TYPES
from receiver.providers.base import Provider
from receiver.sandbox.options import CHOICES, Options
from receiver.web.api.endpoints import OPERATIONS
from receiver.web.api.openapi import SCHEMAS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SECONDS = 60
"""For a build that takes less than one."""


def page(name: str) -> str:
    """Return the text of a page in docs/."""
    return (DOCS / name).read_text()


def pages(root: Path = ROOT) -> list[Path]:
    """List the README and all pages."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def rows(text: str, first: str) -> list[list[str]]:
    """Return the rows of the table whose first heading is this."""
    lines = text[text.index(f"| {first} |") :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


def column(text: str, first: str) -> list[str]:
    """Return the first cells of a table, without their backticks."""
    return [cells[0].strip("`") for cells in rows(text, first)]


# --- what the pages say is what the code does


def test_the_readme_has_its_sections_in_order_and_fits_on_a_screen_and_a_half() -> None:
    readme = (ROOT / "README.md").read_text()
    assert re.findall(r"^## (.+)$", readme, re.MULTILINE) == [
        "Why",
        "Try it",
        "A real provider in three variables",
        "What it promises",
        "Read on",
    ]
    assert len(readme.splitlines()) <= 80


def test_the_state_table_is_the_state_machine() -> None:
    table = {cells[0].strip("`"): cells[2] for cells in rows(page("concepts/life-of-a-task.md"), "state")}
    assert list(table) == [state.value for state in State]
    for state in State:
        named = {word for word in re.findall(r"[a-z]+", table[state.value]) if word in set(State)}
        assert named == {target.value for target in MOVES[state]}, state


def test_every_outcome_of_a_callback_is_in_the_table_and_no_other() -> None:
    assert set(column(page("concepts/callbacks.md"), "outcome")) == {outcome.value for outcome in Outcome}


def test_every_row_of_the_torture_bench_stands_for_a_promise_and_every_promise_has_its_rows() -> None:
    promised = {row for cells in rows(page("promises.md"), "promise") for row in re.findall(r"\b[A-I]\d+\b", cells[2])}
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("*.py"))
    assert promised == set(re.findall(r'mark\.row\("([A-I]\d+)"\)', tests))


def test_every_command_is_on_its_page_and_every_command_named_anywhere_exists() -> None:
    commands = set(COMMANDS)
    assert set(re.findall(r"^\| `receiver ([a-z]+)", page("command-line.md"), re.MULTILINE)) == commands
    for path in pages():
        named = set(re.findall(r"(?:`|bin/)receiver ([a-z]+)", path.read_text()))
        assert named <= commands, path


def test_every_tool_for_an_assistant_is_in_the_table_and_no_other() -> None:
    tools = asyncio.run(make_server(Mock()).list_tools())
    assert sorted(column(page("command-line.md"), "tool")) == sorted(tool.name for tool in tools)


def test_the_configurations_of_an_assistant_run_the_command() -> None:
    for text in re.findall(r"```json\n(.*?)```", page("command-line.md"), re.DOTALL):
        (server,) = json.loads(text)["mcpServers"].values()
        assert set(server["env"]) <= set(VARIABLES.values())
        assert load("mcp", "mcp").make_context("mcp", server["args"][1:]).command.name == server["args"][0]


def test_every_setting_is_in_the_tables_and_no_other() -> None:
    text = page("settings.md")
    variables: list[str] = re.findall(r"^\| `([A-Z_<>]+)` \|", text, re.MULTILINE)
    fields = {field.upper() for config_type in CONFIG_TYPES.values() for field in config_type.model_fields}
    assert variables == [*VARIABLES.values(), *(name for name in variables if "<" in name)]
    assert {name.removeprefix("<PROVIDER>_") for name in variables if "<" in name} == fields


def test_every_provider_is_on_its_page_with_its_key() -> None:
    named = set(re.findall(r"`([A-Z_]+)`", page("providers.md")))
    assert {f"{family.upper()}_API_KEY" for family in CONFIG_TYPES} <= named
    assert set(CONFIG_TYPES) == {name for name in column(page("providers.md"), "account") if "<" not in name}


def test_every_endpoint_is_in_the_table_and_no_other() -> None:
    named = column(page("api.md"), "method, path")
    assert sorted(named) == sorted(f"{operation.method} {operation.path}" for operation in OPERATIONS)


def test_the_example_of_a_task_has_every_field_of_one() -> None:
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page("api.md"), re.DOTALL)]
    (task,) = (example for example in examples if "state" in example)
    assert set(task) == set(SCHEMAS["Task"]["properties"])
    assert set(task["outputs"][0]) == set(SCHEMAS["OutputDocument"]["properties"])


def test_every_sandbox_option_is_in_the_table_and_is_obeyed() -> None:
    named = column(page("sandbox.md"), "option")
    assert sorted(named) == sorted(
        ["after=3", *(f"{name}={value}" for name, values in CHOICES.items() for value in values)]
    )
    for option in named:
        assert Options.parse(f"a prompt [sandbox: {option}]") != Options.parse("a prompt") or option == "after=3"


def test_every_script_named_exists() -> None:
    there = {path.name for path in (ROOT / "scripts").iterdir()}
    for path in pages():
        assert set(re.findall(r"scripts/([a-z]+)\b", path.read_text())) <= there, path


def test_every_environment_variable_of_ours_that_a_page_names_exists() -> None:
    for path in pages():
        named = set(re.findall(r"\bRECEIVER_[A-Z_]*[A-Z]\b", path.read_text()))
        assert named <= set(VARIABLES.values()), path


def test_the_architecture_names_every_entry_of_the_package_and_no_other() -> None:
    there = {
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "receiver").iterdir()
        if not path.name.startswith(("_", "."))
    }
    assert set(column(page("architecture.md"), "in `receiver/`")) == there


def test_every_module_that_a_page_names_is_there() -> None:
    for path in pages():
        named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", path.read_text())
        assert [name for name in named if not exists(name)] == [], path


def exists(name: str) -> bool:
    places = (ROOT, ROOT / "receiver", ROOT / "receiver" / "providers")
    return name.endswith("providers/acme.py") or any((place / name).is_file() for place in places)


def test_the_example_of_an_adapter_is_one() -> None:
    blocks = re.findall(r"```python\n(.*?)```", page("adding-a-provider.md"), re.DOTALL)
    example: dict[str, Any] = {"__name__": "example"}
    exec(next(block for block in blocks if "class Acme:" in block), example)  # noqa: S102 - our own page
    assert [name for name in Provider.__annotations__ if not hasattr(example["Acme"], name)] == []
    acme: Provider = example["Acme"]("acme", example["AcmeConfig"](api_key="key"))
    flow = acme.submit(
        Order("tsk_1", "acme-1", {"prompt": "A boat"}, fill_defaults=True), "https://example.com/cb", "key"
    )
    assert json.loads(next(flow).content) == {
        "model": "acme-1",
        "prompt": "A boat",
        "seconds": 5,
        "webhook_url": "https://example.com/cb",
    }
    with pytest.raises(StopIteration) as ended:
        flow.send(httpx.Response(201, json={"id": "vid_1", "status": "queued"}))
    assert ended.value.value == Event(State.SUBMITTED, remote_id="vid_1")
    body = b'{"id": "vid_1", "status": "done", "video_url": "https://cdn.example.com/a.mp4"}'
    assert acme.read(Callback({}, body, 0)).outputs == (Output("https://cdn.example.com/a.mp4", "video"),)


# --- links

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    """Return the anchors that a page's headings get."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(text: str) -> str:
    """Leave out blocks of code, where brackets and hashes mean something else."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def broken_links(root: Path) -> Iterator[str]:
    """Yield every link of the README and the pages that leads to no file or no heading; other hosts are not asked."""
    for path in pages(root):
        for link in LINK.findall(without_code(path.read_text())):
            if re.match(r"https?:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            if not target.is_file():
                yield f"{path.relative_to(root)}: {link} leads nowhere"
            elif anchor and anchor not in anchors(target.read_text()):
                yield f"{path.relative_to(root)}: {link} has no such heading"


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    assert list(broken_links(ROOT)) == []


def test_a_link_to_a_missing_page_picture_or_heading_is_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("[a](docs/there.md#a-heading) [b](docs/gone.md) ![c](docs/gone.png)\n")
    (tmp_path / "docs" / "there.md").write_text(
        "# A heading\n\n[d](#no-heading)\n\n```\n# no-heading\n[e](x.md)\n```\n"
    )
    assert list(broken_links(tmp_path)) == [
        "README.md: docs/gone.md leads nowhere",
        "README.md: docs/gone.png leads nowhere",
        "docs/there.md: #no-heading has no such heading",
    ]


def in_nav(entries: Any) -> Iterator[str]:
    """Yield the pages of the site's navigation."""
    if isinstance(entries, str):
        yield entries
    else:
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from in_nav(entry)


def test_every_page_is_in_the_navigation_or_linked_and_the_navigation_names_no_other() -> None:
    nav = set(in_nav(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    linked = {
        str((path.parent / link.partition("#")[0]).resolve().relative_to(DOCS))
        for path in pages()[1:]
        for link in LINK.findall(without_code(path.read_text()))
        if link.partition("#")[0].endswith(".md") and not re.match(r"https?:", link)
    }
    assert nav <= there
    assert there <= nav | linked


def test_pictures_are_small() -> None:
    for path in (DOCS / "pictures").iterdir():
        assert path.stat().st_size < 150_000, path


# --- the site


@pytest.mark.skipif(
    importlib.util.find_spec("zensical") is None, reason='zensical is not installed: pip install -e ".[docs]"'
)
def test_the_site_builds_strictly_and_fetches_nothing_from_another_host(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    assert built(tmp_path).returncode == 0
    html = "".join(path.read_text() for path in (tmp_path / "build" / "site").rglob("*.html"))
    assert html.count("</html>") > len(pages()) - 1
    fetched = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)", html)
    assert fetched == []
    (tmp_path / "docs" / "index.md").write_text("[to nowhere](gone.md)")
    assert built(tmp_path).returncode != 0


def built(directory: Path) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(  # noqa: S603 - our own words
        words, cwd=directory, capture_output=True, text=True, timeout=SECONDS, check=False
    )
