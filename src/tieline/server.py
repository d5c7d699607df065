"""A server: a handler for each connection that comes."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from .address import Address
from .admission import Admission
from .charset import Charset, message_codec
from .connection import Connection
from .conversation import connection_of
from .errors import ConnectionClosedError, PeerError, SettingError, TlsError, UsageError
from .framing import Codec, Framing, Raw
from .limits import Limits
from .listening import Listening
from .reasons import CloseReason
from .responder import Respond, RespondingConnection
from .tls import TlsSocket

__all__ = ["Conversation", "Handler", "Server", "serve"]

#: A coroutine function that is given the connection: one task for each.
Conversation = Callable[[Connection], Awaitable[None]]
#: A conversation, or a responder: a plain function called with each message.
Handler = Conversation | Respond


class Server(Listening):
    """Serves connections on one or more addresses. Made by `tieline.serve`.

    Use it as an asynchronous context (leaving it closes it), or call `start` and `close`.

    Attributes:
        limits: what it allows; `change_limits` changes it.
        counters: what it has done.
        admission: who may come in, and who holds connections now.
        events: what happens, for whoever subscribes.
        started_at: when it began to listen, in seconds since 1970; 0.0 before.
    """

    def __init__(
        self, handler: Handler, make_codec: Callable[[int], Codec], *arguments: Any
    ) -> None:
        """Not for applications, which call `serve`."""
        self._make_codec = make_codec
        # Conversations that go on after their connection has ended. The others are found, and
        # kept alive, through their connection.
        self._stragglers: set[asyncio.Task[None]] = set()
        self._conversation: Conversation | None = None
        # One bound method for all conversations: 64 bytes for each otherwise.
        self._on_ended = self._conversation_ended
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__
        ):
            self._conversation = cast(Conversation, handler)
            self._connection_type: type[Connection] = Connection
        else:
            self.responder = cast(Respond, handler)
            self._connection_type = RespondingConnection
        super().__init__(*arguments)

    if TYPE_CHECKING:
        # What connections are here, for those who check types.
        @property
        def connections(self) -> Iterator[Connection]: ...

        def connection(self, id: int) -> Connection | None: ...

        def kick(self, *connections: Connection | int) -> int: ...

    # ---- A connection's life

    def _make_connection(
        self, channel: socket.socket | TlsSocket, peer: str | Address, port: int
    ) -> Connection:
        assert self._reactor is not None
        codec = self._make_codec(self.limits.max_message)
        return self._connection_type(self, self._reactor, channel, codec, peer, port)

    def _begin_serving(self, connection: Connection) -> None:
        if self._conversation is not None:
            self._context.copy().run(self._converse, connection)

    def _pack_words(self, limits: Limits, text: str) -> bytes:
        return self._make_codec(limits.max_message).pack_text(text)

    def _check_limits(self, limits: Limits) -> None:
        self._make_codec(limits.max_message)

    def _converse(self, connection: Connection) -> None:
        """Start the handler, in the context in which the server was started."""
        assert self._conversation is not None
        try:
            coroutine = self._conversation(connection)
            task = connection.start_conversation(cast(Any, coroutine))
        except Exception as error:
            self.handler_failed(connection, error)
            connection.close(CloseReason.HANDLER_ERROR)
        else:
            task.add_done_callback(self._on_ended, context=self._context)

    def _conversation_ended(self, task: asyncio.Task[None]) -> None:
        """The handler has returned, raised, or was cancelled: its connection ends with it."""
        connection: Connection = connection_of(task)
        if task.cancelled():
            connection.abort()
        else:
            error = task.exception()
            if error is None:
                connection.close()
            elif self._is_own_end(connection, error):
                # Its traceback holds frames that hold it: let them go now, not when garbage is
                # collected, since thousands may end together.
                error.__traceback__ = None
                connection.close()
            else:
                self.handler_failed(connection, error)
                connection.close(CloseReason.HANDLER_ERROR)
        # After closing, which tells other tasks that receive.
        connection.end_conversation()
        self._stragglers.discard(task)
        self._check_all_gone()

    @staticmethod
    def _is_own_end(connection: Connection, error: BaseException) -> bool:
        """Whether a handler was ended by its own connection's end: no mistake of its own."""
        return isinstance(error, (ConnectionClosedError, PeerError, TlsError)) and (
            not connection.is_receiving
        )

    def connection_gone(self, connection: Connection) -> None:
        """Not for applications: a connection has ended."""
        if (task := connection.task) is not None:
            self._stragglers.add(task)
        super().connection_gone(connection)

    def _is_at_rest(self) -> bool:
        return not self._stragglers

    async def _end(self) -> None:
        tasks = list(self._stragglers)
        current = asyncio.current_task()
        for task in tasks:
            if task is not current:
                task.cancel()
        if waiting := [task for task in tasks if task is not current]:
            await asyncio.wait(waiting)


def serve(
    handler: Handler,
    *addresses: str | Address,
    framing: Framing | None = None,
    encoding: str | None = None,
    errors: str = "strict",
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    on_open: Callable[[Connection], object] | None = None,
    on_close: Callable[[Connection, CloseReason], object] | None = None,
    on_refuse: Callable[[Address, CloseReason], object] | None = None,
    backlog: int = 4096,
    unix_mode: int | None = None,
    admission: Admission | None = None,
    sockets: Iterable[socket.socket] = (),
) -> Server:
    """Make a server; it listens once it is entered or started::

        async with tieline.serve(thank, "127.0.0.1:7788", encoding="gbk") as server:
            await server.wait_closed()

    Args:
        handler: a coroutine function `handler(connection)`, one conversation per connection,
            which is closed when it returns; or a plain function `handler(connection, message)`,
            whose result is the reply (`None`: no reply).
        addresses: where to listen: `HOST:PORT`, `[IPv6]:PORT`, `:PORT` for every address of
            the machine, `unix:PATH`; port 0 lets the system choose.
        framing: where messages end (default `Raw()`: wherever a read ends).
        encoding: their charset, `"auto"`, or `None` (default) for bytes.
        errors: `"strict"` (default) closes on undecodable bytes, `"replace"` shows U+FFFD.
        limits: what is allowed (default `Limits()`, all of it finite).
        tls: a server-side context; without one, plain TCP.
        on_open: called with each connection that was let in, before its handler.
        on_close: called with each connection that ended, and its reason.
        on_refuse: called with the address of each client told no at the door, and the reason.
        backlog: clients that the kernel holds before they are accepted (default 4096; the
            system may hold fewer: net.core.somaxconn).
        unix_mode: the permission bits of a Unix socket's file, such as `0o600` (default: as the
            umask says).
        admission: who decides who may come in, and counts (default: `LocalAdmission(limits)`).
        sockets: sockets that listen already, such as systemd hands over; then `addresses` may be
            left out. They are the server's, and closed with it; `backlog` and `unix_mode` are not
            for them, and a Unix socket's file stays.

    Raises:
        AddressError, SettingError: the arguments make no sense; sockets are still the caller's.
        UsageError: there is neither an address nor a socket.

    A handler that raises costs its own connection only: it is logged once and counted.
    """
    sockets = tuple(sockets)
    if not addresses and not sockets:
        raise UsageError("a server needs an address", hint='for example "127.0.0.1:7788"')
    if tls is not None and tls.protocol is ssl.PROTOCOL_TLS_CLIENT:
        raise SettingError(
            "a server needs a server-side TLS context",
            hint="make it with ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)",
        )
    limits = limits or Limits()
    framing = framing or Raw()
    charset = None if encoding is None else Charset(encoding, errors)

    def make_codec(maximum: int) -> Codec:
        return message_codec(framing, charset, maximum)

    make_codec(limits.max_message)  # what cannot work is said now, not to the first client
    server = Server(
        handler, make_codec, addresses, backlog, unix_mode,
        limits, tls, on_open, on_close, on_refuse, admission,
    )  # fmt: skip
    server.adopt(*sockets)
    return server
