"""For machines that watch: liveness, readiness, metrics."""

from collections.abc import Iterator, Mapping

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.errors import StoreUnavailable
from receiver.core.states import State
from receiver.services import Services
from receiver.store import heartbeats, spending
from receiver.store.counts import Counts, counts
from receiver.web import access
from receiver.web.api.tasks import answer
from receiver.web.problems import problem, problem_of

log = structlog.get_logger()


async def healthz(_request: Request) -> Response:
    """GET /healthz: the process answers."""
    return answer({"status": "ok"})


async def readyz(request: Request) -> Response:
    """GET /readyz: what a dead process left is resolved, and the database can be written."""
    if not request.app.state.recovered:
        return problem(503, "Submissions that a stopped process left are still being resolved.", {"Retry-After": "1"})
    services: Services = request.app.state.services
    now = services.clock()
    try:
        await services.store.write(lambda tx: heartbeats.beat(tx, heartbeats.READYZ, now))
    except StoreUnavailable as error:
        log.warning("not_ready", reason=str(error))
        return problem_of(error)
    return answer({"status": "ok", "sandbox": services.settings.sandbox})


async def metrics(request: Request) -> Response:
    """GET /metrics, in the Prometheus text format, computed from the database."""
    await access.require_api(request)
    services: Services = request.app.state.services
    registry = CollectorRegistry()
    polled = heartbeats.POLLER
    day = spending.day_of(services.clock())
    told, spent, seen = await services.store.read(
        lambda session: (counts(session), spending.per_day(session, day), heartbeats.last(session, polled))
    )
    registry.register(_Collector(told, {each.account: each.credits for each in spent if each.day == day}, seen))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


class _Collector:
    """Hands the counts of one moment to prometheus-client."""

    def __init__(self, told: Counts, today: Mapping[str, float], polled: int | None) -> None:
        self._told = told
        self._today = today
        self._polled = polled

    def collect(self) -> Iterator[Metric]:
        tasks = GaugeMetricFamily("receiver_tasks", "Tasks by provider and state.", labels=["provider", "state"])
        for provider in sorted({provider for provider, _ in self._told.tasks}):
            for state in State:
                tasks.add_metric([provider, state.value], self._told.tasks.get((provider, state), 0))
        yield tasks
        settled = CounterMetricFamily("receiver_settled", "Settled tasks by who brought the news.", labels=["by"])
        for whom, number in self._told.settled_by.items():
            settled.add_metric([whom], number)
        yield settled
        seconds = GaugeMetricFamily(
            "receiver_time_to_settle_seconds", "From creation to the end, of the latest tasks.", labels=["quantile"]
        )
        for share in (0.5, 0.95):
            if (value := self._told.quantile(share)) is not None:
                seconds.add_metric([str(share)], value)
        yield seconds
        spent = CounterMetricFamily("receiver_credits", "Credits charged, in the provider's unit.", labels=["provider"])
        for provider, sums in self._told.credits.items():
            spent.add_metric([provider], sums.charged)
        yield spent
        cost = GaugeMetricFamily(
            "receiver_credits_spent", "Credits charged, else reserved, else estimated.", labels=["provider"]
        )
        for provider, sums in self._told.credits.items():
            cost.add_metric([provider], sums.spent)
        yield cost
        today = GaugeMetricFamily(
            "receiver_credits_spent_today", "The same for orders sent today (UTC), which the limit counts.",
            labels=["provider"],
        )  # fmt: skip
        for provider in self._told.credits:
            today.add_metric([provider], self._today.get(provider, 0))
        yield today
        polled = GaugeMetricFamily(
            "receiver_poller_seen_timestamp_seconds", "When a poller, or a single sweep, was last at work."
        )
        if self._polled is not None:
            polled.add_metric([], self._polled / 1000)
        yield polled
