"""`tap` on a session of a guard: the pieces that pass, shown without being touched."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tieline
from control.controlled import guarded
from support.hooks import eventually
from support.leaks import ErrorLog
from support.peers import Peer
from support.transports import Secrets
from tieline import Raw
from tieline.control import Control
from tieline.guard import Guard, GuardSettings
from tieline.tap import Direction, Passed, PieceTap


class Looked:
    """As much of a session as a tap needs."""

    def __init__(self) -> None:
        self.looks: list[Callable[[Direction, bytes], object]] = []

    def look(self, show: Callable[[Direction, bytes], object]) -> None:
        self.looks.append(show)

    def look_away(self, show: Callable[[Direction, bytes], object]) -> None:
        self.looks = [each for each in self.looks if each is not show]

    def relay(self, direction: Direction, piece: bytes) -> None:
        for look in list(self.looks):
            look(direction, piece)


# ---- The tap itself


def test_pieces_are_shown_as_messages_are() -> None:
    session, shown = Looked(), list[Passed]()
    tap = PieceTap(session, shown.append, most=8)
    session.relay("in", b"question")
    session.relay("out", b"a long answer")
    session.relay("in", b"\xff\x00")
    assert [(each.direction, each.data, each.size, each.text, each.is_cut) for each in shown] == [
        ("in", b"question", 8, "question", False), ("out", b"a long a", 13, "a long a", True),
        ("in", b"\xff\x00", 2, None, False),
    ]  # fmt: skip
    assert (tap.messages, tap.is_on) == (3, True)
    tap.remove()
    tap.remove()
    assert (session.looks, tap.is_on) == ([], False)
    tap("in", b"of the same turn")
    assert (tap.messages, len(shown)) == (3, 3)


def test_several_taps_come_and_go() -> None:
    session = Looked()
    shown: list[list[Passed]] = [[], [], []]
    taps = [PieceTap(session, each.append) for each in shown]
    session.relay("in", b"1")
    for index in (1, 0, 2):
        taps[index].remove()
        session.relay("in", b"2")
    assert [len(each) for each in shown] == [2, 1, 3]


def test_a_character_that_is_cut_apart_is_with_its_end() -> None:
    session, shown = Looked(), list[Passed]()
    PieceTap(session, shown.append)
    whole = "你好".encode()
    for piece in (whole[:2], whole[2:4], whole[4:]):
        session.relay("in", piece)
        session.relay("out", b"!")
    assert [each.text for each in shown if each.direction == "in"] == ["", "你", "好"]
    assert {each.text for each in shown if each.direction == "out"} == {"!"}


def test_text_goes_on_behind_what_is_not_shown_and_behind_what_is_none() -> None:
    session, shown = Looked(), list[Passed]()
    PieceTap(session, shown.append, most=4)
    whole = "abc你好".encode()
    for piece in (whole[:-1], whole[-1:], b"ab\xff\xff", b"text", b"abcdef\xff", b"on"):
        session.relay("in", piece)
    assert [each.text for each in shown] == ["abc", "好", None, "text", "abcd", "on"]


@given(st.text(), st.lists(st.integers(0, 60)))
def test_the_texts_of_the_pieces_make_the_whole(text: str, places: list[int]) -> None:
    session, shown = Looked(), list[Passed]()
    PieceTap(session, shown.append)
    whole = text.encode("utf-8", "replace")
    at = 0
    for place in [*sorted(places), len(whole)]:
        if at < place:
            session.relay("in", whole[at:place])
            at = place
    assert "".join(each.text or "" for each in shown) == whole.decode()


def test_a_look_at_a_session_that_fails_costs_nobody_anything(error_log: ErrorLog) -> None:
    def fail(passed: Passed) -> None:
        raise ValueError("a mistake in the application")

    session = Looked()
    PieceTap(session, fail)
    for _ in range(3):
        session.relay("in", b"a")
    assert len(error_log.take()) == 1


# ---- The verb


async def only(guard: Guard) -> int:
    """The number of the one session there is, once it has its upstream."""
    await eventually(lambda: [leg for leg in guard.connections if leg.upstream_leg is not None])
    [leg] = guard.connections
    return int(leg.id)


async def talk(peer: Peer, data: bytes) -> None:
    await peer.send(data)
    assert await peer.receive(len(data)) == data


def looks(guard: Guard) -> int:
    [leg] = guard.connections
    return len(leg._looks)


@pytest.mark.parametrize("ends_tls", [False, True])
async def test_both_directions_are_shown(path: Path, secrets: Secrets, ends_tls: bool) -> None:
    tls = (secrets.server, secrets.client) if ends_tls else (None, None)
    async with guarded(path, tls=tls[0]) as (guard, control):
        async with await Peer.connect(guard.addresses[0], tls[1]) as peer:
            await talk(peer, b"before\n")
            id = await only(guard)
            async with control.tap(id) as tapped:
                assert tapped.result is not None
                assert tapped.result["id"] == id
                await talk(peer, "你好\n".encode())
                for direction in ("in", "out"):
                    event = await anext(tapped)
                    assert event.pop("time") > 0
                    assert event == {
                        "event": "message", "connection": id, "direction": direction, "size": 7,
                        "cut": False, "text": "你好\n", "hex": "e4bda0e5a5bd0a",
                    }  # fmt: skip
            assert looks(guard) == 0
            await talk(peer, b"after\n")
            assert [event async for event in tapped] == []


async def test_a_tap_on_a_session_is_known_to_whoever_watches(path: Path) -> None:
    async with guarded(path) as (guard, control):
        async with await Peer.connect(guard.addresses[0]) as peer:
            id = await only(guard)
            async with control.watch(["tap_begun", "tap_ended"], stats=False) as watched:
                async with control.tap(id):
                    begun = await anext(watched)
                    assert (begun["event"], begun["id"]) == ("tap_begun", id)
                    assert begun["by"].startswith("uid:")
                    await talk(peer, b"hello\n")
                ended = await anext(watched)
                assert (ended["event"], ended["id"], ended["messages"]) == ("tap_ended", id, 2)


async def test_several_look_at_one_session(path: Path) -> None:
    async with guarded(path) as (guard, control):
        async with await Peer.connect(guard.addresses[0]) as peer:
            id = await only(guard)
            async with control.tap(id) as first:
                async with control.tap(id) as second:
                    await talk(peer, b"1\n")
                    assert looks(guard) == 2
                    for tapped in (first, second):
                        assert [(await anext(tapped))["text"] for _ in range(2)] == ["1\n"] * 2
                await talk(peer, b"2\n")
                assert [(await anext(first))["text"] for _ in range(2)] == ["2\n"] * 2
            assert [event async for event in second] == []
            await talk(peer, b"3\n")


async def test_a_tap_ends_with_its_session(path: Path) -> None:
    async with guarded(path) as (guard, control):
        peer = await Peer.connect(guard.addresses[0])
        tapped = control.tap(await only(guard))
        async with tapped:
            await talk(peer, b"last words\n")
            peer.reset()
            assert [event["text"] async for event in tapped] == ["last words\n"] * 2
            assert tapped.ended == {
                "event": "stream_ended", "why": "connection_closed", "reason": "peer_reset",
            }  # fmt: skip


async def test_a_tap_on_a_session_ends_after_as_many_as_were_wanted(path: Path) -> None:
    async with guarded(path) as (guard, control):
        async with await Peer.connect(guard.addresses[0]) as peer:
            tapped = control.tap(await only(guard), most=3)
            async with tapped:
                for line in (b"1\n", b"2\n", b"3\n"):
                    await talk(peer, line)
                assert [event["text"] async for event in tapped] == ["1\n", "1\n", "2\n"]
                assert tapped.ended == {"event": "stream_ended", "why": "most"}
                assert looks(guard) == 0


async def test_a_session_that_waits_is_tapped_before_it_has_an_upstream(path: Path) -> None:
    settings = GuardSettings(check_interval=None)
    async with guarded(path, "name=db1,max=1", settings=settings) as (guard, control):
        first = await Peer.connect(guard.addresses[0])
        await talk(first, b"first\n")
        async with await Peer.connect(guard.addresses[0]) as second:
            await eventually(lambda: guard.pool.waiting)
            id = (await control.connections(sort="upstream"))["connections"][0]["id"]
            async with control.tap(id) as tapped:
                await second.send(b"too early\n")
                first.close()
                assert await second.receive_line() == b"too early\n"
                shown = [await anext(tapped) for _ in range(2)]
                assert [event["direction"] for event in shown] == ["in", "out"]
                assert {event["text"] for event in shown} == {"too early\n"}
                await talk(second, b"later\n")
                assert (await anext(tapped))["text"] == "later\n"


async def _take_all(tapped: Any) -> tuple[int, int, int]:
    """What was shown to the end: bytes in, bytes out, and events that were lost."""
    passed = {"in": 0, "out": 0}
    lost = 0
    async for event in tapped:
        if event["event"] == "events_lost":
            lost += event["count"]
        else:
            passed[event["direction"]] += event["size"]
    return passed["in"], passed["out"], lost


async def _swap(peer: Peer, data: bytes) -> None:
    """Bulk there and back."""
    sending = asyncio.create_task(peer.send(data))
    assert await peer.receive(len(data)) == data
    await sending


async def test_bulk_passes_whole_before_while_and_after_it_is_looked_at(path: Path) -> None:
    """Bulk goes through pipes, past Python: a look ends that, and it comes back afterwards."""
    data = random.Random(7).randbytes(3_000_000)
    async with guarded(path, handler=_echo_raw, upstream_framing=Raw()) as (guard, control):
        async with await Peer.connect(guard.addresses[0]) as peer:
            await _swap(peer, data)
            [leg] = guard.connections
            before = leg.bytes_received
            tapped = control.tap(await only(guard))
            async with tapped:
                taking = asyncio.create_task(_take_all(tapped))
                await _swap(peer, data)
                await _stop(control, tapped)
                received, sent, lost = await taking
            assert (received, sent) == (len(data),) * 2 or lost
            assert leg.bytes_received == before + len(data)
            await _swap(peer, data)


async def test_a_look_in_the_middle_of_bulk_loses_and_doubles_nothing(path: Path) -> None:
    data = random.Random(8).randbytes(20_000_000)
    async with guarded(path, handler=_echo_raw, upstream_framing=Raw()) as (guard, control):
        async with await Peer.connect(guard.addresses[0]) as peer:
            id = await only(guard)
            swapping = asyncio.create_task(_swap(peer, data))
            [leg] = guard.connections
            for share in range(1, 9):
                await eventually(lambda share=share: leg.bytes_sent > len(data) // 10 * share)  # type: ignore[misc]
                async with control.tap(id, most=share) as tapped:
                    await anext(tapped)
            await swapping
            assert (leg.bytes_received, leg.bytes_sent) == (len(data), len(data))


async def _echo_raw(connection: tieline.Connection) -> None:
    async for piece in connection:
        await connection.send(piece)


async def test_a_tap_that_nobody_reads_costs_a_bounded_queue(path: Path) -> None:
    async with guarded(path) as (guard, control):
        async with await Peer.connect(guard.addresses[0]) as peer:
            async with control.tap(await only(guard)) as tapped:
                line = b"x" * 5_000 + b"\n"
                for _ in range(1_500):
                    await talk(peer, line)
                await _stop(control, tapped)
                received, sent, lost = await _take_all(tapped)
                assert lost > 0
                assert (received + sent) // len(line) + lost >= 3_000


async def _stop(control: Control, tapped: Any) -> None:
    await control.ask("stop", id=tapped._id)
