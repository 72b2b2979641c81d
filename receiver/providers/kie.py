"""kie.ai, after its pages for Market jobs, Veo 3.1, their callbacks, webhook verification and credits.

A failed Market job has code 200 in a status answer and 501 in a callback. Veo's and Runway's callbacks have no state;
Suno sends several. The signature covers the task's id and a time, not the body.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from receiver.config.settings import BaseURL, ProviderConfig
from receiver.core import wire
from receiver.core.catalog import Model
from receiver.core.errors import Forged, Unreadable
from receiver.core.messages import Callback, Event, Evidence, Order, Problem, Remote
from receiver.core.signatures import require_recent, require_signature
from receiver.core.states import State
from receiver.providers.answers import accepted_event, excerpt, read_amount, read_answer, refuse_envelope
from receiver.providers.base import (
    FileLimit,
    Flow,
    Rate,
    Upload,
    Uploaded,
    api_root,
    file_request,
    join_url,
    json_request,
)
from receiver.providers.jobs import read_result
from receiver.providers.kie_models import MODELS, VEO
from receiver.providers.results import Found, find_result
from receiver.providers.words import STATE_KEYS, error_envelope, find_failure, find_task, parse_state

STATES: Mapping[str, State] = {
    "waiting": State.SUBMITTED,
    "queuing": State.SUBMITTED,
    "queueing": State.SUBMITTED,  # Runway's spelling
    "wait": State.SUBMITTED,  # likewise
    "generating": State.RUNNING,
    "success": State.SUCCEEDED,
    "fail": State.FAILED,
    "failed": State.FAILED,  # not documented; similar APIs send it
    "canceled": State.FAILED,
    "cancelled": State.FAILED,
    "expired": State.FAILED,
}
FLAGS: Mapping[str, State] = {"0": State.RUNNING, "1": State.SUCCEEDED, "2": State.FAILED, "3": State.FAILED}
"""`successFlag` of Veo and the image APIs; 3 is a failure upstream of them."""
STAGES: Mapping[str, State] = {
    "text": State.RUNNING,
    "first": State.RUNNING,
    "complete": State.SUCCEEDED,
    "error": State.FAILED,
}
"""`callbackType` of the APIs that send several callbacks, all with code 200. Other values say nothing about the state:
the verification page's `task_completed` is in a body without a result."""
REFUNDED = frozenset({531})
"""Codes of a submission that bought nothing, besides the shared ones: it failed, and the credits were refunded."""


FILE_LIMITS: Mapping[str, FileLimit] = {
    kind: FileLimit(100 * 1024 * 1024, (f"{kind}/*",)) for kind in ("image", "video", "audio")
}
"""Our own limits: no document gives any."""
FILES_URL = "https://kieai.redpandaai.co"


class KieConfig(ProviderConfig):
    """`KIE_*`. The secret is the webhook HMAC key of kie.ai/settings; uploads go to another host."""

    base_url: BaseURL = "https://api.kie.ai"
    webhook_secret: SecretStr | None = Field(None, examples=["the-webhook-hmac-key-from-kie.ai/settings"])
    files_url: BaseURL = FILES_URL


class Kie:
    """kie.ai's Market and Veo APIs."""

    family: ClassVar[str] = "kie"
    config_type: ClassVar[type[ProviderConfig]] = KieConfig
    models: ClassVar[Mapping[str, Model]] = MODELS
    takes_callbacks: ClassVar[bool] = True
    supports_idempotency_keys: ClassVar[bool] = False
    needs_confirmation: ClassVar[bool] = True  # the signature does not cover the body
    create_rate: ClassVar[Rate | None] = Rate(20, 10)
    first_check_after: ClassVar[float | None] = None
    output_ttl_seconds: ClassVar[float | None] = 24 * 3600  # 14 days on some pages, 24 hours on another
    file_limits: ClassVar[Mapping[str, FileLimit]] = FILE_LIMITS

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        self._base = api_root(config.base_url, "/api/v1/jobs/createTask", "/api/v1/veo/generate")
        self._files = config.files_url if isinstance(config, KieConfig) else FILES_URL
        self._headers = {"Authorization": f"Bearer {config.api_key.get_secret_value()}"}
        secret = config.webhook_secret if isinstance(config, KieConfig) else None
        self._keys = [secret.get_secret_value().encode("utf-8", "surrogateescape")] if secret else []

    def submit(self, order: Order, callback_url: str | None, key: str) -> Flow[Event]:  # noqa: ARG002 - takes no keys
        """POST /api/v1/jobs/createTask, or /api/v1/veo/generate, whose body has no `input`."""
        called = {"callBackUrl": callback_url} if callback_url else {}
        given = dict(order.input)  # unchanged: the same parameter is a string in one model and a number in another
        if order.model in VEO:
            path, body = "/api/v1/veo/generate", given | {"model": order.model} | called
        else:
            path, body = "/api/v1/jobs/createTask", {"model": order.model, "input": given} | called
        response = yield json_request("POST", join_url(self._base, path), headers=self._headers, body=body, paid=True)
        answer = read_answer(response)
        refuse_envelope(response, answer, REFUNDED)
        remote_id = _find_id(answer)
        return accepted_event(response, answer, remote_id, Event(State.SUBMITTED, remote_id=remote_id))

    def status(self, task: Remote) -> Flow[Event]:
        """GET /api/v1/jobs/recordInfo?taskId=, or /api/v1/veo/record-info."""
        path = "/api/v1/veo/record-info" if task.model in VEO else "/api/v1/jobs/recordInfo"
        url = join_url(self._base, path, {"taskId": task.remote_id})
        response = yield json_request("GET", url, headers=self._headers)
        answer = read_answer(response)
        return _to_event(answer, *_read_state(_task_data(answer)), self._base)

    def verify(self, callback: Callback) -> Evidence:
        """Return that a signature covers the task's id, if a secret is configured. Raises `Forged` if it is wrong."""
        if not self._keys:
            return Evidence()
        try:
            remote_id = _find_id(wire.read_message(callback.body))
        except Unreadable as error:
            raise Forged("The body cannot be read, so the signature of its task's id cannot be checked.") from error
        if remote_id is None:
            raise Forged("The body has no task id, which the signature has to cover.")
        time = require_recent(callback.headers.get("x-webhook-timestamp"), callback.received_at)
        signed = f"{remote_id}.{time}".encode()
        require_signature([callback.headers.get("x-webhook-signature", "")], signed, self._keys)
        return Evidence("id")

    def read(self, callback: Callback) -> Event:
        """Return what a callback of any of its APIs says: by its state, else by the envelope's code."""
        body = wire.read_message(callback.body)
        word, state, notices = _read_state(_task_data(body))
        if word is not None:
            return _to_event(body, word, state, notices, self._base)
        found = (
            Found()
            if wire.parse_integer(body.get("code")) != 200
            else find_result(body, _result_urls(_task_data(body)), self._base)
        )
        return _to_event(body, None, _state_from_code(body, found), (), self._base, found=found)

    def balance(self) -> Flow[float]:
        """GET /api/v1/chat/credit."""
        response = yield json_request("GET", join_url(self._base, "/api/v1/chat/credit"), headers=self._headers)
        return read_amount(response, "data")

    def upload(self, file: Upload) -> Flow[Uploaded]:
        """POST /api/file-stream-upload, at the host for files; they are kept for 24 hours (3 days on another page).

        The parameter for the URL differs by model. Most have `image_urls`, `video_urls` or `audio_urls`; for others,
        such as `image_url`, `input_urls` or `first_frame_url`, there is `url`.
        """
        # With our id, so that no file replaces an earlier one of the same name.
        fields = {"uploadPath": "receiver", "fileName": f"{file.id}-{file.name}"}
        url = join_url(self._files, "/api/file-stream-upload")
        response = yield file_request(url, file, headers=self._headers, fields=fields)
        answer = read_answer(response)
        refuse_envelope(response, answer)
        told = _task_data(answer)
        found = wire.read_text(wire.first_value(told, "downloadUrl", "fileUrl"), wire.MAX_URL_LENGTH)
        if found is None:
            raise Unreadable(f"an answer without a URL: {excerpt(response)}")
        return Uploaded(found, {f"{file.kind}_urls": [found]}, wire.read_id(told.get("fileId")))


def _task_data(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return wire.as_mapping(body.get("data")) or find_task(body)


def _find_id(body: Mapping[str, Any]) -> str | None:
    """Return the task's id from where the verification page takes it, so that it is the signed one."""
    inner = wire.as_mapping(body.get("data"))
    return wire.read_id(wire.first_value(inner, "task_id", "taskId") or wire.first_value(body, "taskId", "task_id"))


def _read_state(data: Mapping[str, Any]) -> tuple[str | None, State | None, tuple[str, ...]]:
    """Return the word for the state, whichever API it is, the state, and notices."""
    for key, states in (("state", STATES), ("successFlag", FLAGS)):
        if (word := wire.read_text(data.get(key))) is not None:
            return word, *parse_state(word, states)
    if "callbackType" not in data and (word := wire.read_text(wire.first_value(data, *STATE_KEYS))) is not None:
        return word, *parse_state(word, STATES)
    stage = wire.read_text(data.get("callbackType"))
    return stage, STAGES.get(stage.lower()) if stage else None, ()


def _state_from_code(body: Mapping[str, Any], found: Found) -> State | None:
    """Return the state for an envelope's code. In a callback, it is about the task; in an answer, about the request."""
    code = wire.parse_integer(body.get("code"))
    if code == 200:
        return State.SUCCEEDED if found.outputs else None
    return State.FAILED if code is not None and _find_id(body) is not None else None


def _to_event(
    body: Mapping[str, Any],
    word: str | None,
    state: State | None,
    notices: tuple[str, ...],
    base: str,
    *,
    found: Found | None = None,
) -> Event:
    data = _task_data(body)
    ended = state in (State.SUCCEEDED, State.FAILED)
    if state is not State.SUCCEEDED:
        found = Found()
    elif found is None:
        urls, result, broken = read_result(data.get("resultJson"))
        found = find_result(body, [*urls, *_result_urls(data)], base, result=result)
        notices += broken or found.notices
    return Event(
        state,
        remote_id=_find_id(body),
        remote_state=word,
        progress=wire.parse_progress(data.get("progress")),
        outputs=found.outputs,
        result=found.result,
        error=_read_failure(body, data, word) if state is State.FAILED else None,
        charged=wire.parse_credits(wire.first_value(data, "creditsConsumed", "consumeCredits")) if ended else None,
        ended_at=wire.parse_timestamp(data.get("completeTime")),
        found_at=found.location,
        notices=notices,
    )


def _read_failure(body: Mapping[str, Any], data: Mapping[str, Any], word: str | None) -> Problem:
    """Return the task's own code and message, else the envelope's, unless that is a success."""
    about = error_envelope(body)
    return find_failure(data, word, about, code=about.get("code"))


def _result_urls(data: Mapping[str, Any]) -> list[Any]:
    """Return the result URLs of the APIs without a resultJson: Veo and images, Runway, Suno.

    Not `originUrls` and `resultWaterMarkUrls`, which are other versions, nor the `image_url` beside a video.
    """
    places = (wire.as_mapping(data.get("info")), wire.as_mapping(data.get("response")), data)
    songs = [wire.as_mapping(item).get("audio_url") for item in wire.as_list(data.get("data"))]
    return [
        *(url for place in places for url in _parse_list(wire.first_value(place, "resultUrls", "result_urls"))),
        data.get("video_url"),
        *songs,
    ]


def _parse_list(value: Any) -> list[Any]:
    """Return a list of URLs, which may be a string: JSON, or `[http://...]` as on one of Veo's pages."""
    if not isinstance(value, str) or not value.startswith("["):
        return wire.as_list(value)
    try:
        return wire.as_list(wire.read_nested(value))
    except Unreadable:
        return value.strip("[] ").split(", ")
