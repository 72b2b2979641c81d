"""Each account's balance and rate limit.

Each provider has one account, since the sandbox does not distinguish credentials. A purchase reduces the balance, and a
failure is refunded. Nothing is stored here: everything is computed from the ledger.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import takewhile

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.sandbox.answers import json_answer
from receiver.sandbox.family import JSON, Refusal, bearer
from receiver.sandbox.gateway import GATEWAY
from receiver.sandbox.kie import refusal as kie_refusal
from receiver.sandbox.kie_inputs import price as kie_price
from receiver.sandbox.ledger import Ledger
from receiver.sandbox.progress import Phase, progress_at
from receiver.sandbox.rivya import RIVYA
from receiver.sandbox.rivya import price as rivya_price

KIE_FAMILIES = ("kie", "kie-veo")
# The gateways count in 500,000ths of a dollar.
QUOTA_FOR_A_VIDEO = 75_000


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `number` purchases from these families within `seconds`; refused orders do not count."""

    families: Collection[str]
    number: int
    seconds: float

    def is_reached(self, ledger: Ledger, now: float) -> bool:
        """Return whether another purchase now would exceed the limit."""
        recent = takewhile(lambda purchase: purchase.bought_at > now - self.seconds, reversed(ledger.purchases))
        return sum(purchase.family in self.families for purchase in recent) >= self.number


@dataclass(frozen=True, slots=True)
class Account:
    """The initial balance, and what a purchase from one of these families costs by its model."""

    families: Collection[str]
    start: int
    price: Callable[[str], int]

    def left(self, ledger: Ledger, now: float) -> int:
        """Return the balance now."""
        return self.start - sum(
            self.price(purchase.model)
            for purchase in ledger.purchases
            if purchase.family in self.families
            and progress_at(purchase.bought_at, purchase.options, now).phase is not Phase.FAILED
        )


RIVYA_ACCOUNT = Account(("rivya",), 100_000, rivya_price)
KIE_ACCOUNT = Account(KIE_FAMILIES, 2_510_430, kie_price)
GATEWAY_ACCOUNT = Account(("gateway",), 50_000_000, lambda _model: QUOTA_FOR_A_VIDEO)


def balance_routes(ledger: Ledger, clock: Callable[[], float]) -> list[Route]:
    """Return the routes of the three balance endpoints; none is documented for APIXO and Revid."""

    def route(
        path: str, account: Account, refusal: Callable[[Refusal, str], tuple[int, JSON]], told: Callable[[int], JSON]
    ) -> Route:
        async def show(request: Request) -> Response:
            if not bearer(request.headers):
                return json_answer(*refusal(Refusal.UNAUTHORISED, "The API key is missing"))
            return json_answer(200, told(account.left(ledger, clock())))

        return Route(path, show)

    return [
        route("/rivya/api/v1/credits", RIVYA_ACCOUNT, RIVYA.refusal, lambda left: {"current_credits": left}),
        route("/kie/api/v1/chat/credit", KIE_ACCOUNT, kie_refusal, _kie_credit),
        route("/gateway/v1/token/quota", GATEWAY_ACCOUNT, GATEWAY.refusal, _quota),
    ]


def _kie_credit(left: int) -> JSON:
    return {"code": 200, "msg": "success", "data": left}


def _quota(left: int) -> JSON:
    total = GATEWAY_ACCOUNT.start
    return {"total_quota": total, "used_quota": total - left, "remaining_quota": left}
