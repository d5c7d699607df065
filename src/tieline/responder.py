"""A connection whose messages are answered by a plain function: one call per message."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from .connection import Connection
from .errors import ConnectionClosedError
from .reasons import CloseReason
from .stream import Owner

__all__ = ["Respond", "RespondingConnection"]


class Respond(Protocol):
    """A responder: what it returns is sent as the reply, `None` sends nothing."""

    def __call__(self, connection: Connection, message: Any, /) -> Any: ...


class RespondingOwner(Owner, Protocol):
    """A server that has a responder."""

    responder: Respond

    def handler_failed(self, connection: Connection, error: BaseException) -> None:
        """The responder raised. Logs and counts it; the connection is closed after this."""


class RespondingConnection(Connection):
    """Calls its owner's responder in the turn: no task, no inbox, no waiting."""

    __slots__ = ()

    _owner: RespondingOwner

    def _deliver(self, messages: list[Any], size: int) -> None:
        respond = self._owner.responder
        if self._inbox:
            # Behind those that wait for the peer to take earlier answers.
            self._inbox = [*reversed(messages), *self._inbox]
            return
        if len(messages) == 1:
            try:
                reply = respond(self, messages[0])
                if reply is not None:
                    # `send` without what it returns: nobody awaits here.
                    packed = self._codec.pack(reply)
                    if not self._sendable:
                        raise self._cannot_send()
                    self.messages_sent += 1
                    self._transmit(packed)
            except (Exception, asyncio.CancelledError) as error:
                self._failed(error)
        else:
            self._respond_to_all(messages)
        if self._outgoing is not None or self._draining is not None:
            self._after_replies()

    def _respond_to_all(self, messages: list[Any]) -> None:
        """Answer messages that came together; the answers leave together.

        A peer is answered no faster than it takes the answers: what is left waits in the
        inbox until it has taken enough of them.
        """
        high_water = self._owner.limits.high_water
        respond = self._owner.responder
        self._corked = bytearray()
        messages.reverse()
        try:
            while messages and self._sendable and self.owed <= high_water:
                reply = respond(self, messages.pop())
                if reply is not None:
                    self.send(reply)
        except (Exception, asyncio.CancelledError) as error:
            self._failed(error)
        finally:
            self._uncork()
        if messages and self._sendable:
            self._inbox = messages

    def _failed(self, error: BaseException) -> None:
        # A peer that is gone when it is answered is no mistake of the responder's.
        if isinstance(error, ConnectionClosedError) and not self._sendable:
            return
        self._owner.handler_failed(self, error)
        self.close(CloseReason.HANDLER_ERROR)

    def _after_replies(self) -> None:
        """A peer that does not take its replies is read from no more until it does."""
        if self._draining is not None and self.is_idle:
            self.close(self._draining)
        elif self._reading and self.owed > self._owner.limits.high_water:
            self._reading = False
            self._watch()

    def _on_low_water(self) -> None:
        super()._on_low_water()
        while self._inbox and self._outgoing is None and self._sendable:
            messages, self._inbox = self._inbox, ()
            assert isinstance(messages, list)
            messages.reverse()
            self._respond_to_all(messages)
        if not self._inbox and self._sendable:
            if self._input_error is not None:
                self.close()
            elif not self._reading:
                self._resume_reading()

    def _on_input_over(self) -> None:
        # What is left in the inbox is answered first, as the peer takes the answers.
        if not self._inbox:
            self.close()

    def _handler_waits(self) -> bool:
        return True
