"""What a provider is: an adapter for one API family, which builds requests and reads answers without any I/O.

`outbound` runs the generators, `inbox` calls `verify` and `read`, `submission` reads `models`. Functions that build
requests are here, too; there is no base class.
"""

import json
import re
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, Protocol, TypeVar, runtime_checkable
from urllib.parse import quote, urlencode, urlsplit

import httpx

from receiver.config.settings import ProviderConfig
from receiver.core import wire
from receiver.core.catalog import Model
from receiver.core.messages import Callback, Event, Evidence, Order, Remote

T = TypeVar("T")
Flow = Generator[httpx.Request, httpx.Response, T]
"""Yields requests, is sent their answers (with their bodies read), returns what they mean."""

PAID: Mapping[str, Any] = {"paid": True}
"""Marks the request that buys: only it can end `Unconfirmed`, and it is committed before it is sent."""


_VERSION = re.compile(r"/v\d+$")


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate limit: `number` requests in any `seconds`."""

    number: int
    seconds: float


class Provider(Protocol):
    """The adapter of one API family for one account. Does no I/O."""

    family: ClassVar[str]
    config_type: ClassVar[type[ProviderConfig]]
    models: ClassVar[Mapping[str, Model]]
    takes_callbacks: ClassVar[bool]
    """Whether each task can have its own callback URL."""
    supports_idempotency_keys: ClassVar[bool]
    """Whether repeating a submission under the same idempotency key buys only once."""
    needs_confirmation: ClassVar[bool]
    """Whether, under `auto`, every final callback is confirmed by one status request before it counts."""
    create_rate: ClassVar[Rate | None]
    """The provider's rate limit on submissions, for the whole account; None if no document gives one."""
    first_check_after: ClassVar[float | None]
    """The documented advice: seconds from submission to the first status request."""
    output_ttl_seconds: ClassVar[float | None]
    """Seconds for which result URLs work, the shortest that is documented; None if no document gives it."""

    def __init__(self, name: str, config: ProviderConfig) -> None: ...

    @property
    def name(self) -> str:
        """Return the account's name in URLs, settings and rows: the family's name, or `gateway-<x>`."""
        ...

    def submit(self, order: Order, callback_url: str | None, key: str) -> Flow[Event]:
        """Submit an order. Raises `Refused`, `Busy` or `Unconfirmed`."""
        ...

    def status(self, task: Remote) -> Flow[Event]:
        """Check a task. Raises `Refused`, `Busy`, `Unconfirmed` or `Unreadable`, which all mean "check again later"."""
        ...

    def verify(self, callback: Callback) -> Evidence:
        """Return what a callback's signature covers. Raises `Forged` if a scheme is configured and it is wrong."""
        ...

    def read(self, callback: Callback) -> Event:
        """Return what a callback says. Raises `Unreadable`."""
        ...


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook endpoint that was created at a provider, which shows its secret only once."""

    id: str
    secret: str


@runtime_checkable
class RegistersWebhooks(Protocol):
    """Can call back to one URL for the whole account."""

    def register_webhook(self, url: str) -> Flow[Webhook]:
        """Create the endpoint. Raises what `status` raises."""
        ...


@runtime_checkable
class HasBalance(Protocol):
    """Can report the account's balance."""

    def balance(self) -> Flow[float]:
        """Return it in the provider's own credits. Raises what `status` raises."""
        ...


@dataclass(frozen=True, slots=True)
class FileLimit:
    """Which reference files of one kind are accepted; `video/*` stands for every type of video."""

    max_bytes: int
    mime_types: tuple[str, ...]

    def accepts(self, mime_type: str) -> bool:
        """Return whether files of this type are accepted."""
        return mime_type in self.mime_types or f"{mime_type.partition('/')[0]}/*" in self.mime_types


@dataclass(frozen=True, slots=True)
class Upload:
    """A reference file to upload: `content` is open for reading and is streamed, never read as a whole."""

    id: str
    """Our id, for tracing, and to distinguish files of the same name."""
    kind: str
    model: str
    name: str
    mime_type: str
    size: int
    content: BinaryIO


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that was uploaded: its URL, the part of `input` that an order needs, the provider's id."""

    url: str
    input: Mapping[str, Any]
    id: str | None = None


@runtime_checkable
class AcceptsUploads(Protocol):
    """Accepts reference files, with limits by kind: `image`, `video`, `audio`."""

    file_limits: ClassVar[Mapping[str, FileLimit]]

    def upload(self, file: Upload) -> Flow[Uploaded]:
        """Upload a file. Raises what `status` raises. It buys nothing, so it may be repeated."""
        ...


def api_root(base: str, *paths: str) -> str:
    """Return a base URL without the API's own paths, or a version of them, at its end; a path before that is kept.

    Other tools want it with `/v1`, and people copy the complete URL of an endpoint.
    """
    parts = urlsplit(base)
    prefix = _VERSION.sub("", _trim_overlap(parts.path.rstrip("/"), paths))
    return f"{parts.scheme}://{parts.netloc}{_trim_overlap(prefix, paths)}"


def _trim_overlap(prefix: str, paths: Iterable[str]) -> str:
    """Return a prefix without the longest end that is the beginning of one of the paths."""
    beginnings = (path.strip("/").split("/") for path in paths)
    overlaps = {"/" + "/".join(parts[:length]) for parts in beginnings for length in range(1, len(parts) + 1)}
    longest = max((overlap for overlap in overlaps if prefix.endswith(overlap)), key=len, default="")
    return prefix.removesuffix(longest)


def join_url(base: str, path: str, query: Mapping[str, str] | None = None) -> str:
    """Return a base URL joined with an API path; a path prefix of the base is kept, but not doubled."""
    parts = urlsplit(base)
    prefix = _trim_overlap(parts.path.rstrip("/"), [path])
    url = f"{parts.scheme}://{parts.netloc}{prefix}/{path.strip('/')}"
    return f"{url}?{urlencode({name: wire.clean_text(value) for name, value in query.items()})}" if query else url


def quote_segment(value: str) -> str:
    """Return an id or a model, quoted as one segment of a path."""
    quoted = quote(wire.clean_text(value), safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")  # "." and ".." would change the path


def json_request(
    method: str, url: str, *, headers: Mapping[str, str], body: Any = None, paid: bool = False
) -> httpx.Request:
    """Return a request with a JSON body; strings that are not valid Unicode are sent as JSON escapes."""
    content = None if body is None else json.dumps(body, separators=(",", ":")).encode("ascii")
    kind = {} if content is None else {"Content-Type": "application/json"}
    return httpx.Request(
        method, url, headers={**headers, **kind}, content=content, extensions=dict(PAID) if paid else {}
    )


def file_request(url: str, file: Upload, *, headers: Mapping[str, str], fields: Mapping[str, str]) -> httpx.Request:
    """Return a multipart POST of a file and fields; the file is read only while it is sent."""
    content = (wire.clean_text(file.name), file.content, file.mime_type)
    clean = {name: wire.clean_text(value) for name, value in fields.items()}
    return httpx.Request("POST", url, headers=dict(headers), data=clean, files={"file": content})
