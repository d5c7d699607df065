"""One direction of a connection: whatever the faults, no byte is lost, doubled or out of order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline import SettingError
from tieline.testing import BlackHole, Cut, Delay, Fault, Rate, Reset, Slice, SlowClose, Stall
from tieline.testing.effects import End
from tieline.testing.faults import FAULTS
from tieline.testing.lane import Finish, Lane, Pass, Wait

anything = settings(deadline=None, max_examples=300)

#: Of times that are added up.
ROUNDING = 1e-6


class Road:
    """A lane with its time: what comes when, and what has passed when."""

    def __init__(self, *faults: Fault, max_held: int = 1 << 20) -> None:
        self.lane = Lane(max_held)
        self.now = 0.0
        self.counts: dict[Fault, int] = {}
        self.passed: list[tuple[float, bytes]] = []
        self.ends: list[tuple[float, End]] = []
        for fault in faults:
            self.meet(fault)

    def meet(self, fault: Fault) -> None:
        self.counts[fault] = 0

        def happened() -> None:
            self.counts[fault] += 1

        self.lane.meet(fault, fault.begin(happened, Random(1)))

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.passed)

    def come(self, data: bytes) -> None:
        self.lane.came(data, self.now)
        self.run()

    def end(self, end: End = End.ORDERLY) -> None:
        self.lane.ended(end, self.now)
        self.run()

    def run(self, seconds: float = 0.0, takes: int = 1 << 30) -> None:
        """Let time pass. The receiver takes so many bytes in one go."""
        until = self.now + seconds
        for _ in range(1_000_000):
            match self.lane.next(self.now):
                case Pass(data, _):
                    data = data[:takes]
                    self.passed.append((self.now, bytes(data)))
                    self.lane.passed(len(data), self.now)
                case Finish(end):
                    self.ends.append((self.now, end))
                    if end is End.RESET:
                        return
                case Wait(when):
                    assert when > self.now
                    if when > until:
                        break
                    self.now = when
                case None:
                    break
        self.now = max(self.now, until)


# ---- Whatever the faults

sizes = st.integers(1, 50)
seconds = st.floats(0, 2)
faults = st.lists(
    st.one_of(
        st.builds(Slice, sizes, st.floats(0, 0.1)),
        st.builds(Rate, st.floats(1, 1e6)),
        st.tuples(seconds, st.floats(0, 1)).map(lambda two: Delay(two[0], two[0] * two[1])),
        st.builds(SlowClose, seconds),
    ),
    max_size=4,
)
comings = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=200)), max_size=20)


@anything
@given(faults, comings, st.integers(1, 300))
def test_every_byte_passes_once_and_in_order(
    faults: list[Fault], comings: list[tuple[float, bytes]], takes: int
) -> None:
    road = Road(*faults)
    sent = b""
    for pause, data in comings:
        road.run(pause, takes)
        road.lane.came(data, road.now)
        sent += data
        assert sent.startswith(road.data)
        assert road.lane.held == len(sent) - len(road.data)
    road.lane.ended(End.ORDERLY, road.now)
    road.run(1e5, takes)
    assert road.data == sent
    assert [end for _, end in road.ends] == [End.ORDERLY]
    assert road.lane.is_over
    assert road.lane.held == 0
    assert road.lane.carried == len(sent)


@anything
@given(faults, comings, st.data())
def test_faults_that_come_and_go_lose_nothing(
    faults: list[Fault], comings: list[tuple[float, bytes]], choice: st.DataObject
) -> None:
    road = Road()
    waiting, there = [*faults, Stall()], list[Fault]()
    sent = b""
    for pause, data in comings:
        road.run(pause)
        change: str = choice.draw(st.sampled_from(["", "one more", "one fewer"]))
        if waiting and change == "one more":
            there.append(waiting.pop())
            road.meet(there[-1])
        elif there and change == "one fewer":
            road.lane.leave(there.pop(0))
        road.lane.came(data, road.now)
        sent += data
    road.lane.ended(End.ORDERLY, road.now)
    for fault in there:
        road.lane.leave(fault)
    road.run()
    assert road.data == sent
    assert road.lane.is_over


# ---- Later


@anything
@given(comings, seconds, st.floats(0, 1))
def test_a_delay_is_neither_shorter_nor_longer(
    comings: list[tuple[float, bytes]], by: float, share: float
) -> None:
    delay = Delay(by, jitter=by * share)
    road = Road(delay)
    came: list[float] = []
    for pause, data in comings:
        road.run(pause)
        road.come(data)
        came += [road.now] * len(data)
    road.end()
    ended = road.now
    road.run(10)
    passed = [when for when, data in road.passed for _ in data]
    for there, here in zip(came, passed, strict=True):
        assert there + by - delay.jitter - ROUNDING <= here <= there + by + delay.jitter + ROUNDING
    assert passed == sorted(passed)
    assert road.ends[0][0] >= ended + by - delay.jitter - ROUNDING
    assert road.counts[delay] <= len(comings) + 1
    if by > ROUNDING and not share:
        assert road.counts[delay] == len(comings) + 1


def test_a_delay_that_is_removed_holds_nothing_back() -> None:
    delay = Delay(5)
    road = Road(delay)
    road.come(b"hello")
    road.run(1)
    assert road.data == b""
    road.lane.leave(delay)
    road.run()
    assert road.data == b"hello"
    assert road.counts[delay] == 1


def test_a_delay_that_comes_too_late_has_not_happened() -> None:
    delay = Delay(5)
    road = Road(stall := Stall())
    road.come(b"hello")
    road.run(6)
    road.meet(delay)
    road.lane.leave(stall)
    road.run()
    assert road.data == b"hello"
    assert road.counts[delay] == 0


def test_a_delay_that_comes_late_holds_back_what_is_still_there() -> None:
    road = Road(stall := Stall())
    road.come(b"hello")
    road.meet(Delay(5))
    road.lane.leave(stall)
    road.run(4.9)
    assert road.data == b""
    road.run(0.2)
    assert road.data == b"hello"


@anything
@given(comings, st.floats(1, 1e5))
def test_a_rate_is_kept_over_any_time(comings: list[tuple[float, bytes]], rate: float) -> None:
    road = Road(Rate(rate))
    for pause, data in comings:
        road.run(pause)
        road.come(data)
    road.run(1e5)
    grain = max(1, rate * 0.02)
    for start, stop in itertools.combinations_with_replacement(range(len(road.passed)), 2):
        span = road.passed[stop][0] - road.passed[start][0]
        size = sum(len(data) for _, data in road.passed[start : stop + 1])
        assert size <= rate * span + 2 * grain + ROUNDING


def test_so_many_bytes_take_so_long() -> None:
    rate = Rate(1000)
    road = Road(rate)
    road.come(bytes(3000))
    road.run(2.99)
    assert len(road.data) < 3000
    road.run(0.02)
    assert len(road.data) == 3000
    assert road.counts[rate] == 1


def test_a_rate_makes_up_for_timers_that_are_late() -> None:
    road = Road(Rate(1000))
    road.come(bytes(1000))
    for _ in range(100):
        # Each comes a moment after it was due.
        road.now += 0.0105
        road.run()
    assert len(road.data) == 1000


def test_a_rate_saves_nothing_up() -> None:
    road = Road(Rate(1000))
    road.come(b"x")
    road.run(3600)
    road.come(bytes(1000))
    road.run(0.1)
    assert len(road.data) <= 1 + 100 + 20


@anything
@given(comings, sizes)
def test_slices_are_small_and_alone(comings: list[tuple[float, bytes]], size: int) -> None:
    slices = Slice(size)
    road = Road(slices)
    for _, data in comings:
        road.lane.came(data, 0.0)
        assert isinstance(step := road.lane.next(0.0), Pass)
        assert step.alone
    road.run()
    assert all(0 < len(data) <= size for _, data in road.passed)
    wanted = sum(math.ceil(len(data) / size) for _, data in comings)
    assert len(road.passed) == wanted
    assert road.counts[slices] == wanted - len(comings)


def test_a_pause_is_between_two_slices() -> None:
    road = Road(Slice(2, pause=1.0))
    road.come(b"abcdef")
    road.end()
    road.run(10)
    assert [data for _, data in road.passed] == [b"ab", b"cd", b"ef"]
    assert [when for when, _ in road.passed] == [0.0, 1.0, 2.0]


def test_only_the_end_closes_slowly() -> None:
    slow = SlowClose(5)
    road = Road(slow)
    road.come(b"hello")
    road.end()
    assert road.data == b"hello"
    assert road.ends == []
    road.run(4.9)
    assert road.ends == []
    road.run(0.2)
    assert road.ends == [(5.0, End.ORDERLY)]
    assert road.counts[slow] == 1


# ---- Never


def test_a_stall_reads_until_it_has_something_to_hold() -> None:
    stall = Stall()
    road = Road(stall)
    assert road.lane.wants_more
    road.come(b"hello")
    assert not road.lane.wants_more
    assert road.counts[stall] == 1
    road.run(3600)
    assert road.data == b""
    assert road.counts[stall] == 1
    road.lane.leave(stall)
    assert road.lane.wants_more
    road.run()
    assert road.data == b"hello"


def test_in_a_black_hole_bytes_vanish_and_ends_wait() -> None:
    hole = BlackHole()
    road = Road(Delay(1))
    road.come(b"on their way")
    road.meet(hole)
    road.run()
    road.come(b"lost")
    assert road.lane.wants_more
    assert road.lane.held == 0
    assert road.counts[hole] == 2
    road.end()
    road.end(End.RESET)
    road.run(3600)
    assert road.counts[hole] == 4
    assert road.ends == []
    road.lane.leave(hole)
    road.run()
    assert road.data == b""
    assert [end for _, end in road.ends] == [End.ORDERLY, End.RESET]


# ---- The end


@anything
@given(comings, st.integers(0, 500), st.booleans())
def test_the_end_comes_after_exactly_so_many_bytes(
    comings: list[tuple[float, bytes]], after: int, cut: bool
) -> None:
    fault: Fault = Cut(after) if cut else Reset(after)
    end = End.ORDERLY if cut else End.RESET
    road = Road(fault, Slice(7))
    sent = b"".join(data for _, data in comings)
    road.run()
    for _, data in comings:
        if not road.ends:
            road.come(data)
    assert road.data == sent[:after]
    if len(sent) < after:
        assert road.ends == []
    else:
        assert [kind for _, kind in road.ends] == [end]
        assert road.counts[fault] == 1


def test_what_is_behind_a_cut_vanishes_and_is_read_all_the_same() -> None:
    road = Road(Cut(after=2))
    road.come(b"abc")
    road.come(b"def")
    assert road.data == b"ab"
    assert road.lane.held == 0
    assert road.lane.wants_more
    assert not road.lane.is_over
    road.end()
    assert road.lane.is_over
    assert [end for _, end in road.ends] == [End.ORDERLY]


def test_a_reset_behind_a_cut_is_carried() -> None:
    road = Road(Cut())
    road.run()
    road.end(End.RESET)
    assert [end for _, end in road.ends] == [End.ORDERLY, End.RESET]


def test_a_fault_that_is_set_late_counts_from_then() -> None:
    road = Road()
    road.come(b"abc")
    road.meet(Reset(after=2))
    road.come(b"def")
    assert road.data == b"abcde"
    assert [end for _, end in road.ends] == [End.RESET]


def test_a_stream_can_be_reset_after_its_end() -> None:
    road = Road()
    road.end()
    assert road.lane.is_over
    road.end(End.RESET)
    road.end(End.RESET)
    assert [end for _, end in road.ends] == [End.ORDERLY, End.RESET]


# ---- Bounds


def test_a_lane_wants_no_more_than_it_may_hold() -> None:
    road = Road(stall := Delay(1), max_held=100)
    road.come(bytes(99))
    assert road.lane.wants_more
    road.come(bytes(1))
    assert not road.lane.wants_more
    road.lane.leave(stall)
    road.run()
    assert road.lane.wants_more


def test_a_lane_holds_a_bounded_number_of_pieces() -> None:
    road = Road(Delay(1))
    count = 0
    while road.lane.wants_more:
        road.come(b"x")
        count += 1
    assert count == 4096


def test_a_receiver_that_is_gone_is_owed_nothing() -> None:
    road = Road(Delay(1))
    road.come(b"hello")
    road.lane.lose()
    assert road.lane.held == 0
    assert road.lane.is_over
    assert road.lane.wants_more
    road.come(b"hello")
    road.end()
    road.run(10)
    assert road.passed == []
    assert road.ends == []
    assert not road.lane.wants_more


# ---- Settings


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Delay, {"seconds": -1}), (Delay, {"seconds": 1, "jitter": 1.1}),
        (Delay, {"seconds": 1, "jitter": -0.1}), (Delay, {"seconds": math.nan}),
        (Rate, {"bytes_a_second": 0}), (Slice, {"size": 0}), (Slice, {"size": 1.5}),
        (Slice, {"size": 1, "pause": -1}), (Cut, {"after": -1}), (Reset, {"after": -1}),
        (SlowClose, {"seconds": -1}), (Stall, {"probability": 1.1}),
        (BlackHole, {"probability": -0.1}), (Reset, {"probability": True}),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(kind: type[Fault], given: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        kind(**given)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Delay(1), lambda: Rate(1), lambda: Slice(1), lambda: SlowClose(1), Stall,
        BlackHole, Cut, Reset,
    ],
)  # fmt: skip
def test_each_fault_is_one_of_its_own(make: Callable[[], Fault]) -> None:
    one, other = make(), make()
    assert one != other
    assert len({one, other}) == 2
    with pytest.raises(AttributeError):
        one.probability = 0.5  # type: ignore[misc]


def test_faults_of_nothing_have_not_happened() -> None:
    faults = [Delay(0), SlowClose(0), Slice(5)]
    road = Road(*faults)
    road.come(b"hello")
    road.end()
    road.run()
    assert road.lane.is_over
    assert [road.counts[fault] for fault in faults] == [0, 0, 0]


def test_every_fault_has_its_name() -> None:
    kinds = [kind for kind in Fault.__subclasses__() if kind.__module__ == Fault.__module__]
    assert list(FAULTS.values()) == kinds
    assert len(FAULTS) == len(kinds)
