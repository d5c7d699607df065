"""`watch`: events and statistics, at the pace of whoever watches, and of nobody else."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

import tieline
from control.controlled import Wire, controlled
from support.hooks import echo, eventually
from support.peers import Peer
from tieline import CloseReason, Line, events
from tieline.control import ControlError, connect, serve
from tieline.control.outlet import Outlet
from tieline.control.watching import EVENT_NAMES, Statistics, measure
from tieline.events import HandlerFailed, LimitSpared


async def test_events_come_as_they_happen(path: Path) -> None:
    async with controlled(path) as (server, control):
        async with control.watch(stats=False) as watched:
            assert watched.result == {"events": list(EVENT_NAMES), "stats": False}
            async with tieline.connect(server.addresses[0]) as client:
                opened = await anext(watched)
                assert opened["event"] == "connection_opened"
                assert opened["peer"] == str(client.local)
                assert opened["client"] == "127.0.0.1"
            closed = await anext(watched)
            assert (closed["event"], closed["id"], closed["reason"]) == (
                "connection_closed", opened["id"], "peer_closed",
            )  # fmt: skip
            await control.change_limits(idle=20)
            assert (await anext(watched))["changes"] == ["idle: 300.0 -> 20"]
        assert not server.events.wanted
        assert watched.ended == {"event": "stream_ended", "why": "stopped"}


async def test_only_the_events_that_are_wanted_come(path: Path) -> None:
    async with controlled(path) as (server, control):
        async with control.watch(["client_banned"], stats=False) as watched:
            async with tieline.connect(server.addresses[0]):
                pass
            await control.ban("10.0.0.7")
            assert (await anext(watched))["network"] == "10.0.0.7"
        with pytest.raises(ControlError, match="events of watch must be one of") as raised:
            async with control.watch(["client_baned"]):
                pass
        assert raised.value.fields["like"] == "client_banned"


def test_every_event_of_a_server_can_be_watched() -> None:
    kinds = [
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, events.Event)
    ]
    assert {kind.name for kind in kinds} - {"event", "events_lost"} == set(EVENT_NAMES)


async def test_several_watch_on_one_connection_beside_requests(path: Path) -> None:
    async with controlled(path) as (_, control):
        async with control.watch(stats=False) as first, control.watch(stats=False) as second:
            await control.ban("10.0.0.7")
            assert (await anext(first))["network"] == "10.0.0.7"
            await first.close()
            await control.unban("10.0.0.7")
            assert [event["event"] async for event in first] == []
            assert [(await anext(second))["event"] for _ in range(2)] == [
                "client_banned", "client_unbanned",
            ]  # fmt: skip


async def test_streams_need_an_id_of_their_own(path: Path) -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        async with serve(server, path), await Wire.connect(path) as wire:
            await wire.hear()
            watch: dict[str, Any] = {"verb": "watch", "args": {"stats": False}}
            nonsense: list[Any] = [None, True, 1.5, [1], {}, "x" * 101]
            for id in nonsense:
                error = (await wire.ask({**watch, "id": id}))["error"]
                assert error["message"].startswith("watch needs an id")
                assert not server.events.wanted
            assert (await wire.ask({**watch, "id": "mine"}))["ok"] is True
            error = (await wire.ask({**watch, "id": "mine"}))["error"]
            assert "is that of a stream that goes on" in error["message"]
            for number in range(7):
                assert (await wire.ask({**watch, "id": number}))["ok"] is True
            assert (await wire.ask({**watch, "id": 8}))["error"]["code"] == "busy"
            error = (await wire.ask({"verb": "stop", "args": {"id": "yours"}}))["error"]
            assert (error["code"], error["message"]) == (
                "not_found", "no stream has the id 'yours'",
            )  # fmt: skip
            ended = await wire.ask({"id": 9, "verb": "stop", "args": {"id": "mine"}})
            assert (ended["id"], ended["event"]["why"]) == ("mine", "stopped")
            assert (await wire.hear())["result"] == {"lost": 0}
            assert (await wire.ask({**watch, "id": "mine"}))["ok"] is True


async def test_whoever_leaves_without_a_word_is_forgotten(path: Path) -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        async with serve(server, path) as control:
            wire = await Wire.connect(path)
            await wire.hear()
            await wire.ask({"id": 1, "verb": "watch"})
            assert server.events.wanted
            wire.peer.reset()
            await eventually(lambda: not server.events.wanted and not len(control._own))
            assert len(asyncio.all_tasks()) == 1  # no statistics are made either


# ---- Those that do not read


async def test_a_watcher_that_never_reads_costs_a_bounded_queue(path: Path) -> None:
    count = 30_000
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        async with serve(server, path) as control:
            async with await Wire.connect(path, receive_buffer=4096) as wire:
                await wire.hear()
                await wire.ask({"id": 1, "verb": "watch", "args": {"stats": False}})
                [own] = control._own.connections
                [session] = control._sessions
                [(outlet, _)] = session._streams.values()
                [receiver] = server.events._receivers
                for number in range(0, count, 50):
                    for each in range(50):
                        event = LimitSpared(limit="idle", client="10.0.0.7", id=number + each)
                        server.events.announce(event)
                    await eventually(lambda: not receiver.waiting)
                    assert len(outlet._waiting) <= 1025
                assert outlet.lost > count / 2
                assert own.owed < 100_000
                # It reads again: what waited, a word about what is missing, and what follows.
                read, lost = 0, 0
                while read + lost < count:
                    event = (await wire.hear())["event"]
                    if event["event"] == "events_lost":
                        lost += event["count"]
                    else:
                        assert event["id"] == read + lost
                        read += 1
                assert lost == outlet.lost
                server.events.announce(HandlerFailed(id=1, peer=tieline.Address(), error="x"))
                assert (await wire.hear())["event"]["event"] == "handler_failed"


async def test_a_burst_too_large_for_anybody_is_counted_too(path: Path) -> None:
    async with controlled(path) as (server, control):
        async with control.watch(stats=False) as watched:
            for number in range(5_000):
                server.events.announce(LimitSpared(limit="idle", client="x", id=number))
            read = lost = 0
            while read + lost < 5_000:
                event = await anext(watched)
                if event["event"] == "events_lost":
                    lost += event["count"]
                else:
                    read += 1
            assert lost > 0


async def test_a_program_that_does_not_take_its_events_is_told_too(path: Path) -> None:
    async with controlled(path) as (server, control):
        async with control.watch(stats=False) as watched:
            held = watched._backlog
            for start in range(0, 4_000, 200):
                for number in range(start, start + 200):
                    server.events.announce(LimitSpared(limit="idle", client="x", id=number))
                await eventually(lambda: len(held._events) + held.lost == start + 200)  # noqa: B023
            numbers = []
            lost = 0
            await watched.close()
            async for event in watched:
                if event["event"] == "events_lost":
                    lost += event["count"]
                else:
                    numbers.append(event["id"])
    assert numbers == list(range(1024))
    assert lost == 4_000 - 1024


class Stuck:
    """A control connection that takes nothing until it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.sent: list[bytes] = []

    async def send(self, message: bytes) -> None:
        await self.go_on.wait()
        self.sent.append(message)


async def test_an_outlet_tells_what_is_missing_where_it_is_missing() -> None:
    sink = Stuck()
    ended: list[str] = []
    outlet = Outlet(sink, "x", lambda: ended.append("ended"), most_events=3, most_bytes=100)
    outlet.start()
    for number in range(5):
        outlet.put(lambda number=number: {"n": number})  # type: ignore[misc]
        await asyncio.sleep(0)
    outlet.put_latest({"latest": 1})
    outlet.put_latest({"latest": 2})
    assert outlet.lost == 1  # the first is being sent, three wait
    sink.go_on.set()
    await eventually(lambda: len(sink.sent) == 6)
    outlet.put(lambda: {"n": 9}, 101)
    outlet.put(lambda: {"n": 10}, 100)
    outlet.end("stopped")
    outlet.end("something else")
    await outlet.finish(10)
    told = [line.partition(b'"event": ')[2][:-1].decode() for line in sink.sent]
    assert told[:5] == ['{"n": 0}', '{"latest": 2}', '{"n": 1}', '{"n": 2}', '{"n": 3}']
    assert '"count": 1' in told[5]
    assert '"count": 1' in told[6]
    assert told[7:] == ['{"n": 10}', '{"event": "stream_ended", "why": "stopped"}']
    assert ended == ["ended"]
    assert outlet.lost == 2


# ---- Statistics


async def test_statistics_add_up_to_what_happened(path: Path) -> None:
    """A clock on which two seconds pass between any two looks, and no waiting."""
    async with tieline.serve(echo("responder"), "127.0.0.1:0", framing=Line()) as server:
        told: list[dict[str, Any]] = []

        class Remembering(Outlet):
            def put_latest(self, event: dict[str, Any]) -> None:
                told.append(event)

        outlet = Remembering(Stuck(), 1, lambda: None)
        clock = itertools.count(step=2.0)
        statistics = Statistics(server, seconds=0.0, clock=lambda: next(clock))
        statistics.add(outlet)
        await eventually(lambda: told)
        for _ in range(3):
            async with await Peer.connect(server.addresses[0]) as peer:
                await peer.send(b"hello\n")
                await peer.receive_line()
        await eventually(lambda: sum(event["closed"] for event in told) * 2 == 3)
        statistics.remove(outlet)
        assert told[0].keys() == {
            "event", "time", "seconds", "connections", "clients", "owed", "draining", "accepted",
            "refused", "closed", "bytes_received", "bytes_sent", "messages_received",
            "messages_sent",
        }  # fmt: skip
        assert {event["seconds"] for event in told} == {2.0}
        for name, total in (
            ("accepted", 3), ("closed", 3), ("refused", 0), ("bytes_received", 18),
            ("bytes_sent", 18), ("messages_received", 3), ("messages_sent", 3),
        ):  # fmt: skip
            assert sum(event[name] for event in told) * 2 == total


async def test_what_is_under_way_counts_and_counts_once(path: Path) -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0", framing=Line()) as server:
        async with await Peer.connect(server.addresses[0]) as peer:
            await peer.send(b"hello\n")
            await peer.receive_line()
            before, owed = await measure(server)
            assert (before.bytes_received, before.messages_sent, owed) == (6, 1, 0)
        await eventually(lambda: server.counters.closed)
        after, _ = await measure(server)
        assert after.bytes_received == before.bytes_received
        assert (before.closed, after.closed) == (0, 1)
    assert server.counters.closed == {CloseReason.PEER_CLOSED: 1}


async def test_statistics_come_through_the_socket(path: Path) -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        control_server = serve(server, path)
        control_server._operations.statistics._seconds = 0.0
        async with control_server, connect(path) as control:
            async with control.watch([]) as watched, control.watch([]) as other:
                assert watched.result == {"events": [], "stats": True}
                event = await anext(watched)
                assert (event["event"], event["connections"]) == ("stats", 0)
                assert (await anext(other))["event"] == "stats"
            task = control_server._operations.statistics._task
            assert task is None
