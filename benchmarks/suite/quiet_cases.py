"""The experiments E4 and E5, on quiet connections: memory, idle limits, expiry."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from .cases import Plan, load_window
from .machine import cpu_seconds, kernel_socket_bytes, private_bytes
from .measure import Fleet, Metrics, Row, Spread, error_row, not_run, row_of, say
from .peers import Peer, without_idle_limit
from .processes import RunError, holding, running

E4, E5 = "E4", "E5"
SLOPE = "per connection"
ON_OFF = "idle limit on and off"

_WITH_IDLE_LIMIT = ("tieline", "asyncio_streams_timeout", "uvloop_streams_timeout")
_HOLD_SECONDS = 120.0


def quiet_case(plan: Plan) -> str:
    """The name of E5's case of connections that wait."""
    return f"many quiet connections ({plan.quiet:,}, limit {plan.quiet_limit:g} s)"


def expiry_case(plan: Plan) -> str:
    """The name of E5's case of connections that expire."""
    return f"all expire together ({plan.quiet:,})"


def idle_memory(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E4: memory a connection."""
    return idle_memory_of(peers, E4, plan.memory_sizes)


def idle_memory_of(peers: Sequence[Peer], experiment: str, sizes: Sequence[int]) -> list[Row]:
    """Memory a connection, by least squares over several numbers of them.

    Each number is measured in a fresh process, after one exchange on each connection.
    """
    say(f"{experiment}: {', '.join(map(str, sizes))} connections")
    errors = {peer.name: reason for peer in peers if (reason := not_run(peer))}
    measured: dict[str, list[tuple[int, int, int]]] = {peer.name: [] for peer in peers}
    for size in sizes:
        for peer in peers:
            if peer.name in errors:
                continue
            try:
                measured[peer.name].append((size, *_memory_with(peer, size)))
            except RunError as error:
                errors[peer.name] = str(error)
    return [
        error_row(experiment, SLOPE, peer, errors[peer.name])
        if peer.name in errors
        else _slope_row(experiment, peer, measured[peer.name])
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


def _slope_row(experiment: str, peer: Peer, points: list[tuple[int, int, int]]) -> Row:
    sizes = [float(point[0]) for point in points]
    row = Row(experiment, SLOPE, peer.name, peer.title)
    for name, column in (("private_bytes", 1), ("kernel_bytes", 2)):
        row.metrics[name] = Spread(slopes(sizes, [float(point[column]) for point in points]))
    return row


def slopes(sizes: list[float], amounts: list[float]) -> tuple[float, ...]:
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
    rows += _quiet_cpu(plan, limited)
    expiry = expiry_case(plan)
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


class _Quiet:
    """E5 (b): a server with many connections on which nothing happens, over its idle limit.

    One more exchange, a while after the last connection came, keeps them open beyond the time at
    which the limit would have struck without it. The window begins after that exchange and ends
    after that time, so what a server does to find nobody idle is inside it.
    """

    _GAP = 1.5  # seconds between the last connection, its exchange, and whatever clocks do then

    def __init__(self, plan: Plan, peer: Peer, stack: ExitStack) -> None:
        limited = peer.with_options("--idle", str(plan.quiet_limit))
        self._limit = plan.quiet_limit
        self._server = stack.enter_context(running(limited))
        self._holder = stack.enter_context(holding(self._server, plan.quiet, _HOLD_SECONDS))
        self._open = time.monotonic()

    def begin(self) -> None:
        """The exchange, and the window."""
        _sleep_until(self._open + self._GAP)
        self._holder.exchange()
        self._cpu, self._begin = cpu_seconds(self._server.pid), time.monotonic()

    def end(self) -> Metrics:
        """The window's end, once the limit is over."""
        _sleep_until(self._open + self._limit + self._GAP / 3)
        cpu, seconds = cpu_seconds(self._server.pid) - self._cpu, time.monotonic() - self._begin
        self._server.check()
        if self._holder.release()["closed"] != 0:
            raise RunError("the server closed connections before their time")
        return {"cpu_ms_per_second": cpu * 1000 / seconds}


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))


def _quiet_cpu(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E5 (b): all peers at the same time: they have nothing to do, and each its own clock."""
    case = quiet_case(plan)
    say(f"{E5}: {case}")
    errors = {peer.name: reason for peer in peers if (reason := not_run(peer))}
    quiet: dict[str, _Quiet] = {}
    taken: dict[str, Metrics] = {}
    with ExitStack() as stack:
        for peer in [peer for peer in peers if peer.name not in errors]:
            try:
                quiet[peer.name] = _Quiet(plan, peer, stack)
            except RunError as error:
                errors[peer.name] = str(error)
        for name, one in quiet.items():
            try:
                one.begin()
            except RunError as error:
                errors[name] = str(error)
        for name, one in quiet.items():
            try:
                if name not in errors:
                    taken[name] = one.end()
            except RunError as error:
                errors[name] = str(error)
    return [
        error_row(E5, case, peer, errors[peer.name])
        if peer.name in errors
        else row_of(E5, case, peer, [taken[peer.name]])
        for peer in peers
    ]


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
