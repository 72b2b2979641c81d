"""Every exception of the project, grouped by what the caller does next.

ReceiverError
├── ConfigError        stop: settings are wrong, and the message names all of them
├── Invalid            refuse with 422: the provider would refuse the order, or it would waste money
├── NotFound           answer 404
├── Conflict           answer 409
├── Forged             answer 401: a signature scheme is configured, and the signature is wrong
├── Unreadable         keep the bytes, check with the provider
├── StoreUnavailable   answer 503 with Retry-After: nothing was stored
│   └── OutcomeUnknown     the same, but it may have been stored
├── DownloadError      a file was not downloaded, or not all of it
│   ├── LinkRefused        its link must not be followed: trying again changes nothing
│   ├── LinkDead           its server has it no more: the provider may know another link
│   └── DownloadBroken     it may work later
└── ProviderError      a request to a provider failed
    ├── Refused            it will not work unchanged: the task failed
    │   └── KeyConflict    the idempotency key was used before with another body
    ├── NotSent            provably not received: try later
    ├── Busy               received and turned away (429): try later
    └── Unconfirmed        may have been received: never send it again without an idempotency key
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ReceiverError(Exception):
    """The base class of all errors that this project raises."""


class ConfigError(ReceiverError):
    """One or more settings are missing or wrong; the message says of each what is wrong, with an example."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an order: where it is, and what is wrong, in words for the caller."""

    loc: tuple[str | int, ...]
    msg: str


class Invalid(ReceiverError):
    """The provider would refuse this order, or it would waste money."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, fault.loc))}: {fault.msg}" for fault in faults))
        self.faults = tuple(faults)


class NotFound(ReceiverError):
    """It does not exist."""


class Conflict(ReceiverError):
    """It exists, but its state does not permit this."""


class Forged(ReceiverError):
    """A callback whose documented signature is missing, wrong or outside its time window."""


class Unreadable(ReceiverError):
    """A message that cannot be read; it is kept, and the provider is checked instead."""


class StoreUnavailable(ReceiverError):
    """The database could not be read or written in time; nothing was stored."""


class OutcomeUnknown(StoreUnavailable):
    """The database did not confirm the COMMIT in time: the unit may be stored, now or later."""


class DownloadError(ReceiverError):
    """A file was not downloaded, or not all of it; says why, in words for the task's page."""


class LinkRefused(DownloadError):
    """The link must not be followed, or its file must not be stored."""


class LinkDead(DownloadError):
    """The server says that there is no such file, or not for us (403, 404, 410)."""


class DownloadBroken(DownloadError):
    """The download may work later: after `retry_after` seconds, where the server says so."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderError(ReceiverError):
    """A request to a provider failed, with a code and a message for the task's page.

    `retry_after` is how many seconds the provider asks us to wait, where it says so.
    """

    def __init__(
        self, code: str, message: str, *, http_status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.http_status = http_status
        self.retry_after = retry_after


class Refused(ProviderError):
    """The provider said no: the same request will not work unchanged."""


class KeyConflict(Refused):
    """The provider knows this idempotency key from a request with another body."""


class NotSent(ProviderError):
    """The request provably never reached the provider."""


class Busy(ProviderError):
    """The provider received the request and turned it away for now (429)."""


class Unconfirmed(ProviderError):
    """The request may have been received, but there is no usable answer.

    `code` is ours: `timeout`, `broken_answer`, `server_error` or `crashed`. `provider_code` is the provider's, if any.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        http_status: int | None = None,
        retry_after: float | None = None,
        provider_code: str | None = None,
    ) -> None:
        super().__init__(code, message, http_status=http_status, retry_after=retry_after)
        self.provider_code = provider_code
