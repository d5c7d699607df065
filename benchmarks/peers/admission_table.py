"""tieline's admission alone: what a decision takes, and a known client weighs, among a million.

    admission_table.py KNOWN LIVE

Each client's number, rate and penalties are limited; one case has all the rest on, too. A client
is known because it has connected before and its rate remembers that. Time is a number here, moved
on by a second every 10,000 decisions, with a cleaning each, as a server does. A duration is of
`admit` alone; a pause is the longest that any call, cleaning included, kept the processor: its own
time, so that what else the machine does is left out; the collection of garbage is in. Prints one
line of JSON.
"""

from __future__ import annotations

import gc
import json
import random
import re
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

from tieline import CloseReason, Limits
from tieline.admission import LocalAdmission

CAP = 2
SAMPLE = 20_000
DECISIONS_A_SECOND = 10_000
LONG_AFTER = 1e6  # seconds until every debt is over
LIMITS = Limits(
    total=None, per_client=CAP, per_client_rate=1e-4, per_client_burst=20, penalty_refused=1.0,
    table_size=10_000_000,
)  # fmt: skip
#: The rest: a second tier of networks, and lists to look addresses up in.
FURTHER = LIMITS.replace(
    per_network=1_000_000, exempt_networks=("192.168.0.0/16", "2001:db8:ffff::/48"),
    total=1_000_000, reserved=100, reserved_networks=("172.16.0.0/12",),
)  # fmt: skip

KNOWN_FROM = int(IPv4Address("10.0.0.0"))
LIVE_FROM = int(IPv4Address("60.0.0.0"))
FURTHER_FROM = int(IPv4Address("90.0.0.0"))
STRANGERS_FROM = int(IPv4Address("120.0.0.0"))


def ipv4(number: int) -> str:
    """An address as the kernel would write it."""
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def ipv6(number: int) -> str:
    """The address of the one machine in a network of its own."""
    return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Durations:
    """A histogram of durations. Its memory is had before anything is measured."""

    BUCKET = 20  # nanoseconds
    BUCKETS = 100_000

    def __init__(self) -> None:
        self._counts = array("q", bytes(8 * self.BUCKETS))

    def clear(self) -> None:
        """Forget all."""
        for bucket in range(self.BUCKETS):
            self._counts[bucket] = 0

    def note(self, nanoseconds: int) -> None:
        """One more."""
        self._counts[min(nanoseconds // self.BUCKET, self.BUCKETS - 1)] += 1

    def at(self, share: float) -> float:
        """The duration, in microseconds, that this share of them does not exceed."""
        left = share * sum(self._counts)
        for bucket, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return (bucket + 1) * self.BUCKET / 1000
        raise AssertionError("nothing was measured")


class Table:
    """The admission under measurement, its clock, and how long its decisions took."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.admission = LocalAdmission(LIMITS, self.clock)
        self._durations = Durations()

    def decide(
        self,
        hosts: Iterable[str],
        refusal: CloseReason | None = None,
        *,
        keep: bool = False,
        whatever: bool = False,
    ) -> dict[str, float]:
        """Have each of them come, and leave unless told to `keep` them; what that took.

        All must be let in, or refused for the reason given; or `whatever`.
        """
        admission, clock, note = self.admission, self.clock, self._durations.note
        admit, release = admission.admit, admission.release
        time_it, processor = time.perf_counter_ns, time.thread_time_ns
        self._durations.clear()
        longest = 0
        for number, host in enumerate(hosts, 1):
            before = processor()
            begin = time_it()
            decision = admit(host)
            end = time_it()
            let_in = not isinstance(decision, CloseReason)
            if not whatever and not (let_in if refusal is None else decision is refusal):
                fail(f"{host}: {decision}, not {refusal or 'let in'}")
            if not keep and not isinstance(decision, CloseReason):
                release(decision)
            longest = max(longest, processor() - before)
            note(end - begin)
            if number % DECISIONS_A_SECOND == 0:
                clock.now += 1.0
                longest = max(longest, took(admission.clean, processor))
        return {
            "decision_us": self._durations.at(0.5),
            "decision_p99_us": self._durations.at(0.99),
            "pause_ms": longest / 1e6,
        }

    def clean(self, known: int) -> dict[str, float]:
        """Let all debts run out, and clean until nobody is known who holds no connection."""
        self.clock.now += LONG_AFTER
        pauses: list[int] = []
        while self.admission.known > known:
            if len(pauses) == 10_000:
                fail(
                    f"{self.admission.known} clients are still known after {len(pauses)} cleanings"
                )
            pauses.append(took(self.admission.clean, time.thread_time_ns))
        return {"pause_ms": max(pauses) / 1e6, "cleanings": len(pauses)}


def took(call: Callable[[], object], clock: Callable[[], int]) -> int:
    """Nanoseconds that a call took."""
    before = clock()
    call()
    return clock() - before


def fail(text: str) -> None:
    """Say what went wrong, as the result."""
    print(json.dumps({"error": text}))
    raise SystemExit(1)


def private_bytes() -> int:
    """Memory that only this process uses, without what can be collected."""
    gc.collect()
    text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    return 1024 * sum(map(int, re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE)))


def some(start: int, count: int) -> Iterator[str]:
    """A sample of `count` addresses, the same each time."""
    for number in random.Random(7).sample(range(count), min(SAMPLE, count)):
        yield ipv4(start + number)


def measure(known: int, live: int) -> dict[str, dict[str, float]]:
    """All the cases, by name."""
    table = Table()
    admission = table.admission
    before = private_bytes()
    found = {"fill": table.decide(ipv4(KNOWN_FROM + i) for i in range(known))}
    if admission.known < known:
        fail(f"only {admission.known} of {known} clients are known")
    found["memory"] = {"known_bytes": (private_bytes() - before) / known}
    table.decide((ipv4(LIVE_FROM + i) for i in range(live)), keep=True)
    found["ipv6"] = table.decide(map(ipv6, range(SAMPLE)))
    found["return"] = table.decide(some(KNOWN_FROM, known))
    found["live"] = table.decide(some(LIVE_FROM, live))
    table.decide((ipv4(LIVE_FROM + i) for i in range(live)), keep=True)
    found["refuse"] = table.decide(some(LIVE_FROM, live), CloseReason.CLIENT_LIMIT)
    admission.change_limits(FURTHER)
    found["further"] = table.decide(some(FURTHER_FROM, SAMPLE))
    admission.change_limits(LIMITS.replace(table_size=max(1, known // 2)))
    found["overflow"] = table.decide(some(STRANGERS_FROM, SAMPLE), whatever=True)
    if not admission.overflowed:
        fail("the table was never full")
    admission.change_limits(LIMITS)
    # The strangers may have shared one client's account, which is known, too.
    found["clean"] = table.clean(live + 1)
    return found


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
