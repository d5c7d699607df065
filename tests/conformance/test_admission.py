"""Who comes in, who is told no and how, who pays for it: through real sockets.

The caps themselves are in `test_caps`; how the decisions are made, in `tests/admission`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from typing import Any

import pytest

import tieline
from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.leaks import ErrorLog
from support.peers import Peer
from support.transports import Place
from tieline import (
    CloseReason,
    Connection,
    LengthPrefix,
    Limits,
    Line,
    Server,
    SettingError,
    UsageError,
)


async def _let_in(
    stack: AsyncExitStack, place: Place, server: Server, watch: Watch, source: str = ""
) -> Peer:
    peer = await stack.enter_async_context(await place.peer(server, source=source))
    await watch.next_open()
    return peer


# ---- The last words to a refused client


async def test_a_refused_client_is_told_so_and_sees_an_end(place: Place, kind: str) -> None:
    watch = Watch()
    limits = Limits(per_client=1, refusal="sorry: {reason}")
    async with (
        place.serve(echo(kind), framing=Line(), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, place, server, watch)
        if place.is_tls:
            # Nothing can be said before the handshake, and a refused client is spared that.
            assert await place.is_turned_away(server)
        else:
            async with await place.peer(server) as peer:
                assert await peer.receive_all() == b"sorry: client_limit\n"
        assert server.counters.refused == {CloseReason.CLIENT_LIMIT: 1}


async def test_the_last_words_are_framed_and_in_the_charset(plain: Place) -> None:
    watch = Watch()
    limits = Limits(per_client=1, refusal="服务器忙")
    async with (
        plain.serve(
            echo("responder"), framing=LengthPrefix(2), encoding="gbk", limits=limits,
            **watch.hooks,
        ) as server,
        AsyncExitStack() as stack,
    ):  # fmt: skip
        await _let_in(stack, plain, server, watch)
        async with await plain.peer(server) as peer:
            assert await peer.receive_all() == b"\0\x08" + "服务器忙".encode("gbk")
        async with plain.connect(server, framing=LengthPrefix(2), encoding="gbk") as client:
            assert await client.receive() == "服务器忙"
            with pytest.raises(tieline.EndOfStreamError):
                await client.receive()


async def test_words_are_not_lost_on_a_client_that_spoke_first(plain: Place) -> None:
    """Closing a socket with unread bytes resets it, and a reset may take the words with it."""
    watch = Watch()
    limits = Limits(per_client=1, refusal="sorry")
    async with (
        plain.serve(echo("responder"), framing=Line(), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch)
        address = server.addresses[0]
        # The loop does not run in between: it is all there when the client is accepted.
        with socket.create_connection((address.host, address.port)) as bare:
            bare.sendall(b"GET / HTTP/1.0\r\n\r\n")
            bare.setblocking(False)
            assert await Peer(bare).receive_all() == b"sorry\n"
            # Behind the end came no reset, which other systems than this one act upon first.
            assert bare.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


async def test_without_words_a_refused_client_is_reset(tcp_place: Place) -> None:
    watch = Watch()
    limits = Limits(per_client=1)
    async with (
        tcp_place.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, tcp_place, server, watch)
        assert await tcp_place.is_turned_away(server)


@pytest.mark.parametrize(
    ("refusal", "options"),
    [
        ("服务器忙", {"encoding": "ascii", "framing": Line()}),
        ("one\ntwo", {"encoding": "utf-8", "framing": Line()}),
    ],
    ids=["unencodable", "unframable"],
)
async def test_words_that_cannot_be_sent_are_refused_themselves(
    plain: Place, refusal: str, options: dict[str, Any]
) -> None:
    """When the server is made, and when its limits are changed; nothing has changed then."""
    with pytest.raises(SettingError):
        plain.serve(echo("responder"), limits=Limits(refusal=refusal), **options)
    before = Limits()
    async with plain.serve(echo("responder"), limits=before, **options) as server:
        with pytest.raises(SettingError):
            server.change_limits(refusal=refusal, idle=1)
        assert server.limits is server.admission.limits is before


# ---- Networks with rights of their own


async def test_an_exempt_network_has_no_share_and_no_rate(plain: Place) -> None:
    watch = Watch()
    limits = Limits(
        per_client=1, per_client_rate=0.001, per_client_burst=1, penalty_threshold=1,
        exempt_networks=("127.0.0.8/31",),
    )  # fmt: skip
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for source in ("127.0.0.8", "127.0.0.9") * 3:
            await _let_in(stack, plain, server, watch, source)
        for connection in watch.opened:
            connection.penalize(1_000, "is not charged")
        await _let_in(stack, plain, server, watch, "127.0.0.8")
        await _let_in(stack, plain, server, watch, "127.0.0.10")
        assert await plain.is_turned_away(server, source="127.0.0.10")
        assert server.counters.penalties == 0


async def test_reserved_places_are_for_their_networks(plain: Place) -> None:
    watch = Watch()
    limits = Limits(total=3, reserved=1, reserved_networks=("127.0.0.9",), per_client=None)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch)
        await _let_in(stack, plain, server, watch)
        assert await plain.is_turned_away(server)
        assert server.counters.refused == {CloseReason.TOTAL_LIMIT: 1}
        operator = await _let_in(stack, plain, server, watch, "127.0.0.9")
        # Now it is full for everybody: the next one waits, and is told no when there is room
        # only for others.
        waiting = asyncio.create_task(plain.is_turned_away(server))
        for _ in range(20):
            await operator.send(b"x")
            await operator.receive(1)
        assert not waiting.done()
        await operator.end()
        assert await waiting
        assert server.counters.refused == {CloseReason.TOTAL_LIMIT: 2}
        # And the operator gets in again.
        await _let_in(stack, plain, server, watch, "127.0.0.9")


# ---- How often


async def test_a_client_that_comes_too_often_is_refused_for_a_while(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(per_client_rate=0.1, per_client_burst=2)
    async with plain.serve(echo("responder"), limits=limits, **watch.hooks) as server:
        for _ in range(2):
            assert await plain.ask(server, b"hello") == b"hello"
        for _ in range(3):
            assert await plain.is_turned_away(server)
        assert server.counters.refused == {CloseReason.CLIENT_RATE: 3}
        # Others do not notice.
        async with await plain.peer(server, source="127.0.0.2") as other:
            await other.send(b"hello")
            assert await other.receive(5) == b"hello"
        clock.advance(9)
        assert await plain.is_turned_away(server)
        # Having been refused does not make it longer.
        clock.advance(1)
        assert await plain.ask(server, b"hello") == b"hello"
        assert await plain.is_turned_away(server)


async def test_above_the_rate_of_all_newcomers_wait_and_nobody_is_lost(place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(total_rate=100, total_burst=2)
    async with (
        place.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        address = server.addresses[0]
        peers = [await stack.enter_async_context(await Peer.connect(address)) for _ in range(8)]
        await eventually(lambda: server.counters.accept_pauses["rate"])
        # Longer than the pause, but the clock stands still.
        await eventually(lambda: server.counters.accept_pauses["rate"] > 1)
        assert len(server) == 2
        for inside in (3, 4, 5, 6, 7, 8):
            clock.advance(0.01)
            await eventually(lambda: len(server) == inside)  # noqa: B023
        assert server.counters.refused == {}
        if not place.is_tls:
            for peer in peers:
                await peer.send(b"hello")
                assert await peer.receive(5) == b"hello"


async def test_a_pause_does_not_disable_the_service(plain: Place) -> None:
    """Far above the rate for a while, then below it: everybody who waited is served."""
    limits = Limits(total_rate=2_000, total_burst=1, per_client=None)
    async with plain.serve(echo("responder"), limits=limits) as server:
        answers = await asyncio.gather(*(plain.ask(server, b"%d" % n) for n in range(100)))
        assert answers == [b"%d" % n for n in range(100)]
    assert server.counters.accepted == 100
    assert server.counters.refused == {}
    assert server.counters.accept_pauses["rate"] > 1


# ---- Penalties


async def _is_penalized(clock: Clock, place: Place, server: Server, seconds: float) -> None:
    """See that this machine is refused for so long, and no longer; and no other is."""
    await eventually(lambda: not len(server))
    [penalty] = server.admission.penalties()
    assert (penalty.key, penalty.owed) == ("127.0.0.1", seconds)
    assert penalty.refused
    assert await place.is_turned_away(server)
    async with await place.peer(server, source="127.0.0.2") as other:
        await other.send(b"hello\n")
        assert await other.receive_line() == b"hello\n"
    clock.advance(seconds - 1)
    assert await place.is_turned_away(server)
    assert server.counters.refused == {CloseReason.PENALIZED: 2}
    clock.advance(1 + TICK)
    assert await place.ask(server, b"hello", framing=Line()) == b"hello"
    assert list(server.admission.penalties()) == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"x" * 100, CloseReason.MESSAGE_TOO_LARGE),
        (b"\xff\xff\n", CloseReason.UNDECODABLE),
    ],
)
async def test_breaking_the_rules_costs_a_client(
    plain: Place, kind: str, said: bytes, reason: CloseReason
) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(max_message=10, penalty_malformed=20)
    async with plain.serve(
        echo(kind), framing=Line(), encoding="utf-8", limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server) as peer:
            await peer.send(said)
            await peer.end()
            assert await watch.next_close() is reason
        await _is_penalized(clock, plain, server, 20)


async def test_a_message_that_is_cut_off_costs_a_client(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(penalty_malformed=20)
    async with plain.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server) as peer:
            await peer.send(b"no newl")
            await peer.end()
            assert await watch.next_close() is CloseReason.TRUNCATED
        await _is_penalized(clock, plain, server, 20)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", CloseReason.FIRST_BYTE_TIMEOUT),
        (b"half a", CloseReason.MESSAGE_TIMEOUT),
        (b"half a", CloseReason.SLOW_SENDER),
    ],
)
async def test_being_slow_costs_a_client(plain: Place, said: bytes, reason: CloseReason) -> None:
    clock, watch = Clock(), Watch()
    rate = 100 if reason is CloseReason.SLOW_SENDER else None
    limits = Limits(penalty_slow=20, min_receive_rate=rate, message=30, rate_grace=20)
    async with plain.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(said)
            await eventually(lambda: connection.bytes_received == len(said))
            clock.advance(60 + TICK)
            assert await watch.next_close() is reason
        await _is_penalized(clock, plain, server, 20)


async def test_a_failed_handshake_costs_a_client(tls_place: Place) -> None:
    clock, watch = Clock(), Watch()
    limits = Limits(penalty_tls=20)
    async with tls_place.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await Peer.connect(server.addresses[0]) as peer:
            await peer.send(b"GET / HTTP/1.0\r\n\r\n")
            assert await watch.next_close() is CloseReason.TLS_ERROR
        await _is_penalized(clock, tls_place, server, 20)


async def test_being_refused_costs_a_client(plain: Place) -> None:
    """Coming back again and again while it has its share: in the end it has none."""
    clock, watch = Clock(), Watch()
    limits = Limits(per_client=1, penalty_refused=6, penalty_threshold=15, penalty_most=20)
    async with plain.serve(
        echo("responder"), framing=Line(), limits=limits, **watch.hooks
    ) as server:
        async with await plain.peer(server):
            await watch.next_open()
            for _ in range(10):
                assert await plain.is_turned_away(server)
        assert server.counters.refused == {
            CloseReason.CLIENT_LIMIT: 3,
            CloseReason.PENALIZED: 7,
        }
        await eventually(lambda: not len(server))
        assert await plain.is_turned_away(server)
        clock.advance(20 + TICK)
        assert await plain.ask(server, b"hello", framing=Line()) == b"hello"


async def test_the_application_charges_a_client(place: Place) -> None:
    clock, watch = Clock(), Watch()

    def check(connection: Connection, password: bytes) -> bytes:
        connection.penalize(10, "a wrong password")
        return b"wrong"

    server = place.serve(check, framing=Line(), **watch.hooks)
    async with server, await place.peer(server) as peer:
        for _ in range(2):
            await peer.send(b"123456\n")
            assert await peer.receive_line() == b"wrong\n"
        # This connection goes on; the machine's next one does not begin.
        assert await place.is_turned_away(server)
        [penalty] = server.admission.penalties()
        assert (penalty.owed, penalty.why) == (20, "a wrong password")
        assert (penalty.refused, penalty.refusals) == (True, 1)
        assert server.counters.penalties == 2
        assert server.unban(penalty.key)
        assert await place.ask(server, b"x", framing=Line()) == b"wrong"
        clock.advance(1_000)


async def test_a_penalty_is_of_a_server_and_above_zero(plain: Place) -> None:
    watch = Watch()
    async with plain.serve(echo("responder"), **watch.hooks) as server:
        async with plain.connect(server) as client:
            with pytest.raises(UsageError):
                client.penalize(10, "there is nobody to charge")
            connection = await watch.next_open()
            for seconds in (0, -1, float("nan")):
                with pytest.raises(UsageError):
                    connection.penalize(seconds, "makes no sense")
        assert list(server.admission.penalties()) == []


async def test_what_is_owed_survives_a_change_of_limits(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    async with plain.serve(echo("responder"), framing=Line(), **watch.hooks) as server:
        async with await plain.peer(server):
            (await watch.next_open()).penalize(20, "a silly request")
        server.change_limits(per_client=7, idle=17)
        await _is_penalized(clock, plain, server, 20)


@pytest.mark.parametrize(
    "limits", [{"penalty_refused": 5, "per_client": 1}, {"per_client_rate": 1.0}], ids=str
)
async def test_a_client_that_owes_nothing_any_more_is_forgotten(
    plain: Place, limits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tieline.hosting._CLEANING", 0.001)
    clock, watch = Clock(), Watch()
    async with plain.serve(echo("responder"), limits=Limits(**limits), **watch.hooks) as server:
        async with await plain.peer(server):
            await watch.next_open()
            if "per_client" in limits:
                assert await plain.is_turned_away(server)
        await eventually(lambda: not len(server))
        assert server.admission.known == 1
        clock.advance(10)
        await eventually(lambda: server.admission.known == 0)


# ---- Bans


async def test_a_ban_closes_and_refuses_and_is_lifted(tcp_place: Place, kind: str) -> None:
    watch = Watch()
    async with (
        tcp_place.serve(echo(kind), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        banned = [await _let_in(stack, tcp_place, server, watch, "127.0.0.2") for _ in range(2)]
        other = await _let_in(stack, tcp_place, server, watch, "127.0.0.3")
        assert server.ban("127.0.0.2", why="scans ports") == 2
        assert [await watch.next_close() for _ in banned] == [CloseReason.BANNED] * 2
        for peer in banned:
            assert await peer.is_reset()
        assert await tcp_place.is_turned_away(server, source="127.0.0.2")
        assert server.counters.refused == {CloseReason.BANNED: 1}
        await other.send(b"hello")
        assert await other.receive(5) == b"hello"
        [ban] = server.admission.bans()
        assert (ban.network, ban.why, ban.left, ban.refusals) == (
            "127.0.0.2", "scans ports", None, 1,
        )  # fmt: skip
        assert server.unban("127.0.0.2")
        assert not server.unban("127.0.0.2")
        await _let_in(stack, tcp_place, server, watch, "127.0.0.2")


async def test_a_ban_may_be_of_a_network_and_for_a_time(plain: Place) -> None:
    clock, watch = Clock(), Watch()
    async with (
        plain.serve(echo("responder"), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for source in ("127.0.5.1", "127.0.5.2", "127.0.6.1"):
            await _let_in(stack, plain, server, watch, source)
        assert server.ban("127.0.5.0/24", 60) == 2
        assert {each.peer.host for each in server.connections} == {"127.0.6.1"}
        clock.advance(59)
        assert await plain.is_turned_away(server, source="127.0.5.9")
        clock.advance(1 + TICK)
        await _let_in(stack, plain, server, watch, "127.0.5.9")


async def test_exempt_clients_are_banned_like_others(plain: Place) -> None:
    watch = Watch()
    limits = Limits(exempt_networks=("127.0.0.0/8",))
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch)
        assert server.ban("127.0.0.1") == 1
        assert await plain.is_turned_away(server)


async def test_a_ban_of_one_address_spares_its_neighbours(plain: Place) -> None:
    """Where a client is a wider prefix: an address of it is banned, not all of it."""
    watch = Watch()
    limits = Limits(client_ipv4_prefix=24)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for source in ("127.0.0.2", "127.0.0.3"):
            await _let_in(stack, plain, server, watch, source)
        assert server.ban("127.0.0.2") == 1
        assert {each.peer.host for each in server.connections} == {"127.0.0.3"}
        assert await plain.is_turned_away(server, source="127.0.0.2")
        await _let_in(stack, plain, server, watch, "127.0.0.4")
        # By its key, all of it.
        assert server.ban("127.0.0.0/24") == 2
        assert len(server) == 0


async def test_a_user_may_be_banned(unix_place: Place) -> None:
    watch = Watch()
    user = f"uid:{os.getuid()}"
    async with (
        unix_place.serve(echo("responder"), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        peer = await _let_in(stack, unix_place, server, watch)
        assert watch.opened[0].client.key == user
        assert watch.opened[0].peer_user == os.getuid()
        assert server.ban(user) == 1
        assert await peer.receive_all() == b""
        assert await unix_place.is_turned_away(server)
        assert server.counters.refused == {CloseReason.BANNED: 1}
        assert server.unban(user)
        await _let_in(stack, unix_place, server, watch)


async def test_a_ban_that_makes_no_sense_bans_nobody(plain: Place) -> None:
    watch = Watch()
    async with (
        plain.serve(echo("responder"), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch)
        for network in ("", "nobody", "127.0.0.1/33", "300.1.1.1", "uid:root"):
            with pytest.raises(SettingError):
                server.ban(network)
        for seconds in (0, -1, float("nan")):
            with pytest.raises((SettingError, UsageError)):
                server.ban("127.0.0.1", seconds)
        assert list(server.admission.bans()) == []
        assert len(server) == 1


async def test_of_many_connections_a_ban_closes_all(plain: Place) -> None:
    """More than are closed at once."""
    watch = Watch()
    async with (
        plain.serve(echo("responder"), limits=Limits(per_client=None), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(150):
            await _let_in(stack, plain, server, watch)
        assert server.ban("127.0.0.0/8") == 150
        # The loop gets its share in between.
        assert 0 < len(server) < 150
        await eventually(lambda: not len(server))
        assert server.counters.closed == {CloseReason.BANNED: 150}


# ---- Kicks


async def test_a_kicked_connection_is_reset(tcp_place: Place, kind: str) -> None:
    watch = Watch()
    async with (
        tcp_place.serve(echo(kind), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        peers = [await _let_in(stack, tcp_place, server, watch) for _ in range(4)]
        first, second, third, fourth = server.connections
        assert server.kick(first) == 1
        assert server.kick(second.id, third, 10**9, first) == 2
        assert [await watch.next_close() for _ in range(3)] == [CloseReason.KICKED] * 3
        for peer in peers[:3]:
            assert await peer.is_reset()
        assert list(server.connections) == [fourth]
        assert server.connection(fourth.id) is fourth
        assert server.connection(first.id) is None
        # It may come again.
        await _let_in(stack, tcp_place, server, watch)


async def test_one_that_is_named_twice_is_kicked_once(plain: Place) -> None:
    watch = Watch()
    async with (
        plain.serve(echo("responder"), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch)
        [connection] = server.connections
        assert server.kick(connection, connection.id, connection) == 1


async def test_a_kicked_client_loses_all_it_holds(plain: Place) -> None:
    watch = Watch()
    async with (
        plain.serve(echo("responder"), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        for source in ("127.0.0.2", "127.0.0.2", "127.0.0.3"):
            await _let_in(stack, plain, server, watch, source)
        assert server.kick_client("127.0.0.2") == 2
        assert server.kick_client("127.0.0.2") == 0
        assert server.kick_client("127.0.0.9") == 0
        assert set(server.admission.clients) == {"127.0.0.3"}
        await _let_in(stack, plain, server, watch, "127.0.0.2")


# ---- More clients than can be told apart


@pytest.mark.parametrize(
    ("mode", "let_in", "reason"),
    [
        ("share", 1, CloseReason.CLIENT_LIMIT),
        ("refuse", 0, CloseReason.TABLE_FULL),
        ("admit", 2, None),
    ],
)
async def test_a_full_table_has_the_failure_mode_that_was_chosen(
    plain: Place, mode: str, let_in: int, reason: CloseReason | None
) -> None:
    watch = Watch()
    limits = Limits(table_size=1, table_full=mode, per_client=1)
    async with (
        plain.serve(echo("responder"), limits=limits, **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        await _let_in(stack, plain, server, watch, "127.0.0.1")
        for number, source in enumerate(("127.0.0.2", "127.0.0.3")):
            if number < let_in:
                await _let_in(stack, plain, server, watch, source)
            else:
                assert await plain.is_turned_away(server, source=source)
        assert set(server.counters.refused) == ({reason} if reason else set())
        assert server.counters.table_overflows == 2
        assert server.admission.total == len(server) == 1 + let_in
        # Whoever was told apart before, still is.
        assert await plain.is_turned_away(server, source="127.0.0.1")
    assert server.admission.total == 0


# ---- What does not fit


async def test_a_hook_that_fails_at_a_refusal_costs_nobody(
    plain: Place, error_log: ErrorLog
) -> None:
    def fail(peer: tieline.Address, reason: CloseReason) -> None:
        raise ValueError("a mistake in the application")

    watch = Watch()
    limits = Limits(per_client=1, refusal="sorry")
    server = plain.serve(
        echo("responder"), framing=Line(), limits=limits, on_refuse=fail, **watch.hooks
    )
    async with server, AsyncExitStack() as stack:
        peer = await _let_in(stack, plain, server, watch)
        async with await plain.peer(server) as refused:
            assert await refused.receive_all() == b"sorry\n"
        await peer.send(b"hello\n")
        assert await peer.receive_line() == b"hello\n"
    assert len(error_log.take()) == 1
