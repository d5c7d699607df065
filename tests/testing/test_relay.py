"""The relay between bare sockets: what passes, what is carried, what goes wrong and how often."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

import tieline
import tieline.testing.relay
from support.hooks import echo, eventually
from support.peers import Peer
from tieline import BindError, ResolveError, SettingError
from tieline.testing import (
    BlackHole,
    Cut,
    Delay,
    Fault,
    FaultRelay,
    Rate,
    Reset,
    Slice,
    SlowClose,
    Stall,
    no_leaks,
)

from .bare import bare_server, ends
from .hand_time import HandTime

DATA = random.Random(7).randbytes(1_000_000)

directions = pytest.mark.parametrize("direction", ["up", "down"])


def by_hand(time: HandTime) -> dict[str, Any]:
    """As options of a relay."""
    return {"clock": time.clock, "call_later": time.call_later}


# ---- Without faults


async def test_bytes_pass_both_ways() -> None:
    async with ends() as found:
        await found.client.send(b"hello")
        assert await found.server.receive(5) == b"hello"
        await found.server.send(b"hello, you")
        assert await found.client.receive(10) == b"hello, you"
        connection = found.connection
        assert (connection.bytes_up, connection.bytes_down, connection.held) == (5, 10, 0)
        assert connection.client.port == found.client.socket.getsockname()[1]
        assert connection.source.port == found.server.socket.getpeername()[1]
        assert not found.relay.happened


@directions
async def test_much_passes_unchanged(direction: str) -> None:
    async with ends() as found:
        sender, receiver = found.both_ways(direction)
        sending = asyncio.create_task(sender.send(DATA))
        assert await receiver.receive(len(DATA)) == DATA
        await sending


@directions
async def test_an_end_in_good_order_is_carried_as_one_and_the_other_side_goes_on(
    direction: str,
) -> None:
    async with ends() as found:
        first, second = found.both_ways(direction)
        await first.send(b"question")
        await first.end()
        assert await second.receive_all() == b"question"
        await second.send(b"answer")
        assert await first.receive(6) == b"answer"
        assert found.relay.connections
        await second.end()
        assert await first.receive_all() == b""
        await found.is_over()


@directions
async def test_a_reset_is_carried_as_one(direction: str) -> None:
    async with ends() as found:
        first, second = found.both_ways(direction)
        await first.send(b"last words")
        first.reset()
        assert await second.receive(10) == b"last words"
        with pytest.raises(ConnectionResetError):
            await second.receive_some()
        await found.is_over()
        assert not found.relay.happened


@directions
async def test_last_words_before_a_reset_pass_even_if_the_other_side_is_speaking(
    direction: str,
) -> None:
    """What is sent to a peer that has reset fails; what it had said before is still there."""
    async with ends() as found:
        first, second = found.both_ways(direction)
        # All at once, so that the relay meets the words of the second side first.
        second.socket.send(b"and you?")
        first.socket.send(b"last words")
        first.reset()
        assert await second.receive(10) == b"last words"
        assert await second.is_reset()
        await found.is_over()


@directions
async def test_what_is_said_while_a_reset_is_on_its_way_is_for_nobody(direction: str) -> None:
    time = HandTime()
    async with ends(max_held=10_000, **by_hand(time)) as found:
        first, second = found.both_ways(direction)
        found.relay.add(Delay(5.0))
        first.reset()
        await found.relay.wait_happened("delay")
        await second.send(DATA * 10)
        assert found.connection.held == 0
        time.advance(5)
        assert await second.is_reset()
        assert time.waiting == 0


@directions
async def test_a_reset_after_the_end_is_carried(direction: str) -> None:
    async with ends() as found:
        first, second = found.both_ways(direction)
        await first.end()
        assert await second.receive_all() == b""
        first.reset()
        await found.is_over()
        # The end was first, so it is what is read; the reset shows in what is sent.
        with pytest.raises(OSError, match=r"reset|pipe"):
            while True:
                await second.send(b"anybody?")


@directions
async def test_a_close_with_bytes_unread_is_a_reset_as_without_a_relay(direction: str) -> None:
    async with ends() as found:
        sender, receiver = found.both_ways(direction)
        await sender.send(b"never read")
        await eventually(lambda: found.connection.bytes_up + found.connection.bytes_down == 10)
        receiver.close()
        assert await sender.is_reset()
        await found.is_over()


async def test_a_close_of_both_at_once() -> None:
    async with ends() as found:
        found.client.close()
        found.server.close()
        await found.is_over()


@directions
async def test_a_receiver_that_takes_nothing_stops_its_sender(direction: str) -> None:
    """And its sender's reset reaches it all the same, as it would without a relay."""
    async with ends(receive_buffer=4096, max_held=100_000) as found:
        sender, receiver = found.both_ways(direction)
        is_stuck = False
        while not (is_stuck and found.connection.held >= 100_000):
            try:
                sender.socket.send(bytes(65_536))
                is_stuck = False
            except BlockingIOError:
                is_stuck = True
                await asyncio.sleep(0)
        assert 100_000 <= found.connection.held < 100_000 + 65_536
        sender.reset()
        assert await receiver.is_reset()
        await found.is_over()


@directions
async def test_a_receiver_that_goes_on_gets_all_of_it(direction: str) -> None:
    async with ends(receive_buffer=4096, max_held=10_000) as found:
        sender, receiver = found.both_ways(direction)
        sending = asyncio.create_task(sender.send(DATA * 10))
        await eventually(lambda: found.connection.held >= 10_000)
        assert await receiver.receive(len(DATA) * 10) == DATA * 10
        await sending
        await sender.end()
        assert await receiver.receive_all() == b""


async def test_many_clients_at_once() -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        async with FaultRelay(server.addresses[0]) as relay:
            relay.add(Slice(1000))

            async def ask(number: int) -> None:
                question = DATA[number : number + 5000]
                async with await Peer.connect(relay.address) as peer:
                    await peer.send(question)
                    assert await peer.receive(5000) == question
                    await peer.end()
                    assert await peer.receive_all() == b""

            await asyncio.gather(*(ask(number) for number in range(50)))
            await eventually(lambda: not relay.connections)
            assert relay.happened["slice"] >= 50 * 4


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.one_of(
            st.builds(Slice, st.integers(1, 5000)),
            st.builds(Rate, st.floats(1e6, 1e9)),
            st.builds(Delay, st.floats(0, 0.002)),
        ),
        max_size=3,
    ),
    st.integers(1, 10_000),
    st.sampled_from([asyncio.new_event_loop, uvloop.new_event_loop]),
    st.lists(st.tuples(st.sampled_from(["up", "down"]), st.integers(1, 20_000)), max_size=8),
)
def test_any_slicing_is_exact(
    faults: list[Fault],
    max_held: int,
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    sendings: list[tuple[str, int]],
) -> None:
    """Both directions at once, each with its end."""
    wanted = {
        direction: b"".join(DATA[:size] for there, size in sendings if there == direction)
        for direction in ("up", "down")
    }

    async def talk() -> None:
        async with no_leaks(), ends(max_held=max_held) as found:
            for fault in faults:
                found.relay.add(fault)

            async def send(sender: Peer, direction: str) -> None:
                for there, size in sendings:
                    if there == direction:
                        await sender.send(DATA[:size])
                await sender.end()

            async with asyncio.timeout(20):
                up, down, *_ = await asyncio.gather(
                    found.server.receive_all(), found.client.receive_all(),
                    send(found.client, "up"), send(found.server, "down"),
                )  # fmt: skip
                assert {"up": up, "down": down} == wanted
                await found.is_over()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(talk())


# ---- Later


@directions
@pytest.mark.parametrize(
    "faults",
    [
        [Slice(1000)],
        [Slice(777), Rate(1e8)],
        [Delay(0.002, jitter=0.002), Slice(5000)],
        [SlowClose(0.01)],
        [Rate(1e7), Delay(0.001)],
    ],
    ids=lambda faults: "+".join(fault.name for fault in faults),
)
async def test_much_passes_unchanged_through_faults(direction: str, faults: list[Fault]) -> None:
    async with ends() as found:
        for fault in faults:
            found.relay.add(fault)
        sender, receiver = found.both_ways(direction)

        async def send() -> None:
            await sender.send(DATA)
            await sender.end()

        sending = asyncio.create_task(send())
        assert await receiver.receive_all() == DATA
        await sending
        for fault in faults:
            found.relay.assert_happened(fault)


@directions
async def test_a_delay_is_for_its_direction(direction: str) -> None:
    time = HandTime()
    async with ends(**by_hand(time)) as found:
        delay = found.relay.add(Delay(5.0), direction="up" if direction == "up" else "down")
        slow, quick = found.both_ways(direction)
        await slow.send(b"slow")
        await quick.send(b"quick")
        assert await slow.receive(5) == b"quick"
        await found.relay.wait_happened(delay)
        time.advance(4.9)
        assert found.connection.held == 4
        time.advance(0.2)
        assert await quick.receive(4) == b"slow"
        assert found.relay.happened == {"delay": 1}


async def test_an_end_and_a_reset_are_delayed_too() -> None:
    time = HandTime()
    async with ends(**by_hand(time)) as found:
        found.relay.add(Delay(5.0))
        await found.client.end()
        await found.relay.wait_happened("delay")
        time.advance(6)
        assert await found.server.receive_all() == b""
        found.server.reset()
        await found.relay.wait_happened("delay", 2)
        assert found.relay.connections
        time.advance(6)
        assert await found.client.is_reset()


async def test_each_slice_comes_by_itself() -> None:
    async with ends() as found:
        slices = found.relay.add(Slice(3), direction="up")
        await found.client.send(b"abcdefgh")
        assert [await found.server.receive_some() for _ in range(3)] == [b"abc", b"def", b"gh"]
        found.relay.assert_happened(slices, 2)
        # The other direction's bytes are no reason for a slice to come early.
        await found.server.send(b"abcdefgh")
        assert await found.client.receive_some() == b"abcdefgh"


async def test_slices_stay_apart_while_the_other_side_speaks() -> None:
    async with ends() as found:
        found.relay.add(Slice(1), direction="up")
        await found.client.send(b"x" * 300)
        sizes: list[int] = []
        while sum(sizes) < 300:
            await found.server.send(b"y")
            sizes.append(len(await found.server.receive_some()))
        assert set(sizes) == {1}


async def test_a_slow_close() -> None:
    time = HandTime()
    async with ends(**by_hand(time)) as found:
        found.relay.add(SlowClose(60), direction="down")
        await found.server.send(b"the last word")
        await found.server.end()
        assert await found.client.receive(13) == b"the last word"
        await found.relay.wait_happened("slow_close")
        time.advance(61)
        assert await found.client.receive_all() == b""


# ---- Never


@directions
async def test_a_stall_loses_nothing_and_its_sender_has_to_wait(direction: str) -> None:
    async with ends(receive_buffer=4096) as found:
        stall = found.relay.add(Stall())
        sender, receiver = found.both_ways(direction)
        sending = asyncio.create_task(sender.send(DATA * 10))
        await found.relay.wait_happened(stall)
        held = found.connection.held
        for _ in range(100):
            await asyncio.sleep(0)
        assert found.connection.held == held <= 65_536
        assert not sending.done()
        found.relay.remove(stall)
        assert await receiver.receive(len(DATA) * 10) == DATA * 10
        await sending


@directions
async def test_a_reset_waits_for_the_end_of_a_stall(direction: str) -> None:
    async with ends() as found:
        stall = found.relay.add(Stall())
        sender, receiver = found.both_ways(direction)
        await sender.send(b"hello")
        await found.relay.wait_happened(stall)
        sender.reset()
        # Whatever the other side says in the meantime is for nobody.
        await receiver.send(b"hello?")
        for _ in range(20):
            await asyncio.sleep(0)
        assert found.relay.connections
        found.relay.remove(stall)
        assert await receiver.receive(5) == b"hello"
        assert await receiver.is_reset()


@directions
async def test_a_black_hole(direction: str) -> None:
    async with ends() as found:
        hole = found.relay.add(BlackHole())
        sender, receiver = found.both_ways(direction)
        await sender.send(DATA * 10)
        await sender.end()
        await eventually(lambda: found.relay.connections and found.connection.held == 0)
        found.relay.assert_happened(hole)
        assert found.relay.connections
        found.relay.remove(hole)
        assert len(await receiver.receive_all()) == found.connection.bytes_up + (
            found.connection.bytes_down
        )


async def test_what_comes_in_a_black_hole_is_lost_and_the_end_waits() -> None:
    async with ends() as found:
        hole = found.relay.add(BlackHole(), direction="up")
        await found.client.send(b"lost")
        await found.relay.wait_happened(hole)
        await found.client.end()
        await found.relay.wait_happened(hole, 2)
        await found.server.send(b"are you there?")
        assert await found.client.receive(14) == b"are you there?"
        found.relay.remove_all()
        assert await found.server.receive_all() == b""
        assert found.relay.faults == []


# ---- The end


@directions
async def test_a_cut_ends_one_direction_in_good_order(direction: str) -> None:
    async with ends() as found:
        cut = found.relay.add(Cut(after=5), direction="up" if direction == "up" else "down")
        sender, receiver = found.both_ways(direction)
        await sender.send(b"hello, you")
        assert await receiver.receive_all() == b"hello"
        found.relay.assert_happened(cut)
        await sender.send(b"never read")
        await receiver.send(b"is that all?")
        assert await sender.receive(12) == b"is that all?"
        await receiver.end()
        assert await sender.receive_all() == b""
        await sender.end()
        await found.is_over()
        assert found.relay.happened == {"cut": 1}


async def test_a_cut_of_an_open_connection() -> None:
    async with ends() as found:
        await found.client.send(b"hello")
        assert await found.server.receive(5) == b"hello"
        found.relay.add(Cut())
        assert await found.server.receive_all() == b""
        assert await found.client.receive_all() == b""
        found.relay.assert_happened("cut", 2)


@directions
async def test_a_reset_after_so_many_bytes(direction: str) -> None:
    async with ends() as found:
        reset = found.relay.add(Reset(after=5), direction="up" if direction == "up" else "down")
        sender, receiver = found.both_ways(direction)
        await receiver.send(b"many more than five bytes")
        assert len(await sender.receive(25)) == 25
        await sender.send(b"hello, you")
        assert await receiver.receive(5) == b"hello"
        assert await receiver.is_reset()
        assert await sender.is_reset()
        found.relay.assert_happened(reset)
        assert found.relay.happened == {"reset": 1}
        assert found.relay.connections == []


async def test_a_reset_now() -> None:
    async with ends() as found:
        found.relay.add(Reset())
        assert await found.server.is_reset()
        assert await found.client.is_reset()
        # And of everybody who comes.
        async with await Peer.connect(found.relay.address) as peer:
            assert await peer.is_reset()
        found.relay.assert_happened("reset", 2)


async def test_reset_all_is_for_those_that_are_open() -> None:
    async with ends() as found:
        connection = found.connection
        assert found.relay.reset_all() == 1
        assert found.relay.reset_all() == 0
        connection.reset()
        assert await found.server.is_reset()
        assert await found.client.is_reset()
        assert found.relay.happened == {"reset": 1}
        assert "over" in repr(connection)


async def test_one_connection_is_reset_and_its_neighbour_goes_on() -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        async with FaultRelay(server.addresses[0]) as relay:
            async with await Peer.connect(relay.address) as one:
                async with await Peer.connect(relay.address) as other:
                    await eventually(lambda: len(relay.connections) == 2)
                    port = one.socket.getsockname()[1]
                    (mine,) = [each for each in relay.connections if each.client.port == port]
                    mine.reset()
                    assert await one.is_reset()
                    await other.send(b"still here")
                    assert await other.receive(10) == b"still here"


# ---- Which, and how often


async def _who_is_hit(**options: Any) -> list[bool]:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        async with FaultRelay(server.addresses[0], **options) as relay:
            relay.add(Slice(1000, probability=0.5))
            relay.add(Reset(probability=0.5))
            hit = []
            for _ in range(20):
                async with await Peer.connect(relay.address) as peer:
                    await peer.send(b"x")
                    try:
                        hit.append(await peer.receive(1) == b"")
                    except ConnectionResetError:
                        hit.append(True)
            assert relay.happened["reset"] == sum(hit)
            return hit


@pytest.mark.one_loop
async def test_the_same_seed_hits_the_same_connections() -> None:
    found = await _who_is_hit(seed=3)
    assert 0 < sum(found) < 20
    assert await _who_is_hit(seed=3) == found
    assert await _who_is_hit(seed=4) != found


async def test_a_fault_that_never_happened_is_told() -> None:
    async with ends() as found:
        delay = found.relay.add(Delay(1.0))
        unlikely = found.relay.add(Reset(probability=0))
        for what in (delay, unlikely, "delay", "cut"):
            with pytest.raises(AssertionError, match="happened 0 times; of all: nothing"):
                found.relay.assert_happened(what)
        with pytest.raises(SettingError, match="delya"):
            found.relay.assert_happened("delya")
        with pytest.raises(SettingError):
            await found.relay.wait_happened("delya")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await found.relay.wait_happened(delay)


async def test_a_fault_that_is_added_again_begins_anew() -> None:
    async with ends() as found:
        cut = found.relay.add(Cut(after=4), direction="up")
        await found.client.send(b"abc")
        assert await found.server.receive(3) == b"abc"
        assert found.relay.add(cut, direction="up") is cut
        assert found.relay.faults == [cut]
        await found.client.send(b"defgh")
        assert await found.server.receive_all() == b"defg"


async def test_a_fault_that_is_added_again_may_change_its_direction() -> None:
    async with ends() as found:
        hole = found.relay.add(BlackHole(), direction="up")
        found.relay.add(hole, direction="down")
        await found.client.send(b"hello")
        assert await found.server.receive(5) == b"hello"
        await found.server.send(b"hello")
        await found.relay.wait_happened(hole)
        assert found.connection.bytes_down == 0


async def test_a_connection_that_is_over_waits_for_no_time() -> None:
    time = HandTime()
    async with ends(**by_hand(time)) as found:
        found.relay.add(Delay(5.0))
        await found.client.send(b"hello")
        await found.relay.wait_happened("delay")
        assert time.waiting == 1
        found.relay.reset_all()
        assert time.waiting == 0


async def test_a_fault_that_is_removed_twice() -> None:
    async with ends() as found:
        cut = found.relay.add(Cut(after=1))
        found.relay.remove(cut)
        found.relay.remove(cut)
        await found.client.send(b"hello")
        assert await found.server.receive(5) == b"hello"


async def test_a_direction_that_does_not_exist() -> None:
    relay = FaultRelay("127.0.0.1:1")
    with pytest.raises(SettingError, match="sideways"):
        relay.add(Stall(), direction="sideways")  # type: ignore[arg-type]


# ---- Newcomers


async def test_refused_newcomers_and_the_port_is_kept() -> None:
    async with ends() as found:
        found.relay.refuse_newcomers()
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                await Peer.connect(found.relay.address)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", found.relay.address.port))
        # Those who are in notice nothing.
        await found.client.send(b"hello")
        assert await found.server.receive(5) == b"hello"
        found.relay.accept_newcomers()
        async with await Peer.connect(found.relay.address):
            await eventually(lambda: len(found.relay.connections) == 2)


async def test_ignored_newcomers_wait_and_are_served_later() -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        async with FaultRelay(server.addresses[0]) as relay:
            relay.ignore_newcomers()
            async with await Peer.connect(relay.address) as peer:
                await peer.send(b"anybody?")
                for _ in range(20):
                    await asyncio.sleep(0)
                assert relay.connections == []
                relay.accept_newcomers()
                assert await peer.receive(8) == b"anybody?"


async def test_ignored_newcomers_that_are_refused_then_are_cut_off() -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        async with FaultRelay(server.addresses[0]) as relay:
            relay.refuse_newcomers()
            relay.ignore_newcomers()
            async with await Peer.connect(relay.address) as peer:
                relay.refuse_newcomers()
                assert await peer.is_reset()


async def test_a_backlog_that_is_full_answers_nobody() -> None:
    async with FaultRelay("127.0.0.1:1", backlog=0) as relay:
        relay.ignore_newcomers()
        async with await Peer.connect(relay.address):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await Peer.connect(relay.address)


async def test_an_upstream_that_is_not_there() -> None:
    listening, address = bare_server()
    listening.close()
    async with FaultRelay(address) as relay:
        async with await Peer.connect(relay.address) as peer:
            assert await peer.is_reset()
        (failure,) = relay.failures
        assert isinstance(failure, tieline.ConnectError)


async def test_an_upstream_that_moves() -> None:
    def serve(word: bytes) -> tieline.Server:
        def say(connection: tieline.Connection, message: Any) -> Any:
            return word

        return tieline.serve(say, "127.0.0.1:0")

    async with serve(b"one") as one, serve(b"two") as two:
        async with FaultRelay(one.addresses[0]) as relay:
            assert await tieline.ask(relay.address, b"?") == b"one"
            relay.upstream = two.addresses[0]
            assert await tieline.ask(relay.address, b"?") == b"two"


# ---- Where, and the end


async def test_an_upstream_on_a_unix_socket(tmp_path: Path) -> None:
    path = f"unix:{tmp_path}/server.sock"
    async with tieline.serve(echo("responder"), path), FaultRelay(path) as relay:
        assert await tieline.ask(relay.address, b"hello") == b"hello"


async def test_over_ipv6() -> None:
    async with tieline.serve(echo("responder"), "[::1]:0") as server:
        async with FaultRelay(server.addresses[0], listen="[::1]:0") as relay:
            assert relay.address.host == "::1"
            assert await tieline.ask(relay.address, b"hello") == b"hello"


async def test_where_it_cannot_listen() -> None:
    listening, address = bare_server()
    with listening:
        with pytest.raises(BindError):
            await FaultRelay("127.0.0.1:1", listen=address).open()
    with pytest.raises(ResolveError):
        await FaultRelay("127.0.0.1:1", listen="a..b:0").open()


@pytest.mark.parametrize("options", [{"max_held": 0}, {"backlog": -1}, {"upstream": "nowhere"}])
def test_a_relay_that_makes_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - SettingError or AddressError
        FaultRelay(**{"upstream": "127.0.0.1:1", **options})


async def test_opened_and_closed_twice() -> None:
    relay = FaultRelay("127.0.0.1:1")
    await relay.close()
    await relay.open()
    address = relay.address
    await relay.open()
    await relay.close()
    await relay.close()
    await relay.open()
    assert relay.address == address
    await relay.close()


async def test_what_may_pass_still_does_when_it_closes() -> None:
    listening, address = bare_server()
    with listening:
        async with FaultRelay(address) as relay:
            client = await Peer.connect(relay.address)
            server = await Peer.accept(listening)
            await eventually(lambda: relay.connections)
            await client.send(b"last words")
            client.close()
        async with server:
            assert await server.receive_all() == b"last words"


@pytest.mark.parametrize("fault", [Delay(3600), Stall(), BlackHole(), Slice(1, pause=3600)])
async def test_what_is_under_way_when_it_closes_is_let_go(fault: Fault) -> None:
    listening, address = bare_server()
    with listening:
        async with FaultRelay(address) as relay:
            relay.add(fault)
            client = await Peer.connect(relay.address)
            server = await Peer.accept(listening)
            await client.send(b"hello")
            await relay.wait_happened(fault)
            connection = relay.connections[0]
        async with client, server:
            connection.reset()
            await server.receive_all()
            await client.receive_all()


async def test_clients_for_which_it_is_connecting_when_it_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = asyncio.Event()

    async def never(address: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(tieline.testing.relay, "open_connection", never)
    async with FaultRelay("127.0.0.1:1") as relay:
        client = await Peer.connect(relay.address)
        await begun.wait()
    async with client:
        assert await client.is_reset()
    assert relay.failures == []


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
async def test_clients_that_leave_at_once(leave: Callable[[Peer], None]) -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        async with FaultRelay(server.addresses[0]) as relay:
            for _ in range(20):
                leave(await Peer.connect(relay.address))
            await eventually(lambda: server.counters.accepted == 20)
            await eventually(lambda: not relay.connections and len(server) == 0)
