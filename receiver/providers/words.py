"""The words for states and failure reasons that API families share. Pure; only the provider files call it.

A family's own words take precedence. These are all that the families, similar APIs and relays are known to send.
"""

import re
from collections.abc import Mapping
from typing import Any

from receiver.core import wire
from receiver.core.errors import Unreadable
from receiver.core.messages import Problem
from receiver.core.states import State

_WAITING = """
    pending queued queue queuing queueing in_queue enqueued waiting wait submitted submit submitting created create
    accepted received scheduled preparing prepare prepared not_start not_started starting start throttled modal initial
    initialized initializing new 排队中 排队 等待中 等待 已提交 提交成功 未开始 待处理
"""
_WORKING = """
    running run processing process in_progress inprogress progress working generating executing active
    started dreaming uploading downloading upsampling transcoding saving retrying first_success
    text_success 处理中 生成中 进行中 运行中 执行中 渲染中
"""
_DONE = """
    success successful successfully succeed succeeds succeeded complete completed done finish finished ok ready
    成功 已完成 完成 生成成功
"""
_FAILED = """
    fail failed failure fails unsuccessful error errored exception aborted abort interrupted timeout timed_out time_out
    canceled cancelled cancel canceling cancelling expired expire rejected reject refused denied declined blocked banned
    invalid terminated killed stopped crashed dead deleted moderated content_moderated request_moderated violation
    sensitive sensitive_word_error nsfw refunded lost create_failed 失败 生成失败 已失败 已取消 取消 超时 已超时 已过期
    过期 错误 异常 已拒绝 拒绝 已中断 中断 已终止 违规
"""
WORDS: Mapping[str, State] = {
    word: state
    for state, words in (
        (State.SUBMITTED, _WAITING),
        (State.RUNNING, _WORKING),
        (State.SUCCEEDED, _DONE),
        (State.FAILED, _FAILED),
    )
    for word in words.split()
}
_NOISE = frozenset(
    {
        "task",
        "job",
        "status",
        "state",
        "video",
        "image",
        "audio",
        "music",
        "generation",
        "generate",
        "is",
        "has",
        "been",
    }
)
"""Parts of a word that do not name the state: `TASK_STATUS_SUCCEED`, `video_generation_completed`."""

_WRAPPERS = ("data", "task", "result", "response", "output", "job", "record", "prediction")
_TASK_IDS = ("task_id", "taskId", "taskID")
STATE_KEYS = ("state", "status", "task_status", "taskStatus", "job_status", "jobStatus")
_IDS = (*_TASK_IDS, "id")
_STATES_AND_IDS = (*STATE_KEYS, *_IDS)

_CODES = (
    *("failCode", "fail_code", "errorCode", "error_code", "err_code", "errCode"),
    *("failureCode", "failure_code", "code", "error_type", "errorType"),
)
_REASONS = (
    *("fail_reason", "failReason", "failMsg", "fail_msg", "fail_message", "failMessage", "failure_reason"),
    *("failureReason", "failure", "error_message", "errorMessage", "error_msg", "errorMsg", "err_msg", "errMsg"),
    *("error", "errors", "task_status_msg", "taskStatusMsg", "status_msg", "statusMsg", "status_message"),
    *("statusMessage", "reason", "message", "msg", "detail", "details", "description"),
)
_WITHIN = ("data", "result", "output", "response", "base_resp")
"""Nested records in which an upstream puts the reason."""
_NO_CODES = frozenset({"0", "200", "success", "succeed", "ok", "none", "null"})
_NO_REASONS = frozenset({"success", "succeed", "succeeded", "ok", "none", "null"})


def parse_state(word: str | None, states: Mapping[str, State]) -> tuple[State | None, tuple[str, ...]]:
    """Return the state for a provider's word, in any case; an unknown word counts as running, with a notice."""
    if word is None:
        return None, ()
    known = states.get(word.lower()) or _shared_state(word)
    if known is not None:
        return known, ()
    return State.RUNNING, (
        f'The provider says "{wire.truncate(word, 80)}", an unknown state; it is treated as running.',
    )


def _shared_state(word: str) -> State | None:
    """Return the state for a shared word; `In Progress`, `in-progress` and `inProgress` are the same."""
    if len(word) > 60:
        return None
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word)
    parts = re.split(r"[\s_.-]+", spaced.lower().strip())
    known = WORDS.get("_".join(parts))
    return known or WORDS.get("_".join(part for part in parts if part not in _NOISE))


def error_envelope(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an envelope that reports an error; an empty one if it reports the request's own success."""
    return {} if (wire.read_text(body.get("code")) or "").lower() in _NO_CODES else body


def is_state_word(value: Any) -> bool:
    """Return whether a value is a word for a state in some family."""
    word = wire.read_text(value)
    return word is not None and _shared_state(word) is not None


def find_task(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the task's record: the message itself, or one that is nested in it up to three levels deep.

    A record with an id and a state is the task's, unless only a nested one has a task id.
    """
    record = body
    for _ in range(3):
        if _has_task_id(record) and wire.first_value(record, *STATE_KEYS) is not None:
            return record
        inner = _inner_record(record)
        if inner is None or (_has_state_and_id(record) and not (_has_state_and_id(inner) and _has_task_id(inner))):
            return record
        record = inner
    return record


def _inner_record(record: Mapping[str, Any], deeper: int = 1) -> Mapping[str, Any] | None:
    for key in _WRAPPERS:
        value = record.get(key)
        inner = _as_object(value) if value else None
        if inner and not _has_state_or_id(inner):
            inner = _inner_record(inner, deeper - 1) if deeper else None
        if inner:
            return inner
    return None


def _has_state_or_id(record: Mapping[str, Any]) -> bool:
    return wire.first_value(record, *_STATES_AND_IDS) is not None


def _has_state_and_id(record: Mapping[str, Any]) -> bool:
    return wire.first_value(record, *STATE_KEYS) is not None and wire.first_value(record, *_IDS) is not None


def _has_task_id(record: Mapping[str, Any]) -> bool:
    return wire.first_value(record, *_TASK_IDS) is not None


def find_failure(
    record: Mapping[str, Any], word: str | None, envelope: Mapping[str, Any] | None = None, *, code: Any = None
) -> Problem:
    """Return why a task failed, under any of the usual field names: from its record, else from the envelope.

    If the record has no code, it is `code`, or the provider's word for the state.
    """
    told, message = _read_failure(record)
    if message is None and envelope is not None and envelope is not record:
        message = _read_failure(envelope)[1]
    return Problem(
        told or wire.read_text(code) or wire.read_text(word) or "failed", message or "The provider gave no reason."
    )


def _read_failure(record: Mapping[str, Any], deeper: int = 2) -> tuple[str | None, str | None]:
    """Return the code and the message of a record, or of the first nested one that has them."""
    codes = (wire.read_text(record.get(key)) for key in _CODES)
    code = next((code for code in codes if code is not None and code.lower() not in _NO_CODES), None)
    for key in _REASONS:
        inner = _as_object(record.get(key)) if deeper else None
        if inner is None:
            message = wire.read_text(record.get(key))
        else:
            inner_code, message = _read_failure(inner, deeper - 1)
            code = code or inner_code or wire.read_text(inner.get("type"))
        if message is not None and message.lower() not in _NO_REASONS:
            return code, message
    for key in _WITHIN if deeper else ():
        inner_code, message = _read_failure(_as_object(record.get(key)) or {}, deeper - 1)
        code = code or inner_code
        if message is not None:
            return code, message
    return code, None


def _as_object(value: Any) -> Mapping[str, Any] | None:
    """Return an object, the first of a list, or the one in a JSON string."""
    if isinstance(value, str) and value.strip().startswith(("{", "[")):
        try:
            value = wire.read_nested(value)
        except Unreadable:
            return None
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, dict) else None
