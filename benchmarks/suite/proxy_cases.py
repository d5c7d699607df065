"""The experiments P1, P4 and P5, on proxies: ping-pong, short connections, idle sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from .cases import CLOSES, Plan, load_window, short_window
from .measure import Fleet, Row
from .peers import BACKEND, PROXIES, Peer
from .processes import Server, running
from .quiet_cases import idle_memory_of
from .refusal_cases import refusals_by

P1, P4, P5 = "P1", "P4", "P5"

#: Who is asked to refuse, by a rule for each client.
_REFUSING = ("tieline_guard", "tieline_guard_uvloop", "haproxy", "nginx")

#: For bulk only: it is HAProxy with an option that nothing else comes near.
SPLICING = "haproxy_splice"

#: Sessions that a proxy is asked for which forks for each.
_MOST_FORKED = 100

_RAMP = 0.15


def sessions_case(sessions: int) -> str:
    """The name of a case of so many sessions."""
    return f"{sessions:,} session{'s' * (sessions > 1)}"


def proxy_plan(plan: Plan) -> Plan:
    """The plan with the windows of the P rows."""
    return replace(plan, seconds=plan.proxy_seconds, ramp=min(plan.ramp, _RAMP))


@contextmanager
def behind(peers: Sequence[Peer], backend: Peer) -> Iterator[dict[str, Server]]:
    """A server behind each proxy, by its name, until the block ends.

    Each has its own: what one proxy leaves in TIME_WAIT must not take ports from the next.
    """
    names = [peer.name for peer in peers if peer.name in PROXIES and peer.name != SPLICING]
    with ExitStack() as stack:
        yield {name: stack.enter_context(running(backend)) for name in names}


@contextmanager
def in_front_of(backend: Peer, peers: Sequence[Peer]) -> Iterator[list[Peer]]:
    """The proxies, each with a server behind it until the block ends."""
    with behind(peers, backend) as servers:
        yield [peer.in_front_of(servers[peer.name].port) for peer in peers if peer.name in servers]


def proxy_ping_pong(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """P1: one 64-byte line, its answer from behind the proxy, the next line."""
    plan = proxy_plan(plan)
    rows: list[Row] = []
    with in_front_of(BACKEND, peers) as proxies, Fleet(proxies) as fleet:
        for sessions in plan.sessions:
            window = partial(load_window, plan, connections=sessions, lines=1)
            among = partial(_takes, sessions)
            rows += fleet.measure(P1, sessions_case(sessions), plan.rounds, window, among)
    return rows


def _takes(sessions: int, peer: Peer) -> bool:
    """Whether it is asked for so many: not for many, if each is a process."""
    return sessions <= _MOST_FORKED or not peer.forks


def proxy_short(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """P4: connect, one exchange, close; and those who are refused."""
    plan = proxy_plan(plan)
    rows: list[Row] = []
    with in_front_of(BACKEND, peers) as proxies, Fleet(proxies) as fleet:
        for close, case in CLOSES.items():
            window = partial(short_window, plan, close=close)
            rows += fleet.measure(P4, case, plan.rounds, window)
    refusing = [peer for peer in peers if peer.name in _REFUSING]
    return rows + refusals_by(refusing, P4, plan)


def proxy_memory(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """P5: memory a session, by least squares, each number of them in a fresh process."""
    with in_front_of(BACKEND, peers) as proxies:
        unforked = [peer for peer in proxies if not peer.forks]
        return idle_memory_of(unforked, P5, plan.session_sizes)
