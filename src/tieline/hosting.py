"""Who is in: what any server does with its connections, from the door to the end."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

from .acceptor import Acceptor
from .address import Address
from .admission import Admission, Client, LocalAdmission, Penalty
from .clocks import first_check
from .counters import Counters
from .errors import UsageError
from .events import (
    ClientPenalized,
    ConnectionClosed,
    ConnectionOpened,
    Events,
    HandlerFailed,
    LimitSpared,
    TableOverflowed,
)
from .limits import LIMIT_OF_REASON, PENALTY_OF_REASON, Limits
from .listener import Listener
from .reactor import Reactor
from .reasons import CloseReason
from .states import State
from .tls import TlsSocket

__all__ = ["Hosting"]

#: Seconds between two looks at what admission need not remember any more.
_CLEANING = 1.0

#: Seconds between two events that say that the table of clients is full.
_OVERFLOW_PAUSE = 60.0

_log = logging.getLogger("tieline")


class Hosting:
    """The connections of a server. What is done with each, subclasses say: `Server` has a handler
    for it, a guard relays it.

    Attributes:
        limits: what it allows.
        counters: what it has done.
        admission: who may come in, and who holds connections now.
        events: what happens, for whoever subscribes.
        started_at: when it began to listen, in seconds since 1970; 0.0 before.
    """

    def __init__(
        self,
        limits: Limits,
        tls: ssl.SSLContext | None,
        on_open: Callable[[Any], object] | None,
        on_close: Callable[[Any, CloseReason], object] | None,
        on_refuse: Callable[[Address, CloseReason], object] | None,
        admission: Admission | None,
    ) -> None:
        self.limits = limits
        self.first_check = first_check(limits)
        self.counters = Counters()
        self.events = Events()
        self.started_at = 0.0
        self.admission: Admission = admission or LocalAdmission(limits, self._clock)
        self.admission.on_spared = self._spared
        self.admission.on_overflow = self._table_overflowed
        self.admission.on_penalized = self._penalized
        self._tls = tls
        self._on_open = on_open
        self._on_close = on_close
        self._on_refuse = on_refuse
        self._reactor: Reactor | None = None
        self._acceptor: Acceptor | None = None
        self._connections: dict[int, Any] = {}
        self._all_gone: list[asyncio.Future[None]] = []
        self._cleaning: asyncio.TimerHandle | None = None
        self._overflow_told_at = -math.inf

    # ---- What subclasses fill in

    def _make_connection(
        self, channel: socket.socket | TlsSocket, peer: str | Address, port: int
    ) -> Any:
        """Make the connection of a socket that was admitted."""
        raise NotImplementedError

    def _begin_serving(self, connection: Any) -> None:
        """It is in, and everybody has been told."""

    def _pack_words(self, limits: Limits, text: str) -> bytes:
        """A last word to refused clients, as they can read it."""
        return text.encode()

    def _check_limits(self, limits: Limits) -> None:
        """See that limits can be used.

        Raises:
            SettingError: they cannot.
        """

    def _is_at_rest(self) -> bool:
        """Whether nothing but connections is under way."""
        return True

    def _has_account(self, connection: Any) -> bool:
        """Whether a bad end is charged to the account of its client."""
        return True

    # ---- Facts

    def _clock(self) -> float:
        return self._reactor.clock() if self._reactor is not None else time.monotonic()

    @property
    def connections(self) -> Iterator[Any]:
        """The connections that are open now, oldest first."""
        return iter(list(self._connections.values()))

    def connection(self, id: int) -> Any:
        """The open connection of this number."""
        return self._connections.get(id)

    def __len__(self) -> int:
        return len(self._connections)

    # ---- What the acceptor calls

    def let_in(
        self, connected: socket.socket, peer: str | Address, port: int, client: Client
    ) -> Any:
        """Not for applications: make a connection of a socket that was admitted."""
        assert self._reactor is not None
        channel: socket.socket | TlsSocket = connected
        if self._tls is not None:
            channel = TlsSocket(connected, self._tls, server_side=True)
        connection = self._make_connection(channel, peer, port)
        connection.client = client
        self.counters.accepted += 1
        self._connections[connection.id] = connection
        return connection

    def client_refused(self, peer: Address, reason: CloseReason) -> None:
        """Not for applications: a client was told no at the door."""
        if self._on_refuse is not None:
            try:
                self._on_refuse(peer, reason)
            except Exception:
                _log.exception("the on_refuse hook failed")

    def listener_broke(self, listener: Listener) -> None:
        """Not for applications: it has closed itself."""
        self._check_all_gone()

    # ---- Limits and penalties

    @property
    def fullness(self) -> float:
        """The share of the total places that are taken, 0 to 1."""
        total = self.limits.total
        return 0.0 if total is None else len(self._connections) / total

    def limit_spared(self, connection: Any, reason: CloseReason) -> None:
        """Not for applications: a clock on trial has struck."""
        self._spared(reason, connection.client.key, connection.id)

    def _spared(self, reason: CloseReason, client: str, id: int = 0) -> None:
        limit = LIMIT_OF_REASON[reason]
        self.counters.spared[limit] += 1
        if self.events.wanted:
            self.events.announce(LimitSpared(limit=limit, client=client, id=id))

    def penalize(self, connection: Any, seconds: float, why: str) -> None:
        """Not for applications, which call `Connection.penalize`."""
        if not seconds > 0:
            raise UsageError(
                "a penalty is a number of seconds above zero, not {seconds!r}", seconds=seconds
            )
        self.admission.penalize(connection.client, seconds, why)

    def _penalized(self, penalty: Penalty, seconds: float) -> None:
        self._clean_later()
        self.counters.penalties += 1
        if self.events.wanted:
            self.events.announce(
                ClientPenalized(
                    client=penalty.key, seconds=seconds, owed=penalty.owed, why=penalty.why,
                    refused=penalty.refused,
                )
            )  # fmt: skip

    def _clean_later(self) -> None:
        """Somebody may have to be remembered for a while: look now and then for how long."""
        if self._cleaning is None and self._reactor is not None and not self._is_over():
            self._cleaning = self._reactor.loop.call_later(_CLEANING, self._clean)

    def _clean(self) -> None:
        self._cleaning = None
        self.admission.clean()
        admission = self.admission
        if admission.known > len(admission.clients) or any(admission.bans()):
            self._clean_later()

    def _is_over(self) -> bool:
        """Whether nobody comes any more."""
        return self._acceptor is None or not self._acceptor.listeners

    def _table_overflowed(self) -> None:
        self.counters.table_overflows += 1
        # Each newcomer of a flood would be an event; one a minute tells it all.
        if self.events.wanted and self._clock() >= self._overflow_told_at + _OVERFLOW_PAUSE:
            self._overflow_told_at = self._clock()
            mode = self.limits.table_full
            self.events.announce(TableOverflowed(known=self.admission.known, mode=mode))

    # ---- A connection's life

    def begin(self, connection: Any) -> None:
        """Not for applications: it is in; start its handler."""
        if self.limits.per_client_rate is not None:
            self._clean_later()
        if self.events.wanted:
            self._announce_opened(connection)
        if self._on_open is not None:
            try:
                self._on_open(connection)
            except Exception as error:
                self.handler_failed(connection, error)
                connection.close(CloseReason.HANDLER_ERROR)
                return
            if connection.state is State.CLOSED or connection.state is State.CLOSING:
                return  # the hook has shown it out
        self._begin_serving(connection)

    def _announce_opened(self, connection: Any) -> None:
        self.events.announce(
            ConnectionOpened(
                id=connection.id, peer=connection.peer, local=connection.local,
                client=connection.client.key,
            )
        )  # fmt: skip

    def handler_failed(self, connection: Any, error: BaseException) -> None:
        """A handler raised: count it and log it, once."""
        self.counters.handler_errors += 1
        _log.error(
            "the handler of connection %d (%s) failed",
            connection.id,
            connection.peer,
            exc_info=error,
        )
        if self.events.wanted:
            text = f"{type(error).__name__}: {error}"
            self.events.announce(HandlerFailed(id=connection.id, peer=connection.peer, error=text))

    def connection_gone(self, connection: Any) -> None:
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
        self.admission.release(connection.client)
        if reason in PENALTY_OF_REASON and self._has_account(connection):
            seconds = getattr(self.limits, PENALTY_OF_REASON[reason])
            if seconds:
                self.penalize(connection, seconds, reason.value)
        if self._acceptor is not None:
            self._acceptor.one_less(connection)
        if self.events.wanted:
            self._announce_closed(connection, reason)
        if self._on_close is not None:
            try:
                self._on_close(connection, reason)
            except Exception as error:
                self.handler_failed(connection, error)
        if self._all_gone:
            self._check_all_gone()

    def _announce_closed(self, connection: Any, reason: CloseReason) -> None:
        self.events.announce(
            ConnectionClosed(
                id=connection.id, peer=connection.peer, client=connection.client.key,
                reason=reason, duration=connection.age,
                bytes_received=connection.bytes_received, bytes_sent=connection.bytes_sent,
                messages_received=connection.messages_received,
                messages_sent=connection.messages_sent, upstream=connection.upstream,
            )
        )  # fmt: skip

    def _is_all_gone(self) -> bool:
        return self._is_over() and not self._connections and self._is_at_rest()

    def _check_all_gone(self) -> None:
        if self._all_gone and self._is_all_gone():
            waiting, self._all_gone = self._all_gone, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)
