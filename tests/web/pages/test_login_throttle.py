"""The throttle: who waits, for how long, and how much it remembers."""

import pytest

from receiver.web.pages.login_throttle import FAILURES, SECONDS, LoginThrottle, network_of

NOW = 1_790_000_000_000


def failed(client: str, *, times: int = FAILURES, now: int = NOW) -> LoginThrottle:
    throttle = LoginThrottle()
    for _ in range(times):
        throttle.record_failure(client, now)
    return throttle


def test_one_failure_fewer_causes_no_wait() -> None:
    assert failed("192.0.2.1", times=FAILURES - 1).seconds_to_wait("192.0.2.1", NOW) == 0


def test_the_wait_ends_a_minute_after_the_first_failure() -> None:
    throttle = failed("192.0.2.1", times=1)
    for _ in range(FAILURES):
        throttle.record_failure("192.0.2.1", NOW + 30_000)
    assert throttle.seconds_to_wait("192.0.2.1", NOW + 30_000) == SECONDS
    assert throttle.seconds_to_wait("192.0.2.1", NOW + 89_999) == 0.001
    assert throttle.seconds_to_wait("192.0.2.1", NOW + 90_000) == 0


def test_a_clock_that_is_set_back_locks_nobody_out_for_longer() -> None:
    throttle = failed("192.0.2.1", now=NOW + 3_600_000)
    assert throttle.seconds_to_wait("192.0.2.1", NOW) == 0


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:", "unix:"),
        ("x" * 1000, "x" * 64),
    ],
)
def test_clients_are_told_apart_by_what_one_customer_has(client: str, network: str) -> None:
    assert network_of(client) == network


@pytest.mark.row("F8")
def test_its_memory_is_bounded_and_the_oldest_failure_is_forgotten_first() -> None:
    throttle = LoginThrottle(100)
    for number in range(300):
        for _ in range(FAILURES):
            throttle.record_failure(f"10.0.{number >> 8}.{number & 255}", NOW)
        throttle.record_failure("192.0.2.1", NOW)
    kept = [number for number in range(300) if throttle.seconds_to_wait(f"10.0.{number >> 8}.{number & 255}", NOW)]
    assert kept == list(range(201, 300))
    assert throttle.seconds_to_wait("192.0.2.1", NOW) > 0
