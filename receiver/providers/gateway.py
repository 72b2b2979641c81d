"""Gateways with `POST /v2/videos/generations`, after the page of one of them and the public clients of others.

No document gives the body of a `notify_hook`, so every format that these gateways are known to send is read.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from receiver.config.settings import ProviderConfig
from receiver.core import wire
from receiver.core.catalog import Model, Parameter
from receiver.core.errors import Fault
from receiver.core.messages import Callback, Event, Evidence, Order, Remote
from receiver.core.states import State
from receiver.providers.answers import accepted_event, is_error, read_amount, read_answer, refuse_envelope
from receiver.providers.base import Flow, Rate, api_root, join_url, json_request, quote_segment
from receiver.providers.results import Found, find_result
from receiver.providers.words import STATE_KEYS, error_envelope, find_failure, find_task, parse_state

STATES: Mapping[str, State] = {
    "not_start": State.SUBMITTED,
    "submitted": State.SUBMITTED,
    "queued": State.SUBMITTED,
    "modal": State.SUBMITTED,  # Midjourney proxies: it waits for an input
    "pending": State.SUBMITTED,  # older routes also say it while they work: at worst, we are late
    "in_progress": State.RUNNING,
    "processing": State.RUNNING,
    "success": State.SUCCEEDED,
    "succeed": State.SUCCEEDED,
    "succeeded": State.SUCCEEDED,
    "completed": State.SUCCEEDED,
    "failure": State.FAILED,
    "fail": State.FAILED,
    "failed": State.FAILED,
    "cancel": State.FAILED,
    "canceled": State.FAILED,
    "cancelled": State.FAILED,
    "expired": State.FAILED,
}

PATHS = ("/v2/videos/generations", "/v1/videos/generations", "/v1/token/quota", "/v1/chat/completions")
"""A base URL may end in the beginning of one of these; some are paths that other tools use."""

PRO = "sora-2-pro"


def _pro_only(given: Mapping[str, Any]) -> Fault | None:
    if given.get("hd"):
        return Fault(("input", "hd"), f"is supported by {PRO} only")
    if given.get("duration") == "25":
        return Fault(("input", "duration"), f'"25" is supported by {PRO} only')
    return None


_PARAMETERS: dict[str, Parameter] = {
    "prompt": Parameter("string", "What to show.", required=True),
    # The page requires images, being that of image-to-video; without them the same endpoint makes video from text.
    "images": Parameter("strings", "URLs or data URIs of the images to start from."),
    "aspect_ratio": Parameter("string", "Shape of the frame.", options=("16:9", "9:16")),
    "hd": Parameter("boolean", "High definition: slower, sora-2-pro only.", default=False),
    "duration": Parameter("string", "Length in seconds.", options=("10", "15", "25", "4", "8", "12")),
    "watermark": Parameter("boolean", "Add a watermark."),
    "private": Parameter("boolean", "Keep it out of public galleries."),
}

MODELS: Mapping[str, Model] = {
    "sora-2": Model(_PARAMETERS, "Sora 2", rules=(_pro_only,)),
    PRO: Model(_PARAMETERS, "Sora 2 Pro"),
}


class GatewayConfig(ProviderConfig):
    """`GATEWAY_*`, and `GATEWAY_<X>_*` for further gateways, each at its own host."""

    allows_several: ClassVar[bool] = True


class Gateway:
    """One gateway's unified video API."""

    family: ClassVar[str] = "gateway"
    config_type: ClassVar[type[ProviderConfig]] = GatewayConfig
    models: ClassVar[Mapping[str, Model]] = MODELS
    takes_callbacks: ClassVar[bool] = True
    supports_idempotency_keys: ClassVar[bool] = False
    needs_confirmation: ClassVar[bool] = False
    create_rate: ClassVar[Rate | None] = None
    first_check_after: ClassVar[float | None] = None
    output_ttl_seconds: ClassVar[float | None] = None

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        self._base = api_root(config.base_url, *PATHS)
        self._headers = {"Authorization": f"Bearer {config.api_key.get_secret_value()}"}

    def submit(self, order: Order, callback_url: str | None, key: str) -> Flow[Event]:  # noqa: ARG002 - takes no keys
        """POST /v2/videos/generations."""
        given = MODELS[order.model].with_defaults(order.input) if order.fill_defaults else dict(order.input)
        body = {**given, "model": order.model}
        if callback_url:
            body["notify_hook"] = callback_url
        url = join_url(self._base, "/v2/videos/generations")
        response = yield json_request("POST", url, headers=self._headers, body=body, paid=True)
        answer = read_answer(response)
        refuse_envelope(response, answer)
        # The `id` of an error is the request's.
        remote_id = wire.read_id(answer.get("task_id")) if is_error(answer) else _find_id(answer)
        return accepted_event(response, answer, remote_id, Event(State.SUBMITTED, remote_id=remote_id))

    def status(self, task: Remote) -> Flow[Event]:
        """GET /v2/videos/generations/{task_id}; ids may hold colons."""
        path = f"/v2/videos/generations/{quote_segment(task.remote_id)}"
        response = yield json_request("GET", join_url(self._base, path), headers=self._headers)
        return _to_event(read_answer(response), self._base)

    def verify(self, callback: Callback) -> Evidence:  # noqa: ARG002 - no signature is documented
        """Return no signature: none is documented."""
        return Evidence()

    def read(self, callback: Callback) -> Event:
        """Return what a notify_hook body says, in any of its known formats."""
        return _to_event(wire.read_message(callback.body), self._base)

    def balance(self) -> Flow[float]:
        """GET /v1/token/quota."""
        response = yield json_request("GET", join_url(self._base, "/v1/token/quota"), headers=self._headers)
        return read_amount(response, "remaining_quota")


_IDS = ("task_id", "taskId", "id")


def _find_id(body: Mapping[str, Any]) -> str | None:
    inner = wire.as_mapping(body.get("data"))
    return wire.read_id(wire.first_value(body, *_IDS) or wire.first_value(inner, *_IDS))


def _to_event(body: Mapping[str, Any], base: str) -> Event:
    """Return what a task object says: at the top, inside `data`, or in the format of similar APIs."""
    task = find_task(body)
    word = wire.read_text(wire.first_value(task, *STATE_KEYS))
    state, notices = parse_state(word, STATES)
    found = find_result(body, _result_urls(task), base) if state is State.SUCCEEDED else Found()
    return Event(
        state,
        remote_id=_find_id(task) or _find_id(body),
        remote_state=word,
        progress=wire.parse_progress(task.get("progress")),
        outputs=found.outputs,
        result=found.result,
        error=find_failure(task, word, error_envelope(body)) if state is State.FAILED else None,
        ended_at=wire.parse_timestamp(wire.first_value(task, "finish_time", "finishTime")),
        found_at=found.location,
        notices=notices + found.notices,
    )


def _result_urls(task: Mapping[str, Any]) -> list[Any]:
    """Return the result URLs in `data.output(s)`, `task_result.videos[].url`, `output.video_url` and `video_url`."""
    data = wire.as_mapping(task.get("data"))
    listed = wire.as_mapping(task.get("task_result"))
    made = [
        wire.as_mapping(item).get("url") for kind in ("videos", "images") for item in wire.as_list(listed.get(kind))
    ]
    return [
        *_urls_in(data.get("output")),
        *_urls_in(data.get("outputs")),
        *made,
        *_urls_in(task.get("output")),
        # Not an image: it may be the preview of a video elsewhere, which the search finds.
        wire.first_value(task, "video_url", "videoUrl"),
    ]


def _urls_in(value: Any) -> list[Any]:
    """Return the URLs in a value: a URL, a list of them, or an object with one."""
    return [*wire.as_list(value), wire.first_value(wire.as_mapping(value), "video_url", "url")]
