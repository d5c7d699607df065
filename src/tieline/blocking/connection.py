"""A stream that carries messages, for programs without a loop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any, Self

from ..address import Address
from ..errors import (
    ConnectionClosedError,
    DeadlineError,
    EndOfStreamError,
    PeerError,
    ReceiveConflictError,
    TielineError,
)
from ..framing import Codec
from ..limits import Limits
from ..reasons import CloseReason
from .channel import Channel
from .deadline import Deadline
from .stream import Stream, Timeout

__all__ = ["Connection"]


class Connection(Stream):
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
        "_codec", "_inbox", "_last_read", "_receiving", "messages_received", "messages_sent",
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
        super().__init__(channel, peer, timeout, limits)
        self._codec = codec
        self.messages_received = self.messages_sent = 0
        self._receiving = Lock()
        self._inbox: deque[Any] = deque()
        self._last_read = 0.0

    @property
    def encoding(self) -> str | None:
        """The charset in which this peer is written to; `None` where messages are bytes."""
        return self._codec.encoding

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

        With `Gap`, silence is noticed while receiving only: what came between two calls is one
        message.
        """
        return self._receive(self._deadline(timeout, "receiving from"))

    def _receive(self, deadline: Deadline) -> Any:
        if not self._receiving.acquire(blocking=False):
            raise ReceiveConflictError("another thread is already receiving on this connection")
        try:
            while True:
                if self._inbox and not self._dropping:
                    return self._inbox.popleft()
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
            self._input_lost(error)
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
        if self._output_error is not None:
            # A failed socket tells of its failure once, and sending has heard it.
            self._input_lost(ConnectionResetError())
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
        if not self._sending.acquire(timeout=deadline.for_lock):
            raise deadline.error()
        try:
            self._check_sendable()
            # Before the codec: what it has packed, a byte order mark, say, it takes for sent.
            if not self._output(self._channel.wait_writable, deadline):
                raise deadline.error()
            self._transmit(self._codec.pack(message), deadline)
            self.messages_sent += 1
        finally:
            self._sending.release()

    def _transmit(self, data: bytes, deadline: Deadline) -> None:
        """Send all of a message, or make sure that nothing follows the part that has gone."""
        before = self._channel.bytes_sent
        try:
            done = self._output(lambda until: self._channel.send(data, until), deadline)
        except TielineError:
            raise
        except BaseException:
            self.abort()
            raise
        if not done:
            raise self._cut_off(deadline, self._channel.bytes_sent - before, len(data))

    def _cut_off(self, deadline: Deadline, sent: int, size: int) -> DeadlineError:
        self._gone(CloseReason.SLOW_READER, reset=True)
        return deadline.error(
            "{doing} {address} took longer than {seconds} s: the connection was cut off after "
            "{sent} of {size} bytes",
            sent=sent,
            size=size,
        )
