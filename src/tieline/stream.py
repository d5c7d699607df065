"""A connected socket on the reactor: bytes both ways, deadlines, and one reason for its end.

`Stream` knows no messages; `connection` adds those. It is the only file that reads from and
writes to sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import select
import socket
import struct
import termios
from typing import Any, Protocol

from .address import Address
from .clocks import next_due
from .endpoint import Endpoint
from .errors import (
    ConnectionClosedError,
    EndOfStreamError,
    TielineError,
    translate_os_error,
)
from .limits import Limits
from .reactor import READABLE, WRITABLE, Reactor
from .reasons import CloseReason
from .states import Move, State, next_state
from .tls import TlsSocket

__all__ = ["Owner", "Stream"]

#: A read begins small, since most messages are, and grows with what comes. (asyncio always
#: reads 256 KiB, which costs it page faults until its allocator has warmed up.)
_SMALLEST_READ = 4_096
_LARGEST_READ = 65_536

#: What a peer may still send while it is being closed, before it is reset.
_DISCARD_LIMIT = 1_048_576

#: Watched for nothing: epoll then tells of an error or a hang-up once, not again and again.
_NOTHING = select.EPOLLONESHOT

_LINGER_ZERO = struct.pack("ii", 1, 0)

_ids = itertools.count(1)

#: Marks of an end in good order, shared by all: errors are made when somebody is to see them.
END_OF_STREAM = EndOfStreamError(reason=CloseReason.PEER_CLOSED)
_OVER = ConnectionClosedError(reason=CloseReason.CLOSED)


class Owner(Protocol):
    """Whoever made the connection: a server, or a client."""

    limits: Limits

    def connection_gone(self, connection: Any) -> None:
        """It has ended; its `close_reason` is set. Called exactly once."""


class Stream(Endpoint):
    """The life of a connected socket. Subclasses say what incoming bytes mean.

    Its states are those of `State`, moved only through `next_state`.
    """

    __slots__ = (
        "_closers", "_descriptor", "_drainers", "_input_error", "_owner", "_read_size", "_reading",
        "_saw_end", "_sendable", "_special", "_unread", "_watched", "client", "closing_at", "data",
        "message_began", "slot",
    )  # fmt: skip

    def __init__(
        self,
        owner: Owner,
        reactor: Reactor,
        connected: socket.socket | TlsSocket,
        peer: str | Address,
        peer_port: int = 0,
    ) -> None:
        self.id = next(_ids)
        self.data: Any = None
        self.slot = 0
        #: The client machine it is counted under; whoever admitted it sets this.
        self.client: Any = None
        self._owner = owner
        self._reactor = reactor
        self._socket = connected
        self._descriptor = connected.fileno()
        # An IPv4 peer is kept as the text and number that the kernel gave: servers hold
        # thousands, and few are ever asked for.
        self._peer = peer
        self._peer_port = peer_port
        self._local: Address | None = None
        self.bytes_received = self.bytes_sent = 0
        self.last_active = self.opened_at = reactor.now or reactor.clock()
        self.message_began: float | None = None
        self.closing_at = 0.0
        self._reason: CloseReason | None = None
        # Incoming. `_special`: anything but plain reading is going on (see `on_ready`).
        self._read_size = _SMALLEST_READ
        self._reading = True
        self._unread = 0
        self._saw_end = False
        self._input_error: TielineError | None = None
        # Outgoing. A buffer exists only while bytes are owed, or before TLS is agreed on.
        self._sendable = True
        self._drainers: list[asyncio.Future[None]] | None = None
        self._closers: list[asyncio.Future[None]] | None = None
        self._tls = connected if isinstance(connected, TlsSocket) else None
        self._special = self._tls is not None
        self._state = State.OPEN if self._tls is None else State.HANDSHAKE
        self._outgoing = None if self._tls is None else bytearray()
        self._watched = READABLE
        reactor.register(self._descriptor, self)
        self._file_deadline()

    # ---- What subclasses fill in

    def _on_data(self, data: bytes) -> None:
        """Bytes have come."""
        raise NotImplementedError

    def _on_end(self) -> None:
        """The peer has ended its stream. Calls `_input_over` unless there was an error."""
        raise NotImplementedError

    def _wake(self) -> None:
        """Tell whoever waits for input that `_input_error` is set."""
        raise NotImplementedError

    # ---- Incoming

    def on_ready(self, mask: int) -> None:
        """The reactor's call: the socket may be ready. The hot path of the whole engine."""
        if (mask != READABLE or self._special) and not self._on_rare_event(mask):
            return
        read_size = self._read_size
        try:
            data = self._socket.recv(read_size)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        if not data:
            self._on_peer_end()
            return
        size = len(data)
        self.last_active = self._reactor.now or self._reactor.clock()
        self.bytes_received += size
        self._on_data(data)
        if size == read_size:
            self._read_size = min(read_size * 4, _LARGEST_READ)
        elif read_size != _SMALLEST_READ and size < read_size >> 2:
            self._read_size = max(read_size >> 1, _SMALLEST_READ)
        if self._tls is not None and self._tls.ended and self._reading:
            # TLS told the end together with the last data; the socket may stay silent.
            self._on_peer_end()

    def _on_rare_event(self, mask: int) -> bool:
        """Everything but data on an open connection. Returns whether to read on."""
        if self._state is State.HANDSHAKE:
            return self._on_handshake()
        if mask & WRITABLE:
            self._flush()
        if self._state is State.CLOSED or not mask & ~WRITABLE:
            return False
        if self._state is State.CLOSING:
            self._discard()
            return False
        if self._reading:
            return True
        if mask & select.EPOLLERR:
            option = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR, 4)
            (code,) = struct.unpack("i", option)
            # 0: a hint about a descriptor that has been given out again since.
            if code:
                self._lost(OSError(code, "the connection failed"))
        elif self._watched & READABLE:
            # A peer's end stays readable for ever: look away.
            self._watch()
        return False

    def _on_handshake(self) -> bool:
        tls = self._tls
        assert tls is not None
        try:
            secure = tls.handshake()
        except OSError as error:
            self._lost(error)
            return False
        if secure:
            self._state = next_state(self._state, Move.SECURED)
            self._special = False
            self._file_deadline()
            self._wake_drainers()
            # What was sent meanwhile was queued.
            self._flush()
            if not self._sendable:
                # Asked for meanwhile; `close` has given its reason.
                if self._reason is None:
                    self.half_close()
                else:
                    self.close()
        self._watch()
        # The peer's first message may have come right behind its handshake.
        return secure and self._reading and not self._special

    def _on_peer_end(self) -> None:
        self._saw_end = True
        self._on_end()

    def _input_over(self, error: TielineError, reason: CloseReason) -> None:
        """Nothing more will come in: the peer's end, or its last mistake."""
        if self._reason is None or not reason.in_good_order:
            self._reason = reason
        self._special = True
        self._input_error = error
        if self._state is State.HALF_CLOSED:
            # Both sides have ended. What is owed still goes out, within its time; what has
            # come in can still be received.
            self._start_closing()
            return
        self._state = next_state(self._state, Move.PEER_ENDED)
        self._reading = False

    def _discard(self) -> None:
        """Closing: read until the peer's end, so that the kernel does not answer unread bytes
        with a reset, which could destroy our last words before the peer has read them."""
        try:
            data = self._socket.recv(_LARGEST_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        if data:
            self._unread += len(data)
            if self._unread > _DISCARD_LIMIT:
                reason = CloseReason.CLOSE_TIMEOUT if self._kernel_owes() else self._reason
                self._gone(reason or CloseReason.CLOSED, reset=True)
            return
        self._saw_end = True
        self._reading = False
        if self._outgoing is None:
            self._gone(self._reason or CloseReason.CLOSED)
        else:
            self._watch()

    def _resume_reading(self) -> None:
        """Reading was paused, and may go on."""
        self._reading = True
        self._watch()
        if self._tls is not None and self._tls.ended:
            # It was told in the read that paused; the socket may stay silent.
            self._reactor.loop.call_soon(self._on_late_end)

    def _on_late_end(self) -> None:
        if self._reading and self._state is not State.CLOSING:
            self._on_peer_end()

    def _watch(self) -> None:
        """Have epoll look for what is wanted now, and for nothing else."""
        if self._state is State.CLOSED:
            return
        wanted = READABLE if self._reading else 0
        if self._state is State.HANDSHAKE:
            if self._tls is not None and self._tls.owed:
                wanted |= WRITABLE
        elif self._outgoing is not None:
            wanted |= WRITABLE
        wanted = wanted or _NOTHING
        if wanted != self._watched:
            self._watched = wanted
            self._reactor.modify(self._descriptor, wanted)

    # ---- Outgoing

    def _transmit(self, data: bytes | bytearray) -> None:
        """Give bytes to the kernel, and keep what it does not take."""
        outgoing = self._outgoing
        if outgoing is None:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._lost(error)
                return
            if sent:
                reactor = self._reactor
                self.last_active = reactor.now or reactor.clock()
                self.bytes_sent += sent
                if sent == len(data) and (self._tls is None or not self._tls.owed):
                    return
            self._outgoing = bytearray(memoryview(data)[sent:])
            self._watch()
        elif len(outgoing) > self._owner.limits.max_owed:
            self._gone(CloseReason.SLOW_READER, reset=True)
        else:
            outgoing += data

    def _flush(self) -> None:
        """The kernel may have room: give it what is owed."""
        outgoing = self._outgoing
        if outgoing is None:
            return
        owed = self.owed
        sent = 0
        try:
            if outgoing:
                sent = self._socket.send(outgoing)
            elif self._tls is not None:
                self._tls.flush()
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(error)
            return
        del outgoing[:sent]
        self.bytes_sent += sent
        left = self.owed
        if left < owed:
            self.last_active = self._reactor.now or self._reactor.clock()
        if left == 0:
            self._outgoing = None
        state = self._state
        if left <= self._owner.limits.low_water:
            self._on_low_water()
        # Those told may have sent more, or ended it.
        if self._outgoing is None and self._state is state:
            self._on_all_sent()

    def _on_low_water(self) -> None:
        self._wake_drainers()

    def _on_all_sent(self) -> None:
        if self._state is State.CLOSING or self._state is State.HALF_CLOSED:
            self._end_output()
        else:
            self._watch()

    def _wake_drainers(self) -> None:
        waiting, self._drainers = self._drainers, None
        _release(waiting)

    def _wait_drained(self) -> asyncio.Future[None] | None:
        """For `Drain`: what to wait for, or `None` when there is no need to."""
        if self._state is State.CLOSED:
            raise self._final_error()
        if self.owed <= self._owner.limits.high_water:
            return None
        return self._new_drainer()

    def _new_drainer(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._reactor.loop.create_future()
        if self._drainers is None:
            self._drainers = []
        self._drainers.append(future)
        return future

    async def wait_secured(self) -> None:
        """Wait until TLS is agreed on; at once without TLS, or when it is already.

        Raises:
            TlsError, ConnectionClosedError: it was not, and the connection is over.
        """
        while self._state is State.HANDSHAKE:
            await self._new_drainer()
        if self._state is State.CLOSED:
            raise self._final_error()

    # ---- Ending

    def half_close(self) -> None:
        """End this side's stream (FIN), after what is owed; go on receiving. Idempotent.

        Raises:
            ConnectionClosedError: the connection is over.
        """
        self._before_closing()
        if self._state is State.CLOSED:
            raise self._final_error()
        if self._state is State.HANDSHAKE:
            # `_on_handshake` goes on with it.
            self._sendable = False
        elif self._state is State.PEER_ENDED:
            self.close()
        elif self._state is State.OPEN:
            self._state = next_state(self._state, Move.HALF_CLOSE)
            self._sendable = False
            if self._outgoing is None:
                self._end_output()

    def close(self, reason: CloseReason = CloseReason.CLOSED) -> None:
        """Close in good order: send what is owed, end the stream (FIN), wait for the peer's end.

        Returns at once; `wait_closed` waits. It is bounded by `Limits.closing`, after which the
        peer is reset. What was not received yet is dropped. Idempotent.

        Args:
            reason: the close reason, unless the peer has given a reason before.
        """
        if self._state is State.CLOSED or self._state is State.CLOSING:
            return
        self._before_closing()
        if self.close_reason is not None:
            return  # sending the last words has ended it
        if self._reason is None or reason is CloseReason.HANDLER_ERROR:
            self._reason = reason
        if self._state is State.HANDSHAKE:
            # `_on_handshake` goes on with it, so that the peer sees an end and no reset; the
            # handshake has its own limit.
            self._sendable = False
            self._input_error = self._input_error or _OVER
            self._wake()
            return
        self._forget_input()
        self._start_closing()

    def _start_closing(self) -> None:
        if self._saw_end and self._outgoing is None and self._tls is None:
            # Both sides have ended and nothing is owed: the way nearly every connection goes.
            self._gone(self._reason or CloseReason.CLOSED)
            return
        has_ended = self._state is State.HALF_CLOSED and self._outgoing is None
        self._state = next_state(self._state, Move.CLOSE)
        self._special = True
        self._sendable = False
        self._input_error = self._input_error or _OVER
        self._wake()
        # From here on reading means discarding, once our last words are out; a mistake of the
        # peer's is no end.
        self._reading = not self._saw_end and self._outgoing is None
        self._unread = 0
        if has_ended and self._saw_end:
            self._gone(self._reason or CloseReason.CLOSED)
        elif self._outgoing is None and not has_ended:
            self._end_output()
        else:
            self._watch()
        if self._state is State.CLOSING:
            self.closing_at = self._reactor.clock() + self._owner.limits.closing
            self._reactor.file(self, self.closing_at)

    def _before_closing(self) -> None:
        """What subclasses hold back goes out now."""

    def _forget_input(self) -> None:
        """What has come in and was not received is wanted no more."""

    def abort(self, reason: CloseReason = CloseReason.ABORTED) -> None:
        """Cut the connection off now (RST): what is owed is lost, the peer sees a reset.

        Args:
            reason: the close reason, unless the peer has misbehaved before.
        """
        self._gone(self._first_cause(reason), reset=True)

    def _first_cause(self, reason: CloseReason) -> CloseReason:
        """The peer's offence, if there was one before: what follows from it is no new cause."""
        if self._reason is not None and not self._reason.in_good_order:
            return self._reason
        return reason

    async def wait_closed(self) -> None:
        """Wait until the connection is over and its descriptor is gone. Does not close it."""
        if self._state is not State.CLOSED:
            future: asyncio.Future[None] = self._reactor.loop.create_future()
            if self._closers is None:
                self._closers = []
            self._closers.append(future)
            await future

    def _end_output(self) -> None:
        """Nothing is owed any more: tell the peer that this side has ended."""
        try:
            if self._tls is not None:
                self._tls.say_goodbye()
                if self._tls.owed:
                    self._outgoing = bytearray()
                    self._watch()
                    return
            if self._state is State.CLOSING and self._saw_end:
                # Both have ended and all is read: closing the descriptor sends our FIN.
                self._gone(self._reason or CloseReason.CLOSED)
                return
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lost(error)
            return
        if self._state is State.CLOSING:
            self._reading = True
        self._watch()

    def _lost(self, error: OSError) -> None:
        """The socket failed."""
        if self._state is State.CLOSING and self._outgoing is None and self._reason is not None:
            # Everything was handed over; how the peer left after that is its own affair.
            self._gone(self._reason)
            return
        translated = translate_os_error(error, "transfer", self.peer)
        # Without its traceback, whose frames hold this connection: a cycle otherwise.
        translated.__cause__ = error.with_traceback(None)
        if self._input_error is None or self._input_error is END_OF_STREAM:
            self._input_error = translated
        if isinstance(translated, ConnectionClosedError):
            self._gone(self._first_cause(translated.reason))
        else:
            self._gone(self._first_cause(CloseReason.TLS_ERROR))

    def _gone(self, reason: CloseReason, reset: bool = False) -> None:
        """The end. Everything that waits is told; nothing of the connection stays behind."""
        if self._state is State.CLOSED:
            return
        self._state = next_state(self._state, Move.GONE)
        self._reason = reason
        self._reactor.withdraw(self)
        self._reactor.unregister(self._descriptor)
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._socket.close()
        self._special = True
        self._sendable = False
        self._reading = False
        self._outgoing = None
        if self._input_error is None:
            self._input_error = _OVER
        self._wake()
        if self._drainers is not None:
            self._wake_drainers()
        if self._closers is not None:
            waiting, self._closers = self._closers, None
            _release(waiting)
        self._owner.connection_gone(self)

    def _final_error(self) -> TielineError:
        """What to raise for anything that is too late."""
        error = self._input_error
        if error is None or error is _OVER or error is END_OF_STREAM:
            return ConnectionClosedError(reason=self._reason or CloseReason.CLOSED)
        # The same one each time, so without the traceback of the time before.
        return error.with_traceback(None)

    # ---- Deadlines

    def _file_deadline(self) -> None:
        due = next_due(self, self._owner.limits)[0]
        if due is not None:
            self._reactor.file(self, due)

    def on_deadline(self, now: float) -> float | None:
        """The wheel's call: end what is due, or say when it will be."""
        due, reason = next_due(self, self._owner.limits)
        if due is None or due > now:
            return due
        if reason is CloseReason.IDLE_TIMEOUT and self._outgoing is None:
            # Nothing is owed, so a FIN leaves nothing in the kernel, and the peer sees an end
            # instead of an error.
            if self._tls is not None:
                # The peer may be gone already; then there is nobody to say it to.
                with contextlib.suppress(OSError):
                    self._tls.say_goodbye()
            self._gone(self._first_cause(reason))
        elif reason is CloseReason.CLOSE_TIMEOUT and self._reason and not self._kernel_owes():
            # The peer has it all and does not end its own side: nothing is lost.
            self._gone(self._reason)
        else:
            # A FIN would leave bytes in the kernel for minutes if the peer does not read.
            self.abort(reason)
        return None

    def _kernel_owes(self) -> bool:
        """Whether bytes have not reached the peer yet (SIOCOUTQ, tcp(7))."""
        if self._outgoing:
            return True
        answer = fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, b"\0\0\0\0")
        return bool(struct.unpack("i", answer)[0])


def _release(waiting: list[asyncio.Future[None]] | None) -> None:
    for future in waiting or ():
        if not future.done():
            future.set_result(None)
