"""The words for states and reasons that API families share; each family's own words come before these. Pure.

They are those that the families, their relatives and the relays between them are known to send. Only the provider files
call this.
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
"""Parts of a word that say what is in a state, and not which: `TASK_STATUS_SUCCEED`, `video_generation_completed`."""

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
"""Records in which an upstream says it."""
_NO_CODES = frozenset({"0", "200", "success", "succeed", "ok", "none", "null"})
_NO_REASONS = frozenset({"success", "succeed", "succeeded", "ok", "none", "null"})


def state_of(word: str | None, states: Mapping[str, State]) -> tuple[State | None, tuple[str, ...]]:
    """Translate a provider's state word, whatever its case; an unknown word counts as running and leaves a notice."""
    if word is None:
        return None, ()
    known = states.get(word.lower()) or _shared(word)
    if known is not None:
        return known, ()
    return State.RUNNING, (
        f'The provider says "{wire.truncate(word, 80)}", a state this service does not know; taken as running.',
    )


def _shared(word: str) -> State | None:
    """Look a word up that the family itself does not know: `In Progress`, `in-progress` and `inProgress` are one."""
    if len(word) > 60:
        return None
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word)
    parts = re.split(r"[\s_.-]+", spaced.lower().strip())
    known = WORDS.get("_".join(parts))
    return known or WORDS.get("_".join(part for part in parts if part not in _NOISE))


def about_task(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take what an envelope says besides the task's own record, unless it speaks of a success: of the question's."""
    return {} if (wire.read_text(body.get("code")) or "").lower() in _NO_CODES else body


def is_state(value: Any) -> bool:
    """Tell whether a value is a word that some family says a state with."""
    word = wire.read_text(value)
    return word is not None and _shared(word) is not None


def task_in(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the record of the task: the message itself, or the one that it wraps, up to three times.

    A message that names the task and tells a state is its record, unless only the one within names it as a task's:
    what it holds besides is the upstream's own record.
    """
    record = body
    for _ in range(3):
        if _names_task(record) and wire.first_value(record, *STATE_KEYS) is not None:
            return record
        inner = _inner_record(record)
        if inner is None or (_is_whole(record) and not (_is_whole(inner) and _names_task(inner))):
            return record
        record = inner
    return record


def _inner_record(record: Mapping[str, Any], deeper: int = 1) -> Mapping[str, Any] | None:
    for key in _WRAPPERS:
        value = record.get(key)
        inner = _object(value) if value else None
        if inner and not _is_record(inner):
            inner = _inner_record(inner, deeper - 1) if deeper else None
        if inner:
            return inner
    return None


def _is_record(record: Mapping[str, Any]) -> bool:
    return wire.first_value(record, *_STATES_AND_IDS) is not None


def _is_whole(record: Mapping[str, Any]) -> bool:
    return wire.first_value(record, *STATE_KEYS) is not None and wire.first_value(record, *_IDS) is not None


def _names_task(record: Mapping[str, Any]) -> bool:
    return wire.first_value(record, *_TASK_IDS) is not None


def why_failed(
    record: Mapping[str, Any], word: str | None, envelope: Mapping[str, Any] | None = None, *, code: Any = None
) -> Problem:
    """Find why a task failed, under any of the usual names: in its record, else in the envelope's words.

    Without a code of the task's own it is `code`, or the provider's word for the state.
    """
    told, message = _told(record)
    if message is None and envelope is not None and envelope is not record:
        message = _told(envelope)[1]
    return Problem(
        told or wire.read_text(code) or wire.read_text(word) or "failed", message or "The provider gave no reason."
    )


def _told(record: Mapping[str, Any], deeper: int = 2) -> tuple[str | None, str | None]:
    """Read the code and the words of one record, or of the first one in it that says them."""
    codes = (wire.read_text(record.get(key)) for key in _CODES)
    code = next((code for code in codes if code is not None and code.lower() not in _NO_CODES), None)
    for key in _REASONS:
        inner = _object(record.get(key)) if deeper else None
        if inner is None:
            message = wire.read_text(record.get(key))
        else:
            inner_code, message = _told(inner, deeper - 1)
            code = code or inner_code or wire.read_text(inner.get("type"))
        if message is not None and message.lower() not in _NO_REASONS:
            return code, message
    for key in _WITHIN if deeper else ():
        inner_code, message = _told(_object(record.get(key)) or {}, deeper - 1)
        code = code or inner_code
        if message is not None:
            return code, message
    return code, None


def _object(value: Any) -> Mapping[str, Any] | None:
    """Take an object, the first of a list, or the one that a JSON text holds."""
    if isinstance(value, str) and value.strip().startswith(("{", "[")):
        try:
            value = wire.read_nested(value)
        except Unreadable:
            return None
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, dict) else None
