"""A server of another kind: no handlers, no codecs, and a door that learns elsewhere who comes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

import tieline
from support.hooks import Watch, eventually
from support.peers import Peer
from support.transports import Place
from tieline import Address, CloseReason, ConnectionClosedError, Limits, SettingError, State
from tieline.acceptor import Acceptor
from tieline.events import ConnectionClosed, ConnectionOpened, ConnectionRefused
from tieline.listener import Listener
from tieline.listening import Listening
from tieline.operating import Operating
from tieline.stream import Stream


class Sink(Stream):
    """A connection that takes whatever comes, and ends with its peer."""

    __slots__ = ("__dict__",)

    messages_received = messages_sent = waiting_messages = 0
    is_idle = is_receiving = True
    is_finishing = False
    task = encoding = None

    def _on_data(self, data: bytes) -> None: ...

    def _on_end(self) -> None:
        self.close(CloseReason.PEER_CLOSED)

    def _wake(self) -> None: ...

    def finish(self, reason: CloseReason = CloseReason.SHUTDOWN) -> None:
        self.close(reason)


class Door(Acceptor):
    """Believes that everybody is who the server says, and lets strangers be refused."""

    __slots__ = ("results", "who")

    results: list[Any]
    who: Callable[[Any], str | None]

    def accepted(self, connected: socket.socket, name: Any, listener: Listener) -> None:
        host, port = name
        vouched = self.who(host)
        if vouched is None:
            self.refuse(connected, CloseReason.BANNED, host, port, (host, 0, None))
            return
        self.results.append(self.welcome(connected, vouched, 77, (vouched, 0, None)))


class Draining(Listening):
    """Made of `Listening` and nothing else."""

    ended = 0

    def __init__(
        self, place: Place, who: Callable[[Any], str | None] | None = None,
        limits: Limits | None = None, watch: Watch | None = None,
    ) -> None:  # fmt: skip
        watch = watch or Watch()
        self.who = who
        self.begun: list[Any] = []
        self.welcomed: list[Any] = []
        self.refused: list[tuple[Address, CloseReason]] = []
        super().__init__(
            (place.listen,), 100, None, limits or Limits(), place.server_tls,
            watch.on_open, watch.on_close, lambda *told: self.refused.append(told), None,
        )  # fmt: skip

    def _make_connection(self, channel: Any, peer: str | Address, port: int) -> Sink:
        assert self._reactor is not None
        return Sink(self, self._reactor, channel, peer, port)

    def _begin_serving(self, connection: Sink) -> None:
        self.begun.append(connection)

    def _check_limits(self, limits: Limits) -> None:
        if limits.total == 13:
            raise SettingError("not thirteen")

    def _make_acceptor(self) -> Acceptor:
        if self.who is None:
            return super()._make_acceptor()
        assert self._reactor is not None
        door = Door(self, self._reactor)
        door.results, door.who = self.welcomed, self.who
        return door

    async def _end(self) -> None:
        self.ended += 1


async def test_it_needs_no_handlers(place: Place) -> None:
    watch = Watch()
    async with Draining(place, watch=watch) as server:
        async with await Peer.connect(server.addresses[0], place.client_tls) as peer:
            connection: Any = await watch.next_open()
            assert server.begun == [connection] == list(server.connections)
            assert connection.upstream is None
            await peer.send(b"whatever")
            await eventually(lambda: connection.bytes_received == 8)
        # Over TLS the peer has not said goodbye.
        assert await watch.next_close() is CloseReason.PEER_CLOSED or place.is_tls
        assert server.counters.bytes_received == 8
        assert not list(server.connections)
    assert server.ended == 1


async def test_an_operator_can_do_what_he_can_with_any(plain: Place) -> None:
    watch = Watch()
    async with Draining(plain, watch=watch) as server, AsyncExitStack() as crowd:
        peers = [await crowd.enter_async_context(await Peer.connect(server.addresses[0]))
                 for _ in range(4)]  # fmt: skip
        first, second, third, fourth = [await watch.next_open() for _ in peers]
        assert server.kick(first, first.id, second.id, 10**9) == 2
        with pytest.raises(SettingError, match="not thirteen"):
            server.change_limits(total=13)
        server.change_limits(idle=100.0)
        assert server.limits.idle == 100.0
        assert len(server) == 2
        assert server.change_limits(evict=True, total=1) == {"total": (10_000, 1)}
        assert len(server) == 1
        draining = asyncio.create_task(server.drain(20))
        await eventually(lambda: server.is_draining)
        await crowd.aclose()
        assert await draining
        ends = dict(watch.closed)
        assert [ends[each] for each in (first, second, third, fourth)] == [
            CloseReason.KICKED, CloseReason.KICKED, CloseReason.EVICTED, CloseReason.SHUTDOWN,
        ]  # fmt: skip


async def test_last_words_are_utf_8(plain: Place) -> None:
    async with Draining(plain, limits=Limits(refusal="voll: ü")) as server:
        server.ban("127.0.0.1")
        async with await Peer.connect(server.addresses[0]) as peer:
            assert await peer.receive_all() == "voll: ü".encode()
        assert server.begun == []


async def test_what_on_open_shows_out_is_not_served(plain: Place) -> None:
    watch = Watch()
    watch.on_open = lambda connection: connection.abort(CloseReason.KICKED)  # type: ignore[method-assign]
    async with Draining(plain, watch=watch) as server:
        assert await plain.is_turned_away(cast(Any, server))
        assert server.begun == []
        assert server.counters.closed[CloseReason.KICKED] == 1


# ---- A door that learns elsewhere who comes


async def test_who_comes_may_be_learned_elsewhere(plain: Place) -> None:
    limits = Limits(per_client=1)
    async with Draining(plain, who=lambda host: "198.51.100.9", limits=limits) as server:
        told: list[Any] = []
        server.events.subscribe(told.append)
        async with await Peer.connect(server.addresses[0]) as first:
            await eventually(lambda: server.welcomed)
            # Two machines, but one client, whom the caps are for.
            assert await plain.is_turned_away(cast(Any, server), source="127.0.0.2")
            [connection, nobody] = server.welcomed
            assert nobody is None
            assert connection.peer == Address("198.51.100.9", 77)
            assert connection.client.key == "198.51.100.9"
            assert server.refused == [(Address("198.51.100.9", 77), CloseReason.CLIENT_LIMIT)]
            assert server.counters.refused[CloseReason.CLIENT_LIMIT] == 1
            assert not server.begun[1:]
            first.close()
            await eventually(lambda: connection.state is State.CLOSED)
        await eventually(lambda: len(told) == 3)
        opened, refused, closed = told
        assert isinstance(opened, ConnectionOpened)
        assert isinstance(refused, ConnectionRefused)
        assert isinstance(closed, ConnectionClosed)
        assert {each.client for each in told} == {"198.51.100.9"}


async def test_at_its_cap_such_a_client_makes_room_for_itself(plain: Place) -> None:
    limits = Limits(per_client=1, client_full="evict", evict_idle=0.001)
    async with Draining(plain, who=lambda host: "198.51.100.9", limits=limits) as server:
        async with await Peer.connect(server.addresses[0]) as first:
            await eventually(lambda: server.welcomed and server.welcomed[0].age > 0.01)
            async with await Peer.connect(server.addresses[0], source="127.0.0.2"):
                with pytest.raises(ConnectionResetError):
                    await first.receive_all()
                await eventually(lambda: len(server.welcomed) == 2)
                assert server.welcomed[0].close_reason is CloseReason.EVICTED
                assert list(server.connections) == [server.welcomed[1]]


async def test_it_may_refuse_before_anybody_is_admitted(plain: Place) -> None:
    async with Draining(plain, who=lambda host: None) as server:
        told: list[Any] = []
        server.events.subscribe(told.append)
        assert await plain.is_turned_away(cast(Any, server))
        [(address, reason)] = server.refused
        assert address.host == "127.0.0.1"
        assert reason is CloseReason.BANNED
        assert server.counters.refused == {CloseReason.BANNED: 1}
        assert server.counters.accepted == 0
        assert server.admission.total == 0
        await eventually(lambda: told)
        [event] = told
        assert isinstance(event, ConnectionRefused)
        assert (event.peer, event.client, event.reason) == (address, "127.0.0.1", reason)


# ---- Facts of a connection


async def test_a_connection_may_be_given_its_number(plain: Place) -> None:
    class Numbered(Draining):
        def _make_connection(self, channel: Any, peer: str | Address, port: int) -> Sink:
            assert self._reactor is not None
            return Sink(self, self._reactor, channel, peer, port, id=2**40)

    watch = Watch()
    async with Numbered(plain, watch=watch) as server:
        async with await Peer.connect(server.addresses[0]):
            connection: Any = await watch.next_open()
            assert connection.id == 2**40
            assert server.connection(2**40) is connection
        await watch.next_close()
        assert server.connection(2**40) is None
        with pytest.raises(ConnectionClosedError):
            connection.tcp_info()


async def test_a_connection_of_a_server_goes_on_nowhere(plain: Place) -> None:
    watch = Watch()
    async with plain.serve(lambda connection, message: message, **watch.hooks) as server:
        async with await plain.connect(server) as client:
            assert (await watch.next_open()).upstream is None
            assert client.upstream is None


def test_a_server_is_one_of_two_kinds() -> None:
    assert issubclass(tieline.Server, Listening)
    assert issubclass(Listening, Operating)
