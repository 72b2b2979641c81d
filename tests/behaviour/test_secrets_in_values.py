"""Secrets that consist of digits, or of JSON's own syntax, are taken out of what is stored and leave it JSON."""

import json
from typing import Any

import pytest

from tests.behaviour.families import APIXO, REVID
from tests.behaviour.provider import says
from tests.behaviour.service import Service, Stage

pytestmark = pytest.mark.anyio

DIGITS = "12345678"
SYNTAX = "null,true"


def refuse_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


async def listed(service: Service) -> list[dict[str, Any]]:
    answer = await service.client.get("/api/tasks")
    assert answer.status_code == 200, answer.text
    tasks: list[dict[str, Any]] = json.loads(answer.content, parse_constant=refuse_constant)["tasks"]
    return tasks


def done_with(remote_id: str, **made: Any) -> Any:
    body: Any = json.loads(json.dumps(REVID.done(remote_id)))
    body["data"]["resultJson"] = json.dumps({"resultObject": made})
    return body


@pytest.mark.parametrize("secret", [DIGITS, SYNTAX], ids=["digits", "syntax"])
async def test_a_secret_in_a_result_or_notice_costs_no_list(stage: Stage, secret: str) -> None:
    async with stage.serve(REVID_API_KEY=secret) as service:
        stage.provider.on_create(REVID, says(REVID.accepted("r-1")), says(REVID.accepted("r-2")))
        made, failed = [await service.order(REVID.order(prompt)) for prompt in ("one", "two")]
        values = {
            "seed": int(DIGITS),
            "more": [1.0, 112345678.5, f"a {secret} b"],
            secret: True,
            "pair": [None, True],
            "size": 1234567,
        }
        assert await service.call_back(made["id"], done_with("r-1", **values)) == "applied"
        assert await service.call_back(failed["id"], REVID.failed("r-2", secret, f"no, {secret}")) == "applied"
        tasks = {task["id"]: task for task in await listed(service)}
        shown = json.dumps(list(tasks.values()))
        assert secret not in shown.replace('\\"', '"')
        assert tasks[made["id"]]["state"] == "succeeded"
        assert tasks[made["id"]]["result"]["size"] == 1234567, "what is no secret stays what it is"
        for path in (f"/api/tasks/{made['id']}/history", f"/api/tasks/{failed['id']}/history"):
            answer = await service.client.get(path)
            assert answer.status_code == 200
            assert secret not in json.dumps([event for event in answer.json()["events"] if event["kind"] == "move"])


async def test_what_an_earlier_release_stored_that_is_no_json_is_shown_as_null(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await service.order(APIXO.order())
        with service.database.connected() as connection:
            connection.execute('UPDATE task SET input = \'{"prompt": "x", "a": [NaN, -Infinity, 1.5]}\'')
        (shown,) = await listed(service)
        assert shown["input"] == {"prompt": "x", "a": [None, None, 1.5]}
        answer = await service.client.get(f"/api/tasks/{task['id']}")
        assert json.loads(answer.content, parse_constant=refuse_constant)["input"] == shown["input"]
