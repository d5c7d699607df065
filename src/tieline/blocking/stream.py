"""The life of a blocking connection: what it is, how its two directions end, and why."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from threading import Lock
from types import EllipsisType
from typing import Self

from ..address import Address
from ..errors import (
    ConnectionClosedError,
    EndOfStreamError,
    TielineError,
    UsageError,
    translate_os_error,
)
from ..limits import Limits
from ..reasons import CloseReason
from ..states import Move, State, next_state
from ..tcp_info import TcpInfo, read_tcp_info
from .channel import Channel
from .deadline import Deadline, check_timeout

__all__ = ["Stream", "Timeout"]

#: Seconds; `None`: no limit; `...`: the connection's own.
Timeout = float | None | EllipsisType

#: What a peer may still send while it is being closed, before it is reset.
_DISCARD_LIMIT = 1_048_576


class Stream:
    """A channel with a state and one reason for its end. `Connection` adds messages."""

    __slots__ = (
        "_channel", "_dropping", "_input_error", "_limits", "_lock", "_output_error", "_reason",
        "_sending", "_state", "_timeout", "local", "peer",
    )  # fmt: skip

    def __init__(
        self, channel: Channel, peer: Address, timeout: float | None, limits: Limits
    ) -> None:
        self.peer = peer
        self.local = Address.from_socket_name(channel.family, channel.getsockname())
        self._channel = channel
        self._timeout = timeout
        self._limits = limits
        # The first guards the fields below, for moments; the second is held while a message or
        # the stream's end goes out.
        self._lock = channel.lock
        self._sending = Lock()
        self._state = State.OPEN
        self._reason: CloseReason | None = None
        self._input_error: TielineError | None = None
        self._output_error: TielineError | None = None
        # Closing: whatever was not received before is not wanted any more.
        self._dropping = False

    # ---- What it is

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may take which is not given a time of its own; `None`: no limit.

        Setting it raises `SettingError` unless it is above zero or `None`.
        """
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        check_timeout(seconds)
        self._timeout = seconds

    def _deadline(self, timeout: Timeout, doing: str) -> Deadline:
        if isinstance(timeout, EllipsisType):
            timeout = self._timeout
        else:
            check_timeout(timeout, or_zero=True)
        return Deadline(timeout, doing, self.peer)

    @property
    def state(self) -> State:
        """Where it is in its life, as far as its calls have seen: nothing is read in between."""
        return self._state

    @property
    def close_reason(self) -> CloseReason | None:
        """Why it ended; `None` until it has."""
        return self._reason if self._state is State.CLOSED else None

    @property
    def is_receiving(self) -> bool:
        """Whether more may come in: the peer has not ended its stream, nor has the connection
        ended. Messages that came before are received all the same."""
        return self._input_error is None

    @property
    def bytes_received(self) -> int:
        """Bytes that have come in, without TLS's own."""
        return self._channel.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Bytes that have gone out, without TLS's own."""
        return self._channel.bytes_sent

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session, for `cipher()`, `version()`, `getpeercert()`; `None` without TLS."""
        return self._channel.ssl_object

    def tcp_info(self) -> TcpInfo:
        """What the kernel knows: round-trip time, retransmissions, window.

        Raises:
            ConnectionClosedError: the connection is over.
            UsageError: it is not a TCP connection.
        """
        with self._lock:
            if self._state is State.CLOSED:
                raise self._final_error()
            try:
                return read_tcp_info(self._channel)
            except OSError as error:
                raise UsageError("{peer} is not a TCP connection", peer=self.peer) from error

    def __repr__(self) -> str:
        reason = self.close_reason
        word = self._state.value if reason is None else reason.value
        return (
            f"<{type(self).__name__} {self.peer} {word} in={self.bytes_received} "
            f"out={self.bytes_sent}>"
        )

    # ---- Incoming

    def _input_over(self, error: TielineError, reason: CloseReason) -> None:
        """Nothing more will come in: the peer's end, or its last mistake."""
        with self._lock:
            if self._input_error is not None:
                return
            self._input_error = error
            self._reason = reason
            if self._state is State.OPEN:
                self._state = next_state(self._state, Move.PEER_ENDED)
            elif self._channel.ended:
                # Both sides have ended.
                self._gone(reason)

    def _input_lost(self, error: OSError) -> None:
        """The socket failed while receiving."""
        with self._lock:
            if self._input_error is None:
                # If sending has failed before, that was the beginning of the same end.
                lost = self._output_error or translate_os_error(error, "transfer", self.peer)
                lost.__cause__ = lost.__cause__ or error
                self._input_error = lost
                self._gone(_reason_of(lost))

    # ---- Outgoing

    def _check_sendable(self) -> None:
        if self._output_error is not None:
            raise self._output_error.with_traceback(None)
        if self._state is State.HALF_CLOSED:
            raise UsageError(
                "this side has ended its stream: nothing more can be sent",
                hint="send before half_close",
            )
        if self._state is State.CLOSING or self._state is State.CLOSED:
            raise self._final_error()

    def _output(self, act: Callable[[Deadline], bool], deadline: Deadline) -> bool:
        """Do something to this side's stream. Its failure does not end the connection: what the
        peer said before it left can still be received."""
        try:
            return act(deadline)
        except OSError as error:
            with self._lock:
                if self._state is State.CLOSED:
                    # By another thread, and this is how it shows.
                    raise self._final_error() from error
                self._output_error = translate_os_error(error, "transfer", self.peer)
                self._reason = _reason_of(self._output_error)
            raise self._output_error from error

    def half_close(self, *, timeout: Timeout = ...) -> None:
        """End this side's stream (FIN); go on receiving. Idempotent.

        When the peer has ended its stream too, this closes the connection.

        Args:
            timeout: seconds (default: the connection's own); `None`: no limit. Spent on another
                thread's `send`, and on TLS's goodbye when the peer takes nothing.

        Raises:
            DeadlineError: not in time. If TLS's goodbye had begun, the connection is cut off.
            ConnectionClosedError: the connection is over.
            TlsError: TLS failed.
        """
        deadline = self._deadline(timeout, "ending the stream to")
        if not self._sending.acquire(timeout=deadline.for_lock):
            raise deadline.error()
        try:
            if self._state is State.HALF_CLOSED:
                return
            self._check_sendable()
            if not self._output(self._channel.end_output, deadline):
                self._gone(CloseReason.SLOW_READER, reset=True)
                raise deadline.error()
        finally:
            self._sending.release()
        with self._lock:
            if self._state is State.OPEN:
                self._state = next_state(self._state, Move.HALF_CLOSE)
                return
        # What has come already is still to be received.
        self._close(self._closing_deadline(), drop=False)

    # ---- Ending

    def close(self) -> None:
        """Close in good order: end the stream (FIN), wait for the peer's end. Idempotent.

        Bounded by `Limits.closing`, after which a peer that has not got everything is reset.
        What was not received yet is dropped. Interrupted (`KeyboardInterrupt`), it resets the
        peer: nothing stays behind. Leaving the context calls it.
        """
        self._close(self._closing_deadline(), drop=True)

    def _closing_deadline(self) -> Deadline:
        return Deadline(self._limits.closing, "closing the connection to", self.peer)

    def _close(self, deadline: Deadline, *, drop: bool) -> None:
        begun = False
        try:
            with self._lock:
                if self._state is State.CLOSING or self._state is State.CLOSED:
                    return
                has_ended = self._state is State.HALF_CLOSED
                self._state = next_state(self._state, Move.CLOSE)
                begun = True
                self._dropping = drop
                self._reason = self._reason or CloseReason.CLOSED
                self._input_error = self._input_error or self._final_error()
            reason, reset = self._end_in_order(deadline, self._reason, has_ended)
            self._gone(reason, reset=reset)
        finally:
            if begun:
                self.abort()  # when it was interrupted: else there is nothing left to do

    def _end_in_order(
        self, deadline: Deadline, reason: CloseReason, has_ended: bool
    ) -> tuple[CloseReason, bool]:
        """End this side's stream, wait for the peer's. Returns the reason, and whether to reset.

        What the peer still sends is read, or the kernel would answer it with a reset, which
        could destroy our last words before the peer has read them.
        """
        if not self._sending.acquire(timeout=deadline.for_lock):
            return CloseReason.CLOSE_TIMEOUT, True
        try:
            if not has_ended and not self._channel.end_output(deadline):
                return CloseReason.CLOSE_TIMEOUT, True
            discarded = 0
            while not self._channel.ended:
                data = self._channel.recv(deadline)
                if data is None:
                    owes = self._channel.owes()
                    return (CloseReason.CLOSE_TIMEOUT if owes else reason), owes
                discarded += len(data)
                if discarded > _DISCARD_LIMIT:
                    return reason, True
        except OSError:
            # Everything was handed over; how the peer left after that is its own affair.
            return reason, False
        finally:
            self._sending.release()
        return reason, False

    def abort(self) -> None:
        """Cut the connection off now (RST): the peer sees a reset. Idempotent."""
        with self._lock:
            reason = self._reason
            if reason is None or reason.in_good_order:
                reason = CloseReason.ABORTED
            self._gone(reason, reset=True)

    def _gone(self, reason: CloseReason, *, reset: bool = False) -> None:
        """The end. Threads that wait are told; nothing of the connection stays behind."""
        with self._lock:
            if self._state is State.CLOSED:
                return
            self._state = next_state(self._state, Move.GONE)
            self._reason = reason
            self._channel.close(reset=reset)
            self._input_error = self._input_error or self._final_error()

    def _final_error(self) -> TielineError:
        """What to raise for anything that is too late."""
        if self._input_error is not None and not isinstance(self._input_error, EndOfStreamError):
            # Raised anew, or it would collect every traceback.
            return self._input_error.with_traceback(None)
        return ConnectionClosedError(reason=self._reason or CloseReason.CLOSED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()


def _reason_of(error: TielineError) -> CloseReason:
    return error.reason if isinstance(error, ConnectionClosedError) else CloseReason.TLS_ERROR
