"""The experiments E1 to E3, on traffic: what is run against whom, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .machine import listen_drops
from .measure import Fleet, Metrics, Row
from .peers import FURTHER, Peer
from .processes import RunError, Server, generate


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    quick: bool
    rounds: int
    seconds: float  # a window
    ramp: float  # dropped before each window
    connections: tuple[int, ...]  # E1
    memory_sizes: tuple[int, ...]  # E4
    on_off_rounds: int  # E5: more of them, for a target of 2 %
    quiet: int  # E5: connections held
    quiet_limit: float  # their idle limit; the window is longer
    expiry_seconds: float  # the idle limit of those that expire together
    expiry_rounds: int
    storm: int  # E6: clients that come at once
    storm_calm: float  # seconds before that
    known_clients: int  # E9
    live_clients: int
    control_connections: int  # E10
    control_requests: int
    proxy_seconds: float  # a window of P1 to P6
    sessions: tuple[int, ...]  # P1
    session_sizes: tuple[int, ...]  # P5
    load_seconds: float  # a window of L1; L2's lateness
    standstill: float  # L2: how long the server stands still, in ten times as long
    load_sizes: tuple[int, ...]  # L3
    load_times: tuple[float, float]  # L3: when the memory of a full load is looked at


QUICK = Plan(
    quick=True, rounds=3, seconds=0.15, ramp=0.05, connections=(1, 100, 1000),
    memory_sizes=(500, 1500, 3000), on_off_rounds=4,
    quiet=3000, quiet_limit=12.0, expiry_seconds=1.5, expiry_rounds=1,
    storm=2000, storm_calm=0.1, known_clients=200_000, live_clients=20_000,
    control_connections=3000, control_requests=5,
    proxy_seconds=0.15, sessions=(1, 100, 1000), session_sizes=(500, 1500, 3000),
    load_seconds=0.3, standstill=0.3, load_sizes=(1000, 3000, 5000), load_times=(3.0, 9.0),
)  # fmt: skip
FULL = Plan(
    quick=False, rounds=5, seconds=2.0, ramp=0.3, connections=(1, 100, 1000, 10_000),
    memory_sizes=(1000, 4000, 8000, 12_000, 15_000), on_off_rounds=15,
    quiet=15_000, quiet_limit=60.0, expiry_seconds=15.0, expiry_rounds=3,
    storm=10_000, storm_calm=0.5, known_clients=1_000_000, live_clients=20_000,
    control_connections=19_500, control_requests=20,
    proxy_seconds=0.8, sessions=(1, 100, 1000, 4000), session_sizes=(1000, 3000, 6000, 9000),
    load_seconds=1.2, standstill=1.0, load_sizes=(1000, 4000, 8000, 12_000, 15_000),
    load_times=(10.0, 60.0),
)  # fmt: skip

E1, E2, E3 = "E1", "E2", "E3"
CLOSES = {"rst": "client resets", "fin": "both end by FIN"}
WIDTH = 64
_CONNECT_SECONDS = 120.0  # enough for any peer to take 10,000 connections, one after another


def e1_case(connections: int) -> str:
    """The name of a case of E1."""
    return f"{connections:,} connection{'s' * (connections > 1)}"


def e2_case(lines: int) -> str:
    """The name of a case of E2."""
    return f"{lines} line{'s' * (lines > 1)} a write"


def window_metrics(result: dict[str, Any]) -> Metrics:
    """What is kept of a window: the main figure is the server's processor time a request."""
    count, seconds, cpu = result["count"], result["seconds"], result["cpu_seconds"]
    if cpu <= 0:
        raise RunError("the server used no processor time")
    return {
        "cpu_us": cpu / count * 1e6,
        "per_second": count / seconds,
        "per_cpu_second": count / cpu,
        "busy_percent": cpu / seconds * 100,
        "p50_us": result["p50_us"],
        "p99_us": result["p99_us"],
    }


def load_window(plan: Plan, server: Server, connections: int, lines: int) -> Metrics:
    """One window of ping-pong load."""
    return window_metrics(
        generate(
            "load", server, _CONNECT_SECONDS,
            connections=connections, lines=lines, ramp=plan.ramp, seconds=plan.seconds,
        )
    )  # fmt: skip


def short_window(plan: Plan, server: Server, close: str) -> Metrics:
    """One window of short connections, with the backlog's losses."""
    before = listen_drops()
    result = generate(
        "short", server, _CONNECT_SECONDS,
        close=close, width=WIDTH, ramp=plan.ramp, seconds=plan.seconds,
    )  # fmt: skip
    return {**window_metrics(result), "listen_drops": listen_drops() - before}


def _in_full_or_central(plan: Plan, central: bool) -> Callable[[Peer], bool]:
    """Quick mode leaves the further peers out of all but the central cases."""
    return lambda peer: not plan.quick or central or peer.name not in FURTHER


def ping_pong(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E1: one 64-byte line, its answer, the next line."""
    rows: list[Row] = []
    with Fleet([peer for peer in peers if peer.name != "c_lines"]) as fleet:
        for connections in plan.connections:
            window = partial(load_window, plan, connections=connections, lines=1)
            among = _in_full_or_central(plan, connections == 100)
            rows += fleet.measure(E1, e1_case(connections), plan.rounds, window, among)
    return rows


def batched_lines(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E2: several lines a write, each of them answered, over 100 connections."""
    rows: list[Row] = []
    with Fleet(peers) as fleet:
        for lines in (1, 16, 64):
            window = partial(load_window, plan, connections=100, lines=lines)
            among = _in_full_or_central(plan, lines == 16)
            rows += fleet.measure(E2, e2_case(lines), plan.rounds, window, among)
    return rows


def short_connections(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E3: connect, one exchange, close; 64 at once."""
    rows: list[Row] = []
    with Fleet([peer for peer in peers if peer.name != "c_lines"]) as fleet:
        for close, case in CLOSES.items():
            window = partial(short_window, plan, close=close)
            among = _in_full_or_central(plan, close == "rst")
            rows += fleet.measure(E3, case, plan.rounds, window, among)
    return rows
