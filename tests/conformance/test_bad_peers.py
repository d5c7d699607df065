"""Peers that do what they should not: what it costs them, and nobody else."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

import tieline
from support.hooks import Watch, echo, eventually
from support.peers import Peer
from support.transports import Place
from tieline import (
    CloseReason,
    Connection,
    ConnectionClosedError,
    Delimiter,
    LengthPrefix,
    Limits,
    Line,
    MessageTooLargeError,
    PeerError,
    UndecodableError,
)

OFFENCES = [
    pytest.param(Line(), None, b"x" * 1001, CloseReason.MESSAGE_TOO_LARGE, id="endless line"),
    pytest.param(Line(), None, b"x" * 1001 + b"\n", CloseReason.MESSAGE_TOO_LARGE, id="long line"),
    pytest.param(
        Delimiter(b"\0"), None, b"x" * 1002, CloseReason.MESSAGE_TOO_LARGE, id="no delimiter"
    ),
    pytest.param(
        LengthPrefix(), None, b"\xff\xff\xff\xff", CloseReason.MESSAGE_TOO_LARGE, id="huge prefix"
    ),
    pytest.param(
        LengthPrefix(adjustment=-4), None, b"\0\0\0\1", CloseReason.MALFORMED, id="negative size"
    ),
    pytest.param(Line(), "gbk", b"\xff\xff\n", CloseReason.UNDECODABLE, id="not GBK"),
    pytest.param(Line(), "utf-8", b"\xc4\xe3\n", CloseReason.UNDECODABLE, id="GBK, not UTF-8"),
    pytest.param(None, "utf-8", b"a\xff", CloseReason.UNDECODABLE, id="not UTF-8, unframed"),
]


@pytest.mark.parametrize(("framing", "encoding", "offence", "reason"), OFFENCES)
async def test_an_offence_costs_the_offender_and_nobody_else(
    plain: Place, kind: str, framing: Any, encoding: str | None, offence: bytes, reason: CloseReason
) -> None:
    watch = Watch()
    limits = Limits(max_message=1000)
    options: dict[str, Any] = {"framing": framing, "encoding": encoding, "limits": limits}
    async with plain.serve(echo(kind), **options, **watch.hooks) as server:
        async with plain.connect(server, **options) as neighbour, await plain.peer(server) as peer:
            await peer.send(offence)
            await peer.receive_all()
            await peer.end()
            assert await watch.next_close() is reason
            message: Any = "hello" if encoding else b"hello"
            await neighbour.send(message)
            assert await neighbour.receive() == message
    assert server.counters.handler_errors == 0


async def test_what_was_whole_before_the_offence_is_answered(place: Place, kind: str) -> None:
    watch = Watch()
    limits = Limits(max_message=10)
    async with place.serve(echo(kind), framing=Line(), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"one\ntwo\n" + b"x" * 1000)
            assert await peer.receive_all() == b"one\ntwo\n"
            await peer.end()
            assert await watch.next_close() is CloseReason.MESSAGE_TOO_LARGE


async def test_a_conversation_may_answer_an_offence(place: Place) -> None:
    async def be_polite(connection: Connection) -> None:
        try:
            async for _ in connection:
                pass
        except MessageTooLargeError as error:
            await connection.send(b"at most %d bytes" % error.fields["maximum"])

    limits = Limits(max_message=10)
    watch = Watch()
    async with place.serve(be_polite, framing=Line(), limits=limits, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"x" * 50_000)
            assert await peer.receive_all() == b"at most 10 bytes\n"
            await peer.end()
            assert await watch.next_close() is CloseReason.MESSAGE_TOO_LARGE


async def test_an_offence_is_raised_every_time_and_sending_goes_on(plain: Place) -> None:
    raised: list[PeerError] = []

    async def try_again(connection: Connection) -> None:
        for _ in range(3):
            try:
                await connection.receive()
            except UndecodableError as error:
                raised.append(error)
        await connection.send("I cannot read that")

    async with plain.serve(try_again, framing=Line(), encoding="gbk") as server:
        async with await plain.peer(server) as peer:
            await peer.send(b"\xff\n")
            assert await peer.receive_line() == b"I cannot read that\n"
    assert len(raised) == 3


async def test_an_end_inside_a_character_is_a_truncated_message(place: Place, kind: str) -> None:
    watch = Watch()
    async with place.serve(echo(kind), encoding="gbk", **watch.hooks) as server:
        async with await place.peer(server) as peer:
            await peer.send("你".encode("gbk") + b"\xc4")
            assert await peer.receive(2) == "你".encode("gbk")
            await peer.end()
            assert await watch.next_close() is CloseReason.TRUNCATED


async def test_undecodable_bytes_may_be_shown_instead(place: Place, kind: str) -> None:
    seen: list[str] = []

    def remember(connection: Connection, message: str) -> str:
        seen.append(message)
        return "fine"

    async with place.serve(remember, framing=Line(), encoding="utf-8", errors="replace") as server:
        async with await place.peer(server) as peer:
            await peer.send(b"a\xffb\n")
            assert await peer.receive_line() == b"fine\n"
    assert seen == ["a\ufffdb"]


# ---- Peers that do not read


async def _fill(connection: Connection, chunk: bytes) -> None:
    """Send without ever waiting, as careless applications do."""
    while True:
        connection.send(chunk)
        await asyncio.sleep(0)


async def test_a_peer_that_never_reads_is_reset_when_nobody_waits_for_it(
    tcp_place: Place,
) -> None:
    most: list[int] = []
    limits = Limits(max_owed=500_000)

    async def flood(connection: Connection) -> None:
        if await connection.receive() == b"flood":
            try:
                await _fill(connection, b"x" * 60_000)
            finally:
                most.append(connection.bytes_sent)
        await connection.send(b"hello")

    watch = Watch()
    async with tcp_place.serve(flood, limits=limits, **watch.hooks) as server:
        neighbour = await tcp_place.peer(server)
        async with await tcp_place.peer(server, receive_buffer=4096) as peer, neighbour:
            await peer.send(b"flood")
            assert await watch.next_close() is CloseReason.SLOW_READER
            assert await peer.is_reset()
            await neighbour.send(b"and me?")
            assert await neighbour.receive(5) == b"hello"
    assert len(most) == 1
    assert server.counters.handler_errors == 0


async def test_a_slow_reader_is_reset_from_a_responder_too(tcp_place: Place) -> None:
    def flood(connection: Connection, message: bytes) -> None:
        while True:
            connection.send(b"x" * 60_000)

    watch = Watch()
    async with tcp_place.serve(flood, **watch.hooks) as server:
        async with await tcp_place.peer(server, receive_buffer=4096) as peer:
            await peer.send(b"go")
            assert await watch.next_close() is CloseReason.SLOW_READER
    assert server.counters.handler_errors == 0


async def test_whoever_waits_is_told_that_the_slow_reader_is_gone(plain: Place) -> None:
    told: list[ConnectionClosedError] = []

    async def send_politely(connection: Connection) -> None:
        try:
            while True:
                await connection.send(b"x" * 60_000)
        except ConnectionClosedError as error:
            told.append(error)

    watch = Watch()
    async with plain.serve(send_politely, **watch.hooks) as server:
        async with await plain.peer(server, receive_buffer=4096):
            connection = await watch.next_open()
            await eventually(lambda: connection.owed > Limits().high_water)
            with pytest.raises(ConnectionClosedError):
                await _fill(connection, b"y" * 60_000)
            assert await watch.next_close() is CloseReason.SLOW_READER
            await eventually(lambda: told)
    assert [error.reason for error in told] == [CloseReason.SLOW_READER]


async def test_noise_instead_of_tls_is_a_tls_error(tls_place: Place, kind: str) -> None:
    watch = Watch()
    async with tls_place.serve(echo(kind), **watch.hooks) as server:
        async with await Peer.connect(server.addresses[0]) as peer:
            await peer.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" * 20)
            assert await watch.next_close() is CloseReason.TLS_ERROR
    assert server.counters.handler_errors == 0


async def test_noise_after_the_handshake_is_a_tls_error(tls_place: Place, kind: str) -> None:
    watch = Watch()
    async with tls_place.serve(echo(kind), **watch.hooks) as server:
        async with await tls_place.peer(server) as peer:
            await peer.send(b"hello")
            assert await peer.receive(5) == b"hello"
            await peer.send_raw(b"\x17\x03\x03\x00\x20" + b"?" * 32)
            assert await watch.next_close() is CloseReason.TLS_ERROR
    assert server.counters.handler_errors == 0


async def test_a_certificate_that_nobody_trusts_is_said_so(tls_place: Place) -> None:
    watch = Watch()
    async with tls_place.serve(echo("responder"), **watch.hooks) as server:
        with pytest.raises(tieline.TlsError, match="cannot be trusted") as caught:
            await tieline.ask(server.addresses[0], b"hello", tls=_suspicious())
        assert "authority" in caught.value.hint
        assert await watch.next_close() in (CloseReason.TLS_ERROR, CloseReason.PEER_RESET)
        with pytest.raises(tieline.TlsError, match="cannot be trusted"):
            await tieline.ask(
                server.addresses[0], b"hello", tls=tls_place.client_tls, server_name="elsewhere"
            )


def _suspicious() -> ssl.SSLContext:
    """Trusts whom the machine trusts, and so nobody here."""
    return ssl.create_default_context()


async def test_a_peer_that_leaves_during_the_handshake_is_gone(tls_place: Place) -> None:
    watch = Watch()
    async with tls_place.serve(echo("conversation"), **watch.hooks) as server:
        async with await Peer.connect(server.addresses[0]) as peer:
            await watch.next_open()
            await peer.end()
            assert await watch.next_close() is not CloseReason.NETWORK_ERROR
    assert server.counters.handler_errors == 0
