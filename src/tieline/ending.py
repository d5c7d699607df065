"""How a connection ends: in good order, or cut off. When by itself is in `expiring`.

Every way goes through one function, `Ending._gone`; each leaves one close reason.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Protocol

from .endpoint import Endpoint
from .errors import (
    ConnectionClosedError,
    EndOfStreamError,
    TielineError,
    translate_os_error,
)
from .limits import Limits
from .reasons import CloseReason
from .states import Move, State, next_state

__all__ = ["END_OF_STREAM", "Ending", "Owner", "release_all"]

_LINGER_ZERO = struct.pack("ii", 1, 0)

#: Marks of an end in good order, shared by all: errors are made when somebody is to see them.
END_OF_STREAM = EndOfStreamError(reason=CloseReason.PEER_CLOSED)
_OVER = ConnectionClosedError(reason=CloseReason.CLOSED)


class Owner(Protocol):
    """Whoever made the connection: a server, or a client."""

    limits: Limits
    #: `clocks.first_check` of the limits.
    first_check: float | None

    @property
    def fullness(self) -> float:
        """The share of its places that are taken, 0 to 1."""

    def connection_gone(self, connection: Any) -> None:
        """It has ended; its `close_reason` is set. Called exactly once."""

    def limit_spared(self, connection: Any, reason: CloseReason) -> None:
        """A clock that is on trial only has struck."""

    def penalize(self, connection: Any, seconds: float, why: str) -> None:
        """The application charges the connection's client."""


class Ending(Endpoint):
    """The end of a connected socket: `Stream` is what comes before, `Expiring` what may cause it.

    Its states are those of `State`, moved only through `next_state`.
    """

    __slots__ = (
        "_closers", "_drainers", "_input_error", "_owner", "_reading", "_saw_end", "_sendable",
        "_special", "_unread", "closing_at", "slot",
    )  # fmt: skip

    _closers: list[asyncio.Future[None]] | None
    _descriptor: int
    _drainers: list[asyncio.Future[None]] | None
    _input_error: TielineError | None
    _owner: Owner
    _reading: bool
    _saw_end: bool
    _sendable: bool
    _special: bool
    _unread: int
    closing_at: float
    slot: int

    # ---- What the rest of a connection does for it

    def _watch(self) -> None:
        """Have epoll look for what is wanted now."""
        raise NotImplementedError

    def _wake(self) -> None:
        """Tell whoever waits for input that `_input_error` is set."""
        raise NotImplementedError

    def _wake_drainers(self) -> None:
        """Tell whoever waits for the peer to take what it is owed."""
        raise NotImplementedError

    def on_deadline(self, now: float) -> float | None:
        """The wheel's call: its slot has come up."""
        raise NotImplementedError

    def _before_closing(self) -> None:
        """What is held back goes out now."""

    def _forget_input(self) -> None:
        """What has come in and was not received is wanted no more."""

    @property
    def is_finishing(self) -> bool:
        """Whether it is to end as soon as nothing is under way on it."""
        return False

    def finish(self, reason: CloseReason = CloseReason.SHUTDOWN) -> None:
        """Close as soon as nothing is under way: here, at once."""
        self.close(reason)

    # ---- In good order

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
            # An end is progress, as a byte is.
            self.last_sent = self._reactor.now or self._reactor.clock()
            if self._outgoing is None:
                self._end_output()
            self._watch_half_closed()

    def _watch_half_closed(self) -> None:
        """One side has ended, and the other goes on: its own clock runs from now on."""
        seconds = self._owner.limits.half_closed
        if seconds is not None and (
            self._state is State.HALF_CLOSED or self._state is State.PEER_ENDED
        ):
            self._reactor.file(self, self._reactor.clock() + seconds)

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

    # ---- Cut off

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
            try:
                await future
            finally:
                # Cancelled: there is nobody to tell.
                if self._closers is not None and future in self._closers:
                    self._closers.remove(future)

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
            self._end_failed(error)
            return
        if self._state is State.CLOSING:
            self._reading = True
        self._watch()

    def _end_failed(self, error: OSError) -> None:
        """The peer could not be told that this side has ended."""
        self._lost(error)

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
            release_all(waiting)
        self._owner.connection_gone(self)

    def _final_error(self) -> TielineError:
        """What to raise for anything that is too late."""
        error = self._input_error
        if error is None or error is _OVER or error is END_OF_STREAM:
            return ConnectionClosedError(reason=self._reason or CloseReason.CLOSED)
        # The same one each time, so without the traceback of the time before.
        return error.with_traceback(None)


def release_all(waiting: list[asyncio.Future[None]] | None) -> None:
    """Let go on whoever waits, and does so still."""
    for future in waiting or ():
        if not future.done():
            future.set_result(None)
