"""Events: told in order, to whoever wants them, and never at the connections' cost."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tieline.events
from support.leaks import ErrorLog
from tieline import Address, CloseReason, SettingError
from tieline.events import (
    AcceptPaused,
    ClientUnbanned,
    ConnectionClosed,
    Event,
    Events,
    EventsLost,
    LimitsChanged,
    ServerStarted,
)

KINDS = [
    kind
    for name in tieline.events.__all__
    if isinstance(kind := getattr(tieline.events, name), type)
    and issubclass(kind, Event)
    and kind is not Event
]

PEER = Address("10.0.0.7", 5123)


def numbered(count: int, start: int = 1) -> list[Event]:
    return [ClientUnbanned(network=str(number)) for number in range(start, start + count)]


def numbers(events: list[Event]) -> list[str]:
    """`7` for the event of this number, `lost 3` where three are missing."""
    return [
        f"lost {event.count}" if isinstance(event, EventsLost) else getattr(event, "network", "?")
        for event in events
    ]


async def turn() -> None:
    """Let what is scheduled run once."""
    await asyncio.sleep(0)


# ---- What an event is


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_has_a_name_of_its_own_and_says_what_it_is(kind: type[Event]) -> None:
    assert [each.name for each in KINDS].count(kind.name) == 1
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).removeprefix("_")
    assert kind.name == words
    assert kind.__doc__


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        AcceptPaused(why="full").why = "rate"  # type: ignore[misc]


def test_as_a_dictionary_it_holds_what_json_knows() -> None:
    closed = ConnectionClosed(
        time=1_700_000_000.5,
        id=7,
        peer=PEER,
        client="10.0.0.7",
        reason=CloseReason.IDLE_TIMEOUT,
        duration=1.5,
        bytes_received=1,
        bytes_sent=2,
        messages_received=3,
        messages_sent=4,
    )
    assert json.loads(json.dumps(closed.as_dict())) == {
        "event": "connection_closed",
        "time": 1_700_000_000.5,
        "id": 7,
        "peer": "10.0.0.7:5123",
        "client": "10.0.0.7",
        "reason": "idle_timeout",
        "duration": 1.5,
        "bytes_received": 1,
        "bytes_sent": 2,
        "messages_received": 3,
        "messages_sent": 4,
        "upstream": None,
    }
    started = ServerStarted(time=0.0, addresses=(PEER, Address(path="\0name")))
    assert started.as_dict()["addresses"] == ["10.0.0.7:5123", "unix:@name"]
    assert LimitsChanged(changes=("idle 1 2",)).as_dict()["changes"] == ["idle 1 2"]


# ---- Subscribers


async def test_events_are_told_in_order_and_not_at_once() -> None:
    events, told = Events(), list[Event]()
    events.subscribe(told.append)
    events.subscribe(lambda event: told.append(event))
    for event in numbered(3):
        events.announce(event)
    assert told == []
    await turn()
    assert numbers(told) == ["1", "2", "3", "1", "2", "3"]
    await turn()
    assert len(told) == 6


async def test_while_nobody_subscribes_no_event_is_wanted() -> None:
    events = Events()
    assert not events.wanted
    one, other = events.subscribe(print), events.stream()
    assert events.wanted
    one.end()
    one.end()
    assert events.wanted
    other.close()
    other.close()
    assert not events.wanted


async def test_whoever_comes_later_is_told_what_happens_later() -> None:
    events, first, second = Events(), list[Event](), list[Event]()
    events.subscribe(first.append)
    events.announce(numbered(1)[0])
    events.subscribe(second.append)
    events.announce(numbered(1, 2)[0])
    await turn()
    assert (numbers(first), numbers(second)) == (["1", "2"], ["2"])


async def test_whoever_has_ended_is_told_nothing_more() -> None:
    events, told = Events(), list[Event]()
    subscription = events.subscribe(told.append, capacity=2)
    for event in numbered(5):
        events.announce(event)
    subscription.end()
    await turn()
    assert told == []
    assert subscription.lost == 3


async def test_a_subscriber_may_end_itself_while_it_is_told() -> None:
    events, told, others = Events(), list[Event](), list[Event]()

    def once(event: Event) -> None:
        told.append(event)
        subscription.end()

    subscription = events.subscribe(once, capacity=3)
    events.subscribe(others.append)
    for event in numbered(5):
        events.announce(event)
    await turn()
    assert numbers(told) == ["1"]
    assert numbers(others) == ["1", "2", "3", "4", "5"]


async def test_a_subscriber_may_end_another() -> None:
    events, told = Events(), list[Event]()
    first = events.subscribe(lambda event: second.end())
    second = events.subscribe(told.append)
    events.announce(numbered(1)[0])
    await turn()
    assert told == []
    first.end()


async def test_one_that_fails_is_logged_once_and_goes_on(error_log: ErrorLog) -> None:
    events, tried, others = Events(), list[Event](), list[Event]()

    def fails(event: Event) -> None:
        tried.append(event)
        raise ValueError("a mistake in the application")

    subscription = events.subscribe(fails)
    events.subscribe(others.append)
    for event in numbered(3):
        events.announce(event)
    await turn()
    assert numbers(tried) == numbers(others) == ["1", "2", "3"]
    assert subscription.failures == events.failures == 3
    (entry,) = error_log.take()
    assert "client_unbanned" in entry
    assert "a mistake in the application" in entry


async def test_one_that_is_slow_loses_and_is_told_where() -> None:
    events, told = Events(), list[Event]()
    subscription = events.subscribe(told.append, capacity=4)
    for event in numbered(10):
        events.announce(event)
    await turn()
    events.announce(numbered(1, 11)[0])
    await turn()
    assert numbers(told) == ["1", "2", "3", "4", "lost 6", "11"]
    assert subscription.lost == events.lost == 6


async def test_a_great_many_are_told_in_several_turns() -> None:
    events, told = Events(), list[Event]()
    events.subscribe(told.append)
    for event in numbered(200):
        events.announce(event)
    await turn()
    assert 0 < len(told) < 200  # the loop has served others meanwhile
    events.announce(numbered(1, 201)[0])
    while len(told) < 201:
        await turn()
    assert numbers(told) == [str(number) for number in range(1, 202)]


async def test_what_a_subscriber_causes_is_told_later() -> None:
    events, told = Events(), list[Event]()

    def cause(event: Event) -> None:
        told.append(event)
        if len(told) < 5:
            events.announce(numbered(1, len(told) + 1)[0])

    events.subscribe(cause)
    events.announce(numbered(1)[0])
    await turn()
    assert numbers(told) == ["1"]
    while len(told) < 5:
        await turn()
    assert numbers(told) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, None])
def test_a_queue_has_room_for_one_at_least(capacity: Any) -> None:
    makers: list[Callable[[], object]] = [
        lambda: Events().subscribe(print, capacity),
        lambda: Events().stream(capacity),
    ]
    for make in makers:
        with pytest.raises(SettingError, match=f"at least 1, not {capacity!r}"):
            make()


def test_what_happens_before_the_loop_runs_is_told_then() -> None:
    events, told = Events(), list[Event]()
    events.subscribe(told.append)
    events.announce(numbered(1)[0])
    assert told == []

    async def main() -> None:
        events.announce(numbered(1, 2)[0])
        await turn()

    asyncio.run(main())
    assert numbers(told) == ["1", "2"]


# ---- The end of a server


async def test_flush_tells_what_waits_now() -> None:
    events, told = Events(), list[Event]()
    events.subscribe(told.append, capacity=150)
    for event in numbered(200):
        events.announce(event)
    events.flush()
    assert len(told) == 151
    assert numbers(told)[-1] == "lost 50"
    await turn()
    assert len(told) == 151


async def test_flush_ends_even_if_every_event_causes_another() -> None:
    events, told = Events(), list[Event]()

    def cause(event: Event) -> None:
        told.append(event)
        events.announce(event)

    subscription = events.subscribe(cause)
    events.announce(numbered(1)[0])
    events.flush()
    assert len(told) == 1
    subscription.end()


# ---- Streams


async def test_a_stream_gives_events_as_they_come() -> None:
    events = Events()
    seen: list[str] = []

    async def watch() -> None:
        async with events.stream() as stream:
            async for event in stream:
                seen.extend(numbers([event]))
                if len(seen) == 3:
                    return

    task = asyncio.create_task(watch())
    await turn()
    for event in numbered(2):
        events.announce(event)
    while len(seen) < 2:
        await turn()
    assert not task.done()
    events.announce(numbered(1, 3)[0])
    await task
    assert seen == ["1", "2", "3"]
    assert not events.wanted


async def test_a_stream_waits_for_its_reader_and_says_what_it_missed() -> None:
    events = Events()
    async with events.stream(capacity=3) as stream:
        for event in numbered(5):
            events.announce(event)
        await turn()
        found = [await anext(stream), await anext(stream)]
        for event in numbered(1, 6):
            events.announce(event)
        found += [await anext(stream) for _ in range(3)]
        assert numbers(found) == ["1", "2", "3", "lost 2", "6"]
        assert stream.lost == events.lost == 2


async def test_what_is_lost_last_is_told_too() -> None:
    events = Events()
    async with events.stream(capacity=1) as stream:
        for event in numbered(3):
            events.announce(event)
        assert numbers([await anext(stream), await anext(stream)]) == ["1", "lost 2"]


async def test_closing_a_stream_ends_whoever_waits() -> None:
    events = Events()
    stream = events.stream()
    events.announce(numbered(1)[0])

    async def collect() -> list[str]:
        return numbers([event async for event in stream])

    task = asyncio.create_task(collect())
    await turn()
    await turn()
    events.announce(numbered(1, 2)[0])
    stream.close()
    events.announce(numbered(1, 3)[0])
    # What came before is still given.
    assert await task == ["1", "2"]


async def test_cancelling_a_reader_loses_nothing() -> None:
    events = Events()
    async with events.stream() as stream:
        reading = asyncio.ensure_future(anext(stream))
        await turn()
        events.announce(numbered(1)[0])
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert numbers([await anext(stream)]) == ["1"]


@given(st.lists(st.one_of(st.none(), st.integers(1, 6)), max_size=40), st.integers(1, 5))
def test_every_event_is_told_or_counted(steps: list[int | None], capacity: int) -> None:
    """However it is read: what is told and what is lost add up, in order, with the gaps named."""

    async def main() -> None:
        events, told, happened = Events(), list[Event](), 0
        subscription = events.subscribe(told.append, capacity)
        stream, read = events.stream(capacity), list[Event]()
        for step in steps:
            if step is None:
                await turn()
                if stream.waiting:
                    read.append(await anext(stream))
                continue
            for event in numbered(step, happened + 1):
                events.announce(event)
            happened += step
        await turn()
        stream.close()
        read += [event async for event in stream]
        for found, lost in ((told, subscription.lost), (read, stream.lost)):
            at = 0
            for word in numbers(found):
                gap, _, count = word.rpartition("lost ")
                at += int(count) if word.startswith("lost") else 1
                assert gap or word.startswith("lost") or int(word) == at
            assert at == happened
            assert sum(event.count for event in found if isinstance(event, EventsLost)) == lost
        subscription.end()

    asyncio.run(main())
