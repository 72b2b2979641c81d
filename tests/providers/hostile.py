"""Strategies for what strangers may send: any JSON value in the shapes that the families read, and any bytes."""

import json
from typing import Any

from hypothesis import strategies as st

texts = st.text(st.characters(exclude_categories=()), max_size=40)
"""Any text: control characters, NUL and lone surrogates too."""

# fmt: off
KEYS = [
    "code", "msg", "message", "data", "error", "type", "id", "task_id", "taskId", "status", "state", "task_status",
    "model", "result", "resultJson", "param", "resultUrls", "resultObject", "primary_url", "urls", "output", "outputs",
    "images", "task_result", "videos", "url", "video_url", "imageUrl", "fail_reason", "failReason", "failCode",
    "failMsg", "task_status_msg", "progress", "createTime", "completeTime", "finish_time", "finishTime", "updated_at",
    "reserved_credits", "final_credits", "creditsConsumed", "consumeCredits", "successFlag", "callbackType", "info",
    "response", "result_urls", "audio_url", "errorCode", "errorMessage", "current_credits", "remaining_quota",
    "creations", "works", "video", "content", "results", "tasks", "job_id", "request_id", "callback_url", "input",
    "sunoData",
    "text", "lyricsData", "msg", "detail", "errors", "reason", "payload",
]
WORDS = [
    "queued", "processing", "succeeded", "failed", "pending", "success", "fail", "waiting", "generating", "NOT_START",
    "SUBMITTED", "IN_PROGRESS", "SUCCESS", "FAILURE", "succeed", "cancelled", "expired", "93%", "0.50", "1e400", "-1",
    "nan", "https://example.com/a.mp4", "2026-05-11T00:03:10.000Z", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59", "9007199254740993", "{}", "[]", "null", '""', '{"message":', "evt_1", "0", "1", "2",
    "complete", "first", "task_completed", "[http://example.com/a.mp4, http://example.com/b.mp4]", "[", "501",
]
# fmt: on

numbers = st.one_of(
    st.integers(-1, 200),
    st.integers(-(10**399) + 1, 10**399 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, 10**11 - 1, 10**11, 10**14 - 1, 10**14, 2**53 + 1, 2**63, 1e308, 1.7e12, -0.0]),
)
leaves = st.one_of(st.none(), st.booleans(), numbers, texts, st.sampled_from(WORDS))
keys = st.sampled_from(KEYS) | texts


def _nest(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    spelled = children.map(json.dumps)
    return st.one_of(
        st.lists(children, max_size=4),
        st.dictionaries(keys, children, max_size=8),
        spelled,
        spelled.map(lambda text: text[: len(text) * 2 // 3]),
        spelled.map(json.dumps),
    )


values = st.recursive(leaves, _nest, max_leaves=25)
"""Any JSON value, with JSON inside JSON, whole, cut off and encoded twice."""

_tasks = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("id", "task_id", "taskId", "model"), leaves),
        **dict.fromkeys(("status", "state", "task_status"), st.sampled_from(WORDS) | leaves),
        **dict.fromkeys(("result", "resultJson", "output", "data", "task_result", "fail_reason", "error"), values),
        **dict.fromkeys(("failCode", "failMsg", "param", "progress"), values),
        **dict.fromkeys(("successFlag", "callbackType"), st.sampled_from(WORDS) | leaves),
        **dict.fromkeys(("info", "response", "errorCode", "errorMessage"), values),
        **dict.fromkeys(("completeTime", "finish_time", "updated_at", "final_credits", "creditsConsumed"), leaves),
    },
)
messages = st.one_of(
    values,
    _tasks,
    st.fixed_dictionaries(
        {"data": _tasks},
        optional={
            "code": st.sampled_from([0, 200, 400, 501, "200", "501"]) | leaves,
            **dict.fromkeys(("msg", "message", "error"), values),
        },
    ),
)
"""Any JSON value, and more often than chance would have it one that looks like a task."""

bodies = st.one_of(
    st.binary(max_size=200),
    messages.map(lambda value: json.dumps(value).encode()),
    messages.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    messages.map(lambda value: json.dumps(value).encode()[:-1]),
)
