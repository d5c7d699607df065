"""The experiment P3: what a proxy adds to latency, at a rate far from anyone's limit."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from .cases import Plan, load_window, window_metrics
from .measure import Fleet, Metrics, Row, Spread, error_row, say
from .peers import BACKEND, PEERS_BY_NAME, Peer
from .processes import RunError, Server, generate, running
from .proxy_cases import in_front_of, proxy_plan, sessions_case

P3 = "P3"
PACED = (1, 100)
DIRECT = "direct"

_BY = "haproxy"  # whose top rate sets the pace
_SHARE = 0.25
_SECONDS = 60.0
_LEAST = 1.0  # us: what is added cannot be told from nothing below this
_LATENCIES = ("p50_us", "p99_us", "p999_us")


def paced_case(sessions: int) -> str:
    """The name of a case."""
    return f"{sessions_case(sessions)}, a quarter of HAProxy's top rate"


def added_latency(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """P3: latency at a fixed rate, from the instant at which a line was due; and without a proxy,
    from the same generator to the same server on the same core."""
    plan = proxy_plan(plan)
    rows: list[Row] = []
    direct = replace(BACKEND, name=DIRECT, title="no proxy")
    with in_front_of(BACKEND, peers) as proxies:
        entrants = [direct, *(peer for peer in proxies if not peer.forks)]
        with Fleet(entrants) as fleet:
            for sessions in PACED:
                case = paced_case(sessions)
                try:
                    rate = _pace(plan, sessions)
                except RunError as error:
                    rows += [error_row(P3, case, peer, str(error)) for peer in entrants]
                    continue
                say(f"{P3}: {rate:,.0f} lines a second")
                window = partial(_window, plan, sessions, rate)
                found = fleet.measure(P3, case, plan.rounds, window)
                rows += [_with_added(row, found[0]) for row in found]
    return rows


def _pace(plan: Plan, sessions: int) -> float:
    """A quarter of HAProxy's top rate, now. It is asked whether it takes part or not.

    Raises:
        RunError: it cannot be run here.
    """
    with running(BACKEND) as server:
        peer = PEERS_BY_NAME[_BY].in_front_of(server.port)
        if reason := peer.why_not():
            raise RunError(f"{reason}, whose top rate sets the pace")
        with running(peer) as proxy:
            rates = [
                load_window(plan, proxy, sessions, 1)["per_second"] for _ in range(1 + plan.rounds)
            ]
    return statistics.median(rates[1:]) * _SHARE


def _window(plan: Plan, sessions: int, rate: float, server: Server) -> Metrics:
    result = generate(
        "pace", server, _SECONDS,
        connections=sessions, rate=rate, ramp=plan.ramp, seconds=plan.seconds,
    )  # fmt: skip
    return {**window_metrics(result), "p999_us": result["p999_us"]}


def _with_added(row: Row, direct: Row) -> Row:
    """A row with what each round's latencies are above those of the same round without a proxy."""
    if row.error or direct.error:
        return row
    for name in _LATENCIES:
        pairs = zip(row.metrics[name].values, direct.metrics[name].values, strict=True)
        least = 0.0 if row is direct else _LEAST
        added = (max(least, through - without) for through, without in pairs)
        row.metrics[f"added_{name}"] = Spread(tuple(added))
    return row
