"""One short connection, made to be looked at: connect, send, receive, close."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from ..address import Address, parse_address
from ..blocking.deadline import Deadline, check_timeout
from ..errors import DeadlineError, SettingError, TielineError, UsageError
from ..framing import Codec
from ..resolve import Candidate, interleave, lookup_name, not_resolved
from ..tls import name_to_prove
from .ending import ReplyEnding
from .following import Event, follow
from .model import Note, Source, Trace
from .sockets_only import socket_outcome, socket_steps
from .talking import Talk

__all__ = ["Call", "Close", "trace"]

#: Who closes first: `"client"`, `"server"` (the client waits for it), or `"reset"`: the client, not
#: in good order.
Close = Literal["client", "server", "reset"]


class Call:
    """A short connection that is yet to be made. `run` makes it; for most, `trace` does.

    The arguments are those of `trace`.
    """

    def __init__(
        self,
        address: str | Address,
        message: bytes | None = None,
        *,
        reply: Codec | Callable[[bytes], bool] | None = None,
        wait_for_reply: bool | None = None,
        timeout: float | None = 10.0,
        settle: float = 2.0,
        half_close: bool = False,
        close: Close = "client",
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        captured: bool = True,
    ) -> None:
        check_timeout(timeout)
        check_timeout(settle)
        self.address = parse_address(address)
        if self.address.is_unix:
            raise UsageError("a Unix socket sends no packets: there is nothing to draw")
        if close not in ("client", "server", "reset"):
            raise SettingError(
                "a connection is closed by the client, the server or a reset, not by {close!r}",
                close=close,
            )
        self.close = close
        self._message = message
        self._ending = ReplyEnding(reply)
        self._wait_for_reply = message is not None if wait_for_reply is None else wait_for_reply
        self._timeout = timeout
        self._settle = settle
        self._half_close = half_close
        self._tls = tls
        self._server_name = None if tls is None else name_to_prove(tls, server_name, self.address)
        self._captured = captured
        self._talk: Talk | None = None
        self._failure: TielineError | None = None

    def run(self) -> Trace:
        """Make the connection.

        Raises:
            ResolveError: the name has no address.
            ConnectError: this machine has no port or descriptor for it.

        Interrupting it closes everything; `so_far` has what was seen until then.
        """
        connecting = Deadline(self._timeout, "connecting to", self.address)
        asking = Deadline(self._timeout, "asking", self.address)
        candidates = self._candidates()
        for left in range(len(candidates), 0, -1):
            self._failure = None
            with Talk(candidates[-left], self.address, captured=self._captured) as self._talk:
                # An address that is silent leaves its share of the time to the others.
                share = connecting if left == 1 else connecting.sooner(connecting.left / left)
                is_connected = self._connect(self._talk, share)
                if is_connected:
                    self._ask(self._talk, asking)
            if is_connected or not connecting.left:
                break
        traced = self.so_far()
        assert traced is not None
        return traced

    def so_far(self) -> Trace | None:
        """What has been seen; `None` before there was anything to see."""
        talk = self._talk
        if talk is None or not talk.events:
            return None
        if talk.collected is None or not talk.collected.segments:
            return self._of_socket(talk)
        # What has a reason is in the capture already: the server's reset.
        events = [
            Event(each.at_ns, each.note)
            for each in talk.events
            if each.note in (Note.TIMEOUT, Note.FAILED) and each.reason is None
        ]
        story = follow(talk.collected.segments, talk.client, events)
        return Trace(
            steps=story.steps,
            client=talk.client,
            server=talk.server,
            source=Source.CAPTURE,
            started_at=story.started_at_ns / 1e9,
            outcome=story.outcome,
            facts=talk.facts,
            packets=tuple(segment.packet for segment in story.segments),
            dropped=talk.collected.dropped,
            reply=bytes(talk.reply),
            failure=self._failure,
        )

    def _of_socket(self, talk: Talk) -> Trace:
        return Trace(
            steps=socket_steps(talk.events),
            client=talk.client,
            server=talk.server,
            source=Source.SOCKET,
            started_at=talk.events[0].at_ns / 1e9,
            outcome=socket_outcome(talk.events),
            why_not_captured=talk.why_not_captured or _NOTHING_SEEN_WHY,
            facts=talk.facts,
            reply=bytes(talk.reply),
            failure=self._failure,
        )

    def _candidates(self) -> list[Candidate]:
        try:
            found = socket.getaddrinfo(
                lookup_name(self.address), self.address.port, type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            raise not_resolved(error, self.address) from error
        return interleave(found)

    def _connect(self, talk: Talk, until: Deadline) -> bool:
        try:
            talk.connect(until)
        except TielineError as error:
            self._fail(talk, error)
            if talk.events[-1].reason is not None:
                # Somebody answered; where nobody did, there is nothing to wait for.
                talk.settle(self._settling())
            return False
        return True

    def _ask(self, talk: Talk, until: Deadline) -> None:
        """Send, receive, close."""
        try:
            over = self._exchange(talk, until)
        except TielineError as error:
            self._fail(talk, error)
            over = False
        if self.close == "reset":
            talk.reset()
            talk.settle(self._settling())
            return
        if self.close == "server" and not over and self._failure is None:
            try:
                talk.receive_end(until)
            except TielineError as error:
                self._fail(talk, error)
            over = True
        self._close(talk, over)

    def _exchange(self, talk: Talk, until: Deadline) -> bool:
        """Whether the server has ended its stream."""
        if self._tls is not None:
            talk.secure(self._tls, self._server_name, until)
        if self._message:
            talk.send(self._message, until)
        if self._half_close:
            talk.end_stream()
        return self._wait_for_reply and talk.receive_reply(self._ending, until)

    def _close(self, talk: Talk, over: bool) -> None:
        """In good order: end the stream, and see the server end its own. What goes wrong now is
        seen in the trace, and is no failure of what was asked for."""
        until = self._settling()
        with suppress(TielineError):
            if not talk.has_ended and not talk.is_lost:
                talk.end_stream()
            if not over and not talk.is_lost:
                talk.receive_end(until)
        talk.settle(until)

    def _settling(self) -> Deadline:
        return Deadline(self._settle, "asking", self.address)

    def _fail(self, talk: Talk, error: TielineError) -> None:
        self._failure = error
        if isinstance(error, DeadlineError):
            talk.give_up(Note.TIMEOUT)


def trace(
    address: str | Address,
    message: bytes | None = None,
    *,
    reply: Codec | Callable[[bytes], bool] | None = None,
    wait_for_reply: bool | None = None,
    timeout: float | None = 10.0,
    settle: float = 2.0,
    half_close: bool = False,
    close: Close = "client",
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    captured: bool = True,
) -> Trace:
    """Make one short connection, and tell what happened on the wire. It blocks.

    The addresses of a name are tried one after the other; the trace is of the last one tried. A
    connection that cannot be made or goes wrong gives a trace all the same, with its `failure`.

    Args:
        address: `HOST:PORT` or `[IPv6]:PORT`.
        message: the bytes to send, all of them before the reply is read; `None`: nothing.
        reply: when the reply is whole: with a codec's first message, or when a function says so of
            all that has come, or (`None`, default) with its first bytes.
        wait_for_reply: whether to receive one before closing (default: where there is a message).
        timeout: seconds for all of it until the reply is whole (default 10); `None`: no limit. The
            system's resolver cannot be interrupted: what it takes over the limit is taken.
        settle: seconds to watch how the connection ends after that (default 2).
        half_close: end this side's stream before the reply.
        close: who closes first.
        tls: a client-side context; without one, plain TCP.
        server_name: the name the server must prove to have (default: the host).
        captured: whether to capture packets where that is possible (default). Where it is not, the
            trace is of what the socket sees; its `why_not_captured` says why.

    Raises:
        AddressError, SettingError, UsageError: the arguments make no sense.
        ResolveError: the name has no address.
        ConnectError: this machine has no port or descriptor for it.
    """
    return Call(
        address,
        message,
        reply=reply,
        wait_for_reply=wait_for_reply,
        timeout=timeout,
        settle=settle,
        half_close=half_close,
        close=close,
        tls=tls,
        server_name=server_name,
        captured=captured,
    ).run()


_NOTHING_SEEN_WHY = "no packet was seen"
