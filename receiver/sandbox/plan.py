"""Which callbacks a purchase causes, when they leave, and what each says.

The courier carries them out. Pure, and the same deliveries after a restart as before, so that what is still open can be
told from what is through.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit, urlunsplit

from receiver.sandbox.family import JSON, Family, Hook
from receiver.sandbox.knobs import CallbackKnob, ResultKnob
from receiver.sandbox.progress import Phase, Truth, end_of, start_of, truth_at
from receiver.sandbox.purchase import Purchase

FORGED_VIDEO = "https://forged.invalid/video.mp4"
LYING_VIDEO = "https://lying.invalid/video.mp4"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One piece of news: its name within the purchase, when it is due (epoch seconds), what it says when it leaves.

    Without a `url` it goes to the account's endpoints; `retries` are the tries after the first. It may be `cut` off in
    the middle, or `forged` by somebody who has no key; it `follows` when something else of the purchase must be heard
    before it.
    """

    name: str
    due: float
    url: str | None
    says: Callable[[], JSON]
    hook: Hook
    retries: int
    cut: bool = False
    forged: bool = False
    follows: bool = False


def plan(purchase: Purchase, family: Family, late_by: float) -> Iterator[Delivery]:
    """All deliveries of a purchase, none where no callback was ordered; a late one comes `late_by` seconds late."""
    knob, url, hook = purchase.knobs.callback, purchase.callback_url, family.hook
    if hook is None or (url is None and not hook.to_account) or knob is CallbackKnob.DROP:
        return
    start, end = start_of(purchase.bought_at, purchase.knobs), end_of(purchase.bought_at, purchase.knobs)
    if knob is CallbackKnob.FORGED:
        yield _forged(purchase, url, hook)
    if knob is CallbackKnob.LYING:
        yield Delivery("lie", start, url, _lie(purchase, hook, start), hook, hook.retries)
    if hook.each_change and start < end:
        yield Delivery("start", start, url, _news(purchase, hook, start), hook, hook.retries)
    last = Delivery(
        "end",
        end + late_by if knob is CallbackKnob.LATE else end,
        url,
        _last_news(purchase, family, hook, end),
        hook,
        hook.retries,
        cut=knob is CallbackKnob.UNREADABLE,
        follows=knob in {CallbackKnob.FORGED, CallbackKnob.LYING},
    )
    yield last
    if knob is CallbackKnob.TWICE:
        yield replace(last, name="end again")


def tampered(url: str) -> str:
    """The URL with a few characters in the middle of its last path segment changed."""
    parts = urlsplit(url)
    head, _, token = parts.path.rstrip("/").rpartition("/")
    middle = len(token) // 2
    first, last = max(middle - 1, 0), middle + 2
    other = "".join("B" if char == "A" else "A" for char in token[first:last]) or "A"
    return urlunsplit(parts._replace(path=f"{head}/{token[:first]}{other}{token[last:]}"))


def _news(purchase: Purchase, hook: Hook, moment: float) -> Callable[[], JSON]:
    return partial(hook.body, purchase, truth_at(purchase.bought_at, purchase.knobs, moment))


def _last_news(purchase: Purchase, family: Family, hook: Hook, end: float) -> Callable[[], JSON]:
    """The news of the end, about somebody else's task where the knobs say so."""
    if purchase.knobs.callback is CallbackKnob.FOREIGN:
        purchase = replace(purchase, id=family.new_id(purchase.model))
    return _news(purchase, hook, end)


def _forged(purchase: Purchase, url: str | None, hook: Hook) -> Delivery:
    """A success that is none, posted once and at once by somebody who has to guess the token in the URL.

    An account's endpoint has no token to be guessed: there the URL is right and only the signature is wrong.
    """
    success = Truth(Phase.SUCCEEDED, purchase.bought_at, purchase.bought_at, 1.0)
    says = partial(hook.body, replace(purchase, video_url=FORGED_VIDEO), success)
    address = None if url is None else tampered(url)
    return Delivery("forged", purchase.bought_at, address, says, hook, retries=0, forged=True)


def _lie(purchase: Purchase, hook: Hook, moment: float) -> Callable[[], JSON]:
    """The opposite of how the work will end, with a wrong result where it will have none."""
    phase = Phase.SUCCEEDED if purchase.knobs.result is ResultKnob.FAIL else Phase.FAILED
    opposite = Truth(phase, purchase.bought_at, moment, 1.0)
    return partial(hook.body, replace(purchase, video_url=LYING_VIDEO), opposite)
