"""A small TCP relay between a client and a server under test, in which things go wrong."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Literal, NamedTuple, Self, TypeVar

from ..address import Address, parse_address
from ..errors import translate_os_error
from ..listener import Listener
from ..reactor import Reactor
from ..resolve import lookup_name, not_resolved, open_connection
from ..rules import Rule
from .effects import Effect
from .faults import Fault, Reset
from .relayed import CallLater, Direction, RelayedConnection, reset_socket
from .tally import Tally

__all__ = ["FaultRelay"]

AnyFault = TypeVar("AnyFault", bound=Fault)

_DIRECTIONS: dict[str, tuple[Direction, ...]] = {
    "up": ("up",), "down": ("down",), "both": ("up", "down"),
}  # fmt: skip


class _Set(NamedTuple):
    """A fault that is set: which one it was, and where."""

    number: int
    directions: tuple[Direction, ...]


class _Newcomer(NamedTuple):
    """A client for which the upstream is being connected to."""

    number: int
    socket: Any
    address: Address


class FaultRelay:
    """Passes on what clients and a server say to each other, with the faults that are set::

        async with tieline.testing.FaultRelay("127.0.0.1:7788") as relay:
            slow = relay.add(Delay(0.05, jitter=0.02), direction="down")
            reply = await tieline.ask(relay.address, b"hello")
            relay.assert_happened(slow)

    Without faults it carries bytes, ends in good order and resets as they are. Faults are added
    and removed at any time; connections that are open meet the change at once. A receiver that
    takes nothing stops the reading from its sender, as it would without the relay.

    For the loop that it is opened on. `tieline.testing.blocking.FaultRelay` is for tests without
    asyncio.

    Args:
        upstream: where the server listens: `HOST:PORT`, `[IPv6]:PORT`, `unix:PATH`.
        listen: where the relay does (default `127.0.0.1:0`: a port that the system chooses).
        seed: of all that is left to chance (default 0). The same seed hits the same connections,
            counted in the order they came, with the same jitter.
        backlog: new connections that the kernel may hold before they are taken (default 128).
        max_held: bytes that it holds for a receiver, in each direction of each connection
            (default 1 MiB); more wait in the kernel.
        clock: tells seconds (default `time.monotonic`).
        call_later: calls a function so many seconds later (default: the loop's).

    Raises:
        AddressError, SettingError: the arguments make no sense.

    Attributes:
        upstream: where new connections go on to; may be changed.
        failures: why the upstream could not be connected to, for each client that was reset for it.
    """

    def __init__(
        self,
        upstream: str | Address,
        *,
        listen: str | Address = "127.0.0.1:0",
        seed: int = 0,
        backlog: int = 128,
        max_held: int = 1_048_576,
        clock: Callable[[], float] = time.monotonic,
        call_later: CallLater | None = None,
    ) -> None:
        self.upstream = parse_address(upstream)
        self.failures: list[BaseException] = []
        self.clock = clock
        self.call_later: CallLater = call_later or _call_later
        self._address = parse_address(listen)
        self._seed = seed
        self._backlog: int = Rule("connections", "", least=0).check("backlog", backlog)
        self._max_held: int = Rule("bytes", "").check("max_held", max_held)
        self._faults: dict[Fault, _Set] = {}
        self._faults_set = self._clients = 0
        self._tally = Tally()
        self._connections: dict[int, RelayedConnection] = {}
        self._connecting: dict[asyncio.Task[socket.socket], _Newcomer] = {}
        # Keeps the port while nobody listens on it.
        self._place: socket.socket | None = None
        self._listener: Listener | None = None
        self._ignores = False

    # ---- From opening to closing

    async def open(self) -> None:
        """Begin to listen.

        Raises:
            BindError: the address cannot be had.
            ResolveError: its name has no address.
        """
        if self._place is None:
            self._place = await _take_place(self._address)
            self._address = Address.from_socket_name(self._place.family, self._place.getsockname())
            self.accept_newcomers()

    async def close(self) -> None:
        """End everything: what may pass at once still does, then the connections are closed as
        when a relay's process ends. Idempotent."""
        self.refuse_newcomers()
        if self._place is not None:
            self._place.close()
            self._place = None
        for task in self._connecting:
            task.cancel()
        if self._connecting:
            await asyncio.wait(self._connecting)
        for connection in self.connections:
            connection.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        await self.close()

    @property
    def address(self) -> Address:
        """Where clients connect to; known once it is open."""
        return self._address

    @property
    def connections(self) -> list[RelayedConnection]:
        """Those that are open, in the order they came."""
        return list(self._connections.values())

    # ---- Faults

    def add(self, fault: AnyFault, direction: Literal["up", "down", "both"] = "both") -> AnyFault:
        """Have something go wrong, from now on. One that is set already begins anew.

        Args:
            fault: what. Several work together: the latest time and the smallest piece hold.
            direction: `"up"` from the client to the server, `"down"` back, or `"both"` (default).

        Returns:
            The fault, for `remove`.

        Raises:
            SettingError: there is no such direction.
        """
        Rule("choice", "", choices=tuple(_DIRECTIONS)).check("direction", direction)
        self.remove(fault)
        self._faults_set += 1
        where = self._faults[fault] = _Set(self._faults_set, _DIRECTIONS[direction])
        for connection in self.connections:
            self._meet(connection, fault, where)
        return fault

    def remove(self, fault: Fault) -> None:
        """Have it go wrong no more. Idempotent."""
        if self._faults.pop(fault, None) is not None:
            for connection in self.connections:
                connection.leave(fault)

    def remove_all(self) -> None:
        """Remove all faults. Newcomers are still received as said last."""
        for fault in self.faults:
            self.remove(fault)

    @property
    def faults(self) -> list[Fault]:
        """Those that are set, in the order they were."""
        return list(self._faults)

    def _meet(self, connection: RelayedConnection, fault: Fault, where: _Set) -> None:
        # Each draw has a seed of its own, so that neither other faults nor the order in which
        # bytes come change it.
        dice = f"{self._seed}/{where.number}/{connection.number}"
        if Random(dice).random() >= fault.probability:
            return
        effects: dict[Direction, Effect] = {
            direction: fault.begin(
                partial(self._tally.count, fault.name, fault), Random(f"{dice}/{direction}")
            )
            for direction in where.directions
        }
        connection.meet(fault, effects)

    def reset_all(self) -> int:
        """Cut off every open connection now (RST on both sides). Returns how many."""
        connections = self.connections
        for connection in connections:
            connection.reset()
        return len(connections)

    # ---- What has happened

    @property
    def happened(self) -> Counter[str]:
        """How often each kind of fault has really had an effect, by its name: `delay`, `rate` and
        `stall` count pieces that had to wait, `slice` the cuts, `black_hole` pieces lost,
        `slow_close` late ends, `cut` and `reset` connections."""
        return Counter(self._tally.by_name)

    def assert_happened(self, what: Fault | str, times: int = 1) -> None:
        """Assert that a fault has really happened, so that a test cannot pass without it.

        Args:
            what: a fault that was added, or the name of a kind.
            times: how often at least (default 1).

        Raises:
            AssertionError: it has not.
            SettingError: no kind of fault has this name.
        """
        self._tally.expect(what, times)

    async def wait_happened(self, what: Fault | str, times: int = 1) -> None:
        """Wait until a fault has happened so often. Cancelling is harmless.

        Raises:
            SettingError: no kind of fault has this name.
        """
        await self._tally.wait(what, times)

    # ---- Newcomers

    def accept_newcomers(self) -> None:
        """Take new connections, as from the beginning. Those that waited come first."""
        self._ignores = False
        if self._listener is not None:
            self._listener.resume()
        elif self._place is not None:
            listening = _listen(self._place, self._backlog)
            reactor = Reactor.of(asyncio.get_running_loop())
            self._listener = Listener(self, reactor, listening)

    def ignore_newcomers(self) -> None:
        """Take no new connections: they wait in the kernel, connected and never answered, as long
        as its queue has room."""
        self.accept_newcomers()
        self._ignores = True

    def refuse_newcomers(self) -> None:
        """Stop listening: new connections are refused (RST), those that wait are cut off. The port
        stays the relay's."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    # ---- For the listener, and the connections

    def can_accept(self, listener: Listener) -> bool:
        """Not for applications: whether newcomers are taken."""
        return not self._ignores

    def accepted(self, connected: Any, name: Any, listener: Listener) -> None:
        """Not for applications: a client has come."""
        self._clients += 1
        connected.setblocking(False)
        client = Address.from_socket_name(listener.family, name)
        task = asyncio.get_running_loop().create_task(open_connection(self.upstream))
        self._connecting[task] = _Newcomer(self._clients, connected, client)
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[socket.socket]) -> None:
        newcomer = self._connecting.pop(task)
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self.failures.append(failure)
        if failure is not None or task.cancelled():
            reset_socket(newcomer.socket)
            return
        reactor = Reactor.of(asyncio.get_running_loop())
        connection = RelayedConnection(self, reactor, *newcomer, task.result(), self._max_held)
        self._connections[newcomer.number] = connection
        for fault, where in list(self._faults.items()):
            self._meet(connection, fault, where)
        connection.go_on()

    def accept_failed(self, error: OSError, refused: bool, rests: bool) -> None:
        """Not for applications: the listener has logged what there is to say."""

    def accepts_again(self) -> None:
        """Not for applications: nothing to do."""

    def listener_broke(self, listener: Listener) -> None:
        """Not for applications: it has logged so."""
        self._listener = None

    def connection_gone(self, connection: RelayedConnection, was_reset: bool) -> None:
        """Not for applications: it is over."""
        if was_reset:
            self._tally.count(Reset.name)
        self._connections.pop(connection.number, None)


def _call_later(seconds: float, call: Callable[[], object]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, call)


async def _take_place(address: Address) -> socket.socket:
    """A socket that holds the address, and does not listen."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            lookup_name(address), address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise not_resolved(error, address) from error
    family, _, _, _, name = found[0]
    return _bound(family, name, address)


def _listen(place: socket.socket, backlog: int) -> socket.socket:
    name = place.getsockname()
    address = Address.from_socket_name(place.family, name)
    listening = _bound(place.family, name, address)
    try:
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise translate_os_error(error, "bind", address) from error
    return listening


def _bound(family: int, name: Any, address: Address) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # So that two sockets may have one address while only one of them listens.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.setblocking(False)
        bound.bind(name)
    except OSError as error:
        bound.close()
        raise translate_os_error(error, "bind", address) from error
    return bound
