"""Finding an upstream for one session: which, and what if it does not answer.

Nothing is awaited: a session that is being dialled is an object on the reactor and in the wheel,
and where connecting succeeds at once, as within a machine, it is never even that.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, Protocol

from ..address import Address
from ..errors import MalformedError, SettingError, translate_os_error
from ..reactor import Reactor
from ..reasons import CloseReason
from ..states import State
from ..tls import TlsSocket, name_to_prove
from .client_hello import HelloReader
from .connecting import Connecting, MakeSocket
from .upstream import OUR_OWN
from .upstream_leg import UpstreamLeg

if TYPE_CHECKING:
    import ssl

    from .client_leg import ClientLeg
    from .pool import Pool
    from .settings import GuardSettings
    from .splicing import Pipes
    from .upstream import Upstream
    from .upstream_leg import UpstreamLegs

__all__ = ["Dialler", "Dialling"]

#: Seconds before an upstream that has just failed is tried once more, where there is no other.
_RETRY = 0.5


class Dialler(Protocol):
    """The guard, as far as dialling needs it."""

    pool: Pool
    settings: GuardSettings
    pipes: Pipes
    upstream_legs: UpstreamLegs
    upstream_tls: ssl.SSLContext | None
    upstream_name: str | None
    #: Makes the sockets to upstreams; tests put their faults in here.
    make_upstream_socket: MakeSocket

    def header_for(self, leg: ClientLeg) -> bytes:
        """The PROXY header for an upstream; empty where none is sent."""

    def turn_away(self, leg: ClientLeg, reason: CloseReason) -> None:
        """There is no upstream for this session."""

    def relayed(self, leg: ClientLeg, upstream: UpstreamLeg, waited: float) -> None:
        """There is one."""


class Dialling:
    """A session on its way to an upstream.

    Attributes:
        key: the client, for a stable choice.
        name: the name that it asked for in TLS, where that is looked at.
        tried: upstreams that have failed it.
    """

    __slots__ = (
        "_attempts", "_began", "_connecting", "_dialler", "_due", "_first", "_header", "_hello",
        "_leg", "_reactor", "_reason", "_securing", "_upstream", "_waits", "key", "name", "tried",
    )  # fmt: skip

    def __init__(
        self,
        dialler: Dialler,
        reactor: Reactor,
        leg: ClientLeg,
        name: str | None,
        first: bytes | bytearray,
    ) -> None:
        self._dialler = dialler
        self._reactor = reactor
        self._leg = leg
        self.key: str = leg.client.key
        self.name = name
        self.tried: list[Upstream] = []
        # What came from the client before there was an upstream.
        self._first = first
        self._attempts = 0
        self._began = reactor.now or reactor.clock()
        self._due = self._began
        self._reason = CloseReason.NO_UPSTREAM
        self._upstream: Upstream | None = None
        self._connecting: Connecting | None = None
        # The upstream's side, while TLS with it is being agreed on.
        self._securing: UpstreamLeg | None = None
        self._waits = False
        self._hello: HelloReader | None = None

    # ---- The name first

    def look_at_name(self) -> None:
        """Wait for the client's TLS greeting, which says for whom it is."""
        first, self._first = self._first, bytearray()
        self._hello = HelloReader()
        self._until(self._dialler.settings.preamble_timeout, CloseReason.PREAMBLE_TIMEOUT)
        self._leg.read_ahead(self)
        if first:
            self.on_data(first)

    def on_data(self, data: bytes | bytearray) -> None:
        """Something has come from the client before it is joined."""
        self._first += data
        assert self._hello is not None
        try:
            hello = self._hello.feed(data)
        except MalformedError:
            self._give_up(CloseReason.BAD_PREAMBLE)
            return
        if hello is not None:
            self.name = hello.server_name
            self.dial()

    def on_client_end(self) -> None:
        """The client has ended its stream before it said what it wants."""
        if self._first:
            self._give_up(CloseReason.BAD_PREAMBLE)
        else:
            # Who connects and goes, as many a health check does, has broken no rule.
            self._leg.close(CloseReason.PEER_CLOSED)

    # ---- An upstream

    def dial(self) -> None:
        """Choose an upstream and connect to it, now or as soon as there is room."""
        pool = self._dialler.pool
        upstream = pool.choose(self.key, self.name, self.tried)
        if upstream is None:
            self._find_none()
            return
        pool.take(upstream)
        self._upstream = upstream
        self._attempts += 1
        self._due = 0.0
        connecting = self._connecting = Connecting(
            self._reactor, self._dialler.make_upstream_socket, upstream.candidates(),
            self._connected, self._failed,
        )  # fmt: skip
        connecting.begin()
        if connecting.is_under_way and not self._due:
            self._until(self._dialler.settings.connect_timeout, CloseReason.NO_UPSTREAM)

    def _find_none(self) -> None:
        pool, settings = self._dialler.pool, self._dialler.settings
        if self._attempts >= settings.tries:
            self._give_up(CloseReason.NO_UPSTREAM)
        elif not pool.serves(self.name):
            self._give_up(CloseReason.UNKNOWN_NAME)
        elif not pool.has_hope(self.name):
            self._give_up(CloseReason.NO_UPSTREAM)
        elif self.tried:
            # A service that is starting again has a moment for it.
            self.tried.clear()
            self._until(_RETRY, CloseReason.NO_UPSTREAM)
        elif pool.wait(self):
            self._waits = True
            self._until(settings.queue_timeout, CloseReason.QUEUE_TIMEOUT)
        else:
            self._give_up(CloseReason.QUEUE_FULL)

    def on_room(self) -> None:
        """An upstream has room, and it is this session's turn."""
        self._waits = False
        self.dial()

    def _connected(self, connected: socket.socket, name: Any) -> None:
        dialler, upstream = self._dialler, self._upstream
        assert upstream is not None
        header = dialler.header_for(self._leg)
        try:
            channel: socket.socket | TlsSocket = connected
            if dialler.upstream_tls is not None:
                # The header is for whoever ends TLS there: it goes before it, in the clear. A new
                # socket has room for it.
                if header:
                    connected.send(header)
                    header = b""
                proven = name_to_prove(
                    dialler.upstream_tls, dialler.upstream_name, upstream.spec.address
                )
                channel = TlsSocket(
                    connected, dialler.upstream_tls, server_side=False, server_name=proven
                )
            peer, port = _as_peer(name)
            leg = UpstreamLeg(
                dialler.upstream_legs, self._reactor, channel, peer, port, dialler.pipes,
                self._leg.id,
            )  # fmt: skip
        except OSError as error:
            connected.close()
            assert self._connecting is not None
            self._connecting.begin(error)
            return
        except SettingError as error:
            # An upstream that was added while the guard runs has no name to prove.
            connected.close()
            self._lose(str(error))
            self._give_up(CloseReason.UPSTREAM_TLS)
            return
        self._header = header
        if dialler.upstream_tls is None:
            self._join(leg)
        else:
            self._securing = leg
            if not self._due:
                self._until(dialler.settings.connect_timeout, CloseReason.NO_UPSTREAM)
            leg.secure(self._secured)

    def _secured(self, leg: UpstreamLeg, reason: CloseReason | None) -> None:
        """TLS with the upstream is agreed on, or has failed."""
        self._securing = None
        if reason is None:
            self._join(leg)
        elif self._leg.close_reason is None:
            # Another would want the same certificate.
            self._lose("TLS failed")
            self._give_up(CloseReason.UPSTREAM_TLS)

    def _join(self, leg: UpstreamLeg) -> None:
        upstream, self._upstream = self._upstream, None
        assert upstream is not None
        # It knows this one: a cycle, in each session, that only the collector would find.
        self._connecting = None
        self._dialler.pool.connected(upstream)
        now = self._reactor.now or self._reactor.clock()
        client = self._leg
        client.chosen = leg.chosen = upstream
        leg.client = client.client
        self._dialler.relayed(client, leg, now - self._began)
        if client.close_reason is None:
            client.dialled(leg, self._header, self._first)
        else:
            leg.abort()

    # ---- Failures

    def _failed(self, failure: OSError | None) -> None:
        """None of the upstream's addresses has answered."""
        upstream = self._upstream
        assert upstream is not None
        self._connecting = None
        if failure is not None and failure.errno in OUR_OWN:
            # Nothing that another upstream could help with.
            self._upstream = None
            self._dialler.pool.give_back(upstream)
            ports = failure.errno == errno.EADDRNOTAVAIL
            self._give_up(CloseReason.NO_UPSTREAM if ports else CloseReason.NO_DESCRIPTORS)
            return
        if failure is None:
            why = "no address is known for it"
        else:
            why = str(translate_os_error(failure, "connect", upstream.spec.address))
        self._lose(why)
        self.tried.append(upstream)
        if self._attempts >= self._dialler.settings.tries:
            self._give_up(CloseReason.NO_UPSTREAM)
        else:
            self.dial()

    def _lose(self, why: str) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._dialler.pool.failed(upstream, why)
            self._dialler.pool.give_back(upstream)

    def _give_up(self, reason: CloseReason) -> None:
        self._dialler.turn_away(self._leg, reason)

    # ---- Time

    def _until(self, seconds: float, reason: CloseReason) -> None:
        self._reason = reason
        self._due = (self._reactor.now or self._reactor.clock()) + seconds
        if reason is not CloseReason.PREAMBLE_TIMEOUT:
            self._leg.wait_for(self)
        self._reactor.file(self._leg, self._due)

    def clock(self) -> tuple[float, CloseReason]:
        """When it strikes, and what for."""
        return self._due, self._reason

    def on_deadline(self, now: float) -> float | None:
        """The wheel's call, through the client's leg: do what is due, or say when it will be."""
        if now < self._due:
            return self._due
        if self._upstream is not None:
            seconds = self._dialler.settings.connect_timeout
            self._hang_up()
            self._failed(TimeoutError(errno.ETIMEDOUT, f"no answer within {seconds} s"))
        elif self._reason is CloseReason.NO_UPSTREAM:
            self.dial()
        else:
            self._give_up(self._reason)
        if self._leg.close_reason is None and self._leg.state is not State.CLOSING:
            return self._due or None
        return None

    def _hang_up(self) -> None:
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        securing, self._securing = self._securing, None
        if securing is not None:
            securing.on_secured = None
            securing.abort()

    def cancel(self) -> None:
        """The client is gone."""
        if self._waits:
            self._waits = False
            self._dialler.pool.leave(self)
        self._hang_up()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._dialler.pool.give_back(upstream)


def _as_peer(name: Any) -> tuple[str | Address, int]:
    """What was connected to, as a stream keeps its peer."""
    if isinstance(name, tuple) and len(name) == 2:
        return name[0], name[1]
    family = socket.AF_INET6 if isinstance(name, tuple) else socket.AF_UNIX
    return Address.from_socket_name(family, name), 0
