"""The upstream's side of a session."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..limits import Limits
from ..reactor import Reactor
from ..reasons import CloseReason
from ..states import State
from ..tls import TlsSocket
from .leg import Direction, Leg
from .splicing import Pipes

if TYPE_CHECKING:
    from .upstream import Upstream

__all__ = ["UpstreamLeg", "UpstreamLegs"]

#: What the end of an upstream is called on the client's side.
_REASONS = {
    CloseReason.PEER_CLOSED: CloseReason.UPSTREAM_CLOSED,
    CloseReason.PEER_RESET: CloseReason.UPSTREAM_RESET,
    CloseReason.NETWORK_ERROR: CloseReason.UPSTREAM_LOST,
    CloseReason.WRITE_STALL: CloseReason.UPSTREAM_STALLED,
    CloseReason.SLOW_READER: CloseReason.UPSTREAM_STALLED,
    CloseReason.CLOSE_TIMEOUT: CloseReason.UPSTREAM_STALLED,
    CloseReason.TLS_ERROR: CloseReason.UPSTREAM_TLS,
    CloseReason.HANDSHAKE_TIMEOUT: CloseReason.UPSTREAM_TLS,
}


class UpstreamLegs:
    """The owner of the upstreams' sides of a guard's sessions.

    Attributes:
        limits: whether they take what they are owed; the other clocks are the session's, and run
            on the client's side.
    """

    __slots__ = ("_gone", "_spared", "first_check", "limits")

    #: Nothing depends on how full a guard is here.
    fullness = 0.0

    def __init__(
        self,
        limits: Limits,
        gone: Callable[[UpstreamLeg], object],
        spared: Callable[[UpstreamLeg, CloseReason], object],
    ) -> None:
        self._gone = gone
        self._spared = spared
        self.limits = _of_upstreams(limits)
        #: None of their clocks runs from the start.
        self.first_check: float | None = None

    def change_limits(self, limits: Limits) -> None:
        """The guard's limits have changed."""
        self.limits = _of_upstreams(limits)

    def connection_gone(self, connection: UpstreamLeg) -> None:
        """One has ended."""
        self._gone(connection)

    def limit_spared(self, connection: UpstreamLeg, reason: CloseReason) -> None:
        """A clock that is on trial only has struck."""
        self._spared(connection, reason)

    def penalize(self, connection: Any, seconds: float, why: str) -> None:
        """Upstreams have no account."""


def _of_upstreams(limits: Limits) -> Limits:
    return limits.replace(
        idle=None, receive_idle=None, send_idle=None, idle_when_full=None, first_byte=None,
        message=None, half_closed=None, lifetime=None, min_receive_rate=None,
    )  # fmt: skip


class UpstreamLeg(Leg):
    """The upstream's side.

    Attributes:
        chosen: the upstream that it counts at, from when it is joined to a client.
        on_secured: called once TLS is agreed on, or with the reason for which it is not.
    """

    __slots__ = ("chosen", "on_secured")

    direction: Direction = "out"

    def __init__(
        self,
        owner: UpstreamLegs,
        reactor: Reactor,
        connected: socket.socket | TlsSocket,
        peer: str | Address,
        peer_port: int,
        pipes: Pipes,
        id: int,
    ) -> None:
        self.chosen: Upstream | None = None
        self.on_secured: Callable[[UpstreamLeg, CloseReason | None], object] | None = None
        super().__init__(owner, reactor, connected, peer, peer_port, pipes, id)

    def session_reason(self, reason: CloseReason) -> CloseReason:
        return _REASONS.get(reason, reason)

    def secure(self, then: Callable[[UpstreamLeg, CloseReason | None], object]) -> None:
        """Begin the TLS handshake, in which this side speaks first."""
        self.on_secured = then
        self.on_ready(0)

    def _on_handshake(self) -> bool:
        super()._on_handshake()
        if self._state is State.OPEN:
            self._special = True
            self._tell(None)
        return False

    def _read_ahead(self) -> None:
        # It speaks first, before the session is joined: in the same turn, so it stays unread.
        pass

    def _gone(self, reason: CloseReason, reset: bool = False) -> None:
        super()._gone(reason, reset)
        self._tell(reason)

    def _tell(self, reason: CloseReason | None) -> None:
        told, self.on_secured = self.on_secured, None
        if told is not None:
            told(self, reason)
