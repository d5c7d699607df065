"""A session as its client sees it: what the guard's policy, events and faces call a connection."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Protocol

from ..address import Address
from ..ending import Owner
from ..errors import MalformedError
from ..reactor import Reactor
from ..reasons import CloseReason
from ..states import State
from ..tls import TlsSocket
from .client_hello import HelloReader
from .leg import Direction, Leg
from .splicing import Pipes

if TYPE_CHECKING:
    from .dialling import Dialling
    from .preamble import Introduction
    from .upstream import Upstream

__all__ = ["ClientLeg"]

#: Seconds without a byte after which a session that drains is taken to be between two exchanges.
_QUIET = 0.25

#: Seconds after which what a client has said is not thought to be answered any more: many a device
#: only ever reports.
_ANSWER = 30.0


class SessionOwner(Owner, Protocol):
    """The guard."""

    def dial(self, leg: ClientLeg) -> None:
        """Find an upstream for a session."""


class ClientLeg(Leg):
    """The client's side, which the session is counted and known by.

    Attributes:
        upstream: the name of where it goes on to; `None` until it is connected.
        is_unnamed: whether a proxy before the guard has brought it, and has not said for whom.
    """

    __slots__ = ("_dialling", "_finishing", "ahead", "asked_name", "chosen", "is_unnamed")

    _owner: SessionOwner

    direction: Direction = "in"

    #: The upstream that it is, or was, relayed to.
    chosen: Upstream | None
    #: What came behind a PROXY header, together with it.
    ahead: bytes
    #: The name that it asked for, where TLS ends here and upstreams have names.
    asked_name: str | None
    is_unnamed: bool

    def __init__(
        self,
        owner: SessionOwner,
        reactor: Reactor,
        connected: socket.socket | TlsSocket,
        peer: str | Address,
        peer_port: int,
        pipes: Pipes,
    ) -> None:
        self._dialling: Dialling | None = None
        self._finishing: CloseReason | None = None
        self.chosen = None
        self.ahead = b""
        self.asked_name = None
        self.is_unnamed = False
        super().__init__(owner, reactor, connected, peer, peer_port, pipes)
        # Nothing is read on the ordinary way before there is an upstream.
        self._special = True

    # ---- Facts

    @property
    def upstream(self) -> str | None:
        return None if self.chosen is None else self.chosen.name

    @property
    def upstream_leg(self) -> Leg | None:
        """The other side, while there is one."""
        return self._other

    @property
    def last_active(self) -> float:
        """When a byte last made progress on the session, on either side of it."""
        last = max(self.last_received, self.last_sent)
        other = self._other
        return last if other is None else max(last, other.last_received, other.last_sent)

    @property
    def is_receiving(self) -> bool:
        """Whether more may come from the client."""
        return self._input_error is None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: nobody is owed anything, and the upstream spoke last."""
        other = self._other
        if other is None or self._outgoing is not None or other._outgoing is not None:
            return False
        if not self.bytes_received or self.last_received < self.last_sent:
            return True
        return (self._reactor.now or self._reactor.clock()) - self.last_received > _ANSWER

    def is_still_taking(self) -> bool:
        """Whether the client, or the upstream, has not taken all that it was sent."""
        other = self._other
        return self.is_owed_by_kernel() or (other is not None and other.is_owed_by_kernel())

    @property
    def is_finishing(self) -> bool:
        """Whether it ends as soon as nothing is under way."""
        return self._finishing is not None

    def clocks(self) -> list[tuple[float, CloseReason]]:
        if self._dialling is not None and self._state is not State.CLOSED:
            due, reason = self._dialling.clock()
            return [(due - self._reactor.clock(), reason)]
        return super().clocks()

    def penalize(self, seconds: float, why: str) -> None:
        """Charge the account of this session's client."""
        self._owner.penalize(self, seconds, why)

    # ---- Before there is an upstream

    def introduce(self, introduction: Introduction | None) -> None:
        """A proxy before the guard has told where the client has connected to, and some of the
        client's bytes may have come with it."""
        if introduction is None:
            return
        self.is_unnamed = not introduction.named
        if introduction.destination is not None:
            self._local = introduction.destination
        if introduction.ahead and self._tls is not None:
            self._tls.feed(introduction.ahead)
        elif introduction.ahead:
            self.ahead = introduction.ahead
            self.bytes_received += len(introduction.ahead)

    def overhear_name(self) -> None:
        """Note for whom its TLS greeting is."""
        tls = self._tls
        assert tls is not None
        reader = HelloReader()

        def read(data: bytes) -> None:
            # What is no greeting, TLS itself will say.
            with contextlib.suppress(MalformedError):
                hello = reader.feed(data)
                if hello is None:
                    return
                self.asked_name = hello.server_name
            tls.overhear = None

        tls.overhear = read

    def say(self, words: bytes) -> bool:
        """A last word to a client that there is no upstream for. Whether it could be said."""
        if self._state is State.OPEN:
            self._transmit(words)
        return self._state is State.OPEN

    def wait_for(self, dialling: Dialling) -> None:
        """Leave the socket alone until the dialling is done; a reset still ends it."""
        self._dialling = dialling
        self._pause()

    def read_ahead(self, dialling: Dialling) -> None:
        """Give the dialling what comes, until it knows where to."""
        self._dialling = dialling
        self._reading = self._special = True
        self._watch()

    def _read_ahead(self) -> None:
        dialling = self._dialling
        data = self._receive()
        if dialling is None:
            return
        if data:
            dialling.on_data(data)
        elif self._saw_end:
            dialling.on_client_end()

    def dialled(self, leg: Leg, header: bytes, ahead: bytes | bytearray) -> None:
        """There is an upstream: relay."""
        self._dialling = None
        self.join(leg, header, ahead)
        if self._finishing is not None and self.close_reason is None:
            self.finish(self._finishing)

    def _on_handshake(self) -> bool:
        super()._on_handshake()
        if self._state is not State.HANDSHAKE:
            self._special = True
            if self._state is State.OPEN:
                self._owner.dial(self)
        return False

    # ---- Ends

    def _gone(self, reason: CloseReason, reset: bool = False) -> None:
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        super()._gone(reason, reset)

    def close(self, reason: CloseReason = CloseReason.CLOSED) -> None:
        """End the session in good order, on both sides. See `Connection.close`."""
        other = self._other
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        super().close(reason)
        if other is not None:
            other.close(reason)

    def finish(self, reason: CloseReason = CloseReason.SHUTDOWN) -> None:
        """Close as soon as nothing is under way and nothing has passed for a moment: between two
        exchanges, as far as one who does not know the protocol can tell."""
        if self._state is State.CLOSED or self._state is State.CLOSING:
            return
        self._finishing = self._finishing or reason
        self._reactor.file(self, (self._reactor.now or self._reactor.clock()) + _QUIET)

    def on_deadline(self, now: float) -> float | None:
        if self._dialling is not None and self._state is not State.HANDSHAKE:
            due = self._dialling.on_deadline(now)
            if self._dialling is not None:
                return due
            # That has joined it: its own clocks run from now on; or ended it.
        other = self._other
        if other is not None and other.bytes_sent:
            # Bytes on their way to the upstream are progress of the session.
            other.look_at_progress(now)
        due = super().on_deadline(now)
        if self._finishing is None or self._state is State.CLOSED or self._state is State.CLOSING:
            return due
        if self.is_idle and self.last_active <= now - _QUIET:
            self.close(self._finishing)
            return self.closing_at or None
        return now + _QUIET if due is None else min(due, now + _QUIET)
