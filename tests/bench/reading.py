"""How long a callback's body takes to read, family by family, beside `json.loads` of the same bytes. One core.

`python -m tests.bench.reading` prints microseconds for the recorded success of every family; the aim is under 60 at the
median, so that reading is lost beside the commit that every callback waits for.
"""

import argparse
import gc
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from tests.providers.recordings import HERE, account, read

BODIES = {
    "kie": "callback-success",
    "kie, Veo": "callback-veo-success",
    "kie, Suno": "callback-suno-complete",
    "revid": "callback-success",
    "apixo": "callback-success",
    "gateway": "callback-a-bare",
    "rivya": "callback-succeeded",
}
SIGNED = "callback-signed"
AIM = 60.0
BATCH = 20
"""Calls between two looks at the clock, whose own resolution would show otherwise."""


def main() -> None:
    """Measure every body and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=1000)
    options.add_argument("--at-most", type=float, default=0.0, help="exit 1 above so many microseconds")
    chosen = options.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{'µs at the median':24}{'bytes':>8}{'read':>10}{'verify':>10}{'json.loads':>12}{'ratio':>8}")
    slowest = 0.0
    for name, recording in BODIES.items():
        slowest = max(slowest, measure(name, recording, chosen.rounds))
    print(f"the slowest reads in {slowest:.1f} µs; the aim is {AIM:.0f}")
    if chosen.at_most and slowest > chosen.at_most:
        raise SystemExit(1)


def measure(name: str, recording: str, rounds: int) -> float:
    """Measure one body and print its line; returns the median of `read`."""
    family = name.split(",", 1)[0]
    message = read(HERE / family / f"{recording}.http")
    provider, callback = account(family), message.callback()
    signed = name == family and (HERE / family / f"{SIGNED}.http").exists()
    verifying = signing(family) if signed else None
    reading = median(lambda: provider.read(callback), rounds)
    plain = median(lambda: json.loads(callback.body), rounds)
    verify = f"{median(verifying, rounds):.1f}" if verifying else "-"
    print(f"{name:24}{len(callback.body):8}{reading:10.1f}{verify:>10}{plain:12.1f}{reading / plain:8.1f}")
    return reading


def signing(family: str) -> Callable[[], Any]:
    """Verify the recorded callback that is signed with a known key."""
    message = read(HERE / family / f"{SIGNED}.http")
    provider, callback = account(family, **message.meaning["account"]), message.callback()
    return lambda: provider.verify(callback)


def median(work: Callable[[], Any], rounds: int) -> float:
    """Time some work, the collector held still; returns microseconds a call."""
    taken = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            begun = time.perf_counter_ns()
            for _ in range(BATCH):
                work()
            taken.append((time.perf_counter_ns() - begun) / BATCH / 1000)
    finally:
        gc.enable()
    return statistics.median(taken)


if __name__ == "__main__":
    main()
