"""What a provider is: one API family's words, in requests and answers, without any I/O.

`outbound` drives the generators, `inbox` calls `verify` and `read`, `submission` and `catalog` read `models`. How the
families write their requests stands here too, as functions; there is no base class to inherit from.
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
"""Yields requests, is sent their answers (bodies read), returns what they mean."""

PAID: Mapping[str, Any] = {"paid": True}
"""Marks the request that buys: only it can end `Unconfirmed`, and it is committed before it leaves."""


_VERSION = re.compile(r"/v\d+$")


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit on requests: `number` of them in any `seconds`."""

    number: int
    seconds: float


class Provider(Protocol):
    """One API family at one account. Does no I/O."""

    family: ClassVar[str]
    config_type: ClassVar[type[ProviderConfig]]
    models: ClassVar[Mapping[str, Model]]
    takes_callbacks: ClassVar[bool]
    """Whether a task can name its own callback URL."""
    supports_idempotency_keys: ClassVar[bool]
    """Whether a repeated submission under the same idempotency key buys once."""
    needs_confirmation: ClassVar[bool]
    """Whether, under `auto`, every final callback is confirmed by one status request before it counts."""
    create_rate: ClassVar[Rate | None]
    """The provider's own limit on creates, of the whole account; None where no document gives one."""
    first_check_after: ClassVar[float | None]
    """The documents' advice: seconds from submission to the first status request."""
    output_ttl_seconds: ClassVar[float | None]
    """Seconds for which result URLs are documented to work: the shortest statement; None where there is none."""

    def __init__(self, name: str, config: ProviderConfig) -> None: ...

    @property
    def name(self) -> str:
        """The account's name in URLs, settings and rows; the family's name, or `gateway-<x>`."""
        ...

    def submit(self, order: Order, callback_url: str | None, key: str) -> Flow[Event]:
        """Hand an order over; raises `Refused`, `Busy` or `Unconfirmed`."""
        ...

    def status(self, task: Remote) -> Flow[Event]:
        """Ask about a task; raises `Refused`, `Busy`, `Unconfirmed` or `Unreadable`, which all mean "ask later"."""
        ...

    def verify(self, callback: Callback) -> Evidence:
        """Check a callback's signature where a scheme is configured; raises `Forged`."""
        ...

    def read(self, callback: Callback) -> Event:
        """Say what a callback tells; raises `Unreadable`."""
        ...


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook endpoint that was created at a provider; its secret is told once."""

    id: str
    secret: str


@runtime_checkable
class RegistersWebhook(Protocol):
    """The ability to call back to one URL for the whole account."""

    def register_webhook(self, url: str) -> Flow[Webhook]:
        """Create the endpoint; raises what `status` raises."""
        ...


@runtime_checkable
class Balance(Protocol):
    """The ability to tell what is left on the account."""

    def balance(self) -> Flow[float]:
        """Ask for it, in the provider's own credits; raises what `status` raises, and it then is not known."""
        ...


@dataclass(frozen=True, slots=True)
class FileLimit:
    """What is taken of one kind of reference files; `video/*` stands for every type of video."""

    max_bytes: int
    mime_types: tuple[str, ...]

    def takes(self, mime_type: str) -> bool:
        """Tell whether files of this type are taken."""
        return mime_type in self.mime_types or f"{mime_type.partition('/')[0]}/*" in self.mime_types


@dataclass(frozen=True, slots=True)
class Upload:
    """A reference file on its way to a provider: `content` is open for reading and is streamed, never read whole."""

    id: str
    """Ours: for tracing, and to tell files of the same name apart."""
    kind: str
    model: str
    name: str
    mime_type: str
    size: int
    content: BinaryIO


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that a provider keeps for a while: its URL, the piece of `input` that an order needs, the file's id."""

    url: str
    input: Mapping[str, Any]
    id: str | None = None


@runtime_checkable
class Uploads(Protocol):
    """The ability to take reference files, with the limits by kind: `image`, `video`, `audio`."""

    file_limits: ClassVar[Mapping[str, FileLimit]]

    def upload(self, file: Upload) -> Flow[Uploaded]:
        """Hand a file over; raises what `status` raises. It buys nothing, so that it may be repeated."""
        ...


def api_root(base: str, *paths: str) -> str:
    """Cut off what a base URL ends in of the API's own paths, or in a version of them; a path before that is kept.

    Other tools want it with `/v1`, and people copy the whole address of an endpoint.
    """
    parts = urlsplit(base)
    prefix = _VERSION.sub("", _without_overlap(parts.path.rstrip("/"), paths))
    return f"{parts.scheme}://{parts.netloc}{_without_overlap(prefix, paths)}"


def _without_overlap(prefix: str, paths: Iterable[str]) -> str:
    """Cut the longest end of a prefix that is the beginning of one of the paths."""
    beginnings = (path.strip("/").split("/") for path in paths)
    overlaps = {"/" + "/".join(parts[:length]) for parts in beginnings for length in range(1, len(parts) + 1)}
    longest = max((overlap for overlap in overlaps if prefix.endswith(overlap)), key=len, default="")
    return prefix.removesuffix(longest)


def endpoint(base: str, path: str, query: Mapping[str, str] | None = None) -> str:
    """Join a base URL and an API path; a path prefix of the base is kept, but not doubled."""
    parts = urlsplit(base)
    prefix = _without_overlap(parts.path.rstrip("/"), [path])
    url = f"{parts.scheme}://{parts.netloc}{prefix}/{path.strip('/')}"
    return f"{url}?{urlencode({name: wire.clean_text(value) for name, value in query.items()})}" if query else url


def segment(value: str) -> str:
    """Quote an id or a model as one segment of a path, whatever is in it."""
    quoted = quote(wire.clean_text(value), safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")  # "." and ".." would climb


def json_request(
    method: str, url: str, *, headers: Mapping[str, str], body: Any = None, paid: bool = False
) -> httpx.Request:
    """Build a request with a JSON body; texts that are not valid Unicode travel as JSON escapes."""
    content = None if body is None else json.dumps(body, separators=(",", ":")).encode("ascii")
    kind = {} if content is None else {"Content-Type": "application/json"}
    return httpx.Request(
        method, url, headers={**headers, **kind}, content=content, extensions=dict(PAID) if paid else {}
    )


def file_request(url: str, file: Upload, *, headers: Mapping[str, str], fields: Mapping[str, str]) -> httpx.Request:
    """Build a multipart POST of a file and fields; its body is read from the file only while it is sent."""
    content = (wire.clean_text(file.name), file.content, file.mime_type)
    clean = {name: wire.clean_text(value) for name, value in fields.items()}
    return httpx.Request("POST", url, headers=dict(headers), data=clean, files={"file": content})
