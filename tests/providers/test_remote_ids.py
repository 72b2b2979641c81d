"""An answer that accepts an order is followed, wherever its id stands; an error's own id is never taken for one."""

import json
from typing import Any

import httpx
import pytest

from receiver.core.errors import Busy, ProviderError, Refused, Unconfirmed
from receiver.providers import FAMILIES
from receiver.providers.remote_ids import find_task_id
from tests.providers.recordings import account, answered, submitting

each_family = pytest.mark.parametrize("family", FAMILIES)
ID = "736a6f88-bd29-4b1e-b110-fld000000001"


def submitted(family: str, body: Any, status: int = 200) -> str | None:
    return answered(submitting(account(family)), httpx.Response(status, json=body)).remote_id


ACCEPTED: dict[str, Any] = {
    "data is a list": {"code": 200, "data": [{"status": "submitted", "task_id": ID}]},
    "data is the id": {"code": "success", "message": "", "data": ID},
    "data is a list of ids": {"code": 200, "data": [ID]},
    "data is JSON as text": {"code": 200, "data": json.dumps({"task_id": ID})},
    "a list of one": [{"task_id": ID, "status": "queued", "get_result": f"https://h.example.com/{ID}"}],
    "a text within a text": json.dumps({"task_id": ID}),
    "the whole as a list in a text": json.dumps([{"taskId": ID}]),
    "result": {"code": 200, "result": {"task_id": ID}},
    "a Midjourney proxy's": {"code": 1, "description": "提交成功", "properties": {}, "result": "1320098173412546"},
    "one that queues": {"code": 22, "description": "排队中", "result": "1320098173412546"},
    "id": {"id": ID, "object": "video", "status": "queued", "created": 1790000000},
    "taskId": {"taskId": ID},
    "data.id": {"success": True, "data": {"id": ID}},
    "data.data.task_id": {"code": 0, "data": {"data": {"task_id": ID}}},
    "data.task.id": {"data": {"task": {"id": ID, "created_at": 1790000000}}},
    "tasks": {"tasks": [{"task_id": ID}]},
    "task_uuid": {"data": {"taskUUID": ID}},
    "job_id": {"job_id": ID, "status": "pending", "cost": 5},
    "generation_id": {"generation_id": ID},
    "prediction": {"prediction": {"id": ID, "status": "starting"}},
    "request_id alone": {"request_id": ID, "status": "IN_QUEUE", "queue_position": 2},
    "beside a request_id": {"request_id": "req-1", "output": {"task_id": ID, "task_status": "PENDING"}},
    "beside a requestId and a better name": {"requestId": "r", "data": {"id": ID}},
    "task_ids": {"code": 0, "data": {"task_ids": [ID]}},
    "a job by itself": {"job": ID},
    "submit_id": {"ret": "0", "data": {"submit_id": ID}},
    "code 202": {"code": 202, "msg": "accepted", "data": {"job_id": ID}},
}


@each_family
@pytest.mark.parametrize("where", ACCEPTED)
def test_an_accepted_order_is_followed_wherever_its_id_stands(family: str, where: str) -> None:
    expected = ID if ID in json.dumps(ACCEPTED[where]) else "1320098173412546"
    assert submitted(family, ACCEPTED[where]) == expected


ERRORS: dict[str, tuple[Any, type[ProviderError]]] = {
    "a request id beside a code": ({"code": "InternalError", "message": "Oops.", "request_id": ID}, Unconfirmed),
    "an id beside an error": ({"error": {"message": "Oops.", "type": "server_error"}, "requestId": ID}, Unconfirmed),
    "an id in the error": ({"error": {"message": "Oops.", "id": ID, "task_id": ID}}, Unconfirmed),
    "a flag": ({"success": False, "message": "Oops.", "data": {"id": ID}}, Unconfirmed),
    "an upstream's": ({"code": "upstream_error", "message": "Oops.", "data": ID}, Unconfirmed),
    "a trace": ({"code": 500, "message": "Oops.", "trace_id": ID, "log_id": ID}, Unconfirmed),
    "no error, and no id": ({"created": 1790000000, "code": 200, "message": "success"}, Unconfirmed),
    "a word": ({"code": 200, "data": "success"}, Unconfirmed),
    "a sentence": ({"code": 200, "data": "Your task 17 is queued"}, Unconfirmed),
    "an address": ({"code": 200, "data": "https://h.example.com/17"}, Unconfirmed),
    "a flag of success": ({"code": 200, "data": True}, Unconfirmed),
    "a code of the request": ({"code": 200, "data": {"request_id": None, "req_id": ID}}, Unconfirmed),
    "turned away": ({"code": 429, "message": "Slow down.", "request_id": ID}, Busy),
    "refused": ({"code": 401, "message": "No.", "request_id": ID}, Refused),
}


@each_family
@pytest.mark.parametrize("what", ERRORS)
def test_no_id_of_an_error_or_of_the_question_is_taken_for_the_task_s(family: str, what: str) -> None:
    body, expected = ERRORS[what]
    with pytest.raises(ProviderError) as caught:
        submitted(family, body)
    assert caught.type is expected


@each_family
@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_no_answer_with_an_http_error_is_an_acceptance(family: str, status: int) -> None:
    with pytest.raises(ProviderError):
        submitted(family, {"request_id": ID, "message": "Oops."}, status)


def test_a_name_for_tasks_comes_before_one_for_anything_and_before_the_question_s() -> None:
    assert find_task_id({"id": "resp-1", "request_id": "r", "result": {"task_id": ID}}) == ID
    assert find_task_id({"request_id": "r", "result": {"id": ID}}) == ID
    assert find_task_id({"data": {"id": "evt_17", "job_id": ID}}) == ID
    assert find_task_id({"id": "chatcmpl-17"}) is None


def test_the_search_for_an_id_goes_so_deep_and_no_deeper() -> None:
    deep: Any = {"task_id": ID}
    for _ in range(3):
        deep = {"data": deep}
    assert find_task_id(deep) == ID
    assert find_task_id({"data": deep}) is None
    assert find_task_id({"data": [{"task_id": ID}] * 10_000}) == ID
