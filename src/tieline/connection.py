"""A stream that carries messages: what handlers and clients hold.

The trip of a message: `Reactor.turn` → `Connection.on_ready` (in `stream`) → codec (framing,
charset) → handler → `Connection.send` → kernel.
"""

from __future__ import annotations

import asyncio
import socket
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Self

from .address import Address
from .clocks import Credit
from .conversation import ConversationWaiter
from .drain import ALREADY_DONE, Drain
from .errors import (
    EndOfStreamError,
    PeerError,
    ReceiveConflictError,
    TielineError,
    UsageError,
)
from .framing import Codec
from .reactor import Reactor
from .reasons import CloseReason
from .states import State
from .stream import END_OF_STREAM, Owner, Stream
from .tls import TlsSocket
from .waiter import Waiter

__all__ = ["Connection"]


class Connection(Stream):
    """A TCP, TLS or Unix connection that carries messages.

    You get one in a server's handler, or from `tieline.connect`. Iterating gives its messages
    until the peer ends its stream::

        async for message in conn:
            await conn.send(message)

    Several tasks may send; one at a time may receive. `close` and `abort` may be called at any
    time, any number of times. All of it from the loop's own thread.

    Attributes:
        id: a number of its own in this process.
        bytes_received, bytes_sent: what has passed, without TLS's own bytes.
        messages_received, messages_sent: whole messages.
        last_received, last_sent: when a byte last came and went (`time.monotonic`).
        client: on a server, the client machine it is counted under.
        data: yours: whatever the application wants to keep with the connection.
    """

    __slots__ = (
        "_codec", "_corked", "_draining", "_inbox", "_quiet_timer", "_resume_at", "_waiter",
        "messages_received", "messages_sent",
    )  # fmt: skip

    def __init__(
        self,
        owner: Owner,
        reactor: Reactor,
        connected: socket.socket | TlsSocket,
        codec: Codec,
        peer: str | Address,
        peer_port: int = 0,
    ) -> None:
        """Not for applications: take over a connected, non-blocking socket."""
        self._codec = codec
        self.messages_received = self.messages_sent = 0
        # Kept in reverse, so that taking the next message is a pop from the end.
        self._inbox: list[Any] | tuple[()] = ()
        # The inbox length at which paused reading goes on; -1 while it is not paused.
        self._resume_at = -1
        self._waiter: Waiter | None = None
        # Answers held back to leave in one piece, while messages that came together are handled.
        self._corked: bytearray | None = None
        self._quiet_timer: asyncio.TimerHandle | None = None
        # Why it is to end as soon as nothing is under way.
        self._draining: CloseReason | None = None
        super().__init__(owner, reactor, connected, peer, peer_port)

    @property
    def encoding(self) -> str | None:
        """The charset in which this peer is written to; `None` where messages are bytes."""
        return self._codec.encoding

    def start_conversation(self, handler: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Not for applications: run the handler of this connection."""
        waiter = ConversationWaiter(self._reactor.loop, handler, self)
        # Before it starts: an eager task waits for its first message at once.
        self._waiter = waiter
        return waiter.start()

    def end_conversation(self) -> None:
        """Not for applications: its handler is done, and the connection closed."""
        if isinstance(self._waiter, ConversationWaiter):
            self._waiter.finish()
            self._waiter = None

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task of its conversation, while that runs; `None` for responders and clients."""
        return getattr(self._waiter, "task", None)

    @property
    def waiting_messages(self) -> int:
        """Messages that have come and were not received yet."""
        return len(self._inbox)

    def penalize(self, seconds: float, why: str) -> None:
        """Charge the account of this connection's client: a wrong password, a silly request.

        A client that owes more than `Limits.penalty_threshold` is refused until it owes nothing;
        a second takes a second off. This connection and its others go on. Clients of
        `Limits.exempt_networks` are never charged.

        Args:
            seconds: how much, above zero.
            why: a word or two, for whoever asks.

        Raises:
            UsageError: it is no connection of a server's, or seconds make no sense.
        """
        self._owner.penalize(self, seconds, why)

    def exchange_codec(self, codec: Codec) -> Codec:
        """Not for applications: put a codec in the place of its own, which is returned."""
        own, self._codec = self._codec, codec
        return own

    @property
    def is_receiving(self) -> bool:
        """Whether more may come in: the peer has not ended its stream, nor has the connection
        ended. Messages that came before are received all the same."""
        return self._input_error is None

    # ---- Receiving

    @types.coroutine
    def __anext__(self) -> Generator[Any, None, Any]:
        # A generator marked as a coroutine: one allocation per message that must be waited
        # for, where an `async def` around an awaitable would make three.
        while True:
            inbox = self._inbox
            if inbox:
                if self._resume_at >= 0:
                    self._took_one(len(inbox) - 1)
                return inbox.pop()
            if self._input_error is not None or self._draining is not None:
                self._end_of_messages()
            waiter = self._waiter
            if waiter is None:
                waiter = self._waiter = Waiter(self._reactor.loop)
            elif waiter.waiting:
                raise ReceiveConflictError()
            # An emptied list is 88 bytes that thousands of idle connections would keep.
            self._inbox = ()
            waiter.waiting = waiter._asyncio_future_blocking = True
            yield waiter

    def __aiter__(self) -> Self:
        return self

    async def receive(self) -> Any:
        """Wait for the next message.

        Returns:
            `bytes`, or `str` where the connection has a charset.

        Raises:
            EndOfStreamError: the peer ended its stream, and everything has been received.
            PeerError: the peer broke the rules; what came before has been received.
            ConnectionClosedError: the connection is over; its `reason` says why.
            TlsError: TLS failed.
            ReceiveConflictError: another task is receiving on this connection.

        Cancelling loses nothing: the message is there for the next `receive`.
        """
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            pass
        if self._input_error is END_OF_STREAM:
            raise EndOfStreamError(reason=CloseReason.PEER_CLOSED)
        raise self._final_error()

    def _end_of_messages(self) -> None:
        """Raise what ends an iteration; return while draining lets a message finish."""
        if self._input_error is None:
            if self._codec.pending:
                return
            # Draining, and nothing left to do: the moment that was waited for.
            self.close(self._draining or CloseReason.SHUTDOWN)
        if self._input_error is END_OF_STREAM:
            raise StopAsyncIteration
        if self._reason is not None and self._reason.in_good_order:
            raise StopAsyncIteration
        raise self._final_error()

    def _took_one(self, left: int) -> None:
        """A message was taken from an inbox so full that reading had been paused."""
        if left <= self._resume_at:
            self._resume_at = -1
            self._unread = 0
            if self._input_error is None:
                self._resume_reading()

    # ---- Sending

    def send(self, message: Any) -> Awaitable[None]:
        """Send a message. It is queued at once, whether or not the result is awaited.

        Awaiting is backpressure: done at once while the peer keeps up; above the high-water
        mark, done when what is owed is down to the low-water mark. A peer that is owed more
        than `Limits.max_owed` when more is sent to it is reset, so that memory is bounded even
        for those who never await.

        Args:
            message: `bytes`, or `str` where the connection has a charset.

        Raises:
            ConnectionClosedError: the connection is over, or its closing has begun.
            UnframableError, UnencodableError, UsageError: this message cannot be sent; nothing
                was, and the connection goes on.

        Cancelling the wait does not take the message back.
        """
        data = self._codec.pack(message)
        if not self._sendable:
            raise self._cannot_send()
        self.messages_sent += 1
        if self._corked is not None:
            self._hold_back(data)
        else:
            self._transmit(data)
        if self._outgoing is not None:
            return Drain(self)
        if self._sendable:
            return ALREADY_DONE
        raise self._final_error()

    def _hold_back(self, data: bytes) -> None:
        corked = self._corked
        assert corked is not None
        corked += data
        if len(corked) > self._owner.limits.high_water:
            self._corked = bytearray()
            self._transmit(corked)

    def _uncork(self) -> None:
        corked, self._corked = self._corked, None
        if corked and self._state is not State.CLOSED:
            self._transmit(corked)

    def _before_closing(self) -> None:
        self._uncork()

    def _forget_input(self) -> None:
        self._inbox = ()

    def _cannot_send(self) -> TielineError:
        if self._state is State.HALF_CLOSED:
            return UsageError(
                "this side has ended its stream: nothing more can be sent",
                hint="send before half_close",
            )
        return self._final_error()

    # ---- Events

    def _on_data(self, data: bytes) -> None:
        try:
            messages = self._codec.feed(data)
        except PeerError as error:
            self._on_peer_error(error)
            return
        if messages:
            self.unfinished = None
            self.messages_received += len(messages)
            self._deliver(messages, len(data))
        if self._codec.incomplete:
            self._on_part_of_message()

    def _deliver(self, messages: list[Any], size: int) -> None:
        """Hand messages to whoever receives. In the turn: a waiting task runs here and now."""
        many = len(messages) > 1
        if many:
            messages.reverse()
        if self._inbox:
            messages.extend(self._inbox)
        self._inbox = messages
        waiter = self._waiter
        if waiter is not None and waiter.waiting:
            if many:
                self._corked = bytearray()
                waiter.resume_now()
                self._uncork()
            else:
                waiter.resume_now()
        if self._inbox:
            self._unread += size
            if self._unread > self._owner.limits.high_water and self._reading:
                self._pause_reading()
        else:
            self._unread = 0

    def _pause_reading(self) -> None:
        """The handler is behind: leave the rest to TCP's own flow control."""
        limits = self._owner.limits
        self._reading = False
        # The peer cannot end its message now; that is no fault of its own.
        self.unfinished = None
        self._resume_at = len(self._inbox) * limits.low_water // limits.high_water
        self._watch()

    def _on_part_of_message(self) -> None:
        """Bytes came that are no whole message yet: its clock begins."""
        codec = self._codec
        if self._input_error is not None or not self._reading:
            return
        if self.unfinished is None:
            self._begin_message(self.last_received)
        if codec.quiet is not None:
            if self._quiet_timer is not None:
                self._quiet_timer.cancel()
            self._quiet_timer = self._reactor.loop.call_later(codec.quiet, self._on_quiet)

    def _begin_message(self, began: float) -> None:
        limits = self._owner.limits
        counted = self.bytes_received - self._codec.pending
        self.unfinished = message = Credit(began, counted, limits.rate_grace)
        if limits.message is not None:
            self._reactor.file(self, began + limits.message)
        if limits.min_receive_rate is not None:
            self._reactor.file(self, message.due)

    def _resume_reading(self) -> None:
        super()._resume_reading()
        if self._codec.incomplete:
            self._begin_message(self._reactor.clock())

    def _on_quiet(self) -> None:
        self._quiet_timer = None
        if self._input_error is None:
            self._deliver_last(self._codec.quiet_passed)

    def _on_end(self) -> None:
        if self._deliver_last(self._codec.end):
            self._input_over(END_OF_STREAM, CloseReason.PEER_CLOSED)
            self._on_input_over()

    def _deliver_last(self, last: Callable[[], list[Any]]) -> bool:
        """Deliver what `last` gives. False when there is nothing to go on with after it."""
        try:
            messages = last()
        except PeerError as error:
            self._on_peer_error(error)
            return False
        if messages:
            self.unfinished = None
            self.messages_received += len(messages)
            self._deliver(messages, sum(map(len, messages)))
        return self._state is not State.CLOSED and self._state is not State.CLOSING

    def _on_peer_error(self, error: PeerError) -> None:
        """The peer broke the rules. What was whole before that is delivered first."""
        completed, error.completed = error.completed, []
        self.unfinished = None
        if completed:
            self.messages_received += len(completed)
            self._deliver(completed, sum(map(len, completed)))
        if self._state is not State.CLOSED and self._state is not State.CLOSING:
            self._input_over(error, error.reason)
            self._watch()
            self._on_input_over()
            self._watch_half_closed()

    def _on_input_over(self) -> None:
        """A conversation sees its iteration end and goes on from there. (A responder has
        nothing left to do: see `RespondingConnection`.) Called in the turn, or by a timer,
        where no task is running either."""
        if self._waiter is not None:
            self._waiter.resume_now()

    def _wake(self) -> None:
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
            self._quiet_timer = None
        if self._waiter is not None:
            self._waiter.resume_soon()

    # ---- Draining

    def finish(self, reason: CloseReason = CloseReason.SHUTDOWN) -> None:
        """Close as soon as nothing is under way: now, or after the message that is being received
        or answered. Until then it goes on.

        Args:
            reason: the close reason it will have, unless it was told to finish before.
        """
        self._draining = self._draining or reason
        if self.is_idle:
            self.close(self._draining)

    @property
    def is_finishing(self) -> bool:
        """Whether it ends as soon as nothing is under way: its server drains, or its lifetime is
        over. A conversation may say goodbye when it sees this."""
        return self._draining is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: in either direction, or in the handler."""
        return (
            not self._inbox
            and self._outgoing is None
            and not self._corked
            and self._codec.pending == 0
            and self._handler_waits()
        )

    def _on_all_sent(self) -> None:
        if self._draining is not None and self.is_idle:
            self.close(self._draining)
        else:
            super()._on_all_sent()

    def _handler_waits(self) -> bool:
        return self._waiter is not None and self._waiter.waiting

    # ---- As a context

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()
        await self.wait_closed()
