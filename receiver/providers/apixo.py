"""APIXO (apixo.ai), after its page for sora-2 and its pages on the response format, webhooks and errors.

The callback of a failed task has `code: 200, message: "success"`, and fields are absent rather than null.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from receiver.config.settings import BaseURL, ProviderConfig
from receiver.core import wire
from receiver.core.catalog import Model, Parameter
from receiver.core.errors import Fault
from receiver.core.messages import Callback, Event, Evidence, Order, Remote
from receiver.core.states import State
from receiver.providers.answers import accepted_event, read_answer, refuse_envelope
from receiver.providers.base import Flow, Rate, api_root, join_url, json_request, quote_segment
from receiver.providers.jobs import find_record_id, read_record

STATES: Mapping[str, State] = {
    "pending": State.SUBMITTED,
    "processing": State.RUNNING,
    "success": State.SUCCEEDED,
    "failed": State.FAILED,
    "fail": State.FAILED,  # not documented; similar APIs send it
    "canceled": State.FAILED,
    "cancelled": State.FAILED,
    "expired": State.FAILED,
}

IMAGE_TO_VIDEO = "image-to-video"


def _image_needed(given: Mapping[str, Any]) -> Fault | None:
    if given.get("mode") == IMAGE_TO_VIDEO and not given.get("image_urls"):
        return Fault(("input", "image_urls"), f'is required with mode "{IMAGE_TO_VIDEO}"')
    return None


_PARAMETERS: dict[str, Parameter] = {
    "prompt": Parameter("string", "What to show.", required=True, max_length=10_000),
    "mode": Parameter(
        "string", "From text or from an image; if left out, image_urls decides.", ("text-to-video", IMAGE_TO_VIDEO)
    ),
    "duration": Parameter("integer", "Length in seconds.", options=(4, 8, 12)),
    "aspect_ratio": Parameter("string", "Shape of the frame.", options=("landscape", "portrait"), default="landscape"),
    "image_urls": Parameter("strings", "JPG, PNG or WebP of at most 10 MB each."),
    "remove_watermark": Parameter("boolean", "Remove the watermark.", default=True),
    "provider": Parameter("string", "Routing; only official is supported.", options=("official",), default="official"),
}

MODELS: Mapping[str, Model] = {"sora-2": Model(_PARAMETERS, "Sora 2", rules=(_image_needed,))}


class ApixoConfig(ProviderConfig):
    """`APIXO_*`."""

    base_url: BaseURL = "https://api.apixo.ai/api/v1"


class Apixo:
    """APIXO's task API."""

    family: ClassVar[str] = "apixo"
    config_type: ClassVar[type[ProviderConfig]] = ApixoConfig
    models: ClassVar[Mapping[str, Model]] = MODELS
    takes_callbacks: ClassVar[bool] = True
    supports_idempotency_keys: ClassVar[bool] = False
    needs_confirmation: ClassVar[bool] = False
    create_rate: ClassVar[Rate | None] = Rate(10_000, 60)  # for sora-2; other models have lower limits
    first_check_after: ClassVar[float | None] = 180
    output_ttl_seconds: ClassVar[float | None] = 24 * 3600  # 15 days on the model's page, 24 hours on another

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        self._base = api_root(config.base_url, "/api/v1/generateTask", "/api/v1/statusTask")
        self._headers = {"Authorization": f"Bearer {config.api_key.get_secret_value()}"}

    def submit(self, order: Order, callback_url: str | None, key: str) -> Flow[Event]:  # noqa: ARG002 - takes no keys
        """POST /api/v1/generateTask/{model}."""
        given = dict(order.input)
        if order.fill_defaults:
            given = MODELS[order.model].with_defaults(given)
            given.setdefault("mode", IMAGE_TO_VIDEO if given.get("image_urls") else "text-to-video")
        body: dict[str, Any] = {"request_type": "callback" if callback_url else "async"}
        if callback_url:
            body["callback_url"] = callback_url
        if "provider" in given:
            body["provider"] = given.pop("provider")
        body["input"] = given
        path = f"/api/v1/generateTask/{quote_segment(order.model)}"
        response = yield json_request("POST", join_url(self._base, path), headers=self._headers, body=body, paid=True)
        answer = read_answer(response)
        refuse_envelope(response, answer)
        remote_id = find_record_id(answer)
        return accepted_event(response, answer, remote_id, Event(State.SUBMITTED, remote_id=remote_id))

    def status(self, task: Remote) -> Flow[Event]:
        """GET /api/v1/statusTask/{model}?taskId=."""
        path = f"/api/v1/statusTask/{quote_segment(task.model)}"
        url = join_url(self._base, path, {"taskId": task.remote_id})
        response = yield json_request("GET", url, headers=self._headers)
        return read_record(read_answer(response), STATES, self._base)

    def verify(self, callback: Callback) -> Evidence:  # noqa: ARG002 - no signature is documented
        """Return no signature: none is documented."""
        return Evidence()

    def read(self, callback: Callback) -> Event:
        """Return what a callback says: its body is the same record as a status answer."""
        return read_record(wire.read_message(callback.body), STATES, self._base)
