"""The event log: every event a line, safe to read, and never at the server's cost."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.hooks import echo, eventually
from support.leaks import ErrorLog
from support.transports import Place
from tieline import Address, CloseReason, Limits, Line, SettingError
from tieline.event_log import EventLog, attributes, text
from tieline.events import (
    AcceptPaused,
    AcceptResumed,
    ClientBanned,
    ClientPenalized,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    DrainEnded,
    Event,
    Events,
    HandlerFailed,
    LimitsChanged,
    LimitSpared,
    ServerStarted,
    TableOverflowed,
)

PEER = Address("10.0.0.7", 5123)
LOCAL = Address("192.0.2.1", 7788)
#: 2026-11-22 16:10:00.250 UTC
TIME = 1_795_363_800.25


def opened(**changed: Any) -> ConnectionOpened:
    return ConnectionOpened(
        **{"time": TIME, "id": 7, "peer": PEER, "local": LOCAL, "client": "10.0.0.7", **changed}
    )


def refused(**changed: Any) -> ConnectionRefused:
    reason = CloseReason.CLIENT_LIMIT
    return ConnectionRefused(
        **{"time": TIME, "peer": PEER, "client": "10.0.0.7", "reason": reason, **changed}
    )


def closed(reason: CloseReason = CloseReason.PEER_CLOSED) -> ConnectionClosed:
    return ConnectionClosed(
        time=TIME,
        id=7,
        peer=PEER,
        client="10.0.0.7",
        reason=reason,
        duration=1.5,
        bytes_received=100,
        bytes_sent=200,
        messages_received=3,
        messages_sent=4,
    )


class Collecting(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.records]


class Clock:
    def __init__(self) -> None:
        self.time = 50.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def collecting() -> Iterator[Collecting]:
    """What goes to the logger, all of it."""
    handler = Collecting()
    logger = logging.getLogger("tieline.events")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


def announce(events: Events, *told: Event) -> None:
    for event in told:
        events.announce(event)


# ---- What a line says


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            ServerStarted(addresses=(LOCAL, Address("::", 7788))),
            "server_started addresses=192.0.2.1:7788,[::]:7788",
        ),
        (
            opened(),
            "connection_opened id=7 peer=10.0.0.7:5123 local=192.0.2.1:7788 client=10.0.0.7",
        ),
        (
            closed(CloseReason.IDLE_TIMEOUT),
            "connection_closed id=7 peer=10.0.0.7:5123 client=10.0.0.7 reason=idle_timeout "
            "duration=1.5 bytes_received=100 bytes_sent=200 messages_received=3 messages_sent=4",
        ),
        (
            ClientBanned(network="10.0.0.0/8", seconds=None, why="a flood", closed=2),
            'client_banned network=10.0.0.0/8 seconds=none why="a flood" closed=2',
        ),
        (
            ClientPenalized(client="::/64", seconds=0.1 + 0.2, owed=3.0, why="", refused=True),
            'client_penalized client=::/64 seconds=0.3 owed=3 why="" refused=True',
        ),
        (LimitsChanged(changes=()), 'limits_changed changes=""'),
        (AcceptResumed(), "accept_resumed"),
    ],
)
def test_a_line_for_people(event: Event, line: str) -> None:
    assert text(event) == line


def test_what_a_peer_says_cannot_break_the_line_or_the_terminal() -> None:
    nasty = 'ValueError: a"b\\c\n\x1b[2J\u202e\u200b d=e 你好\udcff'
    line = text(HandlerFailed(id=1, peer=Address(path="/run/\udcff\n.sock"), error=nasty))
    assert line.isprintable()
    assert line == (
        'handler_failed id=1 peer="unix:/run/\\udcff\\n.sock" '
        'error="ValueError: a\\"b\\\\c\\n\\x1b[2J\\u202e\\u200b d=e 你好\\udcff"'
    )
    encoded = json.dumps(attributes(HandlerFailed(id=1, peer=PEER, error=nasty)))
    assert encoded.isascii()
    assert encoded.isprintable()
    # What comes out is text that any program can write down again.
    json.loads(encoded)["exception.message"].encode()


def test_a_long_text_is_cut() -> None:
    event = HandlerFailed(id=1, peer=PEER, error="ValueError: " + "x" * 100_000)
    assert len(text(event)) < 1_200
    assert len(json.dumps(attributes(event))) < 1_300


def test_attributes_have_the_names_that_others_use() -> None:
    assert attributes(opened()) == {
        "event.name": "connection_opened",
        "tieline.connection": 7,
        "client.address": "10.0.0.7",
        "client.port": 5123,
        "network.transport": "tcp",
        "network.type": "ipv4",
        "server.address": "192.0.2.1",
        "server.port": 7788,
        "tieline.client": "10.0.0.7",
    }
    assert attributes(closed()) == {
        "event.name": "connection_closed",
        "tieline.connection": 7,
        "client.address": "10.0.0.7",
        "client.port": 5123,
        "network.transport": "tcp",
        "network.type": "ipv4",
        "tieline.client": "10.0.0.7",
        "tieline.reason": "peer_closed",
        "tieline.duration": 1.5,
        "tieline.bytes_received": 100,
        "tieline.bytes_sent": 200,
        "tieline.messages_received": 3,
        "tieline.messages_sent": 4,
    }


def test_an_end_that_is_none_in_good_order_is_an_error() -> None:
    said = attributes(closed(CloseReason.SLOW_READER))
    assert said["error.type"] == said["tieline.reason"] == "slow_reader"
    assert attributes(refused())["error.type"] == "client_limit"
    assert "error.type" not in attributes(closed(CloseReason.SHUTDOWN))
    failed = attributes(HandlerFailed(id=1, peer=PEER, error="ValueError: no: not that"))
    assert (failed["error.type"], failed["exception.message"]) == ("ValueError", "no: not that")


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        (
            Address("2001:db8::1", 1),
            {
                "client.address": "2001:db8::1",
                "client.port": 1,
                "network.transport": "tcp",
                "network.type": "ipv6",
            },
        ),
        (
            Address("fe80::1", 1, scope=2),
            {
                "client.address": "fe80::1",
                "client.port": 1,
                "network.transport": "tcp",
                "network.type": "ipv6",
            },
        ),
        (Address(path="\0name"), {"client.address": "@name", "network.transport": "unix"}),
        (
            Address(path="(unnamed)"),
            {"client.address": "(unnamed)", "network.transport": "unix"},
        ),
    ],
)
def test_where_a_peer_is(peer: Address, said: dict[str, Any]) -> None:
    found = attributes(refused(peer=peer))
    assert {
        name: value for name, value in found.items() if name.startswith(("client.", "network."))
    } == said


# ---- To a logger


async def test_lines_go_to_the_logger(collecting: Collecting, error_log: ErrorLog) -> None:
    events = Events()
    with EventLog(events) as log:
        announce(events, opened(), refused(), HandlerFailed(id=7, peer=PEER, error="E: x"))
    assert log.lost == 0
    assert [line.partition(" ")[0] for line in collecting.lines] == [
        "connection_opened",
        "connection_refused",
        "handler_failed",
    ]
    assert [record.levelname for record in collecting.records] == ["INFO", "WARNING", "ERROR"]
    assert error_log.take() == ['handler_failed id=7 peer=10.0.0.7:5123 error="E: x"']
    first: Any = collecting.records[0]
    assert first.name == "tieline.events"
    assert vars(first)["client.address"] == "10.0.0.7"
    # When it happened, not when it was written.
    assert (first.created, first.msecs) == (TIME, 250.0)


async def test_a_line_for_programs(collecting: Collecting) -> None:
    events = Events()
    with EventLog(events, json=True):
        announce(events, closed(CloseReason.MALFORMED))
    (line,) = collecting.lines
    said = json.loads(line)
    assert list(said)[:4] == ["v", "time", "level", "event.name"]
    assert said == {
        "v": 1,
        "time": "2026-11-22T16:10:00.250Z",
        "level": "info",
        **attributes(closed(CloseReason.MALFORMED)),
    }


async def test_what_the_logger_does_not_want_is_not_made(collecting: Collecting) -> None:
    logger = logging.getLogger("tieline.events")
    logger.setLevel(logging.WARNING)
    events = Events()
    with EventLog(events):
        announce(events, opened(), refused())
    assert [record.levelname for record in collecting.records] == ["WARNING"]


async def test_another_logger() -> None:
    handler, events = Collecting(), Events()
    logger = logging.Logger("mine")
    logger.addHandler(handler)
    with EventLog(events, logger=logger):
        announce(events, opened())
    assert [record.name for record in handler.records] == ["mine"]


async def test_a_handler_that_raises_costs_lines_and_no_more() -> None:
    events, logger = Events(), logging.Logger("mine")

    class Raising(Collecting):
        def emit(self, record: logging.LogRecord) -> None:
            super().emit(record)
            if len(self.records) < 3:
                raise OSError("no room")

    handler = Raising()
    logger.addHandler(handler)
    with EventLog(events, logger=logger) as log:
        announce(events, opened(id=1), opened(id=2), opened(id=3))
    assert log.lost == 1
    # Line 1 fails, and so does the word about it; line 2 does not, and what follows is whole.
    assert [line.partition(" peer")[0] for line in handler.lines] == [
        "connection_opened id=1",
        "lines_lost count=1",
        "connection_opened id=2",
        "lines_lost count=1",
        "connection_opened id=3",
    ]


async def test_closing_tells_what_waited_and_is_over(collecting: Collecting) -> None:
    events = Events()
    log = EventLog(events)
    announce(events, *(opened(id=number) for number in range(500)))
    assert log.close(10)
    assert len(collecting.lines) == 500
    assert not events.wanted
    assert log.close()


# ---- A crowd at the door


async def test_refusals_are_told_at_a_bounded_rate(collecting: Collecting) -> None:
    events, clock = Events(), Clock()
    with EventLog(events, rate=5, burst=10, clock=clock):
        for _ in range(1_000):
            announce(events, refused())
        events.flush()
        clock.time += 0.2  # enough for one more
        announce(events, refused(), refused())
        events.flush()
        clock.time += 100  # enough for ten, and no more: quiet times are not saved up
        announce(events, *(refused() for _ in range(30)))
    assert len(collecting.lines) == 10 + 1 + 10 + 1
    assert collecting.lines[10] == f"{text(refused())} left_out=990"
    assert collecting.lines[11] == f"{text(refused())} left_out=1"
    assert collecting.lines[12] == text(refused())
    assert vars(collecting.records[10])["tieline.left_out"] == 990
    # The end tells the rest.
    assert collecting.lines[-1] == "lines_left_out of=connection_refused count=20"


async def test_when_the_crowd_has_gone_the_rest_is_told(
    collecting: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventLog, "_CALM", 0.0)
    events, clock = Events(), Clock()
    with EventLog(events, burst=1, clock=clock):
        announce(events, *(refused() for _ in range(8)))
        await eventually(lambda: len(collecting.lines) == 2)
        assert collecting.lines[1] == "lines_left_out of=connection_refused count=7"
        # And again, for the next crowd.
        announce(events, refused())
        await eventually(lambda: len(collecting.lines) == 3)
        assert collecting.lines[2] == "lines_left_out of=connection_refused count=1"
    assert len(collecting.lines) == 3


async def test_each_kind_that_anybody_can_cause_has_a_rate_of_its_own(
    collecting: Collecting,
) -> None:
    events, clock = Events(), Clock()
    kinds: list[Event] = [
        refused(),
        LimitSpared(limit="per_client", client="10.0.0.7"),
        ClientPenalized(client="10.0.0.7", seconds=1, owed=1, why="refused", refused=False),
        TableOverflowed(known=1, mode="share"),
        AcceptPaused(why="full"),
        AcceptResumed(),
    ]
    with EventLog(events, burst=2, clock=clock):
        for _ in range(5):
            announce(events, *kinds)
        events.flush()
        assert len(kinds) * 2 >= len(collecting.lines)
    words = [line.partition(" ")[0] for line in collecting.lines]
    for kind in kinds:
        assert words.count(kind.name) == 2
    assert words.count("lines_left_out") == len(kinds)


async def test_those_let_in_are_all_told(collecting: Collecting) -> None:
    events, clock = Events(), Clock()
    with EventLog(events, burst=2, clock=clock):
        announce(events, *(opened() for _ in range(50)), *(closed() for _ in range(50)))
    assert len(collecting.lines) == 100


# ---- To a file or descriptor


async def test_lines_are_added_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_text("before\n")
    events = Events()
    with EventLog(events, sink=path) as log:
        announce(events, opened(), refused())
    assert log.lost == 0
    assert path.read_text("utf-8").splitlines() == [
        "before",
        f"2026-11-22T16:10:00.250Z INFO {text(opened())}",
        f"2026-11-22T16:10:00.250Z WARNING {text(refused())}",
    ]


async def test_a_new_file_is_its_owner_s(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    with EventLog(Events(), sink=path):
        pass
    assert path.stat().st_mode & 0o137 == 0


async def test_a_file_of_json(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    events = Events()
    with EventLog(events, sink=path, json=True):
        announce(events, opened(), DrainEnded(time=TIME, reset=0))
    assert [json.loads(line)["event.name"] for line in path.read_text("utf-8").splitlines()] == [
        "connection_opened",
        "drain_ended",
    ]


async def test_a_file_that_is_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path, old = tmp_path / "events.log", tmp_path / "events.log.1"
    events = Events()
    with EventLog(events, sink=path) as log:
        announce(events, opened(id=1))
        await eventually(lambda: path.read_bytes().endswith(b"\n"))
        path.rename(old)
        announce(events, opened(id=2))
    assert log.lost == 0
    assert "id=1 " in old.read_text()
    assert "id=2 " in path.read_text()


async def test_a_folder_that_is_gone_costs_lines(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "events.log"
    events = Events()
    with EventLog(events, sink=path) as log:
        path.unlink()
        folder.rmdir()
        announce(events, opened(id=1))
        await eventually(lambda: log.lost == 1)
        folder.mkdir()
        announce(events, opened(id=2))
    assert log.lost == 1
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("WARNING lines_lost count=1")
    assert "id=2 " in lines[1]


async def test_a_full_disk_costs_lines_and_no_more() -> None:
    events = Events()
    with EventLog(events, sink="/dev/full") as log:
        announce(events, *(opened() for _ in range(20)))
    assert log.lost == 20  # and nowhere to say so


@pytest.mark.parametrize("where", ["no/such/folder/events.log", "."])
def test_a_file_that_cannot_be_opened(where: str, tmp_path: Path) -> None:
    events = Events()
    with pytest.raises(SettingError, match=r"the log .* cannot be opened: (No such|Is a dir)"):
        EventLog(events, sink=tmp_path / where)
    assert not events.wanted


def test_a_named_pipe_without_a_reader_does_not_stop_the_start(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(SettingError, match="cannot be opened"):
        EventLog(Events(), sink=path)


async def test_a_pipe_whose_reader_is_gone_costs_lines() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    events = Events()
    try:
        with EventLog(events, sink=writing) as log:
            announce(events, opened())
        assert log.lost == 1
    finally:
        os.close(writing)


async def test_a_pipe_that_nobody_reads_holds_nothing_up() -> None:
    """Not the loop, not the end; and when it is read again, the log says what is missing."""
    reading, writing = os.pipe()
    events = Events()
    log = EventLog(events, sink=writing, capacity=100)
    read = bytearray()
    try:
        # More than the pipe and the queue together have room for.
        while log.lost == 0:
            announce(events, *(opened() for _ in range(50)))
            await asyncio.sleep(0)
        lost = log.lost
        assert lost > 0
        os.set_blocking(reading, False)

        def drained() -> bool:
            read.extend(os.read(reading, 1_000_000))
            return b"lines_lost" in read

        def is_there() -> bool:
            try:
                return drained()
            except BlockingIOError:
                return False

        announce(events, opened())
        await eventually(is_there)
        assert b"WARNING lines_lost count=" in read
        # A line is whole or missing, never a part.
        announce(events, opened(id=99))
        assert log.close(10)
        read.extend(os.read(reading, 1_000_000))
        lines = bytes(read).decode().splitlines()
        assert all(
            line.endswith("client=10.0.0.7") or line.partition("=")[2].isdigit() for line in lines
        )
        assert "id=99 " in lines[-1]
    finally:
        log.close(0.0)
        os.close(reading)
        os.close(writing)


async def test_closing_does_not_wait_for_a_pipe_that_nobody_reads() -> None:
    reading, writing = os.pipe()
    events = Events()
    log = EventLog(events, sink=writing, capacity=5_000)
    try:
        announce(events, *(opened() for _ in range(5_000)))
        assert not log.close(0.05)
        # The thread is over, and what it could not write was counted.
        assert not log._thread.is_alive()
        assert log.lost > 3_000
        read = len(os.read(reading, 1_000_000).splitlines())
        assert log.lost + read in (5_000, 5_001)
    finally:
        os.close(reading)
        os.close(writing)


async def test_a_line_that_was_cut_off_is_not_continued(tmp_path: Path) -> None:
    """A disk that becomes full in the middle of a line."""
    import tieline.event_log.sink as module

    path = tmp_path / "events.log"
    sink = module.Sink(path)
    written = 0
    write = os.write

    def short(descriptor: int, data: Any) -> int:
        nonlocal written
        written += 1
        if written == 2:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:10] if written == 1 else data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", short)
        with pytest.raises(OSError, match="No space"):
            sink.write("one that does not fit")
        sink.write("the next")
        sink.write("and one more")
    sink.close()
    assert path.read_text() == "one that d\nthe next\nand one more\n"


async def test_events_that_never_came_are_counted_and_told(collecting: Collecting) -> None:
    events = Events()
    with EventLog(events, capacity=3) as log:
        announce(events, *(opened() for _ in range(10)))
    assert log.lost == 7
    assert "lines_lost count=7" in collecting.lines


def test_a_queue_of_none() -> None:
    with pytest.raises(SettingError):
        EventLog(Events(), capacity=0)
    before = threading.active_count()
    with pytest.raises(SettingError):
        EventLog(Events(), sink=2, capacity=0)
    assert threading.active_count() == before


# ---- Of a server


async def test_the_life_of_a_server(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    server = place.serve(echo("responder"), framing=Line(), limits=Limits(per_client=1))
    with EventLog(server.events, sink=path, json=True) as log:
        async with server:
            async with place.connect(server, framing=Line()) as connection:
                await connection.send(b"hello")
                assert await connection.receive() == b"hello"
                assert await place.is_turned_away(server)
            await eventually(lambda: len(server) == 0)
            server.change_limits(idle=7)
    assert log.lost == 0
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line["event.name"] for line in lines] == [
        "server_started",
        "connection_opened",
        "connection_refused",
        "connection_closed",
        "limits_changed",
    ]
    _, opened, refused, closed, changed = lines
    assert closed["tieline.connection"] == opened["tieline.connection"]
    assert closed["tieline.reason"] == "peer_closed"
    assert (closed["tieline.bytes_received"], closed["tieline.messages_sent"]) == (6, 1)
    assert refused["tieline.reason"] == refused["error.type"] == "client_limit"
    assert refused["tieline.client"] == opened["tieline.client"]
    assert opened["network.transport"] == ("tcp" if place.is_tcp else "unix")
    if place.is_tcp:
        assert opened["server.port"] == server.addresses[0].port
        assert opened["client.port"] == closed["client.port"]
    assert changed["level"] == "info"


async def test_a_log_that_nobody_reads_does_not_hold_up_a_server(plain: Place) -> None:
    reading, writing = os.pipe()
    try:
        while True:  # full from the start
            os.set_blocking(writing, False)
            os.write(writing, bytes(4_096))
    except BlockingIOError:
        os.set_blocking(writing, True)
    server = plain.serve(echo("responder"))
    log = EventLog(server.events, sink=writing, capacity=10)
    try:
        async with server:
            for number in range(30):
                assert await plain.ask(server, b"%d" % number) == b"%d" % number
            await eventually(lambda: len(server) == 0)
        assert not log.close(0.01)
        # What was opened and closed, and the server's start: all of it lost, and counted.
        assert log.lost == 61
    finally:
        os.close(reading)
        os.close(writing)
