"""What each family says in its own envelope, around whatever a relay adds to it."""

from typing import Any

Body = dict[str, Any]

BASES = {
    "rivya": "https://rivya.ai",
    "apixo": "https://api.apixo.ai",
    "revid": "https://api.revidapi.com",
    "kie": "https://api.kie.ai",
    "gateway": "https://gateway.example.com",
}
_STATES = {"rivya": ("succeeded", "failed"), "gateway": ("SUCCESS", "FAILURE"), "apixo": ("success", "failed")}


def record(family: str, word: str, **fields: Any) -> Body:
    """A task that is in this state, and more of its record."""
    if family == "rivya":
        return {"id": "t-1", "status": word, "model": "some-model", **fields}
    if family == "gateway":
        return {"task_id": "t-1", "status": word, **fields}
    words = "message" if family == "apixo" else "msg"
    return {"code": 200, words: "success", "data": {"taskId": "t-1", "state": word, **fields}}


def done(family: str, **fields: Any) -> Body:
    """A success, and more of its record."""
    return record(family, _STATES.get(family, ("success", "fail"))[0], **fields)


def failed(family: str, **fields: Any) -> Body:
    """A failure, and more of its record."""
    return record(family, _STATES.get(family, ("success", "fail"))[1], **fields)
