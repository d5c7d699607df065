"""A connection that carries messages, for programs without a loop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Lock
from types import EllipsisType
from typing import Any, Self

from ..address import Address
from ..errors import (
    ConnectionClosedError,
    DeadlineError,
    EndOfStreamError,
    PeerError,
    ReceiveConflictError,
    TielineError,
    UsageError,
    translate_os_error,
)
from ..framing import Codec
from ..limits import Limits
from ..reasons import CloseReason
from ..states import Move, State, next_state
from ..tcp_info import TcpInfo, read_tcp_info
from .channel import Channel
from .deadline import Deadline, check_timeout

__all__ = ["Connection", "Timeout"]

#: Seconds; `None`: no limit; `...`: the connection's own.
Timeout = float | None | EllipsisType

#: What a peer may still send while it is being closed, before it is reset.
_DISCARD_LIMIT = 1_048_576


class Connection:
    """A TCP, TLS or Unix connection that carries messages; every call has a time limit.

    You get one from `tieline.blocking.connect`. Iterating gives its messages until the peer ends
    its stream, and raises `DeadlineError` when one takes longer than `timeout`::

        for message in conn:
            conn.send(message)

    While one thread receives, others may send, whose messages go out one after the other; one
    thread at a time may receive. `close` and `abort` may be called from any thread, any number
    of times: calls under way then raise `ConnectionClosedError`.

    Attributes:
        peer, local: both ends' addresses.
        messages_received, messages_sent: whole messages.
    """

    __slots__ = (
        "_channel", "_codec", "_inbox", "_input_error", "_last_read", "_limits", "_lock",
        "_reason", "_receiving", "_sending", "_state", "_timeout", "local", "messages_received",
        "messages_sent", "peer",
    )  # fmt: skip

    def __init__(
        self,
        channel: Channel,
        codec: Codec,
        peer: Address,
        timeout: float | None,
        limits: Limits,
    ) -> None:
        """Not for applications: take over a connected channel."""
        self.peer = peer
        self.local = Address.from_socket_name(channel.family, channel.getsockname())
        self.messages_received = self.messages_sent = 0
        self._channel = channel
        self._codec = codec
        self._limits = limits
        self._timeout = timeout
        # Guards the fields below, for moments; the other two are held through a whole call.
        self._lock = channel.lock
        self._receiving = Lock()
        self._sending = Lock()
        self._state = State.OPEN
        self._reason: CloseReason | None = None
        self._inbox: deque[Any] = deque()
        self._input_error: TielineError | None = None
        self._last_read = 0.0

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

    @property
    def encoding(self) -> str | None:
        """The charset in which this peer is written to; `None` where messages are bytes."""
        return self._codec.encoding

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
    def ssl_object(self) -> Any:
        """The TLS session (`ssl.SSLObject`), for `cipher()`, `version()`, `getpeercert()`;
        `None` without TLS."""
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

    # ---- Receiving

    def receive(self, *, timeout: Timeout = ...) -> Any:
        """Wait for the next message.

        Args:
            timeout: seconds (default: the connection's own); 0: only what is there already;
                `None`: no limit.

        Returns:
            `bytes`, or `str` where the connection has a charset.

        Raises:
            DeadlineError: not in time. Nothing is lost: a later call gets the message.
            EndOfStreamError: the peer ended its stream, and everything has been received.
            PeerError: the peer broke the rules; what came before has been received.
            ConnectionClosedError: the connection is over; its `reason` says why.
            TlsError: TLS failed.
            ReceiveConflictError: another thread is receiving on this connection.

        With `Gap`, the quiet time is seen while receiving only: what came between two calls
        is one message.
        """
        return self._receive(self._deadline(timeout, "receiving from"))

    def _receive(self, deadline: Deadline) -> Any:
        if not self._receiving.acquire(blocking=False):
            raise ReceiveConflictError("another thread is already receiving on this connection")
        try:
            while True:
                inbox = self._inbox
                if inbox:
                    return inbox.popleft()
                if self._input_error is not None:
                    # Raised anew, or it would collect every traceback.
                    raise self._input_error.with_traceback(None)
                self._read(deadline)
        finally:
            self._receiving.release()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return self.receive()
        except ConnectionClosedError as error:
            if error.reason.in_good_order:
                raise StopIteration from None
            raise

    def _read(self, deadline: Deadline) -> None:
        """Take what comes next: bytes, silence, the peer's end or the connection's."""
        codec = self._codec
        until, quiet_at = deadline, None
        if codec.quiet is not None and codec.pending:
            quiet_at = self._last_read + codec.quiet
            until = deadline.sooner(max(0.0, quiet_at - time.monotonic()))
        try:
            data = self._channel.recv(until)
        except OSError as error:
            self._lost(error)
            return
        if data:
            self._last_read = time.monotonic()
            self._deliver(lambda: codec.feed(data))
        elif data is not None:
            self._on_end()
        elif quiet_at is not None and time.monotonic() >= quiet_at:
            self._deliver(codec.quiet_passed)
        else:
            raise deadline.error()

    def _on_end(self) -> None:
        if self._state is State.HALF_CLOSED and self._reason is not None:
            # Sending has failed before: this end is that failure, and no end in good order.
            self._gone(self._reason)
            return
        self._deliver(self._codec.end)
        self._input_over(EndOfStreamError(reason=CloseReason.PEER_CLOSED), CloseReason.PEER_CLOSED)

    def _deliver(self, produce: Callable[[], list[Any]]) -> None:
        """Keep the messages that the codec gives, and those before a mistake of the peer's."""
        mistake = None
        try:
            messages = produce()
        except PeerError as error:
            messages, error.completed = error.completed, []
            mistake = error
        with self._lock:
            # Another thread may have closed the connection meanwhile.
            if self._input_error is None:
                self.messages_received += len(messages)
                self._inbox.extend(messages)
        if mistake is not None:
            self._input_over(mistake, mistake.reason)

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

    # ---- Sending

    def send(self, message: Any, *, timeout: Timeout = ...) -> None:
        """Send a message: all of it is with the kernel when this returns.

        Args:
            message: `bytes`, or `str` where the connection has a charset.
            timeout: seconds for all of it (default: the connection's own); `None`: no limit.

        Raises:
            DeadlineError: the peer did not take it in time. A message of which nothing had gone
                may be sent again. One of which a part had gone cannot be taken back: the
                connection is cut off (`slow_reader`), and the error says so.
            ConnectionClosedError: the connection is over, or its closing has begun.
            TlsError: TLS failed.
            UnframableError, UnencodableError, UsageError: this message cannot be sent; nothing
                was, and the connection goes on.

        Interrupted (`KeyboardInterrupt`) in the middle of a message, it cuts the connection off.
        """
        self._send(message, self._deadline(timeout, "sending to"))

    def _send(self, message: Any, deadline: Deadline) -> None:
        # Waiting for one's turn, and for room, comes before the codec: a message that it has
        # packed is one that it takes for sent.
        if not self._sending.acquire(timeout=deadline.for_lock):
            raise deadline.error()
        try:
            self._check_sendable()
            if not self._output(self._channel.wait_writable, deadline):
                raise deadline.error()
            data = self._codec.pack(message)
            before = self._channel.bytes_sent
            try:
                done = self._output(lambda until: self._channel.send(data, until), deadline)
            except TielineError:
                raise
            except BaseException:
                # Half a message is on its way, and what comes after it would be taken for its rest.
                self.abort()
                raise
            if not done:
                raise self._cut_off(deadline, self._channel.bytes_sent - before, len(data))
            self.messages_sent += 1
        finally:
            self._sending.release()

    def _output(self, act: Callable[[Deadline], bool], deadline: Deadline) -> bool:
        """Do something to this side's stream; what the system has against it ends that stream."""
        try:
            return act(deadline)
        except OSError as error:
            raise self._output_lost(error) from error

    def _output_lost(self, error: OSError) -> TielineError:
        """Sending failed. What the peer said before it left can still be received."""
        with self._lock:
            if self._state is State.CLOSED:
                return self._final_error()
            translated = translate_os_error(error, "transfer", self.peer)
            self._reason = _reason_of(translated)
            if self._input_error is None and self._state is State.OPEN:
                self._state = next_state(self._state, Move.HALF_CLOSE)
            return translated

    def _cut_off(self, deadline: Deadline, sent: int, size: int) -> DeadlineError:
        self._gone(CloseReason.SLOW_READER, reset=True)
        return deadline.error(
            "{doing} {address} took longer than {seconds} s: the connection was cut off after "
            "{sent} of {size} bytes",
            sent=sent,
            size=size,
        )
