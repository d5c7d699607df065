"""The experiment E6: thousands connect at once, while others are being served."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .cases import Plan
from .machine import listen_overflows
from .measure import Fleet, Metrics, Row
from .peers import Peer
from .processes import Server, generate, settle

E6 = "E6"
PLAYERS = 100

#: Whom a storm is sent to: the library, what it is built on, and C.
_AMONG = ("c_epoll", "tieline", "asyncio_streams", "uvloop_streams")
_STORM_SECONDS = 120.0


def storm_case(plan: Plan) -> str:
    """The name of the case."""
    return f"{plan.storm:,} connect at once, {PLAYERS} play on"


def storms(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E6: a storm of connects; each client stays until all are served."""
    chosen = [peer for peer in peers if peer.name.startswith(_AMONG)]
    with Fleet([peer for peer in chosen if not peer.name.endswith("timeout")]) as fleet:
        return fleet.measure(E6, storm_case(plan), plan.rounds, partial(_storm, plan))


def _storm(plan: Plan, server: Server) -> Metrics:
    before = listen_overflows()
    result = generate(
        "storm", server, _STORM_SECONDS,
        connections=PLAYERS, storm=plan.storm, calm=plan.storm_calm,
    )  # fmt: skip
    overflows = listen_overflows() - before
    settle(server)  # the next server's turn must not pay for the thousands that have just left
    return {
        "storm_seconds": result["seconds"],
        "storm_cpu_seconds": result["cpu_seconds"],
        "calm_p99_ms": result["calm_p99_us"] / 1000,
        "storm_p99_ms": result["p99_us"] / 1000,
        "storm_longest_ms": result["longest_us"] / 1000,
        "listen_overflows": overflows,
    }
