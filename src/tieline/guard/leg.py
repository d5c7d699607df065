"""One of a session's two sides: what comes on it goes out on the other.

The trip of a byte: `Reactor.turn` → `Leg.on_ready` → the other leg's socket. Where the kernel does
not take it all, the rest is owed to the other leg and this one is not read until it is gone: so a
session holds one read of bytes at the most in each direction, and an idle one none.

How a session ends is in `carrying`.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable
from typing import Literal, TypeAlias

from ..address import Address
from ..ending import Owner
from ..expiring import LOOK_AGAIN
from ..reactor import READABLE, WRITABLE, Reactor
from ..reasons import CloseReason
from ..states import State
from ..tls import TlsSocket
from .carrying import Carrying
from .splicing import NO_SPLICE, SPLICE_FROM, VIEWED, Pipe, Pipes

__all__ = ["Direction", "Leg", "Look"]

_SIZE = SPLICE_FROM

#: Full reads in a row after which a stream is taken to be bulk, and spliced.
_FULL_READS = 2

#: Full splices in one go, before others of the turn get theirs.
_SPLICES = 4

#: Splices in a row, each smaller than a read, after which it is bulk no more.
_SMALL_SPLICES = 8

_log = logging.getLogger("tieline")

Direction: TypeAlias = Literal["in", "out"]

#: Called with each piece that passes while somebody looks, and its direction: `in` from the
#: client, `out` to it.
Look: TypeAlias = Callable[[Direction, bytes], object]


class Leg(Carrying):
    """A client's or an upstream's side of a session.

    Until it is joined to another, it is read only for what must be known first.
    """

    __slots__ = ("_bulk", "_looks", "_pipes")

    #: What passes on it, for whoever looks at the session.
    direction: Direction = "in"

    # A leg carries bytes and knows no messages: the same words as a connection's all the same.
    messages_received = messages_sent = waiting_messages = 0
    encoding = None
    task = None

    def __init__(
        self,
        owner: Owner,
        reactor: Reactor,
        connected: socket.socket | TlsSocket,
        peer: str | Address,
        peer_port: int,
        pipes: Pipes,
        id: int = 0,
    ) -> None:
        """Take over a connected, non-blocking socket."""
        self._pipes = pipes
        self._other = self._pipe = self._broken = None
        self._cut = self._end_is_due = False
        # Above zero: full reads so far, and from `_FULL_READS` on it is spliced; below: small
        # splices.
        self._bulk = 0
        self._looks: tuple[Look, ...] = ()
        super().__init__(owner, reactor, connected, peer, peer_port, id=id)

    def join(self, other: Leg, header: bytes = b"", ahead: bytes | bytearray = b"") -> None:
        """Pass on what comes, from now on, in both directions.

        Args:
            other: the leg that this one has been waiting for.
            header: what the other is told first.
            ahead: what has come on this leg before, and is passed on behind it.
        """
        self._other, other._other = other, self
        other._looks = self._looks
        if header or ahead:
            other._transmit(header + ahead)
            if self._looks and ahead:
                self._show(bytes(ahead))
            if self._other is None:
                return  # that has ended it
            if other._outgoing is not None:
                self._pause()
        other._go_on()
        self._go_on()
        if self._saw_end:
            other.carry_end(self.session_reason(CloseReason.PEER_CLOSED))
        for leg in (self, other):
            # What came right behind its handshake is in TLS's hands; the socket may stay silent.
            if leg._tls is not None and leg._reading and leg._other is not None:
                leg._read_whole()

    # ---- Incoming

    def on_ready(self, mask: int) -> None:
        """The reactor's call: the socket may be ready. The hot path of a guard."""
        if (mask != READABLE or self._special) and not self._on_rare_event(mask):
            return
        pipes = self._pipes
        try:
            size = self._socket.recv_into(pipes.buffer)  # type: ignore[union-attr]
        except BlockingIOError:
            return
        except OSError as error:
            self._call_failed(error)
            return
        if not size:
            self._on_peer_end()
            return
        reactor = self._reactor
        self.last_received = now = reactor.now or reactor.clock()
        self.bytes_received += size
        other = self._other
        try:
            view = pipes.views[size] if size < VIEWED else pipes.view[:size]
            sent = other._socket.send(view)  # type: ignore[union-attr]
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if not other._send_failed(error):  # type: ignore[union-attr]
                return
            sent = 0
        if sent:
            other.last_sent = now  # type: ignore[union-attr]
            other.bytes_sent += sent  # type: ignore[union-attr]
            if sent == size:
                if size == _SIZE:
                    self._on_full_read()
                return
        other._owe(pipes.view[sent:size])  # type: ignore[union-attr]

    def _on_rare_event(self, mask: int) -> bool:
        """Everything but small data between two plain legs. Returns whether to read on."""
        if self._state is State.HANDSHAKE:
            self._on_handshake()
            return False
        if mask & WRITABLE:
            self._flush()
        if self._state is State.CLOSED or not mask & ~WRITABLE:
            return False
        if self._state is State.CLOSING:
            self._discard()
            return False
        if not self._reading:
            if mask & select.EPOLLERR:
                self._on_error_unread()
            elif self._watched & READABLE:
                # A peer's end stays readable for ever: look away.
                self._watch()
            return False
        if self._other is None:
            self._read_ahead()
            return False
        if self._tls is not None or self._other._tls is not None or self._looks:
            self._read_whole()
            return False
        if self._is_bulk:
            return not self._splice()
        # A hang-up or an error: `recv` says what it is.
        return True

    def _read_ahead(self) -> None:
        """Something has come before there is a leg to pass it on to."""
        raise NotImplementedError

    def _receive(self) -> bytes:
        """What there is to read, as an object; empty: nothing now, or the end has been seen to."""
        try:
            data: bytes = self._socket.recv(_SIZE)
        except BlockingIOError:
            return b""
        except OSError as error:
            self._call_failed(error)
            return b""
        if not data:
            self._on_peer_end()
            return b""
        self.last_received = self._reactor.now or self._reactor.clock()
        self.bytes_received += len(data)
        return data

    def _read_whole(self) -> None:
        """The way through TLS, and past whoever looks: bytes become an object."""
        other = self._other
        assert other is not None
        data = self._receive()
        if data:
            other._transmit(data)
            if other._outgoing is not None and self._other is not None:
                self._pause()
            if self._looks:
                self._show(data)
        if self._tls is not None and self._tls.ended and self._reading:
            # TLS told the end together with the last data; the socket may stay silent.
            self._on_peer_end()

    # ---- Bulk

    @property
    def _is_bulk(self) -> bool:
        return self._bulk >= _FULL_READS or self._bulk < 0

    def _on_full_read(self) -> None:
        self._bulk += 1
        if self._bulk >= _FULL_READS:
            self._special = True

    def _splice(self) -> bool:
        """Move what there is through a pipe, without a copy. Returns whether that could be done:
        if not, it is copied as before."""
        pipe = self._pipes.take()
        if pipe is None:
            return False
        for turn in range(_SPLICES):
            size = self._fill(pipe)
            if not size:
                # The pipe is still empty. Splicing stops before an urgent byte as it does at the
                # end, or where there is nothing: `recv` tells which.
                self._pipes.give_back(pipe)
                return turn > 0 or self._state is State.CLOSED
            other = self._other
            if other is None or not other._take_from(pipe):
                return True
            if size < _SIZE:
                break
        self._pipes.give_back(pipe)
        return True

    def _fill(self, pipe: Pipe) -> int:
        """Move what has come into an empty pipe. How much; 0: that cannot be said."""
        try:
            size = pipe.fill(self._descriptor)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno in NO_SPLICE:
                self._pipes.give_up()
            else:
                self._call_failed(error)
            return 0
        if not size:
            return 0
        reactor = self._reactor
        self.last_received = reactor.now or reactor.clock()
        self.bytes_received += size
        self._bulk = -1 if size >= _SIZE or self._bulk > 0 else self._bulk - 1
        if self._bulk < -_SMALL_SPLICES:
            self._bulk = 0
            self._special = False
        return size

    def _take_from(self, pipe: Pipe) -> bool:
        """Send what is in a pipe. Where the kernel does not take it all, the pipe is kept. Returns
        whether it is empty, and the caller's again."""
        try:
            sent = pipe.empty(self._descriptor)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if error.errno in NO_SPLICE:
                self._pipes.give_up()
                self._owe(pipe.read())
                self._pipes.give_back(pipe)
                return False
            if not self._send_failed(error):
                self._pipes.drop(pipe)
                return False
            sent = 0
        if sent:
            reactor = self._reactor
            self.last_sent = reactor.now or reactor.clock()
            self.bytes_sent += sent
        if not pipe.held:
            return True
        self._pipe = pipe
        self._owe(b"")
        return False

    # ---- Pausing

    def _owe(self, rest: bytes | memoryview) -> None:
        """The kernel takes no more for this leg: keep the rest, and stop reading the other."""
        self._outgoing = bytearray(rest)
        self._begin_owing()
        self._watch()
        if self._other is not None:
            self._other._pause()

    def _pause(self) -> None:
        """The other leg is owed bytes: read no more until it has them."""
        self._reading = False
        # Events are hints: one of this turn may still come.
        self._special = True
        self._watch()

    def _go_on(self) -> None:
        """What the other leg was owed is gone: read on."""
        other = self._other
        if (
            self._saw_end
            or other is None
            or other._outgoing is not None
            or other._broken is not None
            or self._state not in (State.OPEN, State.HALF_CLOSED)
        ):
            return
        tls = self._tls
        self._special = bool(
            tls is not None or other._tls is not None or self._looks or self._is_bulk
        )
        if not self._reading:
            self._reading = True
            self._watch()
        if tls is not None and tls.ended:
            # It was told in the read that paused; the socket may stay silent.
            self._reactor.loop.call_soon(self._on_late_end)

    def look_at_progress(self, now: float) -> None:
        """See whether it has taken bytes that it is owed, and keep looking while it is."""
        self._see_what_was_taken(now)
        if self.owing is not None:
            self._reactor.file(self, now + LOOK_AGAIN)

    # ---- Looking

    def look(self, show: Look) -> None:
        """Show what passes on the session, both ways, until `look_away`. Meanwhile it is copied
        through Python, and slower."""
        for leg in (self, self._other):
            if leg is not None:
                leg._looks = (*leg._looks, show)
                leg._special = True

    def _show(self, data: bytes) -> None:
        for look in self._looks:
            try:
                look(self.direction, data)
            except Exception:
                _log.exception("what looks at session %d failed, and is shown no more", self.id)
                self.look_away(look)

    def look_away(self, show: Look) -> None:
        """Show it no more. Idempotent."""
        for leg in (self, self._other):
            if leg is not None:
                leg._looks = tuple(each for each in leg._looks if each is not show)
                leg._go_on()
