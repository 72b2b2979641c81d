"""How each family's messages look: one row of `SHAPES` for each family."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """What tests need to know of a family's task record.

    `record` returns the body of an answer for a state word and further fields, `result` the fields with a result where
    the family itself puts it. With `has_envelope`, the record is inside an envelope with a code. `reads_video_url` says
    that `video_url` beside the state is one of the family's own fields.
    """

    base_url: str
    success: str
    failure: str
    record: Callable[[str, Body], Body]
    result: Callable[[str], Body]
    has_envelope: bool = True
    reads_video_url: bool = False


def _enveloped(message: str) -> Callable[[str, Body], Body]:
    return lambda word, fields: {
        "code": 200,
        message: "success",
        "data": {"taskId": "t-1", "state": word, **fields},
    }


def _result_json(url: str) -> Body:
    return {"resultJson": json.dumps({"resultUrls": [url], "video_url": f"{url}-other.mp4"})}


SHAPES = {
    "rivya": Shape(
        "https://rivya.ai",
        "succeeded",
        "failed",
        lambda word, fields: {"id": "t-1", "status": word, "model": "some-model", **fields},
        lambda url: {"result": {"primary_url": url, "video_url": f"{url}-other.mp4"}},
        has_envelope=False,
    ),
    "apixo": Shape("https://api.apixo.ai", "success", "failed", _enveloped("message"), _result_json),
    "revid": Shape("https://api.revidapi.com", "success", "fail", _enveloped("msg"), _result_json),
    "gateway": Shape(
        "https://gateway.example.com",
        "SUCCESS",
        "FAILURE",
        lambda word, fields: {"task_id": "t-1", "status": word, **fields},
        lambda url: {"data": {"output": url, "video_url": f"{url}-other.mp4"}},
        has_envelope=False,
        reads_video_url=True,
    ),
    "kie": Shape("https://api.kie.ai", "success", "fail", _enveloped("msg"), _result_json, reads_video_url=True),
}


def record(family: str, word: str, **fields: Any) -> Body:
    """Return a task that is in this state, with more fields in its record."""
    return SHAPES[family].record(word, fields)


def done(family: str, **fields: Any) -> Body:
    """Return a success, with more fields in its record."""
    return record(family, SHAPES[family].success, **fields)


def failed(family: str, **fields: Any) -> Body:
    """Return a failure, with more fields in its record."""
    return record(family, SHAPES[family].failure, **fields)
