"""The experiment L2: whether a generator tells of what its users would have waited for."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from .cases import Plan
from .load_cases import C_EPOLL, http, lines, redis
from .loads import Traffic, Window, in_rounds, making, serving, wait_until_under_way
from .measure import Metrics, Row, error_row, not_run, say
from .peers import PEERS_BY_NAME, Peer
from .processes import RunError, Server

L2 = "L2"
SHARES = {"half": 0.5, "a quarter": 0.25}
CLOSED = "tieline_bench_closed"

_TIELINE = "tieline_bench"
_RATE = 5000  # lines a second: far from anybody's limit
_RAMP = 0.3  # seconds, in which connections are opened too
_BEFORE = 0.4  # the share of the time after which the server stands still


def paced_load_case(share: str) -> str:
    """The name of a case of an open loop."""
    return f"open loop at {share} of tieline's own top rate, 100 connections"


def standstill_case(plan: Plan) -> str:
    """The name of the case of a server that stands still."""
    still = plan.standstill
    return f"the server stands still for {still:g} s in {10 * still:g} s, 100 connections"


@dataclass(frozen=True)
class _Entrant:
    peer: Peer
    traffic: Traffic
    told: tuple[str, ...]


def honesty(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """L2: a server that stands still; and how late an open loop sends."""
    return [*_standstills(plan, peers), *_lateness(plan, peers)]


def _entrants(peers: Sequence[Peer]) -> list[_Entrant]:
    """Who takes part, and how. redis-benchmark is told a number of requests: see `_stood_still`."""
    among = {peer.name: peer for peer in peers}
    paced = ("--connections", "100", "--rate", str(_RATE))
    found = []
    for name, title, traffic, told in (
        (_TIELINE, "tieline bench, open loop", lines(100), paced),
        ("c_pace", "C, open loop", lines(100), paced),
        (CLOSED, "tieline bench, closed loop", lines(100), ("--connections", "100")),
        ("wrk", "wrk (closed loop, corrected afterwards)", http(), http().told["wrk"]),
        ("redis_benchmark", "redis-benchmark (closed loop)", redis(1), ()),
    ):
        if peer := among.get(_TIELINE if name == CLOSED else name):
            found.append(_Entrant(replace(peer, name=name, title=title), traffic, told))
    return found


def _standstills(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """The 99th percentile of each, when a tenth of the time nobody is answered.

    Of those who come at instants of their own, a tenth waits, from the whole standstill down to
    nothing: one in a hundred waits for nine tenths of it or longer.
    """
    case = standstill_case(plan)
    say(f"{L2}: {case}")
    rows: list[Row] = []
    for entrant in _entrants(peers):
        try:
            with serving(entrant.traffic.server) as server:
                take = partial(_stood_still, plan, entrant, server)
                rows += in_rounds(L2, case, [entrant.peer], 1, take, dropped=0)
        except RunError as error:
            rows.append(error_row(L2, case, entrant.peer, str(error)))
    return rows


def _stood_still(plan: Plan, entrant: _Entrant, server: Server, peer: Peer) -> Metrics:
    whole, still = 10 * plan.standstill, plan.standstill
    told = entrant.told
    if peer.name == "redis_benchmark":
        told = _redis_for(entrant, server, whole - still)
    with making(peer, server, told, whole) as load:
        wait_until_under_way(load, server, entrant.traffic)
        time.sleep(_BEFORE * whole)
        server.signal(signal.SIGSTOP)
        try:
            time.sleep(still)
        finally:
            server.signal(signal.SIGCONT)
        result = load.finish()
    return {
        "p50_us": result["p50_us"],
        "p99_us": result["p99_us"],
        "p99_standstill": result["p99_us"] / 1e6 / still,
    }


def _redis_for(entrant: _Entrant, server: Server, seconds: float) -> tuple[str, ...]:
    """What redis-benchmark is told, that takes a number of requests and no time: as many as it
    makes in so many seconds."""
    with making(entrant.peer, server, redis(1, "20000").told["redis_benchmark"]) as load:
        rate = load.finish()["per_second"]
    return redis(1, str(round(rate * seconds))).told["redis_benchmark"]


def _lateness(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """How late messages go out after their instants, at shares of what tieline makes at most: a
    closed loop over as many connections, a moment before."""
    entrants = [peer for peer in peers if peer.name in (_TIELINE, "c_pace")]
    tieline = PEERS_BY_NAME[_TIELINE]
    if not entrants:
        return []
    try:
        if reason := not_run(tieline):
            raise RunError(reason)
        with serving(C_EPOLL) as server:
            top = _top_rate(plan, tieline, server)
            rows: list[Row] = []
            for words, share in SHARES.items():
                say(f"{L2}: {paced_load_case(words)}: {top * share:,.0f} lines a second")
                take = partial(_paced, plan, server, top * share)
                rows += in_rounds(L2, paced_load_case(words), entrants, plan.rounds, take)
            return rows
    except RunError as error:
        return [error_row(L2, paced_load_case("half"), peer, str(error)) for peer in entrants]


def _top_rate(plan: Plan, peer: Peer, server: Server) -> float:
    rates: list[float] = []
    for _ in range(plan.rounds):
        with making(peer, server, ("--connections", "100"), plan.load_seconds) as load:
            rates.append(load.finish()["per_second"])
    return statistics.median(rates)


def _paced(plan: Plan, server: Server, rate: float, peer: Peer) -> Metrics:
    ramp = ("--ramp", str(_RAMP))
    told = ("--connections", "100", "--rate", f"{rate:.0f}", *ramp)
    with making(peer, server, told, plan.load_seconds) as load:
        wait_until_under_way(load, server, lines(100))
        window = Window(load, server, lines(100))
        time.sleep(plan.load_seconds)
        taken = window.end()["taken_percent"]
        result = load.finish()
    found = {
        "taken_percent": taken,
        "per_second": result["count"] / result["seconds"],
        "p50_us": result["p50_us"],
        "p99_us": result["p99_us"],
    }
    if peer.name == _TIELINE:
        names = ("busy_percent", "late_p50_us", "late_p99_us")
        found |= {name: result[name] for name in names}
    return found
