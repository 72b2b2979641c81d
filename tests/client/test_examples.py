"""The page about the Python client: its examples run as they stand, and its tables name what there is."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import receiver.client
from receiver.client import Client, ClientError
from receiver.client.calls import Calls
from tests.cli.rig import QUICK, Home, serving

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_examples_run_one_after_the_other_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path, dict(QUICK))
    with serving(home):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("RECEIVER_API_TOKENS", home.token())
        names: dict[str, Any] = {"__name__": "example"}
        shown = []
        for example in EXAMPLES:
            assert "http://127.0.0.1:8000" in example or "Client(" not in example
            exec(example.replace("http://127.0.0.1:8000", home.url), names)  # noqa: S102 - our own page
            shown.append(capsys.readouterr().out)
        names["client"].close()
    made, submitted, waited, downloaded, linked, followed, listed, refused, awaited = shown
    assert made == waited == "", "it succeeded"
    assert submitted.startswith("succeeded [{'url': ")
    assert re.fullmatch(r"results/tsk_\S+ \d+\n", downloaded)
    assert re.fullmatch(r"http://\S+/outputs/0\?link=\S+ 20\S+Z\n", linked)
    assert followed.endswith("is ready\n")
    assert re.fullmatch(r"tsk_\S+ succeeded \S+\n", listed)
    assert refused.startswith("['input', 'n_frames'] must be one of")
    assert awaited.count(" succeeded\n") == 3


def column(first: str) -> list[str]:
    table = PAGE[PAGE.index(f"| {first} |") :].split("\n\n", 1)[0]
    return re.findall(r"`(\w+)", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))


def test_every_method_and_exception_is_in_its_table_and_no_other() -> None:
    assert sorted(column("method")) == sorted([*(name for name in vars(Calls) if name[0] != "_"), "close"])
    errors = [
        each for each in vars(receiver.client).values() if inspect.isclass(each) and issubclass(each, ClientError)
    ]
    assert sorted(column("exception")) == sorted(error.__name__ for error in errors)


def test_what_a_method_takes_is_what_its_row_names() -> None:
    for name, given in re.findall(r"^\| `(\w+)\(([^)]*)\)`", PAGE, re.MULTILINE):
        taken = list(inspect.signature(getattr(Client, name)).parameters)[1:]
        assert [*filter(None, given.split(", "))] == taken[: len([*filter(None, given.split(", "))])], name
    for name, row in re.findall(r"^\| `(\w+)\([^)]*\)` \|(.*)\|$", PAGE, re.MULTILINE):
        more = re.findall(r"`(\w+)`", row.partition(";")[2])
        assert set(more) <= set(inspect.signature(getattr(Client, name)).parameters), name
