"""Results that nobody measured: as a run could have had them, and the same each time."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from tieline.bench import Comparison, Failure, Histogram, Result
from tieline.bench.result import Generator, Interval, KernelView

__all__ = [
    "comparison", "empty_result", "held_result", "mixed_result", "open_loop_result", "result",
    "storm_result",
]  # fmt: skip


def times(count: int, middle: float, spread: float = 0.35, slow: float = 0.002) -> list[float]:
    """Times around a middle; a few are many times slower."""
    chance = random.Random(f"{count} {middle}")
    return [
        chance.lognormvariate(0, spread) * middle * (chance.uniform(5, 60) if chance.random() < slow
        else 1) for _ in range(count)
    ]  # fmt: skip


def result(mode: str = "long", *, failing: bool = False, **changes: Any) -> Result:
    """A run of 30 seconds; `failing`: some of it came to nothing. `changes` are attributes."""
    chance = random.Random(mode)
    middle = 0.00045 if mode == "long" else 0.0021
    rate = 42_000 if mode == "long" else 9_000
    made = Result(
        address="127.0.0.1:7788", mode=mode, connections=20, message_size=64,
        started=1_760_000_000.0, seconds=30.0, opened=20 if mode == "long" else rate * 30,
        held_most=20, exchange=Histogram(times(30_000, middle)),
        first_byte=Histogram(times(30_000, middle * 0.98)),
        connecting=Histogram(times(20 if mode == "long" else 30_000, 0.0009)),
        generator=Generator(cpu_seconds=19.5, busiest=0.65, cores=2, seconds=30.0),
        kernel=KernelView(sampled=20, round_trip=Histogram(times(20, 0.00004))),
    )  # fmt: skip
    if mode == "short":
        made.whole = Histogram(times(30_000, middle + 0.0009))
    for at in range(60):
        stalled = failing and at in (31, 32)
        done = 0 if stalled else int(rate / 2 * chance.uniform(0.93, 1.04))
        made.intervals.append(
            Interval(
                at=at / 2, seconds=0.5, exchanges=done, failures=chance.randint(20, 90) * stalled,
                opened=done if mode == "short" else 0, held=20, p50=0 if stalled else middle,
                p99=0 if stalled else middle * chance.uniform(2.2, 3.5),
                most=0 if stalled else middle * chance.uniform(10, 60),
            )
        )  # fmt: skip
    made.exchanges = sum(each.exchanges for each in made.intervals)
    made.bytes_sent = made.bytes_received = made.exchanges * 64
    lost = sum(each.failures for each in made.intervals)
    if failing:
        made.failures = Counter(
            {Failure.REPLY_TIMEOUT.value: lost - 7, Failure.RESET.value: 4, "wrong_answer": 3}
        )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def mixed_result() -> Result:
    """Of half short and half long connections."""
    made = result("mixed")
    made.parts = {mode: result(mode) for mode in ("short", "long")}
    return made


def held_result() -> Result:
    """Of connections that were opened over ten seconds, and kept."""
    made = Result(
        address="127.0.0.1:7788", mode="hold", connections=15_000, started=1_760_000_000.0,
        seconds=30.0, opened=15_000, held_most=15_000, lost=3,
        connecting=Histogram(times(15_000, 0.00012)),
        failures=Counter({Failure.CLOSED_EARLY.value: 3}),
        generator=Generator(cpu_seconds=2.0, busiest=0.07, cores=2, seconds=30.0),
    )  # fmt: skip
    for at in range(30):
        opened = 1500 if at < 10 else 0
        made.intervals.append(
            Interval(at=at, seconds=1.0, opened=opened, held=min(15_000, (at + 1) * 1500))
        )
    return made


def open_loop_result() -> Result:
    """Of a rate that the server could not keep up with for a second."""
    made = result("long", failing=True, rate=42_000.0, waiting=43_000)
    made.lateness = Histogram(times(30_000, 0.00008, slow=0.01))
    made.failures["unsent"] = 12
    return made


def storm_result() -> Result:
    """Of connections that came all at once, some of which found a full queue."""
    made = Result(
        address="127.0.0.1:7788", mode="storm", connections=2_000, started=1_760_000_000.0,
        seconds=0.41, opened=1_988, held_most=1_988, connecting=Histogram(times(1_988, 0.03)),
        failures=Counter({Failure.REFUSED.value: 12}), generator=Generator(cpu_seconds=0.1),
    )  # fmt: skip
    made.intervals = [
        Interval(at=at / 10, seconds=0.1, opened=497, held=497 * (at + 1), failures=3)
        for at in range(4)
    ]
    return made


def empty_result() -> Result:
    """Of a run that found nobody."""
    return Result(
        address="127.0.0.1:9", mode="long", connections=20, seconds=1.0, cut_short=True,
        failures=Counter({Failure.REFUSED.value: 20}),
        intervals=[Interval(at=0.0, seconds=1.0, failures=20)],
    )  # fmt: skip


def comparison() -> Comparison:
    """Short against long connections."""
    return Comparison(short=result("short"), long=result("long"))
