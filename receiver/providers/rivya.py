"""Rivya Public API v1 (rivya.ai), after its pages for sora-2 and sora-2-pro, generation status, and errors.

Tasks have no callback URL of their own, so they are polled. A submission takes an `Idempotency-Key`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import httpx
from pydantic import AfterValidator, Field, SecretStr

from receiver.config.settings import BaseURL, ProviderConfig
from receiver.core import wire
from receiver.core.catalog import Model, Parameter, fixed_price
from receiver.core.errors import KeyConflict, Refused, Unconfirmed, Unreadable
from receiver.core.messages import Callback, Event, Evidence, Order, Remote
from receiver.core.signatures import parse_webhook_secret, require_standard_webhook
from receiver.core.states import State
from receiver.providers.answers import accepted_event, excerpt, read_amount, read_answer, refuse_envelope
from receiver.providers.base import (
    FileLimit,
    Flow,
    Rate,
    Upload,
    Uploaded,
    Webhook,
    api_root,
    file_request,
    join_url,
    json_request,
    quote_segment,
)
from receiver.providers.results import Found, find_result
from receiver.providers.words import STATE_KEYS, find_failure, find_task, parse_state

STATES: Mapping[str, State] = {
    "queued": State.SUBMITTED,
    "processing": State.RUNNING,
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
    "canceled": State.FAILED,  # not documented; we have no state for cancelled at the provider
    "cancelled": State.FAILED,
    "expired": State.FAILED,
}

_PARAMETERS: dict[str, Parameter] = {
    "prompt": Parameter("string", "What to show.", required=True, max_length=10_000),
    "n_frames": Parameter("string", "Length in seconds.", options=("10", "15"), default="10"),
    "aspect_ratio": Parameter("string", "Shape of the frame.", options=("landscape", "portrait"), default="landscape"),
    # A string here, a boolean at Revid.
    "remove_watermark": Parameter("string", "Remove the watermark.", options=("false", "true"), default="false"),
    "upload_method": Parameter("string", "Where the result is uploaded.", options=("s3", "oss"), default="s3"),
    "referenceMediaItems": Parameter(
        "objects", "Reference files: url, kind, name, mimeType, durationToken.", max_items=1
    ),
}

MODELS: Mapping[str, Model] = {
    "sora-2": Model(_PARAMETERS, "Sora 2", price=fixed_price(6), price_note="6 credits a video"),
    "sora-2-pro": Model(
        _PARAMETERS | {"size": Parameter("string", "Quality tier.", options=("standard", "high"))},
        "Sora 2 Pro",
        price=fixed_price(75),
        price_note="75 credits a video",
    ),
}


MEGABYTE = 1024 * 1024
FILE_LIMITS: Mapping[str, FileLimit] = {
    "image": FileLimit(10 * MEGABYTE, ("image/jpeg", "image/png", "image/webp")),
    "video": FileLimit(50 * MEGABYTE, ("video/mp4", "video/quicktime", "video/webm")),
    "audio": FileLimit(10 * MEGABYTE, ("audio/*",)),  # no document names the types
}


def check_standard_secret(secret: SecretStr) -> SecretStr:
    """Return a secret. Raises `ValueError` unless it has the format of Standard Webhooks."""
    parse_webhook_secret(secret.get_secret_value())
    return secret


class RivyaConfig(ProviderConfig):
    """`RIVYA_*`."""

    base_url: BaseURL = "https://rivya.ai"
    webhook_secret: Annotated[SecretStr, AfterValidator(check_standard_secret)] | None = Field(
        None, examples=["whsec_..."]
    )


class Rivya:
    """Rivya's generations API."""

    family: ClassVar[str] = "rivya"
    config_type: ClassVar[type[ProviderConfig]] = RivyaConfig
    models: ClassVar[Mapping[str, Model]] = MODELS
    takes_callbacks: ClassVar[bool] = False
    supports_idempotency_keys: ClassVar[bool] = True
    needs_confirmation: ClassVar[bool] = True  # the signature of its webhooks is not documented
    create_rate: ClassVar[Rate | None] = None
    first_check_after: ClassVar[float | None] = None
    output_ttl_seconds: ClassVar[float | None] = None
    file_limits: ClassVar[Mapping[str, FileLimit]] = FILE_LIMITS

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        self._base = api_root(config.base_url, "/api/v1/generations")
        self._headers = {"Authorization": f"Bearer {config.api_key.get_secret_value()}"}
        secret = config.webhook_secret if isinstance(config, RivyaConfig) else None
        self._webhook_key = parse_webhook_secret(secret.get_secret_value()) if secret else None

    def submit(self, order: Order, callback_url: str | None, key: str) -> Flow[Event]:  # noqa: ARG002 - polled only
        """POST /api/v1/generations."""
        given = MODELS[order.model].with_defaults(order.input) if order.fill_defaults else dict(order.input)
        body = {"model": order.model, "prompt": given.pop("prompt", None), "params": given}
        body["client_request_id"] = order.task_id  # for tracing only; the header's key prevents a second purchase
        response = yield json_request(
            "POST",
            join_url(self._base, "/api/v1/generations"),
            headers={**self._headers, "Idempotency-Key": key},
            body={name: value for name, value in body.items() if value is not None},
            paid=True,
        )
        answer = _read_create(response)
        event = _to_event(answer, self._base)
        if event.remote_id is None:  # with an id it is a task, and `error` is the task's
            refuse_envelope(response, answer)
        return accepted_event(response, answer, event.remote_id, event)

    def status(self, task: Remote) -> Flow[Event]:
        """GET /api/v1/generations/{id}."""
        path = f"/api/v1/generations/{quote_segment(task.remote_id)}"
        response = yield json_request("GET", join_url(self._base, path), headers=self._headers)
        return _to_event(find_task(read_answer(response)), self._base)

    def verify(self, callback: Callback) -> Evidence:
        """Return what a Standard Webhooks signature covers, if there is one. Raises `Forged` if it is wrong.

        The documents say that callbacks are signed, and the secret has that scheme's format, but they name no header.
        """
        if self._webhook_key is None or "webhook-signature" not in callback.headers:
            return Evidence()
        require_standard_webhook(callback.headers, callback.body, [self._webhook_key], callback.received_at)
        return Evidence("body")

    def register_webhook(self, url: str) -> Flow[Webhook]:
        """POST /api/v1/webhooks; only its answer shows the signing secret."""
        body = {"name": "receiver", "url": url, "event_types": ["generation.succeeded", "generation.failed"]}
        endpoint_url = join_url(self._base, "/api/v1/webhooks")
        response = yield json_request("POST", endpoint_url, headers=self._headers, body=body)
        answer = read_answer(response)
        made, secret = wire.read_id(answer.get("id")), wire.read_text(answer.get("signing_secret"))
        if made is None or secret is None:
            raise Unreadable("the answer lacks the endpoint's id or its signing secret")
        return Webhook(made, secret)

    def read(self, callback: Callback) -> Event:
        """Return what a webhook event says; its generation is found by its fields, as the envelope is undocumented."""
        generation = _find_generation(wire.read_message(callback.body), depth=4)
        if generation is None:
            raise Unreadable("no object with id, status and model")
        return _to_event(generation, self._base)

    def balance(self) -> Flow[float]:
        """GET /api/v1/credits."""
        response = yield json_request("GET", join_url(self._base, "/api/v1/credits"), headers=self._headers)
        return read_amount(response, "current_credits")

    def upload(self, file: Upload) -> Flow[Uploaded]:
        """POST /api/v1/files; no document shows its answer, so several formats are read."""
        fields = {"kind": file.kind, "model": file.model, "client_request_id": file.id}
        url = join_url(self._base, "/api/v1/files")
        response = yield file_request(url, file, headers=self._headers, fields=fields)
        answer = read_answer(response)
        refuse_envelope(response, answer)
        return _uploaded(response, wire.as_mapping(answer.get("data")) or answer, file)


REFUSALS = frozenset({"public_api_disabled"})
"""Codes that mean a refusal although they come with a 5xx."""


def _read_create(response: httpx.Response) -> Mapping[str, Any]:
    try:
        return read_answer(response)
    except Refused as error:
        if error.code == "idempotency_conflict":
            raise KeyConflict(error.code, error.message, http_status=error.http_status) from error
        raise
    except Unconfirmed as error:
        if error.provider_code in REFUSALS:
            raise Refused(error.provider_code, error.message, http_status=error.http_status) from error
        raise


def _uploaded(response: httpx.Response, told: Mapping[str, Any], file: Upload) -> Uploaded:
    """Return what an order needs to use a file, with the media type that the provider found, if any."""
    url = wire.read_text(wire.first_value(told, "url", "file_url", "fileUrl"), wire.MAX_URL_LENGTH)
    if url is None:
        raise Unreadable(f"an answer without a URL: {excerpt(response)}")
    mime_type = wire.read_text(wire.first_value(told, "mime_type", "mimeType")) or file.mime_type
    item = {"url": url, "kind": file.kind, "name": file.name, "mimeType": mime_type}
    token = wire.read_text(wire.first_value(told, "duration_token", "durationToken"), wire.MAX_URL_LENGTH)
    item |= {"durationToken": token} if token else {}
    return Uploaded(url, {"referenceMediaItems": [item]}, wire.read_id(wire.first_value(told, "id", "file_id")))


def _find_generation(value: Any, depth: int) -> Mapping[str, Any] | None:
    """Return the object with an id, a status and a model; an event's own id does not count."""
    if isinstance(value, dict):
        if {"id", "status", "model"} <= value.keys() and not str(value["id"]).startswith("evt_"):
            return value
        children = list(value.values())
    else:
        children = value if isinstance(value, list) else []
    if depth == 0:
        return None
    found = (_find_generation(child, depth - 1) for child in children if isinstance(child, dict | list))
    return next((generation for generation in found if generation is not None), None)


def _to_event(generation: Mapping[str, Any], base: str) -> Event:
    word = wire.read_text(wire.first_value(generation, *STATE_KEYS))
    state, notices = parse_state(word, STATES)
    result = wire.as_mapping(generation.get("result"))
    own = [result.get("primary_url"), *wire.as_list(result.get("urls"))]
    found = find_result(generation, own, base) if state is State.SUCCEEDED else Found()
    ended = state in (State.SUCCEEDED, State.FAILED)
    return Event(
        state,
        remote_id=wire.read_id(generation.get("id")),
        remote_state=word,
        outputs=found.outputs,
        result=found.result,
        error=find_failure(generation, word) if state is State.FAILED else None,
        reserved=wire.parse_credits(generation.get("reserved_credits")),
        charged=wire.parse_credits(generation.get("final_credits")) if ended else None,  # 0 until the end
        ended_at=wire.parse_timestamp(generation.get("updated_at")) if ended else None,
        found_at=found.location,
        notices=notices + found.notices,
    )
