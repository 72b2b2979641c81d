"""The messages that the user's application gets, and the changes of state that they tell of. Pure."""

from collections.abc import Mapping
from enum import StrEnum

from receiver.core.states import State


class MessageType(StrEnum):
    """What a message tells of; the value is its `type` on the wire."""

    SUCCEEDED = "task.succeeded"
    FAILED = "task.failed"
    EXPIRED = "task.expired"
    UNCONFIRMED = "task.unconfirmed"
    STORED = "task.stored"
    """All files of a task are in the archive: told once for each task."""


OF_STATE: Mapping[State, MessageType] = {
    State.SUCCEEDED: MessageType.SUCCEEDED,
    State.FAILED: MessageType.FAILED,
    State.EXPIRED: MessageType.EXPIRED,
    State.UNCONFIRMED: MessageType.UNCONFIRMED,
}
"""The message that tells of each state; no message tells of the others."""
