"""What a guard has done, upstream by upstream, for those who watch it from outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .front import Guard
from .upstream import Upstream, UpstreamState

__all__ = ["Figures", "Traffic", "figures", "traffic"]


class Traffic(NamedTuple):
    """Bytes that have passed between a guard and an upstream, without TLS's own."""

    received: int
    sent: int


class Figures(NamedTuple):
    """Numbers of one kind, for metrics.

    Attributes:
        name: under which they are known.
        kind: `counter` or `gauge`.
        help: what they say, as a sentence.
        values: for each upstream's name; or, of the guard as a whole, one number.
    """

    name: str
    kind: str
    help: str
    values: Sequence[tuple[str, float]] | float


def traffic(guard: Guard) -> dict[Upstream, Traffic]:
    """What has passed to and from each upstream so far, with the sessions under way.

    It looks at each of them once.
    """
    received = {upstream: upstream.bytes_received for upstream in guard.pool.upstreams}
    sent = {upstream: upstream.bytes_sent for upstream in received}
    for leg in guard.upstream_sides:
        if leg.chosen in received:
            received[leg.chosen] += leg.bytes_received
            sent[leg.chosen] += leg.bytes_sent
    return {upstream: Traffic(received[upstream], sent[upstream]) for upstream in received}


def figures(guard: Guard) -> Iterator[Figures]:
    """A guard's own numbers, beside those of any server."""
    passed = traffic(guard)
    # One that was removed, and still has sessions, may have a successor of its name.
    upstreams = [upstream for upstream in passed if guard.pool.find(upstream.name) is upstream]

    def each(values: Iterator[float]) -> list[tuple[str, float]]:
        names = [upstream.name for upstream in upstreams]
        return list(zip(names, values, strict=True))

    yield Figures(
        "tieline_upstream_up", "gauge", "Whether an upstream gets sessions: 1, or 0.",
        each(int(upstream.state is UpstreamState.UP) for upstream in upstreams),
    )  # fmt: skip
    yield Figures(
        "tieline_upstream_sessions", "gauge", "Sessions at an upstream, or being connected to it.",
        each(upstream.sessions for upstream in upstreams),
    )  # fmt: skip
    yield Figures(
        "tieline_upstream_connected_total", "counter",
        "Attempts to connect a session to an upstream that succeeded.",
        each(upstream.connected for upstream in upstreams),
    )  # fmt: skip
    yield Figures(
        "tieline_upstream_failed_total", "counter", "Attempts that failed.",
        each(upstream.failed for upstream in upstreams),
    )  # fmt: skip
    yield Figures(
        "tieline_upstream_checks_failed_total", "counter",
        "Checks that an upstream did not pass.",
        each(upstream.checks_failed for upstream in upstreams),
    )  # fmt: skip
    yield Figures(
        "tieline_upstream_received_bytes_total", "counter",
        "Bytes received from an upstream, without TLS's own.",
        each(passed[upstream].received for upstream in upstreams),
    )  # fmt: skip
    yield Figures(
        "tieline_upstream_sent_bytes_total", "counter",
        "Bytes sent to an upstream, without TLS's own.",
        each(passed[upstream].sent for upstream in upstreams),
    )  # fmt: skip
    yield Figures(
        "tieline_sessions_waiting", "gauge", "Sessions that wait for an upstream with room.",
        guard.pool.waiting,
    )  # fmt: skip
    yield Figures("tieline_pipes", "gauge", "Pipes for bulk that there are now.", guard.pipes.count)
    yield Figures(
        "tieline_pipes_short_total", "counter",
        "Times that there was no pipe, and bulk was copied.", guard.pipes.short,
    )  # fmt: skip
