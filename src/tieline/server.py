"""A server: listeners, admission, and a handler for each connection."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any, Self, cast

from .address import Address, parse_address
from .admission import Admission, Client
from .charset import Charset, message_codec
from .connection import Connection
from .conversation import connection_of
from .counters import Counters
from .errors import (
    ConnectionClosedError,
    PeerError,
    SettingError,
    TlsError,
    UsageError,
    translate_os_error,
)
from .framing import Codec, Framing, Raw
from .limits import Limits
from .listener import Listener, open_listening_sockets
from .reactor import Reactor
from .reasons import CloseReason
from .responder import Respond, RespondingConnection
from .states import State
from .tls import TlsSocket

__all__ = ["Conversation", "Handler", "Server", "serve"]

#: A coroutine function that is given the connection: one task for each.
Conversation = Callable[[Connection], Awaitable[None]]
#: A conversation, or a responder: a plain function called with each message.
Handler = Conversation | Respond

_LINGER_ZERO = struct.pack("ii", 1, 0)

_log = logging.getLogger("tieline")


class Server:
    """Serves connections on one or more addresses. Made by `tieline.serve`.

    Use it as an asynchronous context (leaving it closes it), or call `start` and `close`.

    Attributes:
        limits: what it allows.
        counters: what it has done.
        admission: who holds connections now.
    """

    def __init__(
        self,
        handler: Handler,
        addresses: tuple[str | Address, ...],
        make_codec: Callable[[], Codec],
        limits: Limits,
        tls: ssl.SSLContext | None,
        on_open: Callable[[Connection], object] | None,
        on_close: Callable[[Connection, CloseReason], object] | None,
        on_refuse: Callable[[Address, CloseReason], object] | None,
        backlog: int,
    ) -> None:
        self.limits = limits
        self.counters = Counters()
        self.admission = Admission(limits)
        self._addresses = [parse_address(address) for address in addresses]
        self._make_codec = make_codec
        self._tls = tls
        self._on_open = on_open
        self._on_close = on_close
        self._on_refuse = on_refuse
        self._backlog = backlog
        self._started = False
        self._closed = False
        # Whether listeners have stopped accepting because of the total cap.
        self._is_full = False
        self._reactor: Reactor | None = None
        self._listeners: list[Listener] = []
        self._listened: list[Address] = []
        self._connections: dict[int, Connection] = {}
        # Conversations that go on after their connection has ended. The others are found, and
        # kept alive, through their connection.
        self._stragglers: set[asyncio.Task[None]] = set()
        self._all_gone: list[asyncio.Future[None]] = []
        #: Makes listening sockets; the one place where tests put faults in.
        self.make_socket: Callable[[int, int], socket.socket] = socket.socket
        self._conversation: Conversation | None = None
        # One bound method and one context for all conversations: 136 bytes for each otherwise.
        self._on_ended = self._conversation_ended
        self._context = contextvars.copy_context()
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__
        ):
            self._conversation = cast(Conversation, handler)
            self._connection_type: type[Connection] = Connection
        else:
            self.responder = cast(Respond, handler)
            self._connection_type = RespondingConnection

    # ---- Starting and stopping

    async def start(self) -> None:
        """Listen on every address, or on none.

        Raises:
            BindError: an address cannot be listened on.
            ResolveError: a name has no address.
            UsageError: the server was started before.
        """
        if self._started:
            raise UsageError("a server starts once: make another")
        self._started = True
        sockets = await open_listening_sockets(self._addresses, self._backlog, self.make_socket)
        self._context = contextvars.copy_context()
        try:
            if self._closed:
                raise UsageError("the server was closed while it was starting")
            self._reactor = Reactor.of(asyncio.get_running_loop())
            for listening in sockets:
                self._listeners.append(Listener(self, self._reactor, listening))
        except BaseException as error:
            self.close_listeners()
            for listening in sockets:
                listening.close()
            if self._reactor is not None:
                self._reactor.close_if_unused()
            if isinstance(error, OSError):
                raise translate_os_error(error, "bind", self._addresses[0]) from error
            raise
        self._listened = [listener.address for listener in self._listeners]

    @property
    def addresses(self) -> list[Address]:
        """Where it listens (or did, once closed), with the ports that the system chose."""
        return list(self._listened)

    @property
    def connections(self) -> Iterator[Connection]:
        """The connections that are open now, oldest first."""
        return iter(list(self._connections.values()))

    def __len__(self) -> int:
        return len(self._connections)

    def close_listeners(self) -> None:
        """Let nobody new in; those connected go on undisturbed. Idempotent."""
        self._closed = True
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        self._check_all_gone()

    async def drain(self, seconds: float = 10.0) -> bool:
        """Stop in good order: no newcomers, close the idle, let the busy finish.

        A connection is idle when no message is under way in either direction and its handler
        waits for the next one. A conversation sees its messages end; a busy one is closed after
        the message it is at. What is left after the time is reset.

        Args:
            seconds: how long the busy ones have.

        Returns:
            Whether all of them finished in time.

        Cancelling stops the wait; connections go on draining.
        """
        self.close_listeners()
        for connection in self.connections:
            connection.finish()
        try:
            async with asyncio.timeout(seconds):
                await self.wait_closed()
        except TimeoutError:
            await self.close()
            return False
        return True

    async def close(self) -> None:
        """Stop now: no newcomers, connections are reset, conversations cancelled. Idempotent."""
        self.close_listeners()
        for connection in self.connections:
            connection.abort(CloseReason.SHUTDOWN)
        tasks = list(self._stragglers)
        current = asyncio.current_task()
        for task in tasks:
            if task is not current:
                task.cancel()
        if waiting := [task for task in tasks if task is not current]:
            await asyncio.wait(waiting)

    async def wait_closed(self) -> None:
        """Wait until the listeners are closed, every connection and every conversation over.

        Does not close anything.
        """
        while not self._is_all_gone():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._all_gone.append(future)
            await future

    async def serve_forever(self) -> None:
        """Serve until cancelled, or until another task closes the server."""
        if not self._started:
            await self.start()
        await self.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Self]:
        yield from self.start().__await__()
        return self

    # ---- What the listeners call

    def can_accept(self) -> bool:
        """Whether the total cap has room."""
        self._is_full = self.admission.full
        return not self._is_full

    def accepted(self, connected: socket.socket, name: Any, listener: Listener) -> None:
        """A client has come: let it in, or tell it no."""
        assert self._reactor is not None
        family = listener.family
        if family == socket.AF_INET:
            host, port = name
            admitted = self.admission.admit(host)
            peer: str | Address = host
        elif family == socket.AF_INET6:
            host, port, _, scope = name
            admitted = self.admission.admit(host, scope)
            peer = Address(host, port, scope=scope)
        else:
            port = 0
            admitted = self.admission.admit("", uid=_peer_user(connected))
            peer = Address.from_socket_name(family, name)
        if not isinstance(admitted, Client):
            self._refuse(connected, admitted, Address.from_socket_name(family, name))
            return
        if peer == admitted.host:
            peer = admitted.host  # one text for all of a client's connections
        try:
            channel: socket.socket | TlsSocket = connected
            if self._tls is not None:
                channel = TlsSocket(connected, self._tls, server_side=True)
            codec = self._make_codec()
            connection = self._connection_type(self, self._reactor, channel, codec, peer, port)
        except BaseException:
            self.admission.release(admitted)
            connected.close()
            raise
        connection.client = admitted
        self.counters.accepted += 1
        self._connections[connection.id] = connection
        self._begin(connection)

    def _refuse(self, connected: socket.socket, reason: CloseReason, peer: Address) -> None:
        # A reset leaves nothing behind in this kernel, however often they come.
        self.counters.refused[reason] += 1
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        connected.close()
        if self._on_refuse is not None:
            try:
                self._on_refuse(peer, reason)
            except Exception:
                _log.exception("the on_refuse hook failed")

    def accept_failed(self, error: OSError, refused: bool) -> None:
        """A client could not be accepted."""
        if refused:
            self.counters.refused[CloseReason.NO_DESCRIPTORS] += 1
        else:
            self.counters.accept_errors += 1

    def listener_broke(self, listener: Listener) -> None:
        """It has closed itself: its socket is broken."""
        self._listeners.remove(listener)
        self._check_all_gone()

    # ---- A connection's life

    def _begin(self, connection: Connection) -> None:
        if self._on_open is not None:
            try:
                self._on_open(connection)
            except Exception as error:
                self.handler_failed(connection, error)
                connection.close(CloseReason.HANDLER_ERROR)
                return
            if connection.state is State.CLOSED or connection.state is State.CLOSING:
                return  # the hook has shown it out
        if self._conversation is not None:
            self._context.copy().run(self._converse, connection)

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

    def handler_failed(self, connection: Connection, error: BaseException) -> None:
        """A handler raised: count it and log it, once."""
        self.counters.handler_errors += 1
        _log.error(
            "the handler of connection %d (%s) failed",
            connection.id,
            connection.peer,
            exc_info=error,
        )

    def connection_gone(self, connection: Connection) -> None:
        """A connection has ended."""
        reason = connection.close_reason
        assert reason is not None
        del self._connections[connection.id]
        counters = self.counters
        counters.closed[reason] += 1
        counters.bytes_received += connection.bytes_received
        counters.bytes_sent += connection.bytes_sent
        counters.messages_received += connection.messages_received
        counters.messages_sent += connection.messages_sent
        if (task := connection.task) is not None:
            self._stragglers.add(task)
        self.admission.release(connection.client)
        if self._is_full:
            self._is_full = False
            for listener in self._listeners:
                listener.resume()
        if self._on_close is not None:
            try:
                self._on_close(connection, reason)
            except Exception as error:
                self.handler_failed(connection, error)
        if self._all_gone:
            self._check_all_gone()

    def _is_all_gone(self) -> bool:
        return not (self._listeners or self._connections or self._stragglers)

    def _check_all_gone(self) -> None:
        if self._all_gone and self._is_all_gone():
            waiting, self._all_gone = self._all_gone, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)


def _peer_user(connected: socket.socket) -> int | None:
    """The user at the other end of a Unix socket (SO_PEERCRED, unix(7))."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid: int = struct.unpack("iII", raw)[1]
    return uid


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
    backlog: int = 1024,
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
        backlog: clients that the kernel holds before they are accepted (default 1024).

    Raises:
        AddressError, SettingError: the arguments make no sense.

    A handler that raises costs its own connection only: it is logged once and counted.
    """
    if not addresses:
        raise UsageError("a server needs an address", hint='for example "127.0.0.1:7788"')
    if tls is not None and tls.protocol is ssl.PROTOCOL_TLS_CLIENT:
        raise SettingError(
            "a server needs a server-side TLS context",
            hint="make it with ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)",
        )
    limits = limits or Limits()
    framing = framing or Raw()
    charset = None if encoding is None else Charset(encoding, errors)

    def make_codec() -> Codec:
        return message_codec(framing, charset, limits.max_message)

    make_codec()  # what cannot work is said now, not to the first client
    return Server(
        handler, addresses, make_codec, limits, tls, on_open, on_close, on_refuse, backlog
    )
