"""Who a client really is, where another proxy stands before the guard: the PROXY header.

It is read before anybody is admitted, since policy is for the client that it names. It is believed
from stated sources only, and those must send one: nothing is guessed.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..acceptor import Acceptor, Host
from ..address import Address
from ..admission.networks import Networks, address_number, parse_network
from ..errors import MalformedError, reason_of
from ..listener import Listener
from ..proxy_protocol import Header, parse
from ..reactor import READABLE, Reactor
from ..reasons import CloseReason
from ..tls import SHORT_OF_MEMORY

if TYPE_CHECKING:
    from .settings import GuardSettings

__all__ = ["IntroducingAcceptor", "IntroducingHost", "Introduction", "Sources"]

#: A header's largest part is what it is read in.
_READ_SIZE = 4_096

#: Connections whose header has not come yet; more make the oldest go.
_MOST_WAITING = 1_000

#: Seconds of rest for one of them when the machine is short of memory, as for any connection.
_REST = 0.5


class Sources:
    """Networks whose word on who a client is, is taken."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str]) -> None:
        """
        Raises:
            SettingError: one of them is no network.
        """
        self._networks: Networks[bool] = Networks()
        for each in networks:
            self._networks.put(parse_network(each), True)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, host: str) -> bool:
        number = address_number(host)
        return number is not None and bool(self._networks.at(*number))


@dataclass(slots=True)
class Introduction:
    """What a header has told of a connection.

    Attributes:
        named: whether it says who the client is; if not, it is taken for the proxy itself.
        destination: where the client has connected to, as the proxy before saw it.
        ahead: what came behind the header, together with it.
    """

    named: bool
    destination: Address | None
    ahead: bytes


class IntroducingHost(Host, Protocol):
    """The guard, as far as introductions need it."""

    settings: GuardSettings
    #: Whose headers are believed; empty: nobody sends one.
    sources: Sources
    #: By descriptor: what is known of a socket that is about to be let in.
    introduced: dict[int, Introduction]


class IntroducingAcceptor(Acceptor):
    """A door at which stated sources say for whom they have come."""

    __slots__ = ("_guard", "_waiting")

    def __init__(self, host: IntroducingHost, reactor: Reactor) -> None:
        super().__init__(host, reactor)
        self._guard = host
        # In order of their coming.
        self._waiting: dict[_Waiting, None] = {}

    def accepted(self, connected: socket.socket, name: Any, listener: Listener) -> None:
        """A client has come, or a proxy that speaks for one."""
        if not self._guard.sources:
            super().accepted(connected, name, listener)
            return
        peer = Address.from_socket_name(listener.family, name)
        if peer.is_unix or peer.host not in self._guard.sources:
            who = (peer.host, peer.scope, None)
            self.refuse(connected, CloseReason.UNTRUSTED_SOURCE, peer, peer.port, who)
            return
        if len(self._waiting) >= _MOST_WAITING:
            next(iter(self._waiting)).end(CloseReason.PREAMBLE_TIMEOUT)
        connected.setblocking(False)
        try:
            waiting = _Waiting(self, self._reactor, connected, peer)
        except OSError as error:
            connected.close()
            self.accept_failed(error, refused=True, rests=False)
            return
        self._waiting[waiting] = None
        self._reactor.file(waiting, self._now() + self._guard.settings.preamble_timeout)
        # It usually comes in the first segment.
        waiting.on_ready(0)

    def introduced(self, waiting: _Waiting, header: Header, ahead: bytes) -> None:
        """The header is there: what counts from now on is the client that it names."""
        self.forget(waiting)
        connected = waiting.connected
        source = header.source or waiting.peer
        descriptor = connected.fileno()
        self._guard.introduced[descriptor] = Introduction(
            header.source is not None, header.destination, ahead
        )
        peer: str | Address = source
        if not source.is_unix and ":" not in source.host:
            peer = source.host
        try:
            self.welcome(connected, peer, source.port, (source.host, source.scope, None))
        finally:
            self._guard.introduced.pop(descriptor, None)

    def turned_away(self, waiting: _Waiting, reason: CloseReason) -> None:
        """No header has come, or none that can be read."""
        self.forget(waiting)
        peer = waiting.peer
        self.refuse(waiting.connected, reason, peer, peer.port, (peer.host, peer.scope, None))

    def forget(self, waiting: _Waiting) -> None:
        """Its wait is over."""
        self._waiting.pop(waiting, None)

    def close(self) -> None:
        super().close()
        for waiting in list(self._waiting):
            waiting.drop()
            self.forget(waiting)


class _Waiting:
    """A connection of a stated source whose header has not come yet."""

    __slots__ = ("_acceptor", "_data", "_reactor", "_rest", "connected", "peer", "slot")

    def __init__(
        self,
        acceptor: IntroducingAcceptor,
        reactor: Reactor,
        connected: socket.socket,
        peer: Address,
    ) -> None:
        self._acceptor = acceptor
        self._reactor = reactor
        self._data = bytearray()
        self._rest: asyncio.TimerHandle | None = None
        self.connected = connected
        self.peer = peer
        self.slot = 0
        reactor.register(connected.fileno(), self)

    def on_ready(self, mask: int) -> None:
        """The reactor's call: some of the header may be there."""
        try:
            data = self.connected.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in SHORT_OF_MEMORY:
                self._begin_rest()
            else:
                self.end(reason_of(error))
            return
        if not data:
            self.end(CloseReason.BAD_PREAMBLE)
            return
        self._data += data
        try:
            header = parse(self._data)
        except MalformedError:
            self.end(CloseReason.BAD_PREAMBLE)
            return
        if header is not None:
            self._leave()
            self._acceptor.introduced(self, header, bytes(self._data[header.size :]))

    def _begin_rest(self) -> None:
        """The machine is short of memory, which is not the client's fault: ask again in a while."""
        self._reactor.modify(self.connected.fileno(), select.EPOLLONESHOT)
        if self._rest is None:
            self._rest = self._reactor.loop.call_later(_REST, self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        self._reactor.modify(self.connected.fileno(), READABLE)

    def on_deadline(self, now: float) -> float | None:
        """The wheel's call: its time is over."""
        self.end(CloseReason.PREAMBLE_TIMEOUT)
        return None

    def end(self, reason: CloseReason) -> None:
        """Turn it away."""
        self._leave()
        self._acceptor.turned_away(self, reason)

    def drop(self) -> None:
        """Nobody is let in any more."""
        self._leave()
        self.connected.close()

    def _leave(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._reactor.withdraw(self)
        self._reactor.unregister(self.connected.fileno())
