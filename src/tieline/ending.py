"""How a connection ends: in good order, cut off, or when one of its clocks strikes.

Every way goes through one function, `Ending._gone`; each leaves one close reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from typing import Any, Protocol

from .clocks import Credit, next_due, running_clocks
from .endpoint import Endpoint
from .errors import (
    ConnectionClosedError,
    EndOfStreamError,
    TielineError,
    translate_os_error,
)
from .limits import LIMIT_OF_REASON, Limits
from .reasons import CloseReason
from .states import Move, State, next_state

__all__ = ["END_OF_STREAM", "LOOK_AGAIN", "NONE_SPARED", "Ending", "Owner", "release_all"]

#: Closing by itself leaves nothing behind if nothing is owed: then the peer sees an end and no
#: error. All other clocks reset.
_QUIET_ENDS = frozenset({
    CloseReason.IDLE_TIMEOUT, CloseReason.RECEIVE_IDLE_TIMEOUT, CloseReason.SEND_IDLE_TIMEOUT,
    CloseReason.HALF_CLOSED_TIMEOUT,
})  # fmt: skip

#: Seconds between two looks at whether a peer takes the bytes that it is owed.
LOOK_AGAIN = 1.0

#: One for all: Python makes a new empty one, of 216 bytes, each time it is asked.
NONE_SPARED: frozenset[CloseReason] = frozenset()

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
    """The end of a connected socket: `Stream` is what comes before.

    Its states are those of `State`, moved only through `next_state`.
    """

    __slots__ = (
        "_closers", "_drainers", "_input_error", "_owner", "_reading", "_saw_end", "_sendable",
        "_spared", "_special", "_unread", "closing_at", "owing", "slot", "unfinished",
    )  # fmt: skip

    _closers: list[asyncio.Future[None]] | None
    _descriptor: int
    _drainers: list[asyncio.Future[None]] | None
    _input_error: TielineError | None
    _owner: Owner
    _reading: bool
    _saw_end: bool
    _sendable: bool
    #: Clocks on trial that have struck; each is counted once a connection.
    _spared: frozenset[CloseReason]
    _special: bool
    _unread: int
    closing_at: float
    owing: Credit | None
    slot: int
    unfinished: Credit | None

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
            release_all(waiting)
        self._owner.connection_gone(self)

    def _final_error(self) -> TielineError:
        """What to raise for anything that is too late."""
        error = self._input_error
        if error is None or error is _OVER or error is END_OF_STREAM:
            return ConnectionClosedError(reason=self._reason or CloseReason.CLOSED)
        # The same one each time, so without the traceback of the time before.
        return error.with_traceback(None)

    # ---- By a clock

    def clocks(self) -> list[tuple[float, CloseReason]]:
        """The clocks that run: the seconds left of each, soonest first, and what it stands for."""
        if self._state is State.CLOSED:
            return []
        now = self._reactor.clock()
        owner = self._owner
        running = running_clocks(self, owner.limits, owner.fullness)
        return sorted((due - now, reason) for due, reason in running)

    def _file_first_check(self) -> None:
        """A connection is new: have its clocks looked at in time."""
        owner = self._owner
        if self._state is State.HANDSHAKE:
            self._reactor.file(self, self.opened_at + owner.limits.handshake)
        elif owner.first_check is not None:
            self._reactor.file(self, self.opened_at + owner.first_check)

    def check_clocks(self) -> None:
        """Not for applications: limits have changed; look at its clocks anew."""
        if self._state is not State.CLOSED:
            # Filed for now, the wheel asks within a tick.
            self._reactor.file(self, self._reactor.clock())

    def on_deadline(self, now: float) -> float | None:
        """The wheel's call: end what is due, or say when it will be."""
        owner = self._owner
        limits = owner.limits
        if self.bytes_sent:
            self._see_what_was_taken(now)
        if self._spared:
            # Those that are in earnest by now count again.
            trial = (each for each in self._spared if LIMIT_OF_REASON[each] in limits.dry_run)
            self._spared = frozenset(trial)
        while self._state is not State.CLOSED:
            due, reason = next_due(self, limits, owner.fullness, self._spared)
            if due is None or due > now:
                return self._next_check(due, now, limits)
            if LIMIT_OF_REASON.get(reason) in limits.dry_run:
                self._spared |= {reason}
                owner.limit_spared(self, reason)
            elif reason is CloseReason.LIFETIME and not self.closing_at:
                self.closing_at = now + limits.closing
                self.finish(reason)
            elif (
                reason in _QUIET_ENDS
                and self.owing is not None
                and now < self.owing.began + LOOK_AGAIN / 2
            ):
                # It is owed bytes, and was looked at just now for the first time: whether it takes
                # them shows in a second look.
                return self.owing.began + LOOK_AGAIN
            else:
                self._strike(reason)
        return None

    def _see_what_was_taken(self, now: float) -> None:
        """See whether the peer has taken any of the bytes that it is owed.

        The kernel takes megabytes from us in advance and says so in lumps: what it took is no
        sign that the peer took anything, and a peer that reads steadily would seem to stall.
        So it is asked, at each visit, and once a second while it still holds some.
        """
        if self._state is State.CLOSING or self._state is State.HANDSHAKE:
            return
        left = self._unconfirmed()
        taken = self._carried() - left
        owing = self.owing
        if not left and self._outgoing is None:
            self.owing = None
        elif owing is None:
            self._give_credit(now, taken)
        elif taken > owing.moved:
            self.last_sent = now
            if not left or taken >= owing.until:
                # All that it was owed when the credit began: what it is owed now is new.
                self._give_credit(now, taken)
            else:
                owing.moved, owing.moved_at = taken, now

    def _give_credit(self, now: float, taken: int) -> None:
        """The peer is owed bytes: its clocks for taking them begin."""
        self.owing = Credit(now, taken, self._owner.limits.rate_grace)
        self.owing.until = self._carried() + self.owed

    def _next_check(self, due: float | None, now: float, limits: Limits) -> float | None:
        if due is not None and self.owing is not None:
            due = min(due, now + LOOK_AGAIN)
        least = limits.idle_when_full
        if least is None:
            return due
        # The server may fill up meanwhile, which brings the idle clock forward.
        return now + least if due is None else min(due, now + least)

    def _strike(self, reason: CloseReason) -> None:
        if reason is CloseReason.CLOSE_TIMEOUT and self._reason and not self.is_owed_by_kernel():
            # The peer has it all and does not end its own side: nothing is lost.
            self._gone(self._reason)
        elif reason in _QUIET_ENDS and not self.is_owed_by_kernel():
            # Nothing is owed, so a FIN leaves nothing in the kernel, and the peer sees an end
            # instead of an error.
            if self._tls is not None:
                # The peer may be gone already; then there is nobody to say it to.
                with contextlib.suppress(OSError):
                    self._tls.say_goodbye()
            self._gone(self._first_cause(reason))
        else:
            # A FIN would leave bytes in the kernel for minutes if the peer does not read.
            self.abort(reason)

    def is_owed_by_kernel(self) -> bool:
        """Whether bytes have not reached the peer yet, as far as this side knows. Not for a
        connection that is over."""
        return bool(self._outgoing) or self._unconfirmed() > 0

    def _unconfirmed(self) -> int:
        """Bytes that the kernel holds until the peer confirms them (SIOCOUTQ, tcp(7))."""
        answer = fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, b"\0\0\0\0")
        left: int = struct.unpack("i", answer)[0]
        return left

    def _carried(self) -> int:
        """Bytes that the kernel has been given, in all."""
        return self.bytes_sent if self._tls is None else self._tls.carried


def release_all(waiting: list[asyncio.Future[None]] | None) -> None:
    """Let go on whoever waits, and does so still."""
    for future in waiting or ():
        if not future.done():
            future.set_result(None)
