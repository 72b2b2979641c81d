"""Every exception of the project, grouped by what the caller does next.

ReceiverError
├── ConfigError        stop: a setting is wrong, and the message names all that are
├── Invalid            refuse with 422: the order says something that would be refused or wasted
├── NotFound           answer 404
├── Conflict           answer 409
├── Forged             answer 401: a signature scheme is configured and this does not satisfy it
├── Unreadable         keep the bytes, ask the provider
├── StoreUnavailable   answer 503 with Retry-After: nothing was stored
│   └── OutcomeUnknown     the same, but it may be stored all the same
└── ProviderError      one request to a provider did not bring what it should
    ├── Refused            it will not work unchanged: the task failed
    │   └── KeyConflict    the idempotency key was used before with another body
    ├── NotSent            provably not received: try later
    ├── Busy               received and turned away (429): try later
    └── Unconfirmed        may have been received: never send it again without an idempotency key
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ReceiverError(Exception):
    """The root of all errors that this project raises on purpose."""


class ConfigError(ReceiverError):
    """One or more settings are missing or wrong; the message names each, its fault and an example."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an order: where it stands and what is wrong, in words for the caller."""

    loc: tuple[str | int, ...]
    msg: str


class Invalid(ReceiverError):
    """An order that would be refused by its provider or waste money."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, fault.loc))}: {fault.msg}" for fault in faults))
        self.faults = tuple(faults)


class NotFound(ReceiverError):
    """There is no such thing here."""


class Conflict(ReceiverError):
    """The thing is there, but not in a state in which this can be done to it."""


class Forged(ReceiverError):
    """A callback whose documented signature is missing, wrong or outside its time window."""


class Unreadable(ReceiverError):
    """Bytes that could not be understood; they are kept and the provider is asked instead."""


class StoreUnavailable(ReceiverError):
    """The database could not be read or written in time; nothing of this unit was stored."""


class OutcomeUnknown(StoreUnavailable):
    """The database took the unit, and did not say in time whether it is stored: it may be, now or later."""


class ProviderError(ReceiverError):
    """A request to a provider that did not bring what it should: a code and words fit for the task's page.

    `retry_after` is for how many seconds the provider wants to be left alone, where it says so.
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
    """The request may have been received, and no usable answer to it is known.

    `code` is ours (`timeout`, `broken_answer`, `server_error`, `crashed`); `told` is the provider's, where it gave one.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        http_status: int | None = None,
        retry_after: float | None = None,
        told: str | None = None,
    ) -> None:
        super().__init__(code, message, http_status=http_status, retry_after=retry_after)
        self.told = told
