"""kie.ai as the simulated provider speaks it: its callbacks are hints, and the status answer is the truth."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.measuring import FRESH, HANG
from tests.system.processes import free_port, provider, service, settled

HEADERS = {"Authorization": "Bearer a-token-for-the-tests"}
MARKET, VEO = "wan/2-7-text-to-video", "veo3_fast"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of a running service and of its provider."""
    directory, port, provider_port = tmp_path_factory.mktemp("kie"), free_port(), free_port()
    selling, serving = provider(directory, provider_port), service(directory, port, provider_port)
    selling.start()
    serving.start()
    yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{provider_port}"
    serving.kill()
    selling.kill()


@pytest.mark.parametrize("model", [MARKET, VEO])
@pytest.mark.parametrize(
    ("knobs", "state", "settled_by"),
    [
        ("", "succeeded", "callback"),
        ("callback=lying", "succeeded", "callback"),
        ("callback=lying result=fail", "failed", "callback"),
        ("callback=drop", "succeeded", "check"),
        ("result=fail", "failed", "callback"),
        ("submit=break", "succeeded", "callback"),
        ("submit=refuse", "failed", "submission"),
    ],
)
def test_a_final_callback_counts_when_the_status_answer_confirms_it(
    places: tuple[str, str], model: str, knobs: str, state: str, settled_by: str
) -> None:
    url, provider_url = places
    prompt = f"A boat for {model} [sandbox: {knobs} after=1.5]"
    order = {"provider": "kie", "model": model, "input": {"prompt": prompt}}
    with httpx.Client(base_url=url, headers=HEADERS, timeout=HANG, limits=FRESH, trust_env=False) as client:
        task_id = client.post("/api/tasks", content=json.dumps(order)).json()["id"]
        task = settled(client, task_id)
        purchases = client.get(f"{provider_url}/ledger", headers={"Authorization": ""}).json()["purchases"]
    made = [purchase["video_url"] for purchase in purchases if purchase["prompt"] == prompt]
    assert task["state"] == state, task
    assert [output["url"] for output in task["outputs"]] == (made if state == "succeeded" else [])
    assert len(made) == (0 if "refuse" in knobs else 1)
    if settled_by != "submission":
        assert task["evidence"]["confirmed_at"] is not None
    if "lying" not in knobs:  # after a lie the status answer may come before the honest callback
        assert task["settled_by"] == settled_by


def test_the_balance_falls_with_what_was_bought(places: tuple[str, str]) -> None:
    url, _ = places
    with httpx.Client(base_url=url, headers=HEADERS, timeout=HANG, limits=FRESH, trust_env=False) as client:
        before = client.get("/api/providers/kie/balance").json()["credits"]
        order = {"provider": "kie", "model": MARKET, "input": {"prompt": "[sandbox: after=0.2]"}}
        client.post("/api/tasks", content=json.dumps(order))
        assert client.get("/api/providers/kie/balance").json()["credits"] < before
        assert client.get("/api/providers/apixo/balance").status_code == 409
        assert client.get("/api/providers/none/balance").status_code == 404
