"""Messages arrive: all of them, whole, in order, however they are cut on their way."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import Any

import tieline
from support.faults import Faults
from support.hooks import Watch, echo
from support.transports import Place
from tieline import CloseReason, Connection, Fixed, LengthPrefix, Limits, Line, State


async def test_what_is_sent_comes_back(place: Place, kind: str) -> None:
    async with place.serve(echo(kind)) as server, place.connect(server) as connection:
        await connection.send(b"hello")
        assert await connection.receive() == b"hello"
        assert connection.state is State.OPEN


async def test_a_short_connection_is_one_question_and_one_answer(place: Place, kind: str) -> None:
    watch = Watch()
    async with place.serve(echo(kind), framing=Line(), encoding="gbk", **watch.hooks) as server:
        assert await place.ask(server, "你好", framing=Line(), encoding="gbk") == "你好"
        assert await watch.next_close() in (CloseReason.PEER_CLOSED, CloseReason.CLOSED)


async def test_text_in_every_charset_of_china_comes_back(place: Place, kind: str) -> None:
    for encoding in ("gbk", "gb18030", "utf-8", "big5"):
        async with place.serve(echo(kind), framing=Line(), encoding=encoding) as server:
            answer = await place.ask(server, "中文", framing=Line(), encoding=encoding)
            assert answer == "中文"


async def test_messages_that_come_in_one_segment_are_answered_in_order(
    place: Place, kind: str
) -> None:
    lines = b"".join(b"%d\n" % number for number in range(1000))
    async with place.serve(echo(kind), framing=Line()) as server:
        async with await place.peer(server) as peer:
            await peer.send(lines)
            assert await peer.receive(len(lines)) == lines


async def test_answers_to_messages_that_came_together_leave_together(
    plain: Place, kind: str
) -> None:
    faults = Faults()
    server = plain.serve(echo(kind), framing=Line())
    server.make_socket = faults.make_socket
    async with server, await plain.peer(server) as peer:
        await peer.send(b"one\ntwo\nthree\n")
        assert await peer.receive_some() == b"one\ntwo\nthree\n"
    assert faults.calls["send"] == 1


async def test_a_message_may_come_byte_by_byte(place: Place, kind: str) -> None:
    watch = Watch()
    async with place.serve(echo(kind), framing=Line(), encoding="gbk", **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            for sent, byte in enumerate("一个一个地来\n".encode("gbk"), 1):
                await peer.send(bytes([byte]))
                while connection.bytes_received < sent:
                    await asyncio.sleep(0)
            assert (await peer.receive_line()).decode("gbk") == "一个一个地来\n"
            assert connection.messages_received == 1


async def test_a_message_may_be_larger_than_any_read(place: Place, kind: str) -> None:
    message = random.Random(1).randbytes(3_000_000)
    limits = Limits(max_message=len(message), max_owed=2 * len(message))
    framing = LengthPrefix()
    async with place.serve(echo(kind), framing=framing, limits=limits) as server:
        async with place.connect(server, framing=framing, limits=limits) as connection:
            await connection.send(message)
            assert await connection.receive() == message


async def test_an_empty_message_is_a_message(place: Place, kind: str) -> None:
    async with place.serve(echo(kind), framing=Line()) as server:
        assert await place.ask(server, b"", framing=Line()) == b""


async def test_many_bytes_both_ways_at_once_arrive_unchanged(place: Place, kind: str) -> None:
    """However reads and writes fall: sizes from one byte to larger than the socket's buffers."""
    numbers = random.Random(2)
    messages = [numbers.randbytes(numbers.choice((1, 10, 1000, 60_000))) for _ in range(400)]
    limits = Limits(max_owed=1 << 27)
    framing = LengthPrefix()
    async with place.serve(echo(kind), framing=framing, limits=limits) as server:
        async with place.connect(server, framing=framing, limits=limits) as connection:

            async def send_all() -> None:
                for message in messages:
                    await connection.send(message)

            sending = asyncio.create_task(send_all())
            received = [await connection.receive() for _ in messages]
            await sending
    assert _digest(received) == _digest(messages)


def _digest(messages: list[bytes]) -> str:
    return hashlib.sha256(b"\0".join(messages)).hexdigest()


async def test_a_hundred_connections_get_their_own_answers_only(place: Place, kind: str) -> None:
    async with place.serve(echo(kind), framing=Line()) as server:

        async def talk(number: int) -> None:
            async with place.connect(server, framing=Line()) as connection:
                for turn in range(5):
                    message = b"connection %d, turn %d" % (number, turn)
                    await connection.send(message)
                    assert await connection.receive() == message

        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(talk(number))


async def test_a_server_listens_on_several_addresses_at_once(place: Place) -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0", "[::1]:0") as server:
        assert len(server.addresses) == 2
        for address in server.addresses:
            assert await tieline.ask(address, b"hello") == b"hello"


async def test_every_address_of_the_machine_is_one_port(place: Place) -> None:
    async with tieline.serve(echo("responder"), ":0") as server:
        ports = {address.port for address in server.addresses}
        assert len(ports) == 1
        port = ports.pop()
        assert await tieline.ask(f"127.0.0.1:{port}", b"four") == b"four"
        assert await tieline.ask(f"[::1]:{port}", b"six") == b"six"


async def test_a_responder_that_returns_nothing_sends_nothing(place: Place) -> None:
    def answer_questions(connection: Connection, message: bytes) -> bytes | None:
        return b"yes" if message.endswith(b"?") else None

    async with place.serve(answer_questions, framing=Line()) as server:
        async with await place.peer(server) as peer:
            await peer.send(b"a statement\na question?\n")
            assert await peer.receive_line() == b"yes\n"


async def test_a_handler_may_speak_first(place: Place) -> None:
    async def greet(connection: Connection) -> None:
        await connection.send("220 welcome")

    async with place.serve(greet, framing=Line(), encoding="utf-8") as server:
        async with await place.peer(server) as peer:
            assert await peer.receive_all() == b"220 welcome\n"


async def test_on_open_may_speak_before_any_handler(place: Place, kind: str) -> None:
    def greet(connection: Connection) -> None:
        connection.send(b"welcome")

    async with place.serve(echo(kind), framing=Line(), on_open=greet) as server:
        async with await place.peer(server) as peer:
            assert await peer.receive_line() == b"welcome\n"
            await peer.send(b"thanks\n")
            assert await peer.receive_line() == b"thanks\n"


async def test_counters_and_attributes_tell_what_has_passed(place: Place, kind: str) -> None:
    watch = Watch()
    async with place.serve(echo(kind), framing=Fixed(4), **watch.hooks) as server:
        async with await place.peer(server) as peer:
            connection = await watch.next_open()
            await peer.send(b"onetwo")
            assert await peer.receive(4) == b"onet"
            assert (connection.bytes_received, connection.messages_received) == (6, 1)
            await peer.send(b"ww")
            assert await peer.receive(4) == b"woww"
            assert (connection.bytes_sent, connection.messages_sent) == (8, 2)
            assert list(server.connections) == [connection]
            assert len(server) == 1
            await peer.end()
            await watch.next_close()
    counters = server.counters
    assert (counters.bytes_received, counters.messages_received) == (8, 2)
    assert (counters.bytes_sent, counters.messages_sent) == (8, 2)
    assert counters.accepted == 1


async def test_a_connection_knows_both_its_ends(place: Place) -> None:
    watch = Watch()
    async with place.serve(echo("responder"), **watch.hooks) as server:
        async with place.connect(server) as near:
            far = await watch.next_open()
            assert near.peer == server.addresses[0]
            if place.is_tcp:
                assert far.peer == near.local
                assert far.local == near.peer
                assert far.tcp_info().state == "established"
            else:
                assert far.peer.is_unix
            assert (near.ssl_object is not None) == place.is_tls
            assert near.id != far.id


async def test_data_is_the_applications_own(plain: Place) -> None:
    def count(connection: Connection, message: Any) -> bytes:
        connection.data = (connection.data or 0) + 1
        return b"%d" % connection.data

    async with plain.serve(count, framing=Line()) as server:
        async with plain.connect(server, framing=Line()) as connection:
            await connection.send(b"")
            await connection.send(b"")
            assert [await connection.receive(), await connection.receive()] == [b"1", b"2"]
