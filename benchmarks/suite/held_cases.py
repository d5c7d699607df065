"""The experiment L3: the memory of a load generator, at rest and at work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from .cases import Plan
from .load_cases import C_EPOLL, lines
from .loads import in_rounds, making, serving, wait_until_under_way
from .machine import descriptors, private_bytes
from .measure import Metrics, Row, Spread, error_row, not_run, say
from .peers import REDIS, Peer
from .processes import RunError, settle
from .quiet_cases import SLOPE, slopes

L3 = "L3"

_LOOKS = 5  # in a row at which the generator has nothing to do

#: What each is told, to hold connections and say nothing; and to whom. `{}`: how many.
_HOLDING = {
    "tieline_bench": (C_EPOLL, ("--mode", "hold", "--connections", "{}")),
    "c_hold": (C_EPOLL, ("--connections", "{}")),
    "redis_benchmark": (REDIS, ("-I", "-c", "{}")),
}


def growth_case(plan: Plan) -> str:
    """The name of the case of memory at work."""
    early, late = plan.load_times
    return f"at full rate over 100 connections, after {early:g} s and after {late:g} s"


def generator_memory(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """L3: memory of a connection that is held; and whether it grows while a load goes on."""
    say(f"{L3}: {', '.join(map(str, plan.load_sizes))} connections held")
    rows = [_slope_row(plan, peer) for peer in peers if peer.name in _HOLDING]
    at_work = [peer for peer in peers if peer.name == "tieline_bench"]
    say(f"{L3}: {growth_case(plan)}")
    take = partial(_growth, plan)
    return rows + in_rounds(L3, growth_case(plan), at_work, 1, take, dropped=0)


def _slope_row(plan: Plan, peer: Peer) -> Row:
    if reason := not_run(peer):
        return error_row(L3, SLOPE, peer, reason)
    try:
        amounts = [float(_holding(peer, size)) for size in plan.load_sizes]
    except RunError as error:
        return error_row(L3, SLOPE, peer, str(error))
    row = Row(L3, SLOPE, peer.name, peer.title)
    row.metrics["private_bytes"] = Spread(
        slopes([float(size) for size in plan.load_sizes], amounts)
    )
    return row


def _holding(peer: Peer, size: int) -> int:
    """Private bytes of a fresh generator that holds so many connections."""
    behind, told = _HOLDING[peer.name]
    with serving(behind) as server:
        enough = descriptors(server.pid) + size
        with making(peer, server, [word.format(size) for word in told]) as load:
            load.wait_until(lambda: descriptors(server.pid) >= enough)
            settle(load, server, looks=_LOOKS)
            load.check()
            return private_bytes(load.pid)


def _growth(plan: Plan, peer: Peer) -> Metrics:
    traffic = lines(100)
    early, late = plan.load_times
    with (
        serving(traffic.server) as server,
        making(peer, server, traffic.told[peer.name], late + 1) as load,
    ):
        wait_until_under_way(load, server, traffic)
        time.sleep(early)
        first = private_bytes(load.pid)
        time.sleep(late - early)
        last = private_bytes(load.pid)
        load.finish()
    return {"early_mb": first / 1e6, "late_mb": last / 1e6, "memory_growth": last / first}
