"""RevidAPI (revidapi.com), after its Sora 2 page.

Results and parameters are JSON inside JSON. In the page's own example, a waiting task has a filled `resultJson`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from receiver.config.settings import BaseURL, ProviderConfig
from receiver.core import wire
from receiver.core.catalog import Model, Parameter, fixed_price, price_by
from receiver.core.messages import Callback, Event, Evidence, Order, Remote
from receiver.core.states import State
from receiver.providers.answers import accepted_event, read_answer, refuse_envelope
from receiver.providers.base import Flow, Rate, api_root, join_url, json_request
from receiver.providers.jobs import find_record_id, read_record

STATES: Mapping[str, State] = {
    "waiting": State.SUBMITTED,
    "queuing": State.SUBMITTED,  # not documented here; the API that this one resells sends it
    "queueing": State.SUBMITTED,
    "generating": State.RUNNING,  # likewise
    "success": State.SUCCEEDED,
    "fail": State.FAILED,
    "failed": State.FAILED,  # not documented; similar APIs send it
    "canceled": State.FAILED,
    "cancelled": State.FAILED,
    "expired": State.FAILED,
}

_PARAMETERS: dict[str, Parameter] = {
    "prompt": Parameter("string", "What to show.", required=True, max_length=10_000),
    "aspect_ratio": Parameter("string", "Shape of the frame.", options=("portrait", "landscape"), default="landscape"),
    "n_frames": Parameter("string", "Length in seconds.", options=("10", "15"), default="10"),
    "remove_watermark": Parameter("boolean", "Remove the watermark.", default=True),
}
_SIZE = {"size": Parameter("string", "Quality tier; it sets the price.", options=("standard", "high"))}

_BASIC = Model(
    _PARAMETERS,
    "Sora 2 Text To Video",
    price=price_by({("10",): 50, ("15",): 60}, "n_frames"),
    price_note="50 credits for 10 s, 60 for 15 s",
)
_PRO = Model(
    _PARAMETERS | _SIZE,
    "Sora 2 Pro Text To Video",
    price=price_by(
        {("standard", "10"): 200, ("standard", "15"): 350, ("high", "10"): 500, ("high", "15"): 790},
        "size",
        "n_frames",
    ),
    price_note="standard 200 credits for 10 s, 350 for 15 s; high 500 and 790",
)
MODELS: Mapping[str, Model] = {
    "sora-2-text-to-video": _BASIC,
    # The page does not describe the image parameters that the model needs, so other names are accepted.
    "sora-2-image-to-video": replace(_BASIC, title="Sora 2 Image To Video", additional_parameters=True),
    "sora-2-pro-text-to-video": _PRO,
    "sora-2-pro-image-to-video": replace(_PRO, title="Sora 2 Pro Image To Video", additional_parameters=True),
    "sora-watermark-remover": Model(title="Sora Watermark Remover", price=fixed_price(20), price_note="20 credits"),
    "sora-2-pro-storyboard": Model(
        title="Sora 2 Pro Storyboard",
        price=price_by({("10",): 250, ("15",): 350}, "n_frames"),
        price_note="250 credits for 10 s, 350 for 15 s",
    ),
}


class RevidConfig(ProviderConfig):
    """`REVID_*`."""

    base_url: BaseURL = "https://api.revidapi.com"


class Revid:
    """RevidAPI's Sora endpoints."""

    family: ClassVar[str] = "revid"
    config_type: ClassVar[type[ProviderConfig]] = RevidConfig
    models: ClassVar[Mapping[str, Model]] = MODELS
    takes_callbacks: ClassVar[bool] = True
    supports_idempotency_keys: ClassVar[bool] = False
    needs_confirmation: ClassVar[bool] = False
    create_rate: ClassVar[Rate | None] = None
    first_check_after: ClassVar[float | None] = None
    output_ttl_seconds: ClassVar[float | None] = None

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        self._base = api_root(config.base_url, "/paid/sora2/create", "/paid/get/taskid")
        # The page says "Bearer Token", but its examples send x-api-key, and that is what works.
        self._headers = {"x-api-key": config.api_key.get_secret_value()}

    def submit(self, order: Order, callback_url: str | None, key: str) -> Flow[Event]:  # noqa: ARG002 - takes no keys
        """POST /paid/sora2/create."""
        given = MODELS[order.model].with_defaults(order.input) if order.fill_defaults else dict(order.input)
        body: dict[str, Any] = {"model": order.model, "input": given}
        if callback_url:
            body["callBackUrl"] = callback_url
        url = join_url(self._base, "/paid/sora2/create")
        response = yield json_request("POST", url, headers=self._headers, body=body, paid=True)
        answer = read_answer(response)
        refuse_envelope(response, answer)
        remote_id = find_record_id(answer)
        return accepted_event(response, answer, remote_id, Event(State.SUBMITTED, remote_id=remote_id))

    def status(self, task: Remote) -> Flow[Event]:
        """POST /paid/get/taskid?taskId=, without a body."""
        url = join_url(self._base, "/paid/get/taskid", {"taskId": task.remote_id})
        response = yield json_request("POST", url, headers=self._headers)
        return read_record(read_answer(response), STATES, self._base)

    def verify(self, callback: Callback) -> Evidence:  # noqa: ARG002 - no signature is documented
        """Return no signature: none is documented."""
        return Evidence()

    def read(self, callback: Callback) -> Event:
        """Return what a callback says: it is "identical to the Query Task API response"."""
        return read_record(wire.read_message(callback.body), STATES, self._base)
