"""A server: where it listens, how it starts, and how it stops."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import ssl
import time
from collections.abc import Callable, Generator
from typing import Any, Self

from .acceptor import Acceptor
from .address import Address, parse_address
from .admission import Admission
from .charset import Charset, message_codec
from .connection import Connection
from .errors import SettingError, UsageError, translate_os_error
from .events import DrainBegun, DrainEnded, ServerStarted
from .framing import Codec, Framing, Raw
from .hosting import Conversation, Handler
from .limits import Limits
from .listener import Listener, close_listening, open_listening_sockets
from .operating import Operating
from .reactor import Reactor
from .reasons import CloseReason

__all__ = ["Conversation", "Handler", "Server", "serve"]


class Server(Operating):
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
        self,
        addresses: tuple[str | Address, ...],
        backlog: int,
        unix_mode: int | None,
        *arguments: Any,
    ) -> None:
        """Not for applications, which call `serve`."""
        super().__init__(*arguments)
        self._addresses = [parse_address(address) for address in addresses]
        self._backlog = backlog
        self._unix_mode = unix_mode
        self._started = False
        self._closed = False
        self._draining = False
        self._listened: list[Address] = []
        #: Makes listening sockets; the one place where tests put faults in.
        self.make_socket: Callable[[int, int], socket.socket] = socket.socket

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
        sockets = await open_listening_sockets(
            self._addresses, self._backlog, self.make_socket, self._unix_mode
        )
        self._context = contextvars.copy_context()
        try:
            if self._closed:
                raise UsageError("the server was closed while it was starting")
            self._reactor = Reactor.of(asyncio.get_running_loop())
            self._acceptor = Acceptor(self, self._reactor)
            self._set_up_acceptor()
            for listening in sockets:
                listener = Listener(self._acceptor, self._reactor, listening)
                self._acceptor.listeners.append(listener)
        except BaseException as error:
            self.close_listeners()
            for listening in sockets:
                close_listening(listening)
            if self._reactor is not None:
                self._reactor.close_if_unused()
            if isinstance(error, OSError):
                raise translate_os_error(error, "bind", self._addresses[0]) from error
            raise
        self._listened = [listener.address for listener in self._acceptor.listeners]
        self.started_at = time.time()
        if self.events.wanted:
            self.events.announce(ServerStarted(addresses=tuple(self._listened)))

    @property
    def addresses(self) -> list[Address]:
        """Where it listens (or did, once closed), with the ports that the system chose."""
        return list(self._listened)

    def close_listeners(self) -> None:
        """Let nobody new in; those connected go on undisturbed. Idempotent."""
        self._closed = True
        if self._acceptor is not None:
            self._acceptor.close()
        self._check_all_gone()

    @property
    def is_draining(self) -> bool:
        """Whether `drain` has begun."""
        return self._draining

    async def drain(self, seconds: float = 10.0, spread: float = 0.0) -> bool:
        """Stop in good order: no newcomers, close the idle, let the busy finish.

        A connection is idle when no message is under way in either direction and its handler
        waits for the next one. A conversation sees its messages end; a busy one is closed after
        the message it is at. `Connection.is_finishing` tells a handler. What is left after the
        time is reset.

        Args:
            seconds: how long they have.
            spread: seconds over which connections are told, evenly, so that their clients do not
                return in one instant (default 0: all at once).

        Returns:
            Whether all of them finished in time.

        Raises:
            SettingError: a time is negative, or the spread longer than the whole.

        Cancelling stops the wait; connections go on draining.
        """
        if not 0 <= spread <= seconds:
            raise SettingError(
                "spread ({spread}) must be from 0 to the whole time for draining ({seconds})",
                spread=spread,
                seconds=seconds,
            )
        self._draining = True
        self.close_listeners()
        if self.events.wanted:
            begun = DrainBegun(connections=len(self), seconds=seconds, spread=spread)
            self.events.announce(begun)
        self._sweep(self.connections, Connection.finish, spread)
        left, in_time = 0, True
        try:
            async with asyncio.timeout(seconds):
                await self.wait_closed()
        except TimeoutError:
            left, in_time = len(self), False
            await self.close(CloseReason.DRAIN_TIMEOUT)
        if self.events.wanted:
            self.events.announce(DrainEnded(reset=left))
        return in_time

    async def close(self, reason: CloseReason = CloseReason.SHUTDOWN) -> None:
        """Stop now: no newcomers, connections are reset, conversations cancelled. Idempotent.

        Args:
            reason: the close reason of the connections that are open.
        """
        self.close_listeners()
        for sweep in self._sweeps:
            sweep.cancel()
        self._sweeps.clear()
        if self._cleaning is not None:
            self._cleaning.cancel()
            self._cleaning = None
        for connection in self.connections:
            connection.abort(reason)
        tasks = list(self._stragglers)
        current = asyncio.current_task()
        for task in tasks:
            if task is not current:
                task.cancel()
        if waiting := [task for task in tasks if task is not current]:
            await asyncio.wait(waiting)
        self.events.flush()

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

    def make_codec(maximum: int) -> Codec:
        return message_codec(framing, charset, maximum)

    make_codec(limits.max_message)  # what cannot work is said now, not to the first client
    return Server(
        addresses, backlog, unix_mode,
        handler, make_codec, limits, tls, on_open, on_close, on_refuse, admission,
    )  # fmt: skip
