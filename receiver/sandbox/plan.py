"""Which callbacks a purchase causes, when they are sent, and what each says.

`callbacks` sends them. Pure, and the same after a restart, so that it is known which are still to be sent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit, urlunsplit

from receiver.sandbox.family import JSON, CallbackStyle, Family
from receiver.sandbox.options import CallbackFault, ResultFault
from receiver.sandbox.progress import Phase, Progress, end_of, progress_at, start_of
from receiver.sandbox.purchase import Purchase

FORGED_VIDEO = "https://forged.invalid/video.mp4"
LYING_VIDEO = "https://lying.invalid/video.mp4"


@dataclass(frozen=True, slots=True)
class PlannedCallback:
    """One callback: its name within the purchase, when it is due (epoch seconds), and its body at that time.

    Without a `url`, it goes to the account's endpoints. It may be `cut` off in the middle, or `forged` by somebody
    without a key. With `follows`, it waits until another callback of the purchase was answered.
    """

    name: str
    due: float
    url: str | None
    body: Callable[[], JSON]
    style: CallbackStyle
    retries: int
    cut: bool = False
    forged: bool = False
    follows: bool = False


def plan(purchase: Purchase, family: Family, late_by: float) -> Iterator[PlannedCallback]:
    """Yield the callbacks of a purchase; a late one comes `late_by` seconds late."""
    fault, url, style = purchase.options.callback, purchase.callback_url, family.callbacks
    if style is None or (url is None and not style.to_account) or fault is CallbackFault.DROP:
        return
    start, end = start_of(purchase.bought_at, purchase.options), end_of(purchase.bought_at, purchase.options)
    if fault is CallbackFault.FORGED:
        yield _forged(purchase, url, style)
    if fault is CallbackFault.LYING:
        yield PlannedCallback("lie", start, url, _opposite_body(purchase, style, start), style, style.retries)
    if style.each_change and start < end:
        yield PlannedCallback("start", start, url, _body_at(purchase, style, start), style, style.retries)
    last = PlannedCallback(
        "end",
        end + late_by if fault is CallbackFault.LATE else end,
        url,
        _final_body(purchase, family, style, end),
        style,
        style.retries,
        cut=fault is CallbackFault.UNREADABLE,
        follows=fault in {CallbackFault.FORGED, CallbackFault.LYING},
    )
    yield last
    if fault is CallbackFault.TWICE:
        yield replace(last, name="end again")


def with_altered_token(url: str) -> str:
    """Return a URL with a few characters changed in the middle of its last path segment."""
    parts = urlsplit(url)
    head, _, token = parts.path.rstrip("/").rpartition("/")
    middle = len(token) // 2
    first, last = max(middle - 1, 0), middle + 2
    other = "".join("B" if char == "A" else "A" for char in token[first:last]) or "A"
    return urlunsplit(parts._replace(path=f"{head}/{token[:first]}{other}{token[last:]}"))


def _body_at(purchase: Purchase, style: CallbackStyle, moment: float) -> Callable[[], JSON]:
    return partial(style.body, purchase, progress_at(purchase.bought_at, purchase.options, moment))


def _final_body(purchase: Purchase, family: Family, style: CallbackStyle, end: float) -> Callable[[], JSON]:
    """Return the final body, about somebody else's task where the options say so."""
    if purchase.options.callback is CallbackFault.FOREIGN:
        purchase = replace(purchase, id=family.new_id(purchase.model))
    return _body_at(purchase, style, end)


def _forged(purchase: Purchase, url: str | None, style: CallbackStyle) -> PlannedCallback:
    """Return a false success, posted once and at once by somebody who has to guess the token in the URL.

    An account's endpoint has no token to guess: there, the URL is right and only the signature is wrong.
    """
    success = Progress(Phase.SUCCEEDED, purchase.bought_at, purchase.bought_at, 1.0)
    body = partial(style.body, replace(purchase, video_url=FORGED_VIDEO), success)
    address = None if url is None else with_altered_token(url)
    return PlannedCallback("forged", purchase.bought_at, address, body, style, retries=0, forged=True)


def _opposite_body(purchase: Purchase, style: CallbackStyle, moment: float) -> Callable[[], JSON]:
    """Return the opposite of how the work will end, with a wrong result if it will have none."""
    phase = Phase.SUCCEEDED if purchase.options.result is ResultFault.FAIL else Phase.FAILED
    opposite = Progress(phase, purchase.bought_at, moment, 1.0)
    return partial(style.body, replace(purchase, video_url=LYING_VIDEO), opposite)
