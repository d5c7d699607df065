"""tieline's own load generator, `tieline.bench`, as a process that prints JSON like the others.

    tieline_load.py --port P [--mode long|short|hold] [--speak line|http|redis] [--connections N]
                    [--pipeline N] [--rate R] [--close reset|fin] [--ramp S] [--seconds T]

Answers are compared, byte by byte. SIGTERM ends it before its time, with what was measured until
then; in the mode "hold", which prints {"held": N} once all are open, it is the only end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from peer_tools import HOST, raise_descriptor_limit

from tieline.address import parse_address
from tieline.bench import Ending, Mode, Plan, Progress, Result, run
from tieline.bench.expecting import Echo, Exactly
from tieline.bench.messages import Constant
from tieline.framing import Delimiter, Line

HOUR = 3600.0

#: Those that `short` calls from: there must be ports for all that is in TIME_WAIT.
SOURCES = tuple(f"127.0.0.{last}" for last in range(2, 252))

HTTP_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Padding: xxxxxxxxxxxxx"

#: What is said, and what has to be answered.
LANGUAGES: dict[str, dict[str, Any]] = {
    "line": {
        "messages": Constant(b"x" * 63), "expectation": Echo(), "framing": Line(),
    },
    "http": {
        "messages": Constant(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:20000"),
        "expectation": Exactly(HTTP_ANSWER), "framing": Delimiter(b"\r\n\r\n"),
    },
    "redis": {
        "messages": Constant(b"PING"), "expectation": Exactly(b"+PONG"), "framing": Line("\r\n"),
    },
}  # fmt: skip


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the command line asks for."""
    mode = Mode(options.mode)
    holds = mode is Mode.HOLD
    language = {} if holds else LANGUAGES[options.speak]
    return Plan(
        address=parse_address(f"{HOST}:{options.port}"),
        mode=mode,
        connections=options.connections,
        pipeline=options.pipeline,
        rate=options.rate,
        warmup=options.ramp,
        duration=HOUR if holds else options.seconds,
        ending=Ending(options.close),
        sources=SOURCES if mode is Mode.SHORT else (),
        **language,
    )


def tell_when_held(number: int) -> Callable[[Progress], None]:
    """What says, once, that so many are open."""
    told = False

    def look(progress: Progress) -> None:
        nonlocal told
        if progress.held == number and not told:
            told = True
            print(json.dumps({"held": number}), flush=True)

    return look


def summary(result: Result) -> dict[str, Any]:
    """What is printed at the end."""
    if result.failed or result.lost:
        return {"error": f"failures: {dict(result.failures)}, {result.lost} lost"}
    times, late = result.exchange, result.lateness
    return {
        "count": result.exchanges, "seconds": result.seconds, "per_second": result.per_second,
        "busy_percent": result.generator.cpu_seconds / result.seconds * 100,
        "p50_us": times.percentile(0.50) * 1e6, "p99_us": times.percentile(0.99) * 1e6,
        "late_p50_us": late.percentile(0.50) * 1e6, "late_p99_us": late.percentile(0.99) * 1e6,
    }  # fmt: skip


def main() -> None:
    """Make the load, and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, help="the server; not needed here")
    parser.add_argument("--mode", choices=["long", "short", "hold"], default="long")
    parser.add_argument("--speak", choices=list(LANGUAGES), default="line")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--pipeline", type=int, default=1)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--close", choices=["reset", "fin"], default="reset")
    parser.add_argument("--ramp", type=float, default=0.0, help="seconds that are not measured")
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    raise_descriptor_limit()
    result = run(plan_of(options), tell_when_held(options.connections))
    print(json.dumps(summary(result)), flush=True)


if __name__ == "__main__":
    main()
