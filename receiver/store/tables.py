"""The tables: columns and rules only.

`store` reads and writes them, `migrations` creates them. Times are Unix milliseconds, credits millionths of the
provider's own unit. Every text here is clean (no lone surrogates, no NUL) and every raw body is bytes, so that SQLite
and PostgreSQL take the same rows. Nothing cascades on delete.
"""

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Enum,
    Index,
    Integer,
    LargeBinary,
    Text,
    TypeDecorator,
    false,
    text,
    true,
)
from sqlmodel import Field, SQLModel

from receiver.core.states import State

Id = BigInteger().with_variant(Integer(), "sqlite")
"""A counted id: SQLite only counts up by itself in a column of type INTEGER."""


class JSONText(TypeDecorator[Any]):
    """A JSON value stored as text, so that any driver of either database takes and gives the same."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else as_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 - likewise
        return None if value is None else json.loads(value)


def as_json(value: Any) -> str:
    """Write a value the way JSON columns hold it: ASCII only, so that nothing in it can trouble a database.

    Raises `ValueError` for a number that JSON has not: the ways in refuse it.
    """
    return _ENCODER.encode(value)


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def _state_column() -> Column[Any]:
    # A plain enum column would store names, and make a native type on PostgreSQL.
    values = Enum(State, native_enum=False, length=20, values_callable=lambda states: [state.value for state in states])
    return Column("state", values, nullable=False)


class Task(SQLModel, table=True):
    """One piece of work that a caller asked for."""

    __tablename__ = "task"
    __table_args__ = (
        Index("task_remote", "provider", "remote_id", unique=True),
        Index("task_due", "provider", "next_check_at"),  # the sweep over due tasks: due_accounts, claim_due
        Index("task_state", "state", "provider"),  # counted on every page, and against limits
    )

    id: str = Field(primary_key=True)
    provider: str
    model: str
    state: State = Field(sa_column=_state_column())
    input: dict[str, Any] = Field(sa_type=JSONText)
    prompt: str | None = Field(default=None, sa_type=Text)  # cleaned, for searching
    validated: bool
    meta: dict[str, Any] = Field(sa_type=JSONText, sa_column_kwargs={"name": "metadata"})
    idempotency_key: str | None = Field(default=None, unique=True)
    order_digest: str | None = None  # of the whole request body, to tell an equal order from another
    retry_of: str | None = None
    notify_url: str | None = Field(default=None, sa_type=Text)  # instead of the one in the settings

    remote_id: str | None = None
    remote_state: str | None = None
    progress: float | None = None
    result: Any = Field(default=None, sa_type=JSONText, nullable=True)
    error_code: str | None = None
    error_message: str | None = Field(default=None, sa_type=Text)
    estimated: int | None = Field(default=None, sa_type=BigInteger)
    reserved: int | None = Field(default=None, sa_type=BigInteger)
    charged: int | None = Field(default=None, sa_type=BigInteger)
    settled_by: str | None = None
    token_seen: bool = False  # the final news came to the task's own callback URL
    signature: str | None = None
    confirmed_at: int | None = Field(default=None, sa_type=BigInteger)
    notices: list[str] = Field(sa_type=JSONText)
    # A final callback that awaits its confirmation.
    pending: Any = Field(default=None, sa_type=JSONText, nullable=True)

    attempts: int = 0
    checks: int = 0
    deliveries: int = 0
    unstored: int = 0  # deliveries beyond the bound: counted only
    empties: int = 0  # answers that said "done" and brought nothing
    gaps: int = 0  # how often the pause before the next request has grown
    callback_url: bool = False  # the last try named one
    # An attempt departed that may have bought something.
    may_have_cost: bool = Field(default=False, sa_column_kwargs={"server_default": false()})

    claim: int = 0
    leased_until: int | None = Field(default=None, sa_type=BigInteger)
    next_check_at: int | None = Field(default=None, sa_type=BigInteger)
    next_check_because: str | None = Field(default=None, sa_type=Text)  # in a sentence
    created_at: int = Field(sa_type=BigInteger)
    held_by: str | None = None  # the limit that keeps it queued
    deadline_from: int | None = Field(default=None, sa_type=BigInteger)  # queued, and held by a limit at first
    submitted_at: int | None = Field(default=None, sa_type=BigInteger)
    adopted_at: int | None = Field(default=None, sa_type=BigInteger)
    # Its links are dead: until then the provider is asked for new ones.
    fresh_links_until: int | None = Field(default=None, sa_type=BigInteger)
    finished_at: int | None = Field(default=None, sa_type=BigInteger)
    updated_at: int = Field(sa_type=BigInteger)


class Output(SQLModel, table=True):
    """One produced file: its link at the provider, and its copy in the archive."""

    __tablename__ = "output"
    __table_args__ = (
        Index(
            "output_to_fetch",
            "fetch_at",
            sqlite_where=text("fetch_at IS NOT NULL"),
            postgresql_where=text("fetch_at IS NOT NULL"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Id)
    task_id: str = Field(foreign_key="task.id", index=True)
    position: int
    url: str = Field(sa_type=Text)
    kind: str
    expires_at: int | None = Field(default=None, sa_type=BigInteger)
    archive: str = Field(default="off", sa_column_kwargs={"server_default": "off"})  # waiting, stored, failed, off
    problem: str | None = Field(default=None, sa_type=Text)  # why it is not stored
    stored: str | None = None  # its name in the archive, written down before the file is put there
    bytes: int | None = Field(default=None, sa_type=BigInteger)
    sha256: str | None = None
    media_type: str | None = None  # as found in its first bytes
    stored_at: int | None = Field(default=None, sa_type=BigInteger)
    host: str | None = None  # of the link, in lower case
    fetch_at: int | None = Field(default=None, sa_type=BigInteger)  # the next download
    fetch_tries: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    fetch_claim: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    fetch_leased_until: int | None = Field(default=None, sa_type=BigInteger)
    # The provider was asked for a new link.
    link_refreshed: bool = Field(default=False, sa_column_kwargs={"server_default": false()})


class Attempt(SQLModel, table=True):
    """One try to hand a task to its provider; committed before the request leaves."""

    __tablename__ = "attempt"
    __table_args__ = (
        Index("attempt_number", "task_id", "number", unique=True),
        Index("attempt_departed", "departed_at"),
        Index(
            "attempt_one_purchase",
            "task_id",
            unique=True,
            sqlite_where=text("may_have_bought AND NOT repeats"),
            postgresql_where=text("may_have_bought AND NOT repeats"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Id)
    history_id: int = Field(foreign_key="history.id")
    task_id: str = Field(foreign_key="task.id")
    number: int
    key: str  # the provider's idempotency key; repeats of an unclear try keep it
    method: str
    url: str = Field(sa_type=Text)
    body: bytes = Field(sa_type=LargeBinary)
    departed_at: int = Field(sa_type=BigInteger)
    ended_at: int | None = Field(default=None, sa_type=BigInteger)
    outcome: str | None = None  # accepted, refused, not_sent, busy, unconfirmed
    http_status: int | None = None
    message: str | None = Field(default=None, sa_type=Text)
    answer: bytes | None = Field(default=None, sa_type=LargeBinary)
    # Until it provably bought nothing.
    may_have_bought: bool = Field(default=True, sa_column_kwargs={"server_default": true()})
    claim: int | None = None  # the task's claim under which it was made
    # The same bytes under the key of an earlier try, which may have bought.
    repeats: bool = Field(default=False, sa_column_kwargs={"server_default": false()})


class Delivery(SQLModel, table=True):
    """One callback as received.

    One to an account whose id no task has yet has neither task nor history; `event` is what it says.
    """

    __tablename__ = "delivery"
    __table_args__ = (Index("delivery_remote", "provider", "remote_id"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=Id)
    history_id: int | None = Field(default=None, foreign_key="history.id")
    task_id: str | None = Field(default=None, foreign_key="task.id", index=True)
    provider: str
    received_at: int = Field(sa_type=BigInteger)
    headers: dict[str, str] = Field(sa_type=JSONText)
    body: bytes = Field(sa_type=LargeBinary)
    outcome: str
    remote_id: str | None = None
    event: Any = Field(default=None, sa_type=JSONText, nullable=True)


class Check(SQLModel, table=True):
    """One status request and what came of it."""

    __tablename__ = "status_check"

    id: int | None = Field(default=None, primary_key=True, sa_type=Id)
    history_id: int = Field(foreign_key="history.id")
    task_id: str = Field(foreign_key="task.id", index=True)
    asked_at: int = Field(sa_type=BigInteger)
    ended_at: int = Field(sa_type=BigInteger)
    outcome: str  # applied, repeated, late, confirming, unmatched or failed
    http_status: int | None = None
    message: str | None = Field(default=None, sa_type=Text)
    answer: bytes | None = Field(default=None, sa_type=LargeBinary)


class History(SQLModel, table=True):
    """What happened to a task, in the order of commits. An attempt, delivery or check names its row here."""

    __tablename__ = "history"

    id: int | None = Field(default=None, primary_key=True, sa_type=Id)
    task_id: str = Field(foreign_key="task.id", index=True)
    at: int = Field(sa_type=BigInteger)
    kind: str  # move, attempt, delivery, check, note
    data: dict[str, Any] = Field(sa_type=JSONText)


class Heartbeat(SQLModel, table=True):
    """When a part of the service was last at work, whichever process ran it."""

    __tablename__ = "heartbeat"

    name: str = Field(primary_key=True)  # `heartbeats` names them
    at: int = Field(sa_type=BigInteger)


class ModelRecord(SQLModel, table=True):
    """What was measured of one model at one account, as `core.measured` counts it."""

    __tablename__ = "model_record"

    provider: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    times: dict[str, int] = Field(sa_type=JSONText)  # weights of its tasks by the bucket of their time
    awaited: int  # callbacks
    arrived: int
    updated_at: int = Field(sa_type=BigInteger)


class EndedSession(SQLModel, table=True):
    """A session of the pages that was logged out of, kept as long as its cookie would count."""

    __tablename__ = "ended_session"

    digest: str = Field(primary_key=True)
    until: int = Field(sa_type=BigInteger, index=True)


class Notification(SQLModel, table=True):
    """One message to the user's application; written in the transaction of the change that it tells of."""

    __tablename__ = "notification"
    __table_args__ = (
        Index(
            "notification_to_send",  # the look for due messages: due_hosts, claim_due
            "host",
            "next_try_at",
            sqlite_where=text("next_try_at IS NOT NULL"),
            postgresql_where=text("next_try_at IS NOT NULL"),
        ),
        Index("notification_state", "state", "id"),  # lists
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Id)
    webhook_id: str = Field(unique=True)
    task_id: str = Field(foreign_key="task.id", index=True)
    type: str  # task.succeeded, task.failed, task.expired, task.unconfirmed, task.stored
    url: str = Field(sa_type=Text)
    host: str  # of the URL, with its port: each host is sent only a few messages at once
    own_url: bool  # the task's own, not the one in the settings
    created_at: int = Field(sa_type=BigInteger)
    state: str  # waiting, delivered, failed
    body: bytes | None = Field(default=None, sa_type=LargeBinary)  # as first sent: repeats send the same bytes
    tries: int = 0  # failed ones since it was written, or sent again by hand
    next_try_at: int | None = Field(default=None, sa_type=BigInteger)
    claim: int = 0
    leased_until: int | None = Field(default=None, sa_type=BigInteger)
    updated_at: int = Field(sa_type=BigInteger)  # when the next try was scheduled


class NotificationTry(SQLModel, table=True):
    """One try to deliver a message, and what came of it."""

    __tablename__ = "notification_try"

    id: int | None = Field(default=None, primary_key=True, sa_type=Id)
    notification_id: int = Field(foreign_key="notification.id", index=True, sa_type=Id)
    at: int = Field(sa_type=BigInteger)
    status: int | None = None
    problem: str | None = Field(default=None, sa_type=Text)


class Feed(SQLModel, table=True):
    """The latest changes of tasks, numbered in the order of commits; the greatest number is never removed.

    No index and no foreign key: each callback would pay for the one, and the check of the other would wait for locks on
    tasks, on PostgreSQL, while the numbering holds its own.
    """

    __tablename__ = "feed"

    number: int | None = Field(default=None, primary_key=True, sa_type=Id)
    task_id: str


class Attention(SQLModel, table=True):
    """Why a person should look at a task, until that is over or was acknowledged."""

    __tablename__ = "attention"

    task_id: str = Field(foreign_key="task.id", primary_key=True)
    reason: str = Field(primary_key=True)
    since: int = Field(sa_type=BigInteger)
    detail: str | None = Field(default=None, sa_type=Text)


class BatchRequest(SQLModel, table=True):
    """The tasks that a batch under an idempotency key is about, so that a repeat is about the same ones."""

    __tablename__ = "batch_request"

    key: str = Field(primary_key=True)
    digest: str  # of the whole request body
    task_ids: list[str] = Field(sa_type=JSONText)
    next: str | None = None  # the cursor to the tasks that a filter left out
    created_at: int = Field(sa_type=BigInteger)
