"""`receiver register rivya`, for real: the provider then posts signed events for the whole account."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.measuring import FRESH, HANG
from tests.system.processes import Process, free_port, provider, service, settled

HEADERS = {"Authorization": "Bearer a-token-for-the-tests"}


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[tuple[Process, str]]:
    """A service that would ask by itself only after an hour, beside the simulated provider."""
    port, provider_port = free_port(), free_port()
    selling = provider(tmp_path, provider_port)
    serving = service(tmp_path, port, provider_port, RECEIVER_POLL_AFTER="3600", RECEIVER_DEADLINE="7200")
    selling.start()
    serving.start()
    yield serving, f"http://127.0.0.1:{port}"
    serving.kill()
    selling.kill()


def test_a_registered_webhook_brings_the_news_of_tasks_that_have_no_callback_url(
    processes: tuple[Process, str],
) -> None:
    serving, url = processes
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RECEIVER_")}
    command = [sys.executable, "-m", "receiver", "register", "rivya"]
    registered = subprocess.run(  # noqa: S603 - our own command
        command, env={**environ, **serving.environ}, cwd=serving.log.parent, capture_output=True, text=True, check=False
    )
    assert registered.returncode == 0, registered.stderr
    secret = (serving.log.parent / "data" / "rivya_webhook_secret").read_text().strip()
    assert secret.startswith("whsec_")
    assert secret not in registered.stdout + registered.stderr
    assert serving.stop() == 0
    serving.start()

    order = {"provider": "rivya", "model": "sora-2", "input": {"prompt": "A boat [sandbox: after=0.5]"}}
    with httpx.Client(base_url=url, headers=HEADERS, timeout=HANG, limits=FRESH, trust_env=False) as client:
        task_id = client.post("/api/tasks", content=json.dumps(order)).json()["id"]
        task = settled(client, task_id)
    assert (task["state"], task["settled_by"]) == ("succeeded", "callback")
    assert task["evidence"]["signature"] == "body"
    assert task["evidence"]["confirmed_at"] is not None
