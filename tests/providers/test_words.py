"""A state is understood in any family's words, and why a task failed under any of the usual names."""

import json
from typing import Any

import httpx
import pytest

from receiver.core.messages import Callback, Event
from receiver.core.states import State
from receiver.providers import FAMILIES
from tests.providers.recordings import account, answered, asking
from tests.providers.shapes import SHAPES, failed, record

each_family = pytest.mark.parametrize("family", FAMILIES)

WORDS: dict[State, list[str]] = {
    State.SUBMITTED: [
        "pending",
        "in_queue",
        "IN_QUEUE",
        "Queueing",
        "waiting",
        "not-start",
        "排队中",
        "TASK_STATUS_QUEUED",
    ],
    State.RUNNING: ["processing", "running", "In Progress", "inProgress", "video_generating", "IN-PROGRESS", "生成中"],
    State.SUCCEEDED: [
        *("done", "finished", "finish", "complete", "Completed", "succeed", "SUCCEEDED", "success", "Ready", "已完成"),
        *("TASK_STATUS_SUCCEED", "video_generation_completed", "成功", " done "),
    ],
    State.FAILED: [
        *("error", "ERROR", "timeout", "Timed Out", "interrupted", "aborted", "canceled", "cancelled", "CANCEL"),
        *(
            "rejected",
            "expired",
            "failure",
            "FAIL",
            "GENERATE_AUDIO_FAILED",
            "video_generation_failed",
            "失败",
            "已取消",
        ),
        *("超时", "Request Moderated", "SENSITIVE_WORD_ERROR", "killed", "terminated"),
    ],
}


def event(family: str, body: Any) -> Event:
    return answered(asking(account(family)), httpx.Response(200, json=body))


@each_family
@pytest.mark.parametrize(("word", "state"), [(word, state) for state, words in WORDS.items() for word in words])
def test_every_family_understands_the_others_words(family: str, word: str, state: State) -> None:
    told = event(family, record(family, word))
    assert (told.state, told.remote_state, told.notices) == (state, word.strip(), ())
    by_callback = account(family).read(Callback({}, json.dumps(record(family, word)).encode(), 0))
    assert (by_callback.state, by_callback.notices) == (state, ())


@each_family
@pytest.mark.parametrize("word", ["frobnicating", "UNKNOWN", "3", "x" * 3000, "succeeded?", "not_failed"])
def test_an_unknown_word_still_runs_and_is_told(family: str, word: str) -> None:
    told = event(family, record(family, word))
    assert (told.state, len(told.notices)) == (State.RUNNING, 1)


@each_family
@pytest.mark.parametrize("key", ["status", "state", "task_status", "taskStatus", "job_status"])
def test_the_word_is_found_under_any_of_its_names(family: str, key: str) -> None:
    body = json.loads(
        json.dumps(record(family, "processing")).replace('"state"', f'"{key}"').replace('"status"', f'"{key}"')
    )
    assert event(family, body).state is State.RUNNING


WHY = "The prompt was rejected by the content policy."
REASONS: dict[str, dict[str, Any]] = {
    **{
        name: {name: WHY}
        for name in (
            *("message", "msg", "reason", "error", "detail", "fail_reason", "failReason", "failMsg", "fail_message"),
            *(
                "failure_reason",
                "error_message",
                "errorMessage",
                "error_msg",
                "err_msg",
                "task_status_msg",
                "status_msg",
            ),
        )
    },
    "an error that is an object": {"error": {"message": WHY}},
    "with other words": {"error": {"msg": WHY}},
    "an error in the error": {"error": {"error": {"message": WHY}}},
    "a list of errors": {"errors": [{"message": WHY}]},
    "a list of details": {"detail": [{"msg": WHY}]},
    "an upstream's record": {"response": {"status": "failed", "error": {"message": WHY}}},
    "the upstream's reason": {"result": {"fail_reason": WHY}},
    "base_resp": {"base_resp": {"status_code": 0, "status_msg": WHY}},
    "JSON as text": {"fail_reason": json.dumps({"error": {"message": WHY}})},
    "an empty one before it": {"fail_reason": "", "failMsg": None, "error": {}, "message": WHY},
    "no word of success": {"message": WHY, "fail_reason": "success"},
}


@each_family
@pytest.mark.parametrize("name", REASONS)
def test_why_a_task_failed_is_found_under_any_usual_name(family: str, name: str) -> None:
    body = failed(family, **REASONS[name])
    told = event(family, body)
    assert told.error is not None
    assert (told.state, told.error.message) == (State.FAILED, WHY)
    assert told.error.code == told.remote_state, "no code was told, so the state's word is one, as it was given"


@each_family
@pytest.mark.parametrize(
    "fields",
    [
        {"failCode": "E7", "failMsg": WHY},
        {"errorCode": "E7", "errorMessage": WHY},
        {"err_code": "E7", "err_msg": WHY},
        {"error_code": "E7", "error_message": WHY},
        {"error": {"code": "E7", "message": WHY}},
        {"error": {"type": "E7", "message": WHY}},
        {"fail_reason": json.dumps({"code": "E7", "message": WHY})},
        {"response": {"error_code": "E7", "error_message": WHY}},
    ],
)
def test_the_provider_s_code_is_found_with_its_words(family: str, fields: dict[str, Any]) -> None:
    told = event(family, failed(family, **fields))
    assert told.error is not None
    assert (told.error.code, told.error.message) == ("E7", WHY)


@each_family
def test_the_success_of_the_request_is_no_reason(family: str) -> None:
    body = failed(family, errorCode=0, failCode="0") | {"code": 200, "message": "success", "msg": "Query successful."}
    if not SHAPES[family].has_envelope:
        body = {"code": 200, "msg": "Query successful.", "data": failed(family)}
    told = event(family, body)
    assert told.error is not None
    assert (told.error.code, told.error.message) == (told.remote_state, "The provider gave no reason.")


@pytest.mark.parametrize(
    ("body", "state", "remote_id"),
    [
        ({"code": "success", "data": {"task_id": "t", "status": "IN_PROGRESS"}}, State.RUNNING, "t"),
        ({"status": "success", "data": {"task_id": "t", "status": "IN_PROGRESS"}}, State.RUNNING, "t"),
        (
            {"status": "success", "id": "question-1", "data": {"task_id": "t", "status": "IN_PROGRESS"}},
            State.RUNNING,
            "t",
        ),
        ({"status": "success", "data": {"status": "processing"}}, State.RUNNING, None),
        ({"data": {"data": {"task_id": "t", "status": "FAILURE"}}}, State.FAILED, "t"),
        ({"data": [{"task_id": "t", "status": "SUCCESS"}]}, State.SUCCEEDED, "t"),
        ({"data": json.dumps({"task_id": "t", "status": "SUCCESS"})}, State.SUCCEEDED, "t"),
        ([{"task_id": "t", "status": "SUCCESS"}], State.SUCCEEDED, "t"),
        ({"request_id": "r", "output": {"task_id": "t", "task_status": "SUCCEEDED"}}, State.SUCCEEDED, "t"),
        ({"task_id": "t", "status": "FAILURE", "data": {"task_id": "u", "status": "completed"}}, State.FAILED, "t"),
        ({"task_id": "t", "data": {"status": "completed"}}, State.SUCCEEDED, "t"),
    ],
)
def test_the_record_of_the_task_is_found_in_what_wraps_it(body: Any, state: State, remote_id: str | None) -> None:
    told = event("gateway", body)
    assert (told.state, told.remote_id) == (state, remote_id)
