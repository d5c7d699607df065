"""The door of a server: who accepts newcomers, lets them in, or tells them no.

The decision is `admission`'s. A refused client never becomes a connection: it costs a system
call or two and a counter.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from .address import Address
from .admission import Admission, Client
from .counters import Counters
from .events import AcceptPaused, AcceptResumed, ConnectionRefused, Events
from .eviction import Holdings, idlest, idlest_of_biggest
from .limits import Limits
from .listener import Listener
from .reactor import Reactor
from .reasons import CloseReason

__all__ = ["Acceptor", "Host", "Who", "last_words"]

_LINGER_ZERO = struct.pack("ii", 1, 0)

#: Seconds between two looks for somebody to evict, while nobody may go.
_EVICTION_RETRY = 1.0

#: Seconds between two events that say that accepting has paused.
_TOLD_EVERY = 1.0


#: Host, scope and user of a client, as admission asks for them.
Who: TypeAlias = tuple[str, int, int | None]


class Host(Protocol):
    """Whom the newcomers are for: the server."""

    limits: Limits
    counters: Counters
    events: Events
    admission: Admission

    @property
    def connections(self) -> Iterable[Any]: ...

    def let_in(
        self, connected: socket.socket, peer: str | Address, port: int, client: Client
    ) -> Any:
        """Make a connection of it. The client is counted; it is released when this raises."""

    def begin(self, connection: Any) -> None:
        """It is in: what the application does with it."""

    def client_refused(self, peer: Address, reason: CloseReason) -> None:
        """Somebody was told no: for the application's hook."""

    def listener_broke(self, listener: Listener) -> None:
        """A listening socket has closed itself."""


class Acceptor:
    """Takes what the listeners accept.

    Attributes:
        listeners: those that are open.
        last_words: for each reason, what a refused client is told before it is closed; without
            an entry it is reset. (A reset leaves nothing behind in this kernel, however often
            they come.)
        holdings: which connections each client holds, while its own may be evicted.
    """

    __slots__ = (
        "_host", "_is_full", "_reactor", "_tell", "_told", "_told_at", "_wake", "holdings",
        "last_words", "listeners",
    )  # fmt: skip

    def __init__(self, host: Host, reactor: Reactor) -> None:
        self._host = host
        self._reactor = reactor
        self.listeners: list[Listener] = []
        self.last_words: dict[CloseReason, bytes] = {}
        self.holdings: Holdings | None = None
        # Whether listeners have stopped accepting because of the total cap.
        self._is_full = False
        self._wake: asyncio.TimerHandle | None = None
        # Whether subscribers were told of a pause, and when they were told of its end.
        self._told = False
        self._told_at = -_TOLD_EVERY
        self._tell: asyncio.TimerHandle | None = None

    # ---- What the listeners call

    def can_accept(self, listener: Listener) -> bool | None:
        """Whether there is room, and not too many have come at once. `None`: it does not matter,
        since nobody waits."""
        host = self._host
        if host.admission.full:
            evicts = host.limits.total_full == "evict"
            # Nobody goes for a newcomer that is not there.
            if evicts and not listener.somebody_waits():
                return None
            has_gone = evicts and self._make_room()
            if has_gone and host.admission.full:
                # The total was lowered: more must go, in the next turn.
                return None
            if not has_gone:
                self._is_full = True
                if evicts:
                    self._resume_in(_EVICTION_RETRY)
                self._paused("full")
                return False
        if host.limits.total_rate is not None:
            seconds = host.admission.delay()
            if seconds > 0:
                self._resume_in(seconds)
                self._paused("rate")
                return False
        return True

    def accepted(self, connected: socket.socket, name: Any, listener: Listener) -> None:
        """A client has come: let it in, or tell it no."""
        family = listener.family
        peer: str | Address
        uid = None
        scope = port = 0
        if family == socket.AF_INET:
            host, port = name
            peer = host
        elif family == socket.AF_INET6:
            host, port, _, scope = name
            peer = Address(host, port, scope=scope)
        else:
            host, uid = "", _peer_user(connected)
            peer = Address.from_socket_name(family, name)
        self.welcome(connected, peer, port, (host, scope, uid))

    def welcome(
        self, connected: socket.socket, peer: str | Address, port: int, who: Who
    ) -> Any | None:
        """Somebody is known: let him in, or tell him no.

        Args:
            connected: the socket; owned from here on.
            peer, port: as a stream keeps its peer.
            who: as admission asks for it.

        Returns:
            The connection; `None` if there is none.
        """
        admission = self._host.admission
        admitted = admission.admit(*who)
        if admitted is CloseReason.CLIENT_LIMIT and self.holdings is not None:
            client = admission.client(admission.key_of(*who))
            if client is not None and self._evict_own(client):
                admitted = admission.admit(*who)
            elif client is not None:
                admission.count_refusal(client, admitted)
        if (
            admitted is CloseReason.TOTAL_LIMIT
            and self._host.limits.total_full == "evict"
            and self._make_room()
        ):
            admitted = admission.admit(*who)
        if isinstance(admitted, CloseReason):
            self.refuse(connected, admitted, peer, port, who)
            return None
        if peer == admitted.host:
            peer = admitted.host  # one text for all of a client's connections
        try:
            connected.setblocking(False)
            connection = self._host.let_in(connected, peer, port, admitted)
        except OSError as error:
            # Out of memory for one more socket to watch: the others do not notice.
            self._give_back(connected, admitted)
            self.accept_failed(error, refused=True, rests=False)
            return None
        except BaseException:
            self._give_back(connected, admitted)
            raise
        if self.holdings is not None:
            self.holdings.add(connection)
        self._host.begin(connection)
        return connection

    def _give_back(self, connected: socket.socket, client: Client) -> None:
        self._host.admission.release(client)
        connected.close()

    def accept_failed(self, error: OSError, refused: bool, rests: bool) -> None:
        """A client could not be accepted."""
        counters = self._host.counters
        if refused:
            counters.refused[CloseReason.NO_DESCRIPTORS] += 1
        else:
            counters.accept_errors += 1
        if rests:
            self._paused("system")

    def accepts_again(self) -> None:
        """A listener's rest is over."""
        self._resumed()

    def listener_broke(self, listener: Listener) -> None:
        """It has closed itself: its socket is broken."""
        self.listeners.remove(listener)
        self._host.listener_broke(listener)

    # ---- Pausing

    def _paused(self, why: str) -> None:
        host = self._host
        host.counters.accept_pauses[why] += 1
        # A server that is full pauses and goes on with every connection that ends; once a second
        # is enough to know.
        if not host.events.wanted or self._told:
            return
        if self._now() >= self._told_at + _TOLD_EVERY:
            self._told = True
            host.events.announce(AcceptPaused(why=why))
        elif self._tell is None:
            # One that lasts is told all the same.
            self._tell = self._reactor.loop.call_later(_TOLD_EVERY, self._tell_later, why)

    def _tell_later(self, why: str) -> None:
        self._tell = None
        if not self._told and self._host.events.wanted:
            self._told = True
            self._host.events.announce(AcceptPaused(why=why))

    def _resumed(self) -> None:
        if self._tell is not None:
            self._tell.cancel()
            self._tell = None
        if self._told:
            self._told = False
            self._told_at = self._now()
            self._host.events.announce(AcceptResumed())

    def _now(self) -> float:
        return self._reactor.now or self._reactor.clock()

    def _resume_in(self, seconds: float) -> None:
        if self._wake is None:
            self._wake = self._reactor.loop.call_later(seconds, self._on_wake)

    def _on_wake(self) -> None:
        self._wake = None
        self.resume()

    def one_less(self, connection: Any) -> None:
        """A connection has ended: there may be room."""
        if self.holdings is not None:
            self.holdings.remove(connection)
        if self._is_full:
            self.resume()

    def resume(self) -> None:
        """Go on accepting, if there is room: limits have changed, or somebody has gone."""
        self._is_full = False
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        for listener in self.listeners:
            listener.resume()
        self._resumed()

    def close(self) -> None:
        """Let nobody new in. Idempotent."""
        if self._tell is not None:
            self._tell.cancel()
            self._tell = None
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        listeners, self.listeners = self.listeners, []
        for listener in listeners:
            listener.close()

    # ---- Making room

    def _make_room(self) -> bool:
        """At the total cap, where the idlest may be evicted: whether somebody went."""
        host = self._host
        limits = host.limits
        if limits.total is None or self._wake is not None:
            return False
        before = self._now() - limits.evict_idle
        too_many = host.admission.total - limits.total
        going = idlest_of_biggest(host.connections, before, limits.total, too_many)
        for connection in going:
            connection.abort(CloseReason.EVICTED)
        return bool(going)

    def _evict_own(self, client: Client) -> bool:
        """At a client's cap, where its own idlest may be evicted: whether one went."""
        assert self.holdings is not None
        before = self._now() - self._host.limits.evict_idle
        going = idlest(self.holdings.of(client), before)
        if going is None:
            return False
        going.abort(CloseReason.EVICTED)
        return True

    # ---- Saying no

    def refuse(
        self,
        connected: socket.socket,
        reason: CloseReason,
        peer: str | Address,
        port: int,
        who: Who,
    ) -> None:
        """Tell a client no, with a last word or by a reset, and close its socket."""
        host = self._host
        host.counters.refused[reason] += 1
        if reason in self.last_words:
            _say(connected, self.last_words[reason])
        else:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        connected.close()
        address = Address(peer, port) if isinstance(peer, str) else peer
        if host.events.wanted:
            key = host.admission.key_of(*who)
            host.events.announce(ConnectionRefused(peer=address, client=key, reason=reason))
        host.client_refused(address, reason)


def last_words(
    limits: Limits, pack: Callable[[str], bytes], reasons: Iterable[CloseReason] = CloseReason
) -> dict[CloseReason, bytes]:
    """What refused clients are told: `Limits.refusal`, with its `{reason}` filled in.

    Args:
        pack: makes a message of a text.
    """
    if limits.refusal is None:
        return {}
    return {each: pack(limits.refusal.replace("{reason}", each.value)) for each in reasons}


def _say(connected: socket.socket, words: bytes) -> None:
    """Send a last message and end the stream. What has come is read, or closing would reset, and
    could destroy our words before they are read."""
    connected.setblocking(False)
    # A client that is gone already, or whose window is shut, does not hear it: then it is closed
    # without a word.
    with contextlib.suppress(OSError):
        connected.send(words)
        connected.shutdown(socket.SHUT_WR)
        connected.recv(65_536)


def _peer_user(connected: socket.socket) -> int | None:
    """The user at the other end of a Unix socket (SO_PEERCRED, unix(7))."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid: int = struct.unpack("iII", raw)[1]
    return uid
