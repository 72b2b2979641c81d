"""APIXO (apixo.ai), after its page for sora-2 and its pages on the response format, webhooks and errors.

A failed task is called back under `code: 200, message: "success"`, and fields are absent rather than null.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from receiver.config.settings import BaseURL, ProviderConfig
from receiver.core import wire
from receiver.core.catalog import Model, Parameter
from receiver.core.errors import Fault
from receiver.core.messages import Callback, Event, Evidence, Order, Remote
from receiver.core.states import State
from receiver.providers.answers import accepted, read_answer, refuse_envelope
from receiver.providers.base import Flow, Rate, api_root, endpoint, json_request, segment
from receiver.providers.jobs import read_record, record_id

STATES: Mapping[str, State] = {
    "pending": State.SUBMITTED,
    "processing": State.RUNNING,
    "success": State.SUCCEEDED,
    "failed": State.FAILED,
    "fail": State.FAILED,  # not documented; the word of the sibling APIs
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
        "string", "From text or from an image; told by image_urls if left out.", ("text-to-video", IMAGE_TO_VIDEO)
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
    create_rate: ClassVar[Rate | None] = Rate(10_000, 60)  # of sora-2; what other models may do is less
    first_check_after: ClassVar[float | None] = 180
    output_ttl_seconds: ClassVar[float | None] = 24 * 3600  # the model's page says 15 days, the response page 24 hours

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
        path = f"/api/v1/generateTask/{segment(order.model)}"
        response = yield json_request("POST", endpoint(self._base, path), headers=self._headers, body=body, paid=True)
        answer = read_answer(response)
        refuse_envelope(response, answer)
        remote_id = record_id(answer)
        return accepted(response, answer, remote_id, Event(State.SUBMITTED, remote_id=remote_id))

    def status(self, task: Remote) -> Flow[Event]:
        """GET /api/v1/statusTask/{model}?taskId=."""
        path = f"/api/v1/statusTask/{segment(task.model)}"
        url = endpoint(self._base, path, {"taskId": task.remote_id})
        response = yield json_request("GET", url, headers=self._headers)
        return read_record(read_answer(response), STATES, self._base)

    def verify(self, callback: Callback) -> Evidence:  # noqa: ARG002 - no signature is documented
        """Find no signature: none is documented."""
        return Evidence()

    def read(self, callback: Callback) -> Event:
        """Read a callback: the same record as a status answer."""
        return read_record(wire.read_message(callback.body), STATES, self._base)
