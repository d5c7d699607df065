"""Any server: where it listens, how it starts, and how it stops."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterable
from operator import methodcaller
from typing import Any, Self

from .acceptor import Acceptor
from .address import Address, parse_address
from .admission import Admission
from .errors import SettingError, UsageError, translate_os_error
from .events import DrainBegun, DrainEnded, ServerStarted
from .limits import Limits
from .listener import Listener, close_listening, open_listening_sockets
from .operating import Operating
from .reactor import Reactor
from .reasons import CloseReason

__all__ = ["Listening"]

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class Listening(Operating):
    """Accepts connections on one or more addresses, until it is drained or closed.

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
        limits: Limits,
        tls: ssl.SSLContext | None,
        on_open: Callable[[Any], object] | None,
        on_close: Callable[[Any, CloseReason], object] | None,
        on_refuse: Callable[[Address, CloseReason], object] | None,
        admission: Admission | None,
    ) -> None:
        """Not for applications, which call `tieline.serve`."""
        super().__init__(limits, tls, on_open, on_close, on_refuse, admission)
        self._addresses = [parse_address(address) for address in addresses]
        self._backlog = backlog
        self._unix_mode = unix_mode
        self._adopted: list[socket.socket] = []
        self._started = False
        self._closed = False
        self._draining = False
        self._listened: list[Address] = []
        # Its own listeners, each with the address that was asked for.
        self._places: list[tuple[Address, Listener]] = []
        # In which everything that it begins runs.
        self._context = contextvars.copy_context()
        #: Makes listening sockets; the one place where tests put faults in.
        self.make_socket: Callable[[int, int], socket.socket] = socket.socket

    # ---- What subclasses fill in

    def _make_acceptor(self) -> Acceptor:
        """The door."""
        assert self._reactor is not None
        return Acceptor(self, self._reactor)

    async def _end(self) -> None:
        """It is being closed, and its connections are over: end what else there is."""

    # ---- Its life

    def adopt(self, *sockets: socket.socket) -> None:
        """Listen on sockets that listen already, such as systemd hands over; before `start`.

        They are the server's from now on, and closed with it, also if it never starts. Their
        backlog is left as it is. The file of a Unix socket stays when it closes: it is of whoever
        has made it.

        Raises:
            SettingError: one of them is not a TCP or Unix stream socket that listens, or is
                wrapped in TLS; none of them is taken.
            UsageError: the server was started or closed before.
        """
        if self._started or self._closed:
            raise UsageError("a server that was started or closed takes no more sockets")
        for each in sockets:
            _check_listens(each)
        self._adopted.extend(sockets)

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
        adopted, self._adopted = self._adopted, []
        opened: list[tuple[Address, socket.socket]] = []
        try:
            opened = await self._open(self._addresses)
        except BaseException:
            for each in adopted:
                each.close()
            raise
        self._context = contextvars.copy_context()
        try:
            if self._closed:
                raise UsageError("the server was closed while it was starting")
            self._reactor = Reactor.of(asyncio.get_running_loop())
            self._acceptor = self._make_acceptor()
            self._set_up_acceptor()
            for listening in adopted:
                _prepare(listening)
                listener = Listener(self._acceptor, self._reactor, listening, unlink=False)
                self._acceptor.listeners.append(listener)
            for address, listening in opened:
                self._listen(address, listening)
        except BaseException as error:
            self.close_listeners()
            for _, listening in opened:
                close_listening(listening)
            for listening in adopted:
                listening.close()
            if self._reactor is not None:
                self._reactor.close_if_unused()
            if isinstance(error, OSError):
                raise translate_os_error(error, "bind", self._first_address()) from error
            raise
        self._list_addresses()
        self.started_at = time.time()
        if self.events.wanted:
            self.events.announce(ServerStarted(addresses=tuple(self._listened)))

    async def _open(self, addresses: Iterable[Address]) -> list[tuple[Address, socket.socket]]:
        """Sockets that listen, each with the address that it is for: on all of them, or none."""
        opened: list[tuple[Address, socket.socket]] = []
        try:
            for address in addresses:
                sockets = await open_listening_sockets(
                    [address], self._backlog, self.make_socket, self._unix_mode
                )
                opened += [(address, listening) for listening in sockets]
        except BaseException:
            for _, listening in opened:
                close_listening(listening)
            raise
        return opened

    def _listen(self, address: Address, listening: socket.socket) -> None:
        """Accept on a socket that was opened for this address."""
        assert self._acceptor is not None
        assert self._reactor is not None
        listener = Listener(self._acceptor, self._reactor, listening)
        self._acceptor.listeners.append(listener)
        self._places.append((address, listener))

    @property
    def addresses(self) -> list[Address]:
        """Where it listens (or did, once closed), with the ports that the system chose."""
        return list(self._listened)

    async def add_addresses(self, *addresses: str | Address) -> None:
        """Listen on these too while it runs: on all of them, or on none.

        Args:
            addresses: as for `tieline.serve`; where it listens already, nothing changes.

        Raises:
            BindError: an address cannot be listened on.
            ResolveError: a name has no address.
            UsageError: it does not listen: it was not started yet, or has stopped.

        Cancelled, it listens on none of them.
        """
        known = {address for address, _ in self._places}
        wanted = dict.fromkeys(parse_address(address) for address in addresses)
        opened = await self._open(address for address in wanted if address not in known)
        try:
            if not self._started or self._closed:
                raise UsageError("a server that does not listen takes no more addresses")
            for address, listening in opened:
                self._listen(address, listening)
        except BaseException as error:
            self.remove_addresses(*(address for address, _ in opened))
            for _, listening in opened:
                close_listening(listening)
            if isinstance(error, OSError):
                raise translate_os_error(error, "bind", self._first_address()) from error
            raise
        self._list_addresses()

    def remove_addresses(self, *addresses: str | Address) -> None:
        """Listen on these no longer; whoever has come there goes on undisturbed. Idempotent.

        Where none is left, it is as after `close_listeners`.

        Args:
            addresses: as they were given when it was made, or to `add_addresses`.
        """
        unwanted = {parse_address(address) for address in addresses}
        gone = [listener for address, listener in self._places if address in unwanted]
        self._places = [each for each in self._places if each[0] not in unwanted]
        if self._acceptor is None or not gone:
            return
        left = [each for each in self._acceptor.listeners if each not in gone]
        if not left:
            self.close_listeners()
            return
        self._acceptor.listeners = left
        for listener in gone:
            listener.close()
        self._list_addresses()

    def listener_broke(self, listener: Listener) -> None:
        # It listens there no longer, so that it can be told to once more.
        self._places = [each for each in self._places if each[1] is not listener]
        if not self._is_over():
            self._list_addresses()
        super().listener_broke(listener)

    def _list_addresses(self) -> None:
        assert self._acceptor is not None
        self._listened = [listener.address for listener in self._acceptor.listeners]

    def close_listeners(self) -> None:
        """Let nobody new in; those connected go on undisturbed. Idempotent."""
        self._closed = True
        adopted, self._adopted = self._adopted, []
        for listening in adopted:
            # Never started: they were the server's all the same.
            listening.close()
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
        self._sweep(self.connections, methodcaller("finish"), spread)
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
        """Stop now: no newcomers, connections are reset. Idempotent.

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
        await self._end()
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

    def _first_address(self) -> Address | str:
        return self._addresses[0] if self._addresses else "the sockets that were handed over"


def _check_listens(given: socket.socket) -> None:
    if isinstance(given, ssl.SSLSocket):
        # Its `accept` would wait for the handshake, and everybody with it.
        raise SettingError(
            "descriptor {descriptor} is wrapped in TLS",
            hint="give the plain socket, and the context as tls",
            descriptor=given.fileno(),
        )
    try:
        listens = (
            given.family in _FAMILIES
            and given.type == socket.SOCK_STREAM
            and given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        )
    except OSError:
        # Closed.
        listens = False
    if not listens:
        raise SettingError(
            "descriptor {descriptor} is not a stream socket that listens",
            hint="call listen() on it first",
            descriptor=given.fileno(),
        )


def _prepare(listening: socket.socket) -> None:
    """As if it were opened here."""
    listening.setblocking(False)
    if listening.family != socket.AF_UNIX:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
