"""A guard: a front door for a TCP service, with tieline's policy at it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..acceptor import Acceptor
from ..address import Address
from ..admission import Admission
from ..errors import SettingError
from ..events import Event, SessionRelayed
from ..limits import Limits
from ..listening import Listening
from ..proxy_protocol import build
from ..reasons import CloseReason
from ..tls import TlsSocket
from .agreement import check_together
from .checking import Checks
from .client_leg import ClientLeg
from .dialling import Dialling
from .pool import Pool
from .preamble import IntroducingAcceptor, Introduction, Sources
from .resolving import Resolving
from .settings import GuardSettings
from .spec import UpstreamSpec
from .splicing import Pipes
from .upstream import Upstream
from .upstream_leg import UpstreamLeg, UpstreamLegs

__all__ = ["Guard"]

#: Upstreams' sides without a client, where `Limits.total` sets no bound.
_MOST_LATE = 10_000


class Guard(Listening):
    """Relays connections to upstreams. Made by `tieline.guard.serve`.

    Use it as an asynchronous context (leaving it closes it), or call `start` and `close`. It is a
    server like any: `drain`, `change_limits`, `ban`, `kick`, `events`, `counters` are the same, and
    its connections are sessions.

    Attributes:
        settings: how it relays; `change_settings` changes it.
        pool: its upstreams, and which of them gets the next session.
        pipes: those through which bulk is moved without a copy.
    """

    def __init__(
        self,
        addresses: tuple[str | Address, ...],
        specs: Iterable[UpstreamSpec],
        settings: GuardSettings,
        limits: Limits,
        tls: ssl.SSLContext | None,
        upstream_tls: ssl.SSLContext | None,
        upstream_name: str | None,
        backlog: int,
        unix_mode: int | None,
        on_open: Callable[[ClientLeg], object] | None,
        on_close: Callable[[ClientLeg, CloseReason], object] | None,
        on_refuse: Callable[[Address, CloseReason], object] | None,
        admission: Admission | None,
    ) -> None:
        """Not for applications, which call `tieline.guard.serve`."""
        specs = list(specs)
        check_together(settings, specs, tls, upstream_tls, upstream_name)
        self.settings = settings
        super().__init__(
            addresses, backlog, unix_mode, limits, tls, on_open, on_close, on_refuse, admission
        )
        self.sources = Sources(settings.accept_proxy)
        self.introduced: dict[int, Introduction] = {}
        self.upstream_tls = upstream_tls
        self.upstream_name = upstream_name
        self.pool = Pool(settings, specs, clock=self._clock, announce=self._announce)
        self.pipes = Pipes()
        self.upstream_legs = UpstreamLegs(limits, self.upstream_gone, self.limit_spared)
        self.make_upstream_socket: Callable[[int, int], Any] = socket.SocketType
        # Upstreams' sides that outlive the clients' for a moment, oldest first.
        self._late: dict[UpstreamLeg, None] = {}
        self._checks: Checks | None = None
        self._resolving: Resolving | None = None

    def _announce(self, event: Event) -> None:
        if self.events.wanted:
            self.events.announce(event)

    if TYPE_CHECKING:
        # What connections are here, for those who check types.
        @property
        def connections(self) -> Iterator[ClientLeg]: ...

        def connection(self, id: int) -> ClientLeg | None: ...

        def kick(self, *connections: ClientLeg | int) -> int: ...

    # ---- Its life

    async def start(self) -> None:
        """Look the upstreams' names up, and listen on every address, or on none.

        Raises:
            BindError: an address cannot be listened on.
            ResolveError: a listening address's name has no address. (An upstream's may have none
                yet: it is down until it has.)
            UsageError: the guard was started before.
        """
        await super().start()
        self._resolving = Resolving(self.pool)
        self._checks = Checks(self.pool, self.upstream_tls, server_name=self.upstream_name)
        try:
            await self._resolving.start()
            self._checks.start()
        except BaseException:
            await self.close()
            raise

    def _list_addresses(self) -> None:
        super()._list_addresses()
        # An upstream that leads there would be a circle.
        self.pool.own_addresses = self._own_addresses()

    def _own_addresses(self) -> list[Address]:
        """Where it listens, for finding loops."""
        own = self.addresses
        # A socket that was handed over may be for both families.
        return own + [Address("0.0.0.0", each.port) for each in own if each.host == "::"]

    async def close(self, reason: CloseReason = CloseReason.SHUTDOWN) -> None:
        await super().close(reason)
        for leg in list(self._late):
            leg.abort(reason)
        await self._end_companions()

    async def wait_closed(self) -> None:
        await super().wait_closed()
        await self._end_companions()

    async def _end_companions(self) -> None:
        if self._checks is not None:
            await self._checks.stop()
        if self._resolving is not None:
            await self._resolving.stop()
        self.pipes.close()

    def _make_acceptor(self) -> Acceptor:
        assert self._reactor is not None
        return IntroducingAcceptor(self, self._reactor)

    @property
    def upstream_sides(self) -> Iterator[UpstreamLeg]:
        """The upstreams' sides that are open now, those included whose client has gone."""
        for leg in self.connections:
            if isinstance(leg.upstream_leg, UpstreamLeg):
                yield leg.upstream_leg
        yield from list(self._late)

    # ---- A session's life

    def _make_connection(
        self, channel: socket.socket | TlsSocket, peer: str | Address, port: int
    ) -> ClientLeg:
        assert self._reactor is not None
        leg = ClientLeg(self, self._reactor, channel, peer, port, self.pipes)
        if self._tls is not None and any(each.spec.names for each in self.pool.upstreams):
            leg.overhear_name()
        if self.introduced:
            leg.introduce(self.introduced.pop(channel.fileno(), None))
        return leg

    def _begin_serving(self, connection: ClientLeg) -> None:
        if self._tls is None:
            self.dial(connection)
        else:
            # Its greeting may have come with what introduced it, and the socket stay silent.
            connection.on_ready(0)

    def dial(self, leg: ClientLeg) -> None:
        """Not for applications: find an upstream for a session."""
        assert self._reactor is not None
        name = None
        looks = self.settings.sni == "on"
        if leg.ssl_object is not None:
            name, looks = leg.asked_name, False
        dialling = Dialling(self, self._reactor, leg, name, leg.ahead)
        leg.ahead = b""
        if looks:
            dialling.look_at_name()
        else:
            dialling.dial()

    def header_for(self, leg: ClientLeg) -> bytes:
        """Not for applications: what an upstream is told of a client first."""
        version = self.settings.send_proxy
        if version == "off":
            return b""
        number = 1 if version == "v1" else 2
        if leg.peer.is_unix or leg.close_reason is not None:
            # HAProxy and nginx take no header that names a Unix socket.
            return build(number, None, None)
        return build(number, leg.peer, leg.local)

    def turn_away(self, leg: ClientLeg, reason: CloseReason) -> None:
        """Not for applications: there is no upstream for a session."""
        assert self._acceptor is not None
        words = self._acceptor.last_words.get(reason)
        if words is not None and leg.say(words):
            leg.close(reason)
        else:
            leg.abort(reason)

    def relayed(self, leg: ClientLeg, upstream: UpstreamLeg, waited: float) -> None:
        """Not for applications: a session has its upstream."""
        if self.events.wanted:
            assert leg.upstream is not None
            self.events.announce(
                SessionRelayed(
                    id=leg.id, peer=leg.peer, client=leg.client.key, upstream=leg.upstream,
                    address=upstream.peer, waited=waited,
                )
            )  # fmt: skip

    def connection_gone(self, connection: ClientLeg) -> None:
        """Not for applications: a session is over for its client."""
        late = connection.upstream_leg
        if isinstance(late, UpstreamLeg) and late.close_reason is None:
            self._late[late] = None
            if len(self._late) > (self.limits.total or _MOST_LATE):
                # Clients that come and go must not pile up what they leave behind.
                next(iter(self._late)).abort()
        super().connection_gone(connection)

    def upstream_gone(self, leg: UpstreamLeg) -> None:
        """Not for applications: an upstream's side is over."""
        self._late.pop(leg, None)
        if leg.chosen is not None:
            self.pool.give_back(leg.chosen, leg.bytes_sent, leg.bytes_received)
        self._check_all_gone()

    def _is_at_rest(self) -> bool:
        return not self._late

    def _has_account(self, connection: ClientLeg) -> bool:
        # A proxy's own: all whom it cannot name would pay for one of them, and its health checks
        # with them.
        return not connection.is_unnamed

    # ---- Changes

    def change_limits(self, *, evict: bool = False, **changes: Any) -> dict[str, tuple[Any, Any]]:
        changed = super().change_limits(evict=evict, **changes)
        self.upstream_legs.change_limits(self.limits)
        return changed

    def add_upstream(self, spec: UpstreamSpec) -> Upstream:
        """Add an upstream while sessions are open.

        Raises:
            SettingError: there is one of that name, or it does not fit how this guard relays.
        """
        self._check_specs(self.settings, [spec])
        return self.pool.add(spec)

    def apply_upstreams(self, specs: Iterable[UpstreamSpec]) -> None:
        """Have these upstreams from now on. Those that stay keep their sessions, their health and
        their counts; those that go keep their sessions until these end.

        Raises:
            SettingError: two have one name, or one does not fit; nothing has changed.
        """
        specs = list(specs)
        self._check_specs(self.settings, specs)
        self.pool.apply(specs)

    def _check_specs(self, settings: GuardSettings, specs: Iterable[UpstreamSpec]) -> None:
        check_together(settings, specs, self._tls, self.upstream_tls, self.upstream_name)

    def change_settings(self, **changes: Any) -> dict[str, tuple[Any, Any]]:
        """Change how it relays while sessions are open; they go on as they are.

        Args:
            changes: new values by name, as for `GuardSettings`.

        Returns:
            The old and the new value of each setting that is different now.

        Raises:
            SettingError: there is no such setting, or a value makes no sense; nothing has changed.
        """
        new = self.settings.replace(**changes)
        sources = Sources(new.accept_proxy)
        specs = [each.spec for each in self.pool.upstreams if not each.removed]
        self._check_specs(new, specs)
        old, self.settings = self.settings, new
        self.sources = sources
        self.pool.change_settings(new)
        self._last_words = self._make_last_words(self.limits)
        if self._acceptor is not None:
            self._set_up_acceptor()
        return {
            name: (getattr(old, name), getattr(new, name))
            for name in changes
            if getattr(old, name) != getattr(new, name)
        }

    def _make_last_words(self, limits: Any) -> dict[CloseReason, bytes]:
        # Those who are asked for a name speak TLS, and could not read it.
        return {} if self.settings.sni == "on" else super()._make_last_words(limits)

    def _check_limits(self, limits: Limits) -> None:
        if limits.refusal is not None and not limits.refusal.isprintable():
            raise SettingError("refusal {text!r} cannot be sent", text=limits.refusal)
