"""When system calls fail: every outcome has its branch, and neighbours do not notice.

The faults go in through one seam, `Server.make_socket`. Each test sees that its fault happened.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tieline
from support.clock import TICK, Clock
from support.faults import AtMost, Faults
from support.hooks import Watch, echo, eventually
from support.leaks import ErrorLog
from support.pairs import listening
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Limits, Line, Server, State, listener, reactor, stream
from tieline.listener import Listener
from tieline.reactor import READABLE, Reactor, Ready

TRY_THE_NEXT = [
    errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EPERM, errno.ENETDOWN,
    errno.EHOSTUNREACH, errno.ENETUNREACH,
]  # fmt: skip
OUT_OF_DESCRIPTORS = [errno.EMFILE, errno.ENFILE]
REST = [errno.ENOBUFS, errno.ENOMEM, errno.EDOM]  # the last one is not in accept(2)


@pytest.fixture
def short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that recovering does not take half a second."""
    for module in (listener, stream):
        monkeypatch.setattr(module, "_REST", 0.01)


@pytest.fixture
def wakes(monkeypatch: pytest.MonkeyPatch) -> list[Listener]:
    """Every time that a listener is woken."""
    woken: list[Listener] = []
    on_ready = Listener.on_ready

    def count(self: Listener, mask: int) -> None:
        woken.append(self)
        on_ready(self, mask)

    monkeypatch.setattr(Listener, "on_ready", count)
    return woken


@pytest.fixture
def long_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a listener that rests does not wake up during the test."""
    monkeypatch.setattr(listener, "_REST", 3600.0)


def _faulty(place: Place, faults: Faults, watch: Watch | None = None) -> Server:
    hooks = watch.hooks if watch else {}
    server = place.serve(echo("responder"), framing=Line(), **hooks)
    server.make_socket = faults.make_socket
    return server


# ---- accept


@pytest.mark.parametrize("code", TRY_THE_NEXT, ids=errno.errorcode.get)
async def test_a_client_that_is_gone_already_is_skipped(place: Place, code: int) -> None:
    faults = Faults(accept=[code, code, code])
    async with _faulty(place, faults) as server:
        assert await place.ask(server, b"hello", framing=Line()) == b"hello"
    assert faults.injected == 3
    assert server.counters.accept_errors == 3
    assert server.counters.refused == {}


@pytest.mark.parametrize("code", OUT_OF_DESCRIPTORS, ids=errno.errorcode.get)
@pytest.mark.usefixtures("short_rest")
async def test_out_of_descriptors_one_client_is_told_and_the_next_are_served(
    plain: Place, code: int
) -> None:
    faults = Faults(accept=[code])
    async with _faulty(plain, faults) as server:
        async with await plain.peer(server) as refused:
            assert await refused.receive_all() == b""
        assert server.counters.refused == {CloseReason.NO_DESCRIPTORS: 1}
        assert await plain.ask(server, b"hello", framing=Line()) == b"hello"
    assert faults.injected == 1


@pytest.mark.parametrize("code", OUT_OF_DESCRIPTORS, ids=errno.errorcode.get)
@pytest.mark.usefixtures("short_rest")
async def test_out_of_descriptors_even_for_the_refusal(plain: Place, code: int) -> None:
    """Another thread took the reserve's place: the client waits, and is served later."""
    faults = Faults(accept=[code, code])
    async with _faulty(plain, faults) as server:
        assert await plain.ask(server, b"hello", framing=Line()) == b"hello"
    assert faults.injected == 2
    assert server.counters.refused == {}
    assert server.counters.accept_errors == 1


@pytest.mark.parametrize("code", REST, ids=errno.errorcode.get)
@pytest.mark.usefixtures("short_rest")
async def test_out_of_memory_the_listener_rests_and_recovers(place: Place, code: int) -> None:
    faults = Faults(accept=[code, code])
    async with _faulty(place, faults) as server:
        assert await place.ask(server, b"hello", framing=Line()) == b"hello"
    assert faults.injected == 2
    assert server.counters.accept_errors == 2


@pytest.mark.parametrize("code", OUT_OF_DESCRIPTORS + REST, ids=errno.errorcode.get)
@pytest.mark.usefixtures("long_rest")
async def test_a_listener_that_rests_does_not_spin_and_nobody_inside_notices(
    plain: Place, code: int, wakes: list[Listener]
) -> None:
    faults = Faults()
    watch = Watch()
    async with _faulty(plain, faults, watch) as server:
        async with plain.connect(server, framing=Line()) as inside:
            await watch.next_open()
            wakes.clear()
            before = faults.calls["accept"]
            faults.accept.extend([code] * 1000)
            peers = [await plain.peer(server) for _ in range(5)]
            for number in range(100):
                await inside.send(b"%d" % number)
                assert await inside.receive() == b"%d" % number
            # One attempt, and one with the reserve where there is something to gain by it.
            assert faults.calls["accept"] - before <= 2
            assert faults.injected >= 1
            assert len(wakes) <= 2
            for peer in peers:
                peer.close()


@pytest.mark.usefixtures("long_rest")
async def test_a_listener_that_rests_is_not_woken_when_there_is_room_again(
    plain: Place, wakes: list[Listener]
) -> None:
    """Another listener of the same server has filled it meanwhile, and a client has left."""
    made: list[Faults] = []

    def make_socket(family: int, kind: int) -> socket.socket:
        made.append(Faults())
        return made[-1].make_socket(family, kind)

    watch = Watch()
    server = tieline.serve(
        echo("responder"), "127.0.0.1:0", "127.0.0.1:0", framing=Line(), limits=Limits(total=1),
        **watch.hooks,
    )  # fmt: skip
    server.make_socket = make_socket
    async with server:
        resting, busy = server.addresses
        made[0].accept.append(errno.ENOMEM)
        async with await Peer.connect(resting) as waiting:
            await eventually(lambda: made[0].injected)
            wakes.clear()
            first = await tieline.connect(busy, framing=Line())
            await watch.next_open()
            second = asyncio.create_task(tieline.ask(busy, b"hello", framing=Line()))
            for _ in range(20):
                await first.send(b"x")
                await first.receive()
            first.close()
            assert await second == b"hello"
            for _ in range(100):
                assert await tieline.ask(busy, b"x", framing=Line()) == b"x"
            assert sum(str(listener.address) == str(resting) for listener in wakes) == 0
            waiting.close()


@pytest.mark.usefixtures("short_rest")
async def test_a_full_server_stays_full_after_a_rest(plain: Place) -> None:
    """The rest ends while there is no room: the end of the rest is no admission."""
    faults = Faults()
    watch = Watch()
    server = plain.serve(echo("responder"), framing=Line(), limits=Limits(total=1), **watch.hooks)
    server.make_socket = faults.make_socket
    async with server, plain.connect(server, framing=Line()) as inside:
        await watch.next_open()
        waiting = asyncio.create_task(plain.ask(server, b"hello", framing=Line()))
        for _ in range(20):
            await inside.send(b"x")
            await inside.receive()
        assert len(server) == 1
        faults.accept.append(errno.ENOMEM)
        inside.close()
        assert await waiting == b"hello"
    assert faults.injected == 1


@pytest.mark.parametrize(
    "code", [errno.EBADF, errno.EINVAL, errno.ENOTSOCK], ids=errno.errorcode.get
)
async def test_a_broken_listener_closes_and_the_connected_go_on(
    plain: Place, error_log: ErrorLog, code: int
) -> None:
    faults = Faults()
    watch = Watch()
    async with _faulty(plain, faults, watch) as server:
        async with plain.connect(server, framing=Line()) as inside:
            await watch.next_open()
            faults.accept.append(code)
            assert await plain.is_turned_away(server)
            with pytest.raises(tieline.ConnectError):
                await plain.ask(server, b"hello")
            await inside.send(b"still here")
            assert await inside.receive() == b"still here"
    assert faults.injected == 1
    [logged] = error_log.take()
    assert "is broken and accepts no more" in logged


async def test_waiting_for_the_end_notices_a_broken_listener(
    plain: Place, error_log: ErrorLog
) -> None:
    """A server all of whose listeners are broken serves nobody for ever: that is its end."""
    faults = Faults(accept=[errno.EBADF])
    async with _faulty(plain, faults) as server:
        waiting = asyncio.create_task(server.wait_closed())
        await asyncio.sleep(0)
        assert await plain.is_turned_away(server)
        async with asyncio.timeout(5):
            await waiting
    assert len(error_log.take()) == 1


@pytest.mark.usefixtures("short_rest")
async def test_closing_a_listener_that_rests_leaves_nothing_behind(plain: Place) -> None:
    faults = Faults(accept=[errno.ENOMEM])
    async with _faulty(plain, faults) as server:
        async with await plain.peer(server):
            await eventually(lambda: faults.injected)
            server.close_listeners()
            # Past the end of the rest, which must not wake what is closed.
            await asyncio.sleep(0.02)
    assert faults.injected == 1


# ---- recv


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ECONNRESET, CloseReason.PEER_RESET),
        (errno.ECONNABORTED, CloseReason.PEER_RESET),
        (errno.ETIMEDOUT, CloseReason.NETWORK_ERROR),
        (errno.EHOSTUNREACH, CloseReason.NETWORK_ERROR),
        (errno.EBADF, CloseReason.NETWORK_ERROR),
        (errno.EMFILE, CloseReason.NETWORK_ERROR),
        (errno.ENFILE, CloseReason.NETWORK_ERROR),
    ],
    ids=str,
)
async def test_a_failed_read_costs_its_own_connection(
    plain: Place, kind: str, code: int, reason: CloseReason
) -> None:
    faults = Faults()
    watch = Watch()
    server = plain.serve(echo(kind), framing=Line(), **watch.hooks)
    server.make_socket = faults.make_socket
    async with server, plain.connect(server, framing=Line()) as neighbour:
        async with await plain.peer(server) as peer:
            await watch.next_open()
            await watch.next_open()
            faults.recv.append(code)
            await peer.send(b"hello\n")
            assert await watch.next_close() is reason
            await neighbour.send(b"still here")
            assert await neighbour.receive() == b"still here"
    assert faults.injected == 1
    assert server.counters.handler_errors == 0


async def test_a_socket_that_is_not_ready_after_all_is_no_end(place: Place, kind: str) -> None:
    """EAGAIN after an event: a checksum error, or a descriptor that was given out again."""
    faults = Faults(recv=[errno.EAGAIN] * 5)
    server = place.serve(echo(kind), framing=Line())
    server.make_socket = faults.make_socket
    async with server:
        assert await place.ask(server, b"hello", framing=Line()) == b"hello"
    assert faults.injected == 5


async def test_reads_of_one_byte_change_nothing(place: Place, kind: str) -> None:
    faults = Faults(recv=[AtMost(1)] * 5000)
    server = place.serve(echo(kind), framing=Line())
    server.make_socket = faults.make_socket
    async with server:
        message = bytes(range(97, 122)) * 8
        assert await place.ask(server, message, framing=Line()) == message
    assert faults.injected > 100


# ---- send


async def test_sends_of_one_byte_deliver_everything_in_order(place: Place, kind: str) -> None:
    faults = Faults(send=[AtMost(1)] * 5000)
    server = place.serve(echo(kind), framing=Line())
    server.make_socket = faults.make_socket
    async with server:
        message = bytes(range(97, 122)) * 20
        assert await place.ask(server, message, framing=Line()) == message
    assert faults.injected > 100


async def test_a_socket_that_takes_nothing_now_takes_it_later(place: Place, kind: str) -> None:
    faults = Faults(send=[errno.EAGAIN, AtMost(2), errno.EAGAIN, AtMost(1), errno.EAGAIN])
    server = place.serve(echo(kind), framing=Line())
    server.make_socket = faults.make_socket
    async with server:
        assert await place.ask(server, b"hello", framing=Line()) == b"hello"
    assert faults.injected == 5


async def test_closing_flushes_one_byte_at_a_time(place: Place) -> None:
    faults = Faults()

    async def speak(connection: tieline.Connection) -> None:
        await connection.wait_secured()
        faults.send.extend([AtMost(1), errno.EAGAIN] * 1000)
        await connection.send(b"some last words")

    server = place.serve(speak)
    server.make_socket = faults.make_socket
    async with server, await place.peer(server) as peer:
        assert await peer.receive_all() == b"some last words"
    assert faults.injected > 10


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.EPIPE, CloseReason.PEER_RESET),
        (errno.ECONNRESET, CloseReason.PEER_RESET),
        (errno.ECONNABORTED, CloseReason.PEER_RESET),
        (errno.ETIMEDOUT, CloseReason.NETWORK_ERROR),
        (errno.EMFILE, CloseReason.NETWORK_ERROR),
        (errno.ENFILE, CloseReason.NETWORK_ERROR),
    ],
    ids=str,
)
async def test_a_failed_write_costs_its_own_connection(
    plain: Place, kind: str, code: int, reason: CloseReason
) -> None:
    faults = Faults()
    watch = Watch()
    server = plain.serve(echo(kind), framing=Line(), **watch.hooks)
    server.make_socket = faults.make_socket
    async with server, plain.connect(server, framing=Line()) as neighbour:
        async with await plain.peer(server) as peer:
            faults.send.append(code)
            await peer.send(b"hello\n")
            assert await watch.next_close() is reason
            await neighbour.send(b"still here")
            assert await neighbour.receive() == b"still here"
    assert faults.injected == 1
    assert server.counters.handler_errors == 0


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.ENOMEM], ids=str)
@pytest.mark.parametrize("call", ["recv", "send"])
@pytest.mark.usefixtures("short_rest")
async def test_a_machine_that_is_short_of_memory_costs_a_moment(
    plain: Place, kind: str, code: int, call: str
) -> None:
    """It says nothing about the connection, which is tried again after a rest; and not before,
    since a ready socket would keep the loop busy."""
    faults, watch = Faults(), Watch()
    server = plain.serve(echo(kind), framing=Line(), **watch.hooks)
    server.make_socket = faults.make_socket
    async with server, plain.connect(server, framing=Line()) as neighbour:
        async with await plain.peer(server) as peer:
            await watch.next_open()
            await watch.next_open()
            getattr(faults, call).extend([code] * 2)
            await peer.send(b"hello\n")
            await eventually(lambda: faults.injected == 1)
            await neighbour.send(b"still here")
            assert await neighbour.receive() == b"still here"
            assert await peer.receive_line() == b"hello\n"
            await peer.send(b"again\n")
            assert await peer.receive_line() == b"again\n"
    assert faults.injected == 2
    assert server.counters.handler_errors == 0


@pytest.mark.parametrize("call", ["recv", "send"])
async def test_a_connection_that_rests_does_not_spin(
    plain: Place, kind: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket is ready all the time, and is looked at once more at the most."""
    monkeypatch.setattr(stream, "_REST", 3600.0)
    faults, watch = Faults(), Watch()
    server = plain.serve(echo(kind), framing=Line(), **watch.hooks)
    server.make_socket = faults.make_socket
    async with server, plain.serve(echo("responder")) as other:
        async with await plain.peer(server) as peer, await plain.peer(other) as neighbour:
            connection = await watch.next_open()
            getattr(faults, call).extend([errno.ENOBUFS] * 1000)
            await peer.send(b"hello\n")
            await eventually(lambda: faults.injected)
            for _ in range(100):
                await neighbour.send(b"x")
                assert await neighbour.receive(1) == b"x"
            assert faults.injected <= 2
            assert connection.state is State.OPEN
            # It can be told apart from one that is over.
            peer.reset()
            getattr(faults, call).clear()
            assert await watch.next_close() is CloseReason.PEER_RESET


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.ENOMEM], ids=str)
@pytest.mark.parametrize(
    "before", [[], [AtMost(7)], [errno.EAGAIN], [AtMost(7), AtMost(1)]], ids=str
)
async def test_short_of_memory_over_tls_nothing_is_lost_or_said_twice(
    tls_place: Place, kind: str, code: int, before: list[int], short_rest: None
) -> None:
    """What TLS has taken is on its way, whatever the kernel said when it was given to it."""
    faults, watch = Faults(), Watch()
    server = tls_place.serve(echo(kind), framing=Line(), **watch.hooks)
    server.make_socket = faults.make_socket
    async with server, await tls_place.peer(server) as peer:
        await (await watch.next_open()).wait_secured()
        for number in range(3):
            faults.send.extend([*before, code, code])
            line = b"%d" % number * 20_000 + b"\n"
            await peer.send(line)
            assert await peer.receive_exactly(len(line)) == line
        await peer.end()
        assert await peer.receive_all() == b""
        assert await watch.next_close() is CloseReason.PEER_CLOSED
    assert faults.injected == 3 * (len(before) + 2)


@pytest.mark.parametrize("call", ["recv", "send"])
async def test_short_of_memory_a_handshake_takes_a_moment_longer(
    tls_place: Place, call: str, short_rest: None
) -> None:
    faults = Faults()
    getattr(faults, call).append(errno.ENOBUFS)
    server = tls_place.serve(echo("conversation"), framing=Line())
    server.make_socket = faults.make_socket
    async with server:
        assert await tls_place.ask(server, b"hello", framing=Line()) == b"hello"
    assert faults.injected == 1


@pytest.mark.parametrize("failing", [1, 2])
async def test_a_failed_write_of_what_was_owed(plain: Place, kind: str, failing: int) -> None:
    faults = Faults(send=[AtMost(1)] * failing + [errno.ECONNRESET])
    watch = Watch()
    server = plain.serve(echo(kind), framing=Line(), **watch.hooks)
    server.make_socket = faults.make_socket
    async with server, await plain.peer(server) as peer:
        await peer.send(b"hello\n")
        assert await watch.next_close() is CloseReason.PEER_RESET
    assert faults.injected == failing + 1
    assert server.counters.handler_errors == 0


async def test_a_failed_goodbye_ends_its_own_connection_only(tls_place: Place) -> None:
    """The peer's reset is on its way when its connection times out: TLS cannot say goodbye."""
    clock, faults, watch = Clock(), Faults(), Watch()
    limits = Limits(idle=60, first_byte=None)
    server = tls_place.serve(echo("responder"), limits=limits, **watch.hooks)
    server.make_socket = faults.make_socket
    async with server:
        async with await tls_place.peer(server), await tls_place.peer(server):
            for _ in range(2):
                connection = await watch.next_open()
                await connection.wait_secured()
                await eventually(lambda: not connection.is_owed_by_kernel())  # noqa: B023
            faults.send.append(errno.ECONNRESET)
            clock.advance(60 + TICK)
            assert {await watch.next_close(), await watch.next_close()} <= {
                CloseReason.IDLE_TIMEOUT,
                CloseReason.PEER_RESET,
            }
    assert faults.injected == 1


async def test_a_failed_goodbye_when_closing_is_an_end_too(tcp_place: Place) -> None:
    faults, watch = Faults(), Watch()

    async def leave(connection: tieline.Connection) -> None:
        await connection.receive()
        faults.send.append(errno.EPIPE)
        connection.close()

    server = tcp_place.serve(leave, **watch.hooks)
    server.make_socket = faults.make_socket
    async with server, await tcp_place.peer(server) as peer:
        await peer.send(b"hello")
        await peer.end()
        await watch.next_close()
    assert server.counters.handler_errors == 0


# ---- epoll


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.ENOSPC], ids=str)
async def test_a_socket_that_cannot_be_watched_is_a_client_refused(
    place: Place, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is given back, and the next one is served."""
    watch = Watch()
    register = Reactor.register
    refusals = [code, code]

    def fail(self: Reactor, descriptor: int, handler: Ready, mask: int = READABLE) -> None:
        if refusals and not isinstance(handler, Listener):
            code = refusals.pop()
            raise OSError(code, os.strerror(code))
        register(self, descriptor, handler, mask)

    limits = Limits(per_client=2)
    async with place.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as inside:
            await watch.next_open()
            monkeypatch.setattr(Reactor, "register", fail)
            for _ in range(2):
                async with await Peer.connect(server.addresses[0]) as refused:
                    assert await refused.receive_all() == b""
            assert not refusals
            assert server.counters.refused == {CloseReason.NO_DESCRIPTORS: 2}
            assert server.admission.total == len(server) == 1
            assert await place.ask(server, b"hello") == b"hello"
            await inside.send(b"still here")
            assert await inside.receive(10) == b"still here"
    assert server.counters.accepted == len(watch.opened) == 2
    assert server.admission.total == 0


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.ENOSPC], ids=str)
async def test_a_client_that_cannot_be_watched_is_not_connected(
    plain: Place, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Reactor, "register", fail)
    bare, address = listening(plain)
    with bare, pytest.raises(tieline.ConnectError):
        await tieline.connect(address)


def _failing_poll(reactor: Reactor, codes: list[int]) -> list[int]:
    """Have epoll fail with these, one after the other. Returns the codes it failed with."""
    poll = reactor._poll
    failed: list[int] = []

    def fail(*arguments: object) -> list[tuple[int, int]]:
        if not codes:
            return poll(*arguments)  # type: ignore[arg-type]
        failed.append(codes.pop(0))
        raise OSError(failed[-1], os.strerror(failed[-1]))

    reactor._poll = fail  # type: ignore[assignment]
    return failed


async def test_when_epoll_does_not_answer_it_is_asked_again_later(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor, "_REST", 0.001)
    watch = Watch()
    async with place.serve(echo(kind), framing=Line(), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await (await watch.next_open()).wait_secured()
            codes = [errno.ENOMEM, errno.EINTR, errno.ENOMEM]
            failed = _failing_poll(Reactor.of(asyncio.get_running_loop()), codes)
            await peer.send(b"hello\n")
            assert await peer.receive_line() == b"hello\n"
            assert len(failed) == 3
            assert await place.ask(server, b"hello", framing=Line()) == b"hello"
    assert [why for _, why in watch.closed] == [CloseReason.SHUTDOWN, CloseReason.PEER_CLOSED][::-1]


async def test_when_epoll_does_not_answer_the_loop_does_not_spin(
    plain: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor, "_REST", 3600.0)
    watch = Watch()
    async with plain.serve(echo("responder"), **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            failed = _failing_poll(Reactor.of(asyncio.get_running_loop()), [errno.ENOMEM] * 1000)
            await peer.send(b"hello")
            for _ in range(200):
                await asyncio.sleep(0)
            assert failed == [errno.ENOMEM]
            # What needs no epoll goes on: this side may close it, and the server may stop.
            connection.abort()
            assert await peer.is_reset()


# ---- Making listening sockets


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EAFNOSUPPORT, errno.EACCES], ids=str)
async def test_a_socket_that_cannot_be_made_is_a_bind_error(plain: Place, code: int) -> None:
    made: list[int] = []

    def make_socket(family: int, kind: int) -> socket.socket:
        made.append(family)
        if len(made) == 2:
            raise OSError(code, os.strerror(code))
        return socket.socket(family, kind)

    server = tieline.serve(echo("responder"), "127.0.0.1:0", "127.0.0.1:0")
    server.make_socket = make_socket
    with pytest.raises(tieline.BindError):
        await server.start()
    assert len(made) == 2


@dataclass(frozen=True)
class Shortage:
    """Something that a server needs when it starts, and cannot have."""

    module: object
    name: str
    code: int

    def happen(self, monkeypatch: pytest.MonkeyPatch, after: int = 0) -> None:
        """From now on, but for so many times."""
        real = getattr(self.module, self.name)
        left = after

        def fail(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left:
                left -= 1
                return real(*arguments, **options)
            raise OSError(self.code, os.strerror(self.code))

        monkeypatch.setattr(self.module, self.name, fail)


SHORTAGES = {
    "reserve": Shortage(listener.os, "open", errno.EMFILE),  # type: ignore[attr-defined]
    "epoll": Shortage(reactor.select, "epoll", errno.EMFILE),  # type: ignore[attr-defined]
    "register": Shortage(Reactor, "register", errno.ENOSPC),
}


@pytest.mark.parametrize("what", SHORTAGES)
async def test_a_server_that_cannot_start_leaves_nothing_behind(
    place: Place, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descriptors run out in the middle of it: no descriptor, reactor or file stays, and another
    server can have the address."""
    with monkeypatch.context() as shortage:
        server = place.serve(echo("responder"))
        SHORTAGES[what].happen(shortage)
        with pytest.raises(tieline.BindError) as caught:
            await server.start()
        assert isinstance(caught.value.__cause__, OSError)
    assert server.addresses == []
    if not place.is_tcp:
        assert not Path(place.listen.removeprefix("unix:")).exists()
    async with place.serve(echo("responder")) as other:
        assert await place.ask(other, b"hello") == b"hello"


@pytest.mark.parametrize("what", ["reserve", "register"])
async def test_a_server_listens_everywhere_or_nowhere(
    unix_place: Place, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of its listeners is there already when the second fails."""
    with monkeypatch.context() as shortage:
        server = tieline.serve(echo("responder"), "127.0.0.1:0", unix_place.listen)
        SHORTAGES[what].happen(shortage, after=1)
        with pytest.raises(tieline.BindError):
            await server.start()
    assert server.addresses == []
    assert not Path(unix_place.listen.removeprefix("unix:")).exists()


async def test_an_address_that_is_taken_leaves_no_file_of_the_other(unix_place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = tieline.serve(echo("responder"), unix_place.listen, address)
        with pytest.raises(tieline.BindError):
            await server.start()
    assert not Path(unix_place.listen.removeprefix("unix:")).exists()


# ---- A handler that is done before its connection is


async def test_a_handler_that_returns_during_the_handshake_while_a_task_of_its_own_receives(
    tls_place: Place, error_log: ErrorLog
) -> None:
    tasks: list[asyncio.Task[list[bytes]]] = []

    async def listen(connection: tieline.Connection) -> list[bytes]:
        return [message async for message in connection]

    async def delegate(connection: tieline.Connection) -> None:
        assert connection.state is State.HANDSHAKE
        tasks.append(asyncio.create_task(listen(connection)))
        await asyncio.sleep(0)

    watch = Watch()
    async with tls_place.serve(delegate, **watch.hooks) as server:
        async with await Peer.connect(server.addresses[0]) as peer:
            await watch.next_open()
            await eventually(lambda: tasks)
            assert await tasks[0] == []
            assert tls_place.client_tls is not None
            # The peer sees an end in good order all the same.
            await peer.secure(tls_place.client_tls)
            assert await peer.receive_all() == b""
            await peer.end()
            assert await watch.next_close() is CloseReason.CLOSED
    assert server.counters.handler_errors == 0
    assert error_log.take() == []


# ---- For real


EXHAUSTED = """
import asyncio, resource, sys
import tieline

def answer(connection, message):
    return message

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    async with tieline.serve(answer, "127.0.0.1:0", framing=tieline.Line()) as server:
        print(server.addresses[0].port, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        refused = server.counters.refused[tieline.CloseReason.NO_DESCRIPTORS]
        print(refused, server.counters.accept_errors, flush=True)

asyncio.run(main())
"""


@pytest.mark.one_loop
async def test_a_process_that_is_out_of_descriptors_recovers(plain: Place) -> None:
    """The real thing: 40 descriptors, 60 clients."""
    process = subprocess.Popen(
        [sys.executable, "-c", EXHAUSTED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin, process.stdout:
        try:
            address = f"127.0.0.1:{int(process.stdout.readline())}"
            served: list[tieline.Connection] = []
            turned_away = 0
            for _ in range(60):
                connection = await tieline.connect(address, framing=tieline.Line())
                connection.send(b"hello")
                try:
                    # Whoever waits in the backlog waits for a rest of the listener's.
                    async with asyncio.timeout(2):
                        assert await connection.receive() == b"hello"
                except (TimeoutError, tieline.ConnectionClosedError):
                    connection.abort()
                    turned_away += 1
                    if turned_away == 3:
                        break
                else:
                    served.append(connection)
            assert 10 < len(served) < 40
            assert turned_away == 3
            # Those inside did not notice.
            for connection in served:
                await connection.send(b"still here")
                assert await connection.receive() == b"still here"
            # And once some leave, others are served.
            for connection in served[:5]:
                connection.close()
                await connection.wait_closed()
            assert await _until_served(lambda: tieline.ask(address, b"x", framing=tieline.Line()))
            for connection in served[5:]:
                connection.abort()
            process.stdin.write("done\n")
            process.stdin.flush()
            refused, _ = map(int, process.stdout.readline().split())
            assert refused >= 1
            assert process.wait(10) == 0
        finally:
            process.kill()


async def _until_served(ask: Callable[[], object]) -> bool:
    """Ask again until somebody answers: a refusal may still be on its way to the client."""
    for _ in range(20):
        try:
            await ask()  # type: ignore[misc]
            return True
        except tieline.TielineError:
            pass
    return False
