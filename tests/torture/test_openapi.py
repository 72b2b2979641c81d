"""Schemathesis holds the live service to its own `/openapi.json`, with every phase and every check that it has."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.rig import Home, serving
from tests.measuring import HANG
from tests.torture.harness import ROOT, Torture

TOOL = shutil.which("schemathesis", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
SECONDS = 1800
TAKE_FILES = ["rivya", "kie"]
"""The sandbox's accounts that take reference files."""


def with_what_a_caller_knows(document: Any, accounts: list[str]) -> Any:
    """Name the configured accounts, public receivers and one kind of file in the document, for it is the same for all
    installations.

    Only the requests that are made as valid depend on it; nothing that is checked of the answers does.
    """
    paths = document["paths"]
    del paths["/api/events"]  # its answer has no end
    for form in paths["/api/tasks"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"]:
        form["properties"]["provider"]["enum"] = accounts
        form["properties"]["notify_url"] = {"enum": [None, "https://app.example.com/told"]}
    files = paths["/api/files"]["post"]["requestBody"]["content"]["multipart/form-data"]
    files["schema"]["properties"]["provider"]["enum"] = TAKE_FILES
    files["schema"]["properties"]["kind"]["enum"] = ["image"]
    files["encoding"]["file"]["contentType"] = "image/png"
    return document


@pytest.mark.skipif(TOOL is None, reason="schemathesis is not installed")
@pytest.mark.row("D11")
def test_the_live_service_is_what_its_openapi_document_says(torture: Torture, tmp_path: Path) -> None:
    home = Home(tmp_path, {"RECEIVER_TIMEOUT": "5", "RECEIVER_POLL_AFTER": "60", "RECEIVER_CALLBACK_GRACE": "60"})
    with serving(home) as served:
        with home.client() as client:
            document = client.get("/openapi.json").json()
            accounts = [one["name"] for one in client.get("/api/providers").json()["providers"] if one["configured"]]
        schema = tmp_path / "openapi.json"
        schema.write_text(json.dumps(with_what_a_caller_knows(document, accounts)))
        words = [str(TOOL), "run", str(schema), "--url", home.url, "-H", f"Authorization: Bearer {home.token()}",
                 "--phases", "examples,coverage,fuzzing,stateful", "--checks", "all", "--continue-on-failure",
                 "--max-examples", str(torture.size(3, 450)), "--seed", str(torture.seed),
                 "--request-timeout", f"{HANG:.0f}",
                 "--suppress-health-check", "all"]  # fmt: skip
        hooks = {"SCHEMATHESIS_HOOKS": str(ROOT / "tests" / "torture" / "openapi_hooks.py"), "NO_COLOR": "1"}
        ran = subprocess.run(  # noqa: S603 - a tool of the test extra
            words,
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | hooks,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        generated = re.search(r"(\d+) generated", ran.stdout)
        assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
        assert generated is not None
        torture.figures(seed=torture.seed, cases=int(generated[1]))
        assert int(generated[1]) >= torture.size(400, 5000)
        assert served.process.poll() is None
        assert '"unexpected_error"' not in served.told(), "a fault of ours was logged"
        assert httpx.get(f"{home.url}/readyz", timeout=HANG, trust_env=False).status_code == 200
