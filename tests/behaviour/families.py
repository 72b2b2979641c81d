"""What each API family says on the wire, after the providers' own documents and recorded messages.

None of it is read or written with the service's own code: a mistake in its reading must not be repeated here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]
Order = dict[str, Any]

CREATED, ENDED = 1757584164490, 1757584349490


@dataclass(frozen=True)
class Family:
    """One family's words. Each callable makes a body about the work with the given remote id."""

    name: str
    model: str
    create: str
    """The path of a create request, below the account's base URL."""
    accepted: Callable[[str], Body]
    waiting: Callable[[str], Body]
    working: Callable[[str], Body]
    done: Callable[..., Body]
    """Takes the id and the URLs of the result; without URLs it is a success that brings nothing."""
    failed: Callable[..., Body]
    """Takes the id, the provider's code and its words."""
    hook: str | None = None
    """The field of the create request that names the callback URL."""

    @property
    def calls_back(self) -> bool:
        return self.hook is not None

    def order(self, prompt: str = "a lively classroom", **more: Any) -> Order:
        """The body of `POST /api/tasks`."""
        return {"provider": self.name, "model": self.model, "input": {"prompt": prompt}, **more}

    def is_create(self, method: str, path: str) -> bool:
        return method == "POST" and re.fullmatch(self.create, path) is not None

    def callback_url(self, body: Body) -> str | None:
        """The callback URL in a create request's body."""
        return None if self.hook is None else body.get(self.hook)


# --- Rivya: the task object itself, without an envelope


def _rivya(status: str, *, charged: int = 0, result: Body | None = None, error: Body | None = None) -> Any:
    def body(remote_id: str) -> Body:
        return {
            "id": remote_id,
            "status": status,
            "model": "sora-2",
            "reserved_credits": 6,
            "final_credits": charged,
            "created_at": "2026-05-11T00:00:00.000Z",
            "updated_at": "2026-05-11T00:03:10.000Z",
            "result": result,
            "error": error,
        }

    return body


def _rivya_done(remote_id: str, *urls: str) -> Body:
    result = {"primary_url": urls[0], "urls": list(urls)} if urls else None
    body: Body = _rivya("succeeded", charged=6, result=result)(remote_id)
    return body


def _rivya_failed(remote_id: str, code: str = "generation_failed", words: str = "Generation failed") -> Body:
    body: Body = _rivya("failed", error={"code": code, "message": words})(remote_id)
    return body


RIVYA = Family(
    "rivya",
    "sora-2",
    "/api/v1/generations",
    accepted=_rivya("queued"),
    waiting=_rivya("queued"),
    working=_rivya("processing"),
    done=_rivya_done,
    failed=_rivya_failed,
)


# --- APIXO: {code, message, data}; what does not apply is absent


def _apixo(remote_id: str, **data: Any) -> Body:
    return {"code": 200, "message": "success", "data": {"taskId": remote_id, **data}}


def _apixo_done(remote_id: str, *urls: str, ended: int = ENDED) -> Body:
    listed = ",".join(f'"{url}"' for url in urls)
    more = {"resultJson": f'{{"resultUrls":[{listed}]}}', "costTime": ENDED - CREATED}
    return _apixo(remote_id, state="success", createTime=CREATED, completeTime=ended, **more)


def _apixo_failed(remote_id: str, code: str = "CONTENT_VIOLATION", words: str = "Content violates policy") -> Body:
    times = {"createTime": CREATED, "completeTime": ENDED}
    return _apixo(remote_id, state="failed", failCode=code, failMsg=words, **times)


APIXO = Family(
    "apixo",
    "sora-2",
    "/api/v1/generateTask/sora-2",
    accepted=_apixo,
    waiting=lambda remote_id: _apixo(remote_id, state="pending", createTime=CREATED),
    working=lambda remote_id: _apixo(remote_id, state="processing", createTime=CREATED),
    done=_apixo_done,
    failed=_apixo_failed,
    hook="callback_url",
)


# --- RevidAPI: {code, msg, data}; what does not apply is null


PARAM = '{"model":"sora-2-text-to-video","input":{"prompt":"a lively classroom"}}'


def _revid(remote_id: str, state: str, **data: Any) -> Body:
    record = {
        "taskId": remote_id,
        "model": "sora-2-text-to-video",
        "state": state,
        "param": PARAM,
        "resultJson": None,
        "failCode": None,
        "failMsg": None,
        "costTime": None,
        "completeTime": None,
        "createTime": CREATED,
    }
    return {"code": 200, "msg": "success", "data": {**record, **data}}


def revid_done(remote_id: str, *urls: str, **data: Any) -> Body:
    listed = ",".join(f'"{url}"' for url in urls)
    ended = {"costTime": ENDED - CREATED, "completeTime": ENDED}
    return _revid(remote_id, "success", **{"resultJson": f'{{"resultUrls":[{listed}]}}', **ended, **data})


def _revid_failed(remote_id: str, code: str = "500", words: str = "Internal server error") -> Body:
    return _revid(remote_id, "fail", failCode=code, failMsg=words)


REVID = Family(
    "revid",
    "sora-2-text-to-video",
    "/paid/sora2/create",
    accepted=lambda remote_id: {"code": 200, "msg": "success", "data": {"taskId": remote_id}},
    waiting=lambda remote_id: _revid(remote_id, "waiting"),
    working=lambda remote_id: _revid(remote_id, "generating"),
    done=revid_done,
    failed=_revid_failed,
    hook="callBackUrl",
)


# --- the gateway: a bare object, progress as text


def gateway(remote_id: str, status: str, **more: Any) -> Body:
    return {
        "task_id": remote_id,
        "platform": "openai",
        "action": "openai-videos",
        "status": status,
        "fail_reason": "",
        "submit_time": 1756693797,
        "start_time": 1756693808,
        "finish_time": 0,
        "progress": "",
        "data": None,
        "search_item": "",
        **more,
    }


def _gateway_done(remote_id: str, *urls: str) -> Body:
    data = {"output": urls[0] if urls else "", "outputs": list(urls)}
    return gateway(remote_id, "SUCCESS", progress="100%", finish_time=1756693898, data=data)


def _gateway_failed(remote_id: str, code: str = "FAILURE", words: str = "may violate our guardrails") -> Body:
    reason = words if code == "FAILURE" else f'{{"code":"{code}","message":"{words}"}}'
    return gateway(remote_id, "FAILURE", progress="95%", fail_reason=reason, finish_time=1756693898)


def gateway_at(progress: str) -> Callable[[str], Body]:
    """Working, so far."""
    return lambda remote_id: gateway(remote_id, "IN_PROGRESS", progress=progress)


GATEWAY = Family(
    "gateway",
    "sora-2",
    "/v2/videos/generations",
    accepted=lambda remote_id: {"task_id": remote_id},
    waiting=lambda remote_id: gateway(remote_id, "NOT_START"),
    working=gateway_at("40%"),
    done=_gateway_done,
    failed=_gateway_failed,
    hook="notify_hook",
)

FAMILIES = {family.name: family for family in (RIVYA, APIXO, REVID, GATEWAY)}
KIE = Family(
    "kie",
    "wan/2-7-text-to-video",
    "/api/v1/jobs/createTask",
    accepted=REVID.accepted,
    waiting=REVID.waiting,
    working=REVID.working,
    done=revid_done,
    failed=_revid_failed,
    hook="callBackUrl",
)
"""Signed over the task's id and a time; its records are those of RevidAPI. Only tests about that have an account."""
KNOWN = {**FAMILIES, "kie": KIE}
CALLING_BACK = tuple(family for family in FAMILIES.values() if family.calls_back)
WITHOUT_KEYS = CALLING_BACK
"""The families whose create takes no idempotency key; they happen to be those that call back."""
