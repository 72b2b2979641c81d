"""Why a person should look at a task, and what to do then. Pure.

`store.attention` keeps the list, `lifecycle` puts tasks on it in the transaction of what happened to them.
"""

from collections.abc import Mapping
from enum import StrEnum


class Reason(StrEnum):
    """Why a person should look at a task."""

    UNCONFIRMED = "unconfirmed"
    EXPIRED = "expired"
    PAID_WITHOUT_RESULT = "paid_without_result"
    RESULT_LOST = "result_lost"
    NOT_ARCHIVED = "not_archived"
    CONTRADICTION = "contradiction"
    CHARGED_BUT_FAILED = "charged_but_failed"
    NOTIFICATION_FAILED = "notification_failed"


_ADVICE: Mapping[str, str] = {
    Reason.UNCONFIRMED: "The order was sent, but no usable answer came back, so it may have been bought. Look for it in"
    " the provider's own list of tasks: adopt it by the id that you find, or close it as not bought.",
    Reason.EXPIRED: "The deadline passed without a result, which may still have been made and paid for. Look for it at"
    " the provider before you order it again.",
    Reason.PAID_WITHOUT_RESULT: "The provider reported success, but delivered no result. Ask the provider for the"
    " result or a refund; a result that still arrives is kept.",
    Reason.RESULT_LOST: "A file of the result could not be archived, and is not tried again. Get it from the"
    " provider's link if that still works, or ask the provider; `receiver archive --missing` tries once more.",
    Reason.NOT_ARCHIVED: "A file of the result is not archived yet. It is tried again. Mend what the detail names, or"
    " download the file from the provider's link before that ends.",
    Reason.CONTRADICTION: "The provider reported two different ends of this task. Look in the provider's own list of"
    " tasks which one is true; the task keeps the one that it shows.",
    Reason.CHARGED_BUT_FAILED: "The provider charged for a task that failed. Ask the provider for a refund, or order it"
    " again.",
    Reason.NOTIFICATION_FAILED: "Your application did not accept the message about this task. Fix its endpoint, then"
    " send the message again.",
}
_NEVER_SENT = (
    "The deadline passed before the provider accepted it, so nothing was bought. Fix the cause, then order it again."
)


def advise(reason: str, *, may_have_cost: bool) -> str:
    """Return what a reason means and what to do; without a possible cost, an expired order was never accepted."""
    if reason == Reason.EXPIRED and not may_have_cost:
        return _NEVER_SENT
    return _ADVICE.get(reason, "Look at the task's history.")
