"""Endpoints for monitoring: liveness, readiness, metrics."""

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
from receiver.store.counts import Counts, count_all
from receiver.store.monitoring import Aftermath, count_aftermath
from receiver.web import access
from receiver.web.api.responses import json_response
from receiver.web.problems import problem, problem_of

log = structlog.get_logger()


async def healthz(_request: Request) -> Response:
    """GET /healthz: the process answers."""
    return json_response({"status": "ok"})


async def readyz(request: Request) -> Response:
    """GET /readyz: submissions of a stopped process are resolved, and the database can be written."""
    if not request.app.state.recovered:
        return problem(503, "Submissions interrupted by a stop are still being resolved.", {"Retry-After": "1"})
    services: Services = request.app.state.services
    now = services.clock()
    try:
        await services.store.write(lambda tx: heartbeats.record_heartbeat(tx, heartbeats.READYZ, now))
    except StoreUnavailable as error:
        log.warning("not_ready", reason=str(error))
        return problem_of(error)
    return json_response({"status": "ok", "sandbox": services.settings.sandbox})


async def metrics(request: Request) -> Response:
    """GET /metrics, in the Prometheus text format, computed from the database."""
    await access.require_api(request)
    services: Services = request.app.state.services
    registry = CollectorRegistry()
    day = spending.start_of_day(services.clock())
    totals, spent, polled, aftermath = await services.store.read(
        lambda session: (
            count_all(session),
            spending.list_spent_by_day(session, day),
            heartbeats.read_last(session, heartbeats.POLLER),
            count_aftermath(session),
        )
    )
    spent_today = {each.account: each.credits for each in spent if each.day == day}
    registry.register(_Collector(totals, spent_today, polled))
    registry.register(_AftermathCollector(aftermath))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


class _Collector:
    """Passes one set of counts to prometheus-client."""

    def __init__(self, totals: Counts, spent_today: Mapping[str, float], polled: int | None) -> None:
        self._totals = totals
        self._spent_today = spent_today
        self._polled = polled

    def collect(self) -> Iterator[Metric]:
        tasks = GaugeMetricFamily("receiver_tasks", "Tasks by provider and state.", labels=["provider", "state"])
        for provider in sorted({provider for provider, _ in self._totals.tasks}):
            for state in State:
                tasks.add_metric([provider, state.value], self._totals.tasks.get((provider, state), 0))
        yield tasks
        settled = CounterMetricFamily("receiver_settled", "Settled tasks by what settled them.", labels=["by"])
        for source, number in self._totals.settled_by.items():
            settled.add_metric([source], number)
        yield settled
        seconds = GaugeMetricFamily(
            "receiver_time_to_settle_seconds", "From creation until settled, of the latest tasks.", labels=["quantile"]
        )
        for share in (0.5, 0.95):
            if (value := self._totals.quantile(share)) is not None:
                seconds.add_metric([str(share)], value)
        yield seconds
        spent = CounterMetricFamily("receiver_credits", "Credits charged, in the provider's unit.", labels=["provider"])
        for provider, sums in self._totals.credits.items():
            spent.add_metric([provider], sums.charged)
        yield spent
        cost = GaugeMetricFamily(
            "receiver_credits_spent", "Credits charged, or else reserved, or else estimated.", labels=["provider"]
        )
        for provider, sums in self._totals.credits.items():
            cost.add_metric([provider], sums.spent)
        yield cost
        today = GaugeMetricFamily(
            "receiver_credits_spent_today", "The same for orders sent today (UTC); the daily limit counts these.",
            labels=["provider"],
        )  # fmt: skip
        for provider in self._totals.credits:
            today.add_metric([provider], self._spent_today.get(provider, 0))
        yield today
        polled = GaugeMetricFamily(
            "receiver_poller_seen_timestamp_seconds", "When a poller, or a single sweep, last ran."
        )
        if self._polled is not None:
            polled.add_metric([], self._polled / 1000)
        yield polled


class _AftermathCollector:
    """Passes the counts of what comes after the end of a task to prometheus-client."""

    def __init__(self, counted: Aftermath) -> None:
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        counted = self._counted
        yield _gauge("receiver_outputs", "Result files by what became of their copy.", "archive", counted.outputs)
        yield _gauge("receiver_notifications", "Messages to applications by state.", "state", counted.messages)
        yield _time(
            "receiver_notification_oldest_waiting_timestamp_seconds",
            "When the oldest waiting message was made.",
            counted.oldest_message,
        )
        yield _gauge("receiver_attention", "Tasks that a person should look at.", "reason", counted.attention)
        feed = GaugeMetricFamily("receiver_feed_number", "The latest number of the feed of changes.")
        feed.add_metric([], counted.feed)
        yield feed
        yield _gauge("receiver_late_watch", "Expired tasks that are still checked.", "provider", counted.late)
        awaited = {account: number for account, (number, _) in counted.callbacks.items()}
        arrived = {account: number for account, (_, number) in counted.callbacks.items()}
        yield _gauge("receiver_callbacks_awaited", "Latest ends with a callback URL.", "provider", awaited)
        yield _gauge("receiver_callbacks_arrived", "Those that a callback brought.", "provider", arrived)
        yield _time(
            "receiver_heartbeat_url_fetched_timestamp_seconds", "When the heartbeat URL was fetched.", counted.heartbeat
        )


def _gauge(name: str, words: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _time(name: str, words: str, milliseconds: int | None) -> Metric:
    family = GaugeMetricFamily(name, words)
    if milliseconds is not None:
        family.add_metric([], milliseconds / 1000)
    return family
