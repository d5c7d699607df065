"""A connected socket on the reactor: bytes both ways. What ends it is in `ending` and
`expiring`.

`Stream` knows no messages; `connection` adds those. It is the only file that reads from and
writes to sockets.
"""

from __future__ import annotations

import asyncio
import itertools
import select
import socket
import struct
from typing import Any

from .address import Address
from .ending import END_OF_STREAM, Owner, release_all
from .errors import TielineError
from .expiring import LOOK_AGAIN, NONE_SPARED, Expiring
from .reactor import READABLE, WRITABLE, Reactor
from .reasons import CloseReason
from .states import Move, State, next_state
from .tls import SHORT_OF_MEMORY, TlsSocket

__all__ = ["END_OF_STREAM", "Owner", "Stream"]

#: A read begins small, since most messages are, and grows with what comes. (asyncio always
#: reads 256 KiB, which costs it page faults until its allocator has warmed up.)
_SMALLEST_READ = 4_096
_LARGEST_READ = 65_536

#: What a peer may still send while it is being closed, before it is reset.
_DISCARD_LIMIT = 1_048_576

#: Watched for nothing: epoll then tells of an error or a hang-up once, not again and again.
_NOTHING = select.EPOLLONESHOT

#: Seconds of rest for a connection when the machine is short of memory: a ready socket that
#: cannot be served would make the loop spin.
_REST = 0.5

_ids = itertools.count(1)


class Stream(Expiring):
    """A connected socket. Subclasses say what incoming bytes mean."""

    __slots__ = ("_descriptor", "_read_size", "_watched", "data")

    def __init__(
        self,
        owner: Owner,
        reactor: Reactor,
        connected: socket.socket | TlsSocket,
        peer: str | Address,
        peer_port: int = 0,
        id: int = 0,
    ) -> None:
        self.id = id or next(_ids)
        self.data: Any = None
        self.slot = 0
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
        self.last_received = self.last_sent = self.opened_at = reactor.now or reactor.clock()
        self.unfinished = self.owing = None
        self._spared = NONE_SPARED
        self.closing_at = 0.0
        self._reason = None
        # Incoming. `_special`: anything but plain reading is going on (see `on_ready`).
        self._read_size = _SMALLEST_READ
        self._reading = True
        self._unread = 0
        self._saw_end = False
        self._input_error = None
        # Outgoing. A buffer exists only while bytes are owed, or before TLS is agreed on.
        self._sendable = True
        self._drainers = None
        self._closers = None
        self._tls = connected if isinstance(connected, TlsSocket) else None
        self._special = self._tls is not None
        self._state = State.OPEN if self._tls is None else State.HANDSHAKE
        self._outgoing = None if self._tls is None else bytearray()
        self._watched = READABLE
        reactor.register(self._descriptor, self)
        self._file_first_check()

    # ---- What subclasses fill in

    def _on_data(self, data: bytes) -> None:
        """Bytes have come."""
        raise NotImplementedError

    def _on_end(self) -> None:
        """The peer has ended its stream. Calls `_input_over` unless there was an error."""
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
            self._call_failed(error)
            return
        if not data:
            self._on_peer_end()
            return
        size = len(data)
        self.last_received = self._reactor.now or self._reactor.clock()
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
            self._call_failed(error)
            return False
        if secure:
            self._state = next_state(self._state, Move.SECURED)
            self._special = False
            self._wake_drainers()
            # What was sent meanwhile was queued.
            self._flush()
            self._begin_owing()
            self._file_first_check()
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
        # An end is progress, as a byte is.
        self.last_received = self._reactor.now or self._reactor.clock()
        self._on_end()
        self._watch_half_closed()

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
            self._call_failed(error)
            return
        if data:
            self._unread += len(data)
            if self._unread > _DISCARD_LIMIT:
                reason = CloseReason.CLOSE_TIMEOUT if self.is_owed_by_kernel() else self._reason
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
                if not self._send_failed(error):
                    return
                sent = 0
            if sent:
                reactor = self._reactor
                self.last_sent = reactor.now or reactor.clock()
                self.bytes_sent += sent
                if sent == len(data) and (self._tls is None or not self._tls.owed):
                    return
            self._outgoing = bytearray(memoryview(data)[sent:])
            self._begin_owing()
            self._watch()
        elif len(outgoing) > self._owner.limits.max_owed:
            self._gone(CloseReason.SLOW_READER, reset=True)
        else:
            outgoing += data

    def _begin_owing(self) -> None:
        """The kernel takes no more for now: the peer's clocks for taking it begin."""
        if self._outgoing is None or self._state is State.HANDSHAKE:
            return
        now = self._reactor.now or self._reactor.clock()
        self._give_credit(now, self._carried() - self._unconfirmed())
        self._reactor.file(self, now + LOOK_AGAIN)

    def _call_failed(self, error: OSError) -> bool:
        """The system refused a call. Returns whether the connection lives: it rests then."""
        if error.errno not in SHORT_OF_MEMORY:
            self._lost(error)
            return False
        self._watched = _NOTHING
        self._reactor.modify(self._descriptor, _NOTHING)
        self._reactor.loop.call_later(_REST, self._after_rest)
        return True

    def _send_failed(self, error: OSError) -> bool:
        """The system refused to send. Returns whether the connection lives."""
        return self._call_failed(error)

    def _after_rest(self) -> None:
        if self._state is not State.CLOSED:
            self._watch()

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
            self._send_failed(error)
            return
        del outgoing[:sent]
        self.bytes_sent += sent
        left = self.owed
        if left < owed:
            self.last_sent = self._reactor.now or self._reactor.clock()
        if left == 0:
            self._outgoing = self.owing = None
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
        release_all(waiting)

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
