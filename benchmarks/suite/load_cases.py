"""The experiment L1: what an exchange costs the load generator that makes it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

from .cases import CLOSES, WIDTH, Plan, e1_case, e2_case
from .loads import Traffic, Window, in_rounds, making, serving, wait_until_under_way
from .measure import Metrics, Row, error_row, say
from .peers import C_HTTP, PEERS_BY_NAME, REDIS, Peer
from .processes import RunError, Server

L1 = "L1"
LOAD_CONNECTIONS = (1, 100, 1000)
HTTP = "HTTP, 100 connections"
_REDIS = "Redis PING, {} at a time, 100 connections"

C_EPOLL = PEERS_BY_NAME["c_epoll"]
LINE, PONG, HTTP_ANSWER = 64, 7, 64

#: More than it can make in any window: it takes no time, but a number.
_WITHOUT_END = str(10**9)

#: Seconds for which a generator goes on beyond the window; more for each connection it opens.
_SPARE, _SPARE_EACH = 0.3, 0.0003


def short_case(close: str) -> str:
    """The name of a case of short connections."""
    return f"short connections, {WIDTH} at once, {CLOSES[close]}"


def lines(connections: int) -> Traffic:
    """One 64-byte line, its answer, the next line."""
    number = ("--connections", str(connections))
    told = {"c_ping": number, "c_load": number, "tieline_bench": number}
    return Traffic(e1_case(connections), C_EPOLL, connections, LINE, told)


def http(connections: int = 100) -> Traffic:
    """Requests of some 40 bytes, answers of 64, no bodies, connections kept."""
    number = str(connections)
    told = {
        "wrk": ("-c", number),
        "tieline_bench": ("--connections", number, "--speak", "http"),
    }
    return Traffic(HTTP, C_HTTP, connections, HTTP_ANSWER, told)


def redis(pipeline: int, requests: str = _WITHOUT_END) -> Traffic:
    """PING as a line."""
    told = {
        "redis_benchmark": ("-c", "100", "-P", str(pipeline), "-n", requests),
        "tieline_bench": ("--speak", "redis", "--pipeline", str(pipeline)),
    }
    return Traffic(_REDIS.format(pipeline), REDIS, 100, PONG, told)


def _traffics() -> Iterator[Traffic]:
    for connections in LOAD_CONNECTIONS:
        yield lines(connections)
    yield Traffic(
        e2_case(16), C_EPOLL, 100, LINE,
        {"c_load": ("--lines", "16"), "tieline_bench": ("--pipeline", "16")},
    )  # fmt: skip
    yield http()
    for pipeline in (1, 16):
        yield redis(pipeline)
    for close, of_tieline in (("rst", "reset"), ("fin", "fin")):
        yield Traffic(
            short_case(close), C_EPOLL, WIDTH, LINE,
            {
                "c_short": ("--width", str(WIDTH), "--close", close),
                "tieline_bench": (
                    "--mode", "short", "--connections", str(WIDTH), "--close", of_tieline,
                ),
            },
        )  # fmt: skip


def generators(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """L1: exchanges of each generator, for its own processor time."""
    rows: list[Row] = []
    for traffic in _traffics():
        entrants = [peer for peer in peers if peer.name in traffic.told]
        say(f"{L1}: {traffic.case}")
        try:
            with serving(traffic.server) as server:
                take = partial(_window, plan, traffic, server)
                rows += in_rounds(L1, traffic.case, entrants, plan.rounds, take)
        except RunError as error:
            rows += [error_row(L1, traffic.case, peer, str(error)) for peer in entrants]
    return rows


def _window(plan: Plan, traffic: Traffic, server: Server, peer: Peer) -> Metrics:
    spare = _SPARE + _SPARE_EACH * traffic.connections
    seconds = plan.ramp + plan.load_seconds + spare
    with making(peer, server, traffic.told[peer.name], seconds) as load:
        wait_until_under_way(load, server, traffic)
        time.sleep(plan.ramp)
        window = Window(load, server, traffic)
        time.sleep(plan.load_seconds)
        found = window.end()
        load.finish_or_end()
    return found
