"""kie.ai, after its pages for Market jobs, Veo 3.1, their callbacks, webhook verification and credits.

A failed Market job is 200 in a status answer and 501 in a callback; Veo and Runway call back without a state; Suno
calls back several times. Its signature covers the task's id and a time, not the body.
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
from receiver.providers.answers import accepted, glimpse, read_amount, read_answer, refuse_envelope
from receiver.providers.base import (
    FileLimit,
    Flow,
    Rate,
    Upload,
    Uploaded,
    api_root,
    endpoint,
    file_request,
    json_request,
)
from receiver.providers.jobs import read_result
from receiver.providers.kie_models import MODELS, VEO
from receiver.providers.results import Found, find
from receiver.providers.words import STATE_KEYS, about_task, state_of, task_in, why_failed

STATES: Mapping[str, State] = {
    "waiting": State.SUBMITTED,
    "queuing": State.SUBMITTED,
    "queueing": State.SUBMITTED,  # Runway's spelling
    "wait": State.SUBMITTED,  # likewise
    "generating": State.RUNNING,
    "success": State.SUCCEEDED,
    "fail": State.FAILED,
    "failed": State.FAILED,  # not documented; the word of the sibling APIs
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
"""`callbackType` of the APIs that call back several times, under code 200 for every stage. No other word tells a state:
the verification page's `task_completed` stands in a body without a result."""
REFUNDED = frozenset({531})
"""Codes of a create that bought nothing, besides those that the families share: failed, and the credits are back."""


FILE_LIMITS: Mapping[str, FileLimit] = {
    kind: FileLimit(100 * 1024 * 1024, (f"{kind}/*",)) for kind in ("image", "video", "audio")
}
"""Ours: the documents give none."""
FILES_URL = "https://kieai.redpandaai.co"


class KieConfig(ProviderConfig):
    """`KIE_*`. The secret is the webhook HMAC key of kie.ai/settings; uploads go to a host of their own."""

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
    needs_confirmation: ClassVar[bool] = True  # signed or not, nobody vouches for a callback's body
    create_rate: ClassVar[Rate | None] = Rate(20, 10)
    first_check_after: ClassVar[float | None] = None
    output_ttl_seconds: ClassVar[float | None] = (
        24 * 3600
    )  # 14 days on some pages, 24 hours on that of the task's details
    file_limits: ClassVar[Mapping[str, FileLimit]] = FILE_LIMITS

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        self._base = api_root(config.base_url, "/api/v1/jobs/createTask", "/api/v1/veo/generate")
        self._files = config.files_url if isinstance(config, KieConfig) else FILES_URL
        self._headers = {"Authorization": f"Bearer {config.api_key.get_secret_value()}"}
        secret = config.webhook_secret if isinstance(config, KieConfig) else None
        self._keys = [secret.get_secret_value().encode("utf-8", "surrogateescape")] if secret else []

    def submit(self, order: Order, callback_url: str | None, key: str) -> Flow[Event]:  # noqa: ARG002 - takes no keys
        """POST /api/v1/jobs/createTask, or /api/v1/veo/generate with everything side by side."""
        called = {"callBackUrl": callback_url} if callback_url else {}
        given = dict(order.input)  # untouched: the same idea is a text in one model and a number in the next
        if order.model in VEO:
            path, body = "/api/v1/veo/generate", given | {"model": order.model} | called
        else:
            path, body = "/api/v1/jobs/createTask", {"model": order.model, "input": given} | called
        response = yield json_request("POST", endpoint(self._base, path), headers=self._headers, body=body, paid=True)
        answer = read_answer(response)
        refuse_envelope(response, answer, REFUNDED)
        remote_id = _id(answer)
        return accepted(response, answer, remote_id, Event(State.SUBMITTED, remote_id=remote_id))

    def status(self, task: Remote) -> Flow[Event]:
        """GET /api/v1/jobs/recordInfo?taskId=, or /api/v1/veo/record-info."""
        path = "/api/v1/veo/record-info" if task.model in VEO else "/api/v1/jobs/recordInfo"
        url = endpoint(self._base, path, {"taskId": task.remote_id})
        response = yield json_request("GET", url, headers=self._headers)
        answer = read_answer(response)
        return _event(answer, *_told(_data(answer)), self._base)

    def verify(self, callback: Callback) -> Evidence:
        """Check the signature over the task's id and the time, where a secret is configured; raises `Forged`."""
        if not self._keys:
            return Evidence()
        try:
            remote_id = _id(wire.read_message(callback.body))
        except Unreadable as error:
            raise Forged("The body, whose task's id is signed, cannot be read.") from error
        if remote_id is None:
            raise Forged("The body names no task, whose id would be signed.")
        time = require_recent(callback.headers.get("x-webhook-timestamp"), callback.received_at)
        signed = f"{remote_id}.{time}".encode()
        require_signature([callback.headers.get("x-webhook-signature", "")], signed, self._keys)
        return Evidence("id")

    def read(self, callback: Callback) -> Event:
        """Read a callback of any of its APIs: by its state, and where it tells none, by the envelope's code."""
        body = wire.read_message(callback.body)
        word, state, notices = _told(_data(body))
        if word is not None:
            return _event(body, word, state, notices, self._base)
        found = Found() if wire.parse_integer(body.get("code")) != 200 else find(body, _urls(_data(body)), self._base)
        return _event(body, None, _by_code(body, found), (), self._base, found=found)

    def balance(self) -> Flow[float]:
        """GET /api/v1/chat/credit."""
        response = yield json_request("GET", endpoint(self._base, "/api/v1/chat/credit"), headers=self._headers)
        return read_amount(response, "data")

    def upload(self, file: Upload) -> Flow[Uploaded]:
        """POST /api/file-stream-upload, at the host for files; they are kept 24 hours, or 3 days on another page.

        The parameter that takes the URL differs by model: `image_urls`, `video_urls` and `audio_urls` are the most
        common; some models have `image_url`, `input_urls` or `first_frame_url`. `url` is there for those.
        """
        # Under its own id, so that no file takes the place of an earlier one of the same name.
        fields = {"uploadPath": "receiver", "fileName": f"{file.id}-{file.name}"}
        url = endpoint(self._files, "/api/file-stream-upload")
        response = yield file_request(url, file, headers=self._headers, fields=fields)
        answer = read_answer(response)
        refuse_envelope(response, answer)
        told = _data(answer)
        found = wire.read_text(wire.first_value(told, "downloadUrl", "fileUrl"), wire.MAX_URL_LENGTH)
        if found is None:
            raise Unreadable(f"an answer without a URL: {glimpse(response)}")
        return Uploaded(found, {f"{file.kind}_urls": [found]}, wire.read_id(told.get("fileId")))


def _data(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return wire.as_mapping(body.get("data")) or task_in(body)


def _id(body: Mapping[str, Any]) -> str | None:
    """Find the task's id where the signature's page looks for it, so that the id that is read is the one signed."""
    inner = wire.as_mapping(body.get("data"))
    return wire.read_id(wire.first_value(inner, "task_id", "taskId") or wire.first_value(body, "taskId", "task_id"))


def _told(data: Mapping[str, Any]) -> tuple[str | None, State | None, tuple[str, ...]]:
    """Find the word that tells the state, whichever API it is, and what it means."""
    for key, states in (("state", STATES), ("successFlag", FLAGS)):
        if (word := wire.read_text(data.get(key))) is not None:
            return word, *state_of(word, states)
    if "callbackType" not in data and (word := wire.read_text(wire.first_value(data, *STATE_KEYS))) is not None:
        return word, *state_of(word, STATES)
    stage = wire.read_text(data.get("callbackType"))
    return stage, STAGES.get(stage.lower()) if stage else None, ()


def _by_code(body: Mapping[str, Any], found: Found) -> State | None:
    """Take an envelope's code for the state: only in a callback is it about the task, and not about the question."""
    code = wire.parse_integer(body.get("code"))
    if code == 200:
        return State.SUCCEEDED if found.outputs else None
    return State.FAILED if code is not None and _id(body) is not None else None


def _event(
    body: Mapping[str, Any],
    word: str | None,
    state: State | None,
    notices: tuple[str, ...],
    base: str,
    *,
    found: Found | None = None,
) -> Event:
    data = _data(body)
    ended = state in (State.SUCCEEDED, State.FAILED)
    if state is not State.SUCCEEDED:
        found = Found()
    elif found is None:
        urls, result, broken = read_result(data.get("resultJson"))
        found = find(body, [*urls, *_urls(data)], base, result=result)
        notices += broken or found.notices
    return Event(
        state,
        remote_id=_id(body),
        remote_state=word,
        progress=wire.parse_progress(data.get("progress")),
        outputs=found.outputs,
        result=found.result,
        error=_why(body, data, word) if state is State.FAILED else None,
        charged=wire.parse_credits(wire.first_value(data, "creditsConsumed", "consumeCredits")) if ended else None,
        ended_at=wire.parse_timestamp(data.get("completeTime")),
        found_at=found.place,
        notices=notices,
    )


def _why(body: Mapping[str, Any], data: Mapping[str, Any], word: str | None) -> Problem:
    """Take the task's own code and words, else the envelope's, unless that speaks of success."""
    about = about_task(body)
    return why_failed(data, word, about, code=about.get("code"))


def _urls(data: Mapping[str, Any]) -> list[Any]:
    """Collect the result URLs of the APIs without a resultJson: Veo and images, Runway, Suno.

    Never `originUrls` and `resultWaterMarkUrls`, which are other versions, nor the `image_url` beside a video.
    """
    places = (wire.as_mapping(data.get("info")), wire.as_mapping(data.get("response")), data)
    songs = [wire.as_mapping(item).get("audio_url") for item in wire.as_list(data.get("data"))]
    return [
        *(url for place in places for url in _listed(wire.first_value(place, "resultUrls", "result_urls"))),
        data.get("video_url"),
        *songs,
    ]


def _listed(value: Any) -> list[Any]:
    """Take a list of URLs, or one written as text: as JSON, or as one of Veo's pages has it, `[http://...]`."""
    if not isinstance(value, str) or not value.startswith("["):
        return wire.as_list(value)
    try:
        return wire.as_list(wire.read_nested(value))
    except Unreadable:
        return value.strip("[] ").split(", ")
