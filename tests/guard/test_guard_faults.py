"""When system calls fail in a guard: only the session that they are of suffers, and often not even
that one; and nothing is left behind.

Faults go in through `Guard.make_socket` and `Guard.make_upstream_socket`, and for pipes through the
calls themselves. Each test sees that its fault has happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import random
import resource
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tieline
from guard.relayed import RESET, listen, read_to_end, reset
from guard.rig import (
    UNCHECKED,
    Rig,
    Script,
    closed_port,
    greeting,
    received,
    rig,
    send,
    silent_port,
    until,
)  # fmt: skip
from support.clock import TICK, Clock
from support.leaks import ErrorLog
from support.peers import Peer
from support.transports import Secrets
from tieline import CloseReason, Limits, listener, stream
from tieline.guard import ClientLeg, Guard, UpstreamState
from tieline.guard.connecting import Connecting
from tieline.guard.upstream_leg import UpstreamLeg
from tieline.reactor import READABLE, Reactor

#: This machine is short of something, for a moment.
SHORT = [errno.ENOBUFS, errno.ENOMEM]

BULK = random.Random(7).randbytes(3_000_000)


@pytest.fixture(autouse=True)
def short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that recovering does not take half a second."""
    for module in (listener, stream):
        monkeypatch.setattr(module, "_REST", 0.005)


def scripted(clients: Script | None = None, upstreams: Script | None = None) -> Any:
    """For `rig(before=...)`."""

    def before(guard: Guard) -> None:
        if clients is not None:
            guard.make_socket = clients.make_socket
        if upstreams is not None:
            guard.make_upstream_socket = upstreams.make_socket

    return before


async def works(it: Rig) -> None:
    """A session as any. Those before it that have come to nothing may have reached the service."""
    client = await it.client()
    await send(client, b"ask")
    while await asyncio.get_running_loop().sock_recv(server := await it.server(), 3) != b"ask":
        server.close()
    await it.exchange(client, server)
    client.close()
    server.close()


# ---- Accepting


@pytest.mark.parametrize(
    "code",
    [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO],
    ids=errno.errorcode.get,
)
async def test_accepting_fails_for_a_while(code: int) -> None:
    script = Script(accept=[None, code, code, code])
    async with rig(before=scripted(clients=script)) as it:
        first, server = await it.pair()
        others = [it.try_client() for _ in range(5)]
        # Who is in does not notice.
        for _ in range(5):
            await it.exchange(first, server)
        await until(lambda: script.injected["accept"] == 3)
        for each in others:
            each.close()
        await works(it)
        counters = it.guard.counters
        assert counters.accept_errors + counters.refused[CloseReason.NO_DESCRIPTORS] >= 2
        await it.exchange(first, server)


@pytest.mark.one_loop
async def test_descriptors_really_run_out_and_come_back() -> None:
    """Those that are in go on, newcomers are told no or wait; afterwards all is as before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with rig(limits=Limits(per_client=None)) as it:
        talking = [await it.pair() for _ in range(5)]
        crowd = [it.try_client() for _ in range(30)]
        await until(lambda: len(it.guard) == 35)
        for each in crowd[:20]:
            reset(each)
        await until(lambda: len(it.guard) == 15)
        # Room for its own, and for some more; a session needs two here.
        used = len(os.listdir("/proc/self/fd"))
        sockets = [socket.socket() for _ in range(20)]
        for each in sockets:
            each.setblocking(False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20 + 4, hard))
        try:
            for each in sockets:
                each.connect_ex((it.address.host, it.address.port))
            counters = it.guard.counters
            await until(
                lambda: (
                    counters.accept_errors
                    + counters.refused[CloseReason.NO_DESCRIPTORS]
                    + counters.closed[CloseReason.NO_DESCRIPTORS]
                    > 3
                )
            )
            for client, server in talking:
                await it.exchange(client, server)
            assert it.upstream.state is UpstreamState.UP
            assert it.upstream.failed == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for each in sockets:
                each.close()
        it.close_ends()
        # Whoever was let in has come to the service too.
        it.service.setblocking(False)
        while True:
            try:
                reset(it.service.accept()[0])
            except BlockingIOError:
                if not len(it.guard):
                    break
                await asyncio.sleep(0.005)
        await it.over()
        await works(it)


# ---- Getting to the upstream


@pytest.mark.parametrize("call", ["socket", "connect_ex"])
@pytest.mark.parametrize(
    "code", [errno.EMFILE, errno.ENFILE, *SHORT, errno.EADDRNOTAVAIL], ids=errno.errorcode.get
)
async def test_what_this_machine_is_short_of_is_not_the_upstreams_fault(
    call: str, code: int
) -> None:
    script = Script(**{call: [code] * 5})
    async with rig(before=scripted(upstreams=script)) as it:
        clients = [it.try_client() for _ in range(5)]
        await until(lambda: len(it.closed) == 5)
        for client in clients:
            assert (await read_to_end(client))[1] == RESET
        assert script.injected[call] == 5
        told = CloseReason.NO_DESCRIPTORS
        assert set(it.closed) == {CloseReason.NO_UPSTREAM if code == errno.EADDRNOTAVAIL else told}
        assert it.upstream.state is UpstreamState.UP
        assert it.upstream.failed == 0
        await works(it)


@pytest.mark.parametrize(
    "code",
    [
        errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EPERM,
        errno.EACCES, errno.ECONNRESET,
    ],
    ids=errno.errorcode.get,
)  # fmt: skip
async def test_an_upstream_that_cannot_be_reached_and_another(code: int) -> None:
    script = Script(connect_ex=[code])
    with listen() as other:
        async with rig(before=scripted(upstreams=script)) as it:
            it.guard.pool.add(
                tieline.guard.parse_upstream(f"127.0.0.1:{other.getsockname()[1]},name=b")
            )
            client = await it.client()
            await send(client, b"early")
            await until(lambda: any(it.guard.upstream_sides))
            first, second = it.guard.pool.upstreams
            assert (first.failed, second.connected) == (1, 1)
            assert first.last_error
            assert script.injected["connect_ex"] == 1


@pytest.mark.parametrize("who", ["client", "dialling", "upstream"])
@pytest.mark.parametrize("code", [errno.ENOMEM, errno.ENOSPC], ids=errno.errorcode.get)
async def test_one_more_descriptor_cannot_be_watched(
    who: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """epoll has a limit of its own, and needs memory."""
    register = Reactor.register
    kinds: dict[str, Any] = {"client": ClientLeg, "dialling": Connecting, "upstream": UpstreamLeg}
    failed = 0

    def fail_once(self: Reactor, descriptor: int, handler: Any, mask: int = READABLE) -> None:
        nonlocal failed
        if isinstance(handler, kinds[who]) and not failed:
            failed += 1
            raise OSError(code, os.strerror(code))
        register(self, descriptor, handler, mask)

    monkeypatch.setattr(Reactor, "register", fail_once)
    with silent_port() as silent:
        upstreams = {"upstreams": [silent]} if who == "dialling" else {}
        async with rig(**upstreams) as it:  # type: ignore[arg-type]
            it.try_client()
            await until(lambda: failed)
            it.close_ends()
            if who != "dialling":
                await works(it)


async def test_an_upstream_that_answers_a_client_that_has_gone_sees_a_reset() -> None:
    """It may be one that speaks first, and would take an end for somebody who listens."""
    # Its kernel has answered, and the guard has not been told yet.
    script = Script(connect_ex=[None, *[errno.EINPROGRESS] * 100_000])
    async with rig(before=scripted(upstreams=script)) as it:
        client, server = await it.pair()
        await until(lambda: script.injected["connect_ex"])
        reset(client)
        assert await read_to_end(server) == (b"", RESET)
        await it.over_with(CloseReason.PEER_RESET)


async def test_a_listener_that_broke_is_opened_again(error_log: ErrorLog) -> None:
    script = Script(accept=[errno.EBADF])
    async with rig("127.0.0.1:0", "127.0.0.2:0", before=scripted(clients=script)) as it:
        first, second = it.guard.addresses
        await read_to_end(it.try_client())
        assert len(error_log.take()) == 1
        assert it.guard.addresses == [second]
        # On the port that the system chooses now.
        await it.guard.add_addresses("127.0.0.1:0", "127.0.0.2:0")
        assert [each.host for each in it.guard.addresses] == [second.host, first.host]
        assert it.guard.addresses[0] == second
        it.guard.remove_addresses("127.0.0.2:0")
        await it.exchange(*await it.pair())
        assert it.address.host == first.host


@pytest.mark.parametrize("times", [1, 2])
async def test_an_event_for_a_descriptor_that_was_given_out_again(times: int) -> None:
    """A session that has just been reset, and one that is connecting with its number."""
    with silent_port() as silent:
        async with rig(upstreams=[silent]) as it:
            await it.client()
            await until(lambda: len(it.guard) == 1)
            reactor = Reactor.of(asyncio.get_running_loop())
            (connecting,) = [
                each for each in reactor._ready.values() if isinstance(each, Connecting)
            ]
            for _ in range(times):
                connecting.on_ready(select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR)
                connecting.on_ready(select.EPOLLOUT)
            assert it.upstream.connected == 0
            assert it.leg.upstream is None


async def test_a_unix_upstream_with_a_short_backlog(tmp_path: Any) -> None:
    """Who does not fit in is not refused: for TCP too the kernel lets him wait a while."""
    service = socket.socket(socket.AF_UNIX)
    service.bind(f"{tmp_path}/upstream.sock")
    service.listen(2)
    service.setblocking(False)
    async with rig(service=service, upstreams=[f"unix:{tmp_path}/upstream.sock"]) as it:
        clients = [it.try_client() for _ in range(30)]
        await until(lambda: len(it.guard) == 30)
        loop = asyncio.get_running_loop()
        for _ in clients:
            served, _ = await loop.sock_accept(service)
            it.servers.append(served)
        await until(lambda: it.upstream.connected == 30)
        assert it.closed == []
        assert it.upstream.failed == 0


async def test_an_upstream_whose_name_cannot_be_proved(secrets: Secrets, tmp_path: Any) -> None:
    """Added while the guard runs, so that nobody could say so at its start."""
    path = f"{tmp_path}/upstream.sock"
    with socket.socket(socket.AF_UNIX) as nameless:
        nameless.bind(path)
        nameless.listen()
        async with rig(upstream_tls=secrets.client) as it:
            it.guard.pool.drain(it.upstream.name)
            it.guard.pool.add(tieline.guard.parse_upstream(f"unix:{path},name=b"))
            client = it.try_client()
            await until(lambda: it.closed)
            assert (await read_to_end(client))[1] == RESET
            assert it.closed == [CloseReason.UPSTREAM_TLS]


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "."])
async def test_an_upstream_name_that_is_none(name: str, secrets: Secrets) -> None:
    """Whether that is said when the guard is made or to each session: no socket is left."""
    try:
        async with rig(upstream_tls=secrets.client, upstream_name=name) as it:
            client = it.try_client()
            await until(lambda: it.closed)
            assert (await read_to_end(client))[1] == RESET
            assert it.closed == [CloseReason.UPSTREAM_TLS]
    except tieline.SettingError:
        pass


# ---- Sending and receiving


@pytest.mark.parametrize("side", ["clients", "upstreams"])
@pytest.mark.parametrize("call", ["send", "recv_into"])
@pytest.mark.parametrize("code", SHORT, ids=errno.errorcode.get)
async def test_short_of_memory_for_a_while(side: str, call: str, code: int) -> None:
    """A rest, and not a byte is lost."""
    script = Script(**{call: [None, None, code, code, None, code]})
    async with rig(before=scripted(**{side: script})) as it:
        client, server = await it.pair()
        for number in range(8):
            await it.exchange(client, server, b"question %d" % number)
        assert script.injected[call] == 3
        client.shutdown(socket.SHUT_WR)
        assert await read_to_end(server) == (b"", "end")


@pytest.mark.parametrize("seed", range(4))
async def test_short_of_memory_now_and_then(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anywhere, on both sides, copied and spliced: the bytes are exact."""
    chance = random.Random(seed)

    def outcomes(count: int) -> list[int | None]:
        return [chance.choice([None, None, None, *SHORT]) for _ in range(count)]

    scripts = [Script(send=outcomes(60), recv_into=outcomes(60)) for _ in range(2)]
    splice, spliced = os.splice, 0

    def splice_at_times(*arguments: Any, **more: Any) -> int:
        nonlocal spliced
        spliced += 1
        if spliced < 60 and chance.random() < 0.3:
            code = chance.choice(SHORT)
            raise OSError(code, os.strerror(code))
        return splice(*arguments, **more)

    monkeypatch.setattr(os, "splice", splice_at_times)
    async with rig(before=scripted(clients=scripts[0], upstreams=scripts[1])) as it:
        client, server = await it.pair()
        loop = asyncio.get_running_loop()

        async def talk(end: socket.socket) -> None:
            at = 0
            steps = random.Random(seed)
            while at < len(BULK):
                size = steps.choice([1, 100, 5_000, 70_000, 400_000])
                await loop.sock_sendall(end, BULK[at : at + size])
                at += size
            end.shutdown(socket.SHUT_WR)

        down, up, _, _ = await asyncio.gather(
            read_to_end(client), read_to_end(server), talk(client), talk(server)
        )
        assert down == up == (BULK, "end")
        assert spliced
        assert sum(sum(each.injected.values()) for each in scripts) > 3
        await it.over()


@pytest.mark.parametrize(
    ("side", "reason"),
    [("clients", CloseReason.NETWORK_ERROR), ("upstreams", CloseReason.UPSTREAM_LOST)],
)
@pytest.mark.parametrize("code", [errno.ETIMEDOUT, errno.EHOSTUNREACH], ids=errno.errorcode.get)
async def test_the_network_loses_one_side(side: str, reason: CloseReason, code: int) -> None:
    script = Script(recv_into=[None, code])
    async with rig(before=scripted(**{side: script})) as it:
        client, server = await it.pair()
        await it.exchange(client, server)
        lost, other = (client, server) if side == "clients" else (server, client)
        await send(lost, b"never read")
        assert (await read_to_end(other))[1] == RESET
        await it.over()
        assert it.closed == [reason]
        assert script.injected["recv_into"] == 1
        await works(it)


@pytest.mark.parametrize(
    ("side", "reason"),
    [("clients", CloseReason.PEER_RESET), ("upstreams", CloseReason.UPSTREAM_RESET)],
)
@pytest.mark.parametrize("code", [errno.EPIPE, errno.ECONNRESET], ids=errno.errorcode.get)
async def test_sending_to_one_side_fails(side: str, reason: CloseReason, code: int) -> None:
    """The peer is gone: what it said last is delivered, then the other side is reset."""
    script = Script(send=[None, code])
    async with rig(before=scripted(**{side: script})) as it:
        client, server = await it.pair()
        await it.exchange(client, server)
        gone, other = (client, server) if side == "clients" else (server, client)
        await send(other, b"never arrives")
        await until(lambda: script.injected["send"])
        await send(gone, b"last words")
        gone.close()
        assert await read_to_end(other) == (b"last words", RESET)
        await it.over()
        assert it.closed == [reason]


async def test_short_of_memory_under_tls(secrets: Secrets) -> None:
    clients = Script(send=[None, None, *SHORT * 4], recv=[None, None, None, *SHORT * 4])
    upstreams = Script(send=[None, None, *SHORT * 4], recv=[None, None, None, *SHORT * 4])
    async with rig(
        tls=secrets.server,
        upstream_tls=secrets.client,
        before=scripted(clients=clients, upstreams=upstreams),
    ) as it:
        plain = await it.client()
        client = Peer(plain)
        await client.secure(secrets.client)
        server = Peer(await it.server())
        await server.secure(secrets.server, server_side=True)
        for number in range(12):
            words = b"%d" % number * 3_000
            await client.send(words)
            assert await server.receive_exactly(len(words)) == words
            await server.send(words)
            assert await client.receive_exactly(len(words)) == words
        for script in (clients, upstreams):
            assert script.injected["send"]
            assert script.injected["recv"]


# ---- Pipes


async def bulk_both_ways(it: Rig) -> None:
    """Three megabytes each way at once, and every byte of them; then both end."""
    await carry_bulk(*await it.pair())


async def carry_bulk(client: socket.socket, server: socket.socket) -> None:
    """The same between these ends."""

    async def talk(end: socket.socket) -> None:
        await send(end, BULK)
        end.shutdown(socket.SHUT_WR)

    down, up, _, _ = await asyncio.gather(
        read_to_end(client), read_to_end(server), talk(client), talk(server)
    )
    assert down == up == (BULK, "end")
    client.close()
    server.close()


@contextlib.contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Iterator[list[Any]]:
    """How often a call is made, and with what."""
    real: Callable[..., Any] = getattr(module, name)
    calls: list[Any] = []

    def call(*arguments: Any, **more: Any) -> Any:
        calls.append(arguments)
        return real(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, call)
        yield calls


async def test_bulk_is_spliced(monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch, os, "splice") as calls:
        async with rig() as it:
            await bulk_both_ways(it)
            await it.over()
            assert calls
            assert 1 <= it.guard.pipes.count <= 4


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE], ids=errno.errorcode.get)
async def test_no_descriptors_for_pipes(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pipe(flags: int) -> tuple[int, int]:
        raise OSError(code, os.strerror(code))

    async with rig() as it:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pipe2", no_pipe)
            await bulk_both_ways(it)
        assert it.guard.pipes.short > 0
        assert it.guard.pipes.count == 0
        # There are some again.
        await bulk_both_ways(it)
        await it.over()
        assert it.guard.pipes.count > 0


async def test_pipes_that_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the user's budget (pipe(7)) a pipe may be of two pages, and grows no more."""
    real = fcntl.fcntl

    def not_larger(descriptor: int, command: int, argument: Any = 0) -> Any:
        if command != fcntl.F_SETPIPE_SZ:
            return real(descriptor, command, argument)
        # As small as the kernel makes them then.
        real(descriptor, command, 8_192)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(fcntl, "fcntl", not_larger)
    with counted(monkeypatch, os, "splice") as calls:
        async with rig() as it:
            await bulk_both_ways(it)
            assert calls


async def test_out_of_pipes() -> None:
    """One for all of them: who has none copies."""
    async with rig() as it:
        it.guard.pipes._most = 1
        pairs = [await it.pair() for _ in range(4)]
        await asyncio.gather(*(carry_bulk(*each) for each in pairs))
        assert it.guard.pipes.count <= 1
        await it.over()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, *SHORT], ids=errno.errorcode.get)
@pytest.mark.parametrize("when", [1, 2, 3, 4, 7, 8])
async def test_splicing_fails_once(when: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a pipe (odd) or out of it, at first or later: by copying, nothing is lost."""
    splice, calls = os.splice, 0

    def fail_once(*arguments: Any, **more: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == when:
            raise OSError(code, os.strerror(code))
        return splice(*arguments, **more)

    monkeypatch.setattr(os, "splice", fail_once)
    async with rig() as it:
        client, server = await it.pair()
        reading = asyncio.ensure_future(read_to_end(server))
        await send(client, BULK)
        client.shutdown(socket.SHUT_WR)
        assert await reading == (BULK, "end")
        assert calls >= when


@pytest.mark.parametrize(
    "code", [errno.EPIPE, errno.ECONNRESET, errno.EIO], ids=errno.errorcode.get
)
@pytest.mark.parametrize("when", [1, 2])
async def test_splicing_finds_a_side_broken(
    when: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That session is over, on both sides, and its pipe is not used again; others are not."""
    splice, calls = os.splice, 0

    def fail_once(*arguments: Any, **more: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == when:
            raise OSError(code, os.strerror(code))
        return splice(*arguments, **more)

    async with rig() as it:
        other = await it.pair()
        client, server = await it.pair()
        with monkeypatch.context() as patch:
            patch.setattr(os, "splice", fail_once)
            sending = asyncio.ensure_future(send(client, BULK))
            await until(lambda: calls >= when)
            await it.exchange(*other)
            server.close()
            await asyncio.gather(sending, return_exceptions=True)
        assert (await read_to_end(client))[1] == RESET
        await it.exchange(*other)
        await until(lambda: len(it.guard) == 1)
        assert it.upstream.sessions == 1
        await bulk_both_ways(it)


@pytest.mark.parametrize("held", [True, False])
async def test_a_full_pipe_and_an_end_behind_it(
    held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small segments fill a pipe, which counts pages and not bytes; behind them the stream
    ends. Every byte arrives before the end, and the guard does not spin."""
    wakes = 0
    on_ready = ClientLeg.on_ready

    def count(self: ClientLeg, mask: int) -> None:
        nonlocal wakes
        wakes += 1
        on_ready(self, mask)

    monkeypatch.setattr(ClientLeg, "on_ready", count)
    splice, refused = os.splice, 0

    def takes_none_at_first(source: int, target: int, *arguments: Any, **more: Any) -> int:
        nonlocal refused
        # Out of the pipe: the socket is full.
        if held and target == it.upstream_leg._descriptor and refused < 3:
            refused += 1
            raise BlockingIOError(errno.EAGAIN, "full")
        return splice(source, target, *arguments, **more)

    async with rig() as it:
        client, server = await it.pair()
        head = BULK[:1_000_000]
        reading = asyncio.ensure_future(received(server, len(head)))
        with counted(monkeypatch, os, "splice") as calls:
            await send(client, head)
            assert await reading == head
        assert calls
        it.upstream_leg._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
        monkeypatch.setattr(os, "splice", takes_none_at_first)
        wakes = 0
        tail = b""
        for number in range(3_000):
            piece = b"%d," % number
            tail += piece
            await send(client, piece)
        client.shutdown(socket.SHUT_WR)
        assert await read_to_end(server) == (tail, "end")
        assert refused == (3 if held else 0)
        assert wakes < 3_000 * 2


async def test_a_pipe_with_bytes_in_it_never_reaches_another_session() -> None:
    """A session is cut off while a pipe holds its bytes; the pipe goes with it."""
    async with rig() as it:
        for _ in range(5):
            client, server = await it.pair()
            sending = asyncio.ensure_future(send(client, b"\x00" * 20_000_000))
            await until(lambda: it.upstream_leg.owed > 0)
            it.guard.kick(it.leg)
            await asyncio.gather(sending, return_exceptions=True)
            server.close()
            await it.over()
            await bulk_both_ways(it)
            await it.over()


# ---- The application's own


async def test_a_look_that_fails(error_log: ErrorLog, secrets: Secrets) -> None:
    """A full disk under a trace: the session loses the look, and not a byte."""

    def show(direction: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with rig(tls=secrets.server, on_open=lambda leg: leg.look(show)) as it:
        client = Peer(await it.client())
        await client.secure(secrets.client)
        await client.send(b"hello")
        server = await it.server()
        assert await received(server, 5) == b"hello"
        await send(server, b"world")
        assert await client.receive_exactly(5) == b"world"
        assert len(error_log.take()) == 1


async def test_a_look_that_ends_the_session() -> None:
    def show(direction: str, data: bytes) -> None:
        it.leg.abort()

    async with rig() as it:
        client, server = await it.pair()
        it.leg.look(show)
        await send(client, b"hello")
        assert (await read_to_end(client))[1] == RESET
        assert (await read_to_end(server))[1] == RESET
        await it.over()


@pytest.mark.parametrize("hook", ["on_open", "on_close", "on_refuse"])
async def test_hooks_that_fail(hook: str, error_log: ErrorLog) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("a defect of the application")

    more: dict[str, Any] = {hook: fail}
    async with rig(limits=Limits(per_client=1, closing=0.1), **more) as it:
        client = await it.client()
        refused = it.try_client()
        assert (await read_to_end(refused))[1] == RESET
        client.close()
        if hook != "on_open":
            (await it.server()).close()
        await it.over()
        if hook == "on_open":
            assert it.closed == [CloseReason.HANDLER_ERROR]
    assert error_log.take()


@pytest.mark.parametrize("how", ["abort", "close", "finish"])
@pytest.mark.parametrize("kind", ["plain", "tls", "named"])
async def test_on_open_shows_a_client_out(how: str, kind: str, secrets: Secrets) -> None:
    def show_out(leg: ClientLeg) -> None:
        getattr(leg, how)()

    more: dict[str, Any] = {}
    if kind == "tls":
        more["tls"] = secrets.server
    if kind == "named":
        more["settings"] = UNCHECKED.replace(sni="on")
    async with rig(on_open=show_out, limits=Limits(closing=0.1, handshake=0.1), **more) as it:
        client = it.try_client()
        await until(lambda: it.guard.counters.accepted)
        with contextlib.suppress(OSError):
            await send(client, greeting())
        if how != "finish":
            assert it.upstream.connected == 0
        client.close()
        it.service.close()
        await it.over()


# ---- Told no, with a word


async def test_a_client_that_was_told_no_waits_no_more() -> None:
    """Its place in the queue is another's, and it gets no upstream though it stays."""
    clock = Clock()
    limits = Limits(refusal="no: {reason}\n")
    async with rig(options=",max=1", limits=limits) as it:
        first, server = await it.pair()
        late = await it.client()
        await until(lambda: it.guard.pool.waiting == 1)
        clock.advance(10 + TICK)
        assert await read_to_end(late) == (b"no: queue_timeout\n", "end")
        assert it.guard.pool.waiting == 0
        first.close()
        server.close()
        await until(lambda: it.upstream.sessions == 0)
        assert it.upstream.connected == 1
        clock.advance(5 + TICK)
        assert it.closed[-1] is CloseReason.QUEUE_TIMEOUT
        await it.over()


async def test_a_client_that_was_told_no_is_not_dialled_again() -> None:
    clock = Clock()
    text = closed_port()
    settings = UNCHECKED.replace(tries=1)
    limits = Limits(refusal="no: {reason}\n")
    async with rig(upstreams=[text], settings=settings, limits=limits) as it:
        client = await it.client()
        assert await read_to_end(client) == (b"no: no_upstream\n", "end")
        # It is there now, and the client still is.
        with listen(port=int(text.partition(":")[2])):
            clock.advance(5 + TICK)
            await it.over()
            assert it.upstream.connected == 0
            assert it.closed == [CloseReason.NO_UPSTREAM]
            assert (await read_to_end(client))[0] == b""


async def test_a_session_that_came_about_in_a_retry_has_its_clocks() -> None:
    clock = Clock()
    text = closed_port()
    async with rig(upstreams=[text], limits=Limits(idle=60, first_byte=None)) as it:
        client = await it.client()
        await until(lambda: it.upstream.failed)
        with listen(port=int(text.partition(":")[2])) as back:
            it.service, before = back, it.service
            clock.advance(0.5 + TICK)
            await it.server()
            clock.advance(60 + TICK)
            clock.advance(60 + TICK)
            assert await read_to_end(client) == (b"", "end")
            it.close_ends()
            await it.over()
            assert it.closed == [CloseReason.IDLE_TIMEOUT]
            it.service = before
