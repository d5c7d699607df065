"""`tap`: what passes on one connection, shown without being touched."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import tieline
from control.controlled import Wire, controlled
from support.hooks import echo, eventually
from support.leaks import ErrorLog
from support.peers import Peer
from support.transports import Place
from tieline import Charset, Line, MessageTooLargeError, Raw
from tieline.charset import message_codec
from tieline.control import ControlError, connect, serve
from tieline.framing import Codec, Gap
from tieline.tap import Passed, Tap


class Tapped:
    """As much of a connection as a tap needs."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    def exchange_codec(self, codec: Codec) -> Codec:
        own, self.codec = self.codec, codec
        return own


# ---- The tap itself


def test_a_tap_shows_and_changes_nothing() -> None:
    own = Line().codec(10)
    connection, shown = Tapped(own), list[Passed]()
    tap = Tap(connection, shown.append)
    assert connection.codec is tap
    assert connection.codec.feed(b"a\nb\r\npart") == [b"a", b"b"]
    assert (tap.incomplete, tap.pending, tap.quiet, tap.encoding) == (True, 4, None, None)
    assert connection.codec.pack(b"back") == b"back\n"
    tap.remove()
    tap.remove()
    assert connection.codec is own
    assert own.feed(b"\n") == [b"part"]
    assert [(each.direction, each.data, each.size, each.text) for each in shown] == [
        ("in", b"a", 1, "a"), ("in", b"b", 1, "b"), ("out", b"back", 4, "back"),
    ]  # fmt: skip
    assert tap.messages == 3


def test_what_ends_a_message_is_shown_too() -> None:
    shown: list[Passed] = []
    gap = Tapped(Gap(0.5).codec())
    tap = Tap(gap, shown.append)
    assert tap.quiet == 0.5
    assert tap.feed(b"by silence") == []
    assert tap.quiet_passed() == [b"by silence"]
    assert tap.feed(b"by the end") == []
    assert tap.end() == [b"by the end"]
    assert [each.data for each in shown] == [b"by silence", b"by the end"]


def test_what_breaks_the_rules_is_shown_behind_what_did_not() -> None:
    shown: list[Passed] = []
    tap = Tap(Tapped(Line().codec(5)), shown.append)
    with pytest.raises(MessageTooLargeError) as raised:
        tap.feed(b"good\nfar too long\n")
    assert raised.value.completed == [b"good"]
    good, offence = shown
    assert (good.data, good.error) == (b"good", "")
    assert (offence.data, offence.error) == (b"good\nfar too long\n", "a message is over 5 bytes")
    assert tap.messages == 1


@pytest.mark.parametrize(
    ("message", "data", "text", "size"),
    [
        (b"plain", b"plain", "plain", 5),
        ("é".encode() * 3, "é".encode() * 3, "ééé", 6),
        (b"x" * 20, b"x" * 8, "x" * 8, 20),
        (b"x" + "é".encode() * 9, b"x" + "é".encode() * 3 + b"\xc3", "xééé", 19),
        (b"\xff\xfe", b"\xff\xfe", None, 2),
        (b"", b"", "", 0),
        (bytearray(b"array"), b"array", "array", 5),
        (memoryview(b"view"), b"view", "view", 4),
    ],
)
def test_bytes_are_shown_as_text_where_they_are_text(
    message: Any, data: bytes, text: str | None, size: int
) -> None:
    shown: list[Passed] = []
    Tap(Tapped(Raw().codec()), shown.append, most=8).pack(message)
    [passed] = shown
    assert (passed.data, passed.text, passed.size) == (data, text, size)
    assert passed.is_cut == (size > 8)


@pytest.mark.parametrize(
    ("encoding", "text", "data"),
    [
        ("gbk", "你好", "你好".encode("gbk")),
        # Read as GB18030, which contains GBK and more.
        ("gbk", "你🙂", "你🙂".encode("gb18030")),
        ("utf-8", "你🙂", "你🙂".encode()),
    ],
)
def test_text_is_shown_with_its_bytes(encoding: str, text: str, data: bytes) -> None:
    shown: list[Passed] = []
    tap = Tap(Tapped(message_codec(Line(), Charset(encoding))), shown.append)
    assert tap.encoding == encoding
    assert tap.feed(data + b"\n") == [text]
    assert (shown[0].text, shown[0].data, shown[0].size) == (text, data, len(data))


def test_what_is_neither_text_nor_bytes_is_shown_in_short() -> None:
    class Numbers(Codec):
        encoding = None
        pending = 0

        def feed(self, data: bytes) -> list[Any]:
            return [list(data) * 1_000]

        def end(self) -> list[Any]:
            return []

        def pack(self, message: Any) -> bytes:
            return bytes(message)

    shown: list[Passed] = []
    Tap(Tapped(Numbers()), shown.append).feed(b"\1\2")
    assert shown[0].text == "[1, 2, 1, 2, 1, 2, ...]"


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("second", [0, 1])
def test_several_taps_come_and_go_in_any_order(first: int, second: int) -> None:
    own = Raw().codec()
    connection = Tapped(own)
    shown: list[list[bytes]] = [[], [], []]
    taps = [
        Tap(connection, lambda passed, each=each: each.append(passed.data))  # type: ignore[misc]
        for each in shown
    ]
    left = list(range(3))
    connection.codec.feed(b"a")
    for index in (first, second):
        taps[left.pop(index)].remove()
        connection.codec.feed(b"b")
    [last] = left
    assert shown[last] == [b"a", b"b", b"b"]
    assert sorted(map(len, shown)) == [1, 2, 3]
    taps[last].remove()
    assert connection.codec is own


def test_a_tap_under_a_codec_of_somebody_elses_falls_silent() -> None:
    connection, shown = Tapped(Raw().codec()), list[Passed]()
    tap = Tap(connection, shown.append)
    other = message_codec(Raw())
    over = connection.exchange_codec(other)
    assert over is tap
    tap.remove()
    assert connection.codec is other
    tap.feed(b"not shown")
    assert shown == []


def test_a_look_that_fails_costs_nobody_anything(error_log: ErrorLog) -> None:
    def fail(passed: Passed) -> None:
        raise ValueError("a mistake in the application")

    connection = Tapped(Raw().codec())
    Tap(connection, fail)
    for _ in range(3):
        assert connection.codec.feed(b"a") == [b"a"]
    assert len(error_log.take()) == 1


# ---- The verb


async def _only(server: tieline.Server) -> int:
    await eventually(lambda: len(server) == 1)
    [connection] = server.connections
    return connection.id


async def test_both_directions_are_shown(place: Place, kind: str, path: Path) -> None:
    async with place.serve(echo(kind), framing=Line(), encoding="gbk") as server:
        async with serve(server, path), connect(path) as control:
            async with place.connect(server, framing=Line(), encoding="gbk") as client:
                id = await _only(server)
                async with control.tap(id) as tapped:
                    assert tapped.result is not None
                    assert tapped.result["id"] == id
                    await client.send("你好")
                    assert await client.receive() == "你好"
                    for direction in ("in", "out"):
                        event = await anext(tapped)
                        assert event.pop("time") > 0
                        assert event == {
                            "event": "message", "connection": id, "direction": direction,
                            "size": 4, "cut": False, "text": "你好", "hex": "c4e3bac3",
                        }  # fmt: skip
                [connection] = server.connections
                assert not isinstance(connection._codec, Tap)
                await client.send("after")
                assert await client.receive() == "after"
                assert [event async for event in tapped] == []


async def test_a_tap_is_known_to_whoever_watches(path: Path) -> None:
    async with controlled(path) as (server, control):
        async with await Peer.connect(server.addresses[0]) as peer:
            id = await _only(server)
            async with control.watch(["tap_begun", "tap_ended"], stats=False) as watched:
                async with control.tap(id):
                    begun = await anext(watched)
                    assert (begun["event"], begun["id"]) == ("tap_begun", id)
                    assert begun["by"].startswith("uid:")
                    await peer.send(b"hello\n")
                    await peer.receive_line()
                ended = await anext(watched)
                assert (ended["event"], ended["id"], ended["messages"]) == ("tap_ended", id, 2)


async def test_a_tap_ends_with_its_connection(path: Path) -> None:
    async with controlled(path) as (server, control):
        peer = await Peer.connect(server.addresses[0])
        tapped = control.tap(await _only(server))
        async with tapped:
            await peer.send(b"last words\n")
            await peer.receive_line()
            peer.reset()
            assert [event["text"] async for event in tapped] == ["last words"] * 2
            assert tapped.ended == {
                "event": "stream_ended", "why": "connection_closed", "reason": "peer_reset",
            }  # fmt: skip


async def test_a_tap_ends_after_as_many_as_were_wanted(path: Path) -> None:
    async with controlled(path) as (server, control):
        async with await Peer.connect(server.addresses[0]) as peer:
            tapped = control.tap(await _only(server), most=3)
            async with tapped:
                await peer.send(b"1\n2\n3\n4\n")
                assert [event["text"] async for event in tapped] == ["1", "2", "3"]
                assert tapped.ended == {"event": "stream_ended", "why": "most"}
                [connection] = server.connections
                assert not isinstance(connection._codec, Tap)
                assert await peer.receive(8) == b"1\n2\n3\n4\n"


async def test_an_offence_is_shown_with_the_bytes(path: Path) -> None:
    limits = tieline.Limits(max_message=10)
    async with controlled(path, limits=limits) as (server, control):
        async with await Peer.connect(server.addresses[0]) as peer:
            async with control.tap(await _only(server)) as tapped:
                await peer.send(b"\xff" * 5_000)
                event = await anext(tapped)
                assert (event["event"], event["size"], event["text"]) == ("offence", 4096, None)
                assert event["hex"] == "ff" * 4096
                assert event["error"] == "a message is over 10 bytes"


async def test_what_cannot_be_tapped_is_said(path: Path) -> None:
    async with controlled(path) as (server, control):
        with pytest.raises(ControlError, match="no open connection has the number 123456"):
            async with control.tap(123_456):
                pass
        async with await Peer.connect(server.addresses[0]):
            id = await _only(server)
            async with await Wire.connect(path) as wire:
                await wire.hear()
                answer = await wire.ask({"verb": "tap", "args": {"id": id}})
                assert "tap needs an id" in answer["error"]["message"]
            [connection] = server.connections
            assert not isinstance(connection._codec, Tap)


async def test_whoever_taps_and_leaves_leaves_nothing_behind(path: Path) -> None:
    async with controlled(path) as (server, _):
        async with await Peer.connect(server.addresses[0]) as peer:
            id = await _only(server)
            [connection] = server.connections
            wire = await Wire.connect(path)
            await wire.hear()
            for number in range(3):
                await wire.ask({"id": number, "verb": "tap", "args": {"id": id}})
            assert isinstance(connection._codec, Tap)
            wire.peer.reset()
            await eventually(lambda: not isinstance(connection._codec, Tap))
            await peer.send(b"hello\n")
            assert await peer.receive_line() == b"hello\n"


async def test_a_tap_that_nobody_reads_costs_a_bounded_queue(path: Path) -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0", framing=Line()) as server:
        async with serve(server, path) as control:
            async with await Peer.connect(server.addresses[0]) as peer:
                id = await _only(server)
                async with await Wire.connect(path, receive_buffer=4096) as wire:
                    await wire.hear()
                    await wire.ask({"id": 1, "verb": "tap", "args": {"id": id}})
                    [session] = control._sessions
                    [(outlet, _)] = session._streams.values()
                    [own] = control._own.connections
                    line = b"x" * 5_000 + b"\n"
                    for _ in range(500):
                        await peer.send(line)
                        assert await peer.receive(len(line)) == line
                        assert outlet._bytes <= 1_048_576
                    assert outlet.lost > 100
                    assert own.owed < 200_000
                    read = lost = 0
                    while read + lost < 1_000:
                        event = (await wire.hear())["event"]
                        if event["event"] == "events_lost":
                            lost += event["count"]
                        else:
                            read += 1
                            assert (event["size"], event["cut"]) == (5_000, True)
                            assert event["hex"] == "78" * 4096
                    assert lost == outlet.lost
                    await asyncio.sleep(0)
