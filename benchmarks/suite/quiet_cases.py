"""The experiments E4 and E5, on quiet connections: memory, idle limits, expiry."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

from .cases import Plan, load_window
from .machine import cpu_seconds, kernel_socket_bytes, private_bytes
from .measure import Fleet, Metrics, Row, Spread, error_row, not_run, row_of, say
from .peers import Peer, without_idle_limit
from .processes import RunError, holding, running

E4, E5 = "E4", "E5"
SLOPE = "per connection"
ON_OFF = "idle limit on and off"
QUIET = "many quiet connections"
EXPIRY = "all expire together"

_WITH_IDLE_LIMIT = ("tieline", "asyncio_streams_timeout", "uvloop_streams_timeout")
_HOLD_SECONDS = 120.0


def idle_memory(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E4: memory a connection, by least squares over several numbers of them.

    Each number is measured in a fresh process, after one exchange on each connection.
    """
    say(f"{E4}: {', '.join(map(str, plan.memory_sizes))} connections")
    errors = {peer.name: reason for peer in peers if (reason := not_run(peer))}
    measured: dict[str, list[tuple[int, int, int]]] = {peer.name: [] for peer in peers}
    for size in plan.memory_sizes:
        for peer in peers:
            if peer.name in errors:
                continue
            try:
                measured[peer.name].append((size, *_memory_with(peer, size)))
            except RunError as error:
                errors[peer.name] = str(error)
    return [
        error_row(E4, SLOPE, peer, errors[peer.name])
        if peer.name in errors
        else _slope_row(peer, measured[peer.name])
        for peer in peers
    ]


def _memory_with(peer: Peer, connections: int) -> tuple[int, int]:
    """Private bytes of the server, and how much the kernel's sockets grew."""
    with running(peer) as server:
        before = kernel_socket_bytes()
        with holding(server, connections, _HOLD_SECONDS) as holder:
            private, after = private_bytes(server.pid), kernel_socket_bytes()
            if holder.release()["closed"] != 0:
                raise RunError("the server closed connections meanwhile")
        server.check()
    return private, 0 if before is None or after is None else after - before


def _slope_row(peer: Peer, points: list[tuple[int, int, int]]) -> Row:
    sizes = [float(point[0]) for point in points]
    row = Row(E4, SLOPE, peer.name, peer.title)
    for name, column in (("private_bytes", 1), ("kernel_bytes", 2)):
        slopes = _slopes(sizes, [float(point[column]) for point in points])
        row.metrics[name] = Spread(slopes)
    return row


def _slopes(sizes: list[float], amounts: list[float]) -> tuple[float, ...]:
    """The slope over all points, between the slopes without one of them: a measure of trust."""
    whole = statistics.linear_regression(sizes, amounts).slope
    partial_slopes = [
        statistics.linear_regression(
            sizes[:left] + sizes[left + 1 :], amounts[:left] + amounts[left + 1 :]
        ).slope
        for left in range(len(sizes))
    ]
    return (min(*partial_slopes, whole), whole, max(*partial_slopes, whole))


def idle_limits(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E5: what idle limits cost, at work and at rest, and how they strike."""
    limited = [peer for peer in peers if peer.name.startswith(_WITH_IDLE_LIMIT)]
    rows = _on_and_off(plan, [peer for peer in limited if peer.name.startswith("tieline")])
    quiet = f"{QUIET} ({plan.quiet:,})"
    say(f"{E5}: {quiet}")
    rows += _each(quiet, limited, 1, partial(_quiet_cpu, plan))
    expiry = f"{EXPIRY} ({plan.quiet:,})"
    say(f"{E5}: {expiry}")
    rows += _each(expiry, limited, plan.expiry_rounds, partial(_expire_together, plan))
    return rows


def _on_and_off(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E5 (a): the same server with its idle limit on and off, at 1,000 connections."""
    pairs = [variant for peer in peers for variant in (peer, without_idle_limit(peer.name))]
    with Fleet(pairs) as fleet:
        window = partial(load_window, plan, connections=1000, lines=1)
        return fleet.measure(E5, ON_OFF, plan.on_off_rounds, window)


def _each(
    case: str, peers: Sequence[Peer], rounds: int, take: Callable[[Peer], Metrics]
) -> list[Row]:
    """Rounds in fresh processes, over the peers in turn."""
    errors = {peer.name: reason for peer in peers if (reason := not_run(peer))}
    taken: dict[str, list[Metrics]] = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            if peer.name in errors:
                continue
            try:
                taken[peer.name].append(take(peer))
            except RunError as error:
                errors[peer.name] = str(error)
    return [
        error_row(E5, case, peer, errors[peer.name])
        if peer.name in errors
        else row_of(E5, case, peer, taken[peer.name])
        for peer in peers
    ]


def _quiet_cpu(plan: Plan, peer: Peer) -> Metrics:
    """E5 (b): processor time while nothing happens on many connections."""
    with running(peer) as server, holding(server, plan.quiet, _HOLD_SECONDS) as holder:
        cpu, begin = cpu_seconds(server.pid), time.monotonic()
        time.sleep(plan.quiet_seconds)  # the window itself: the server is left alone
        cpu, seconds = cpu_seconds(server.pid) - cpu, time.monotonic() - begin
        server.check()
        if holder.release()["closed"] != 0:
            raise RunError("the server closed connections before their time")
    return {"cpu_ms_per_second": cpu * 1000 / seconds}


def _expire_together(plan: Plan, peer: Peer) -> Metrics:
    """E5 (c) and (d): the loop's longest stall, and how late each connection is closed."""
    limit = plan.expiry_seconds
    watched = peer.with_options("--idle", str(limit), "--stalls")
    with (
        running(watched) as server,
        holding(server, plan.quiet, _HOLD_SECONDS, together=1) as holder,
    ):
        server.signal(signal.SIGUSR1)
        result = holder.wait()
        server.check()
        stall = server.finish()["longest_stall_ms"]
    if result["closed"] != plan.quiet:
        raise RunError(f"{result['closed']} of {plan.quiet} connections were closed")
    return {
        "longest_stall_ms": stall,
        "earliest_late_ms": (result["earliest_s"] - limit) * 1000,
        "middle_late_ms": (result["middle_s"] - limit) * 1000,
        "latest_late_ms": (result["latest_s"] - limit) * 1000,
    }
