"""The wheel: never early, late by at most one tick, in bounded rounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.leaks import ErrorLog
from tieline.deadlines import Deadlines

NOBODY = 1_000_000
ROUNDING = 1e-6

anything = settings(deadline=None, max_examples=300)
times = st.floats(min_value=1, max_value=50)


class Subject:
    """Is due at a time of its own, which may change after it was filed."""

    def __init__(self, due: float | None) -> None:
        self.slot = 0
        self.due = due
        self.ended_at: float | None = None
        self.asked = 0

    def on_deadline(self, now: float) -> float | None:
        self.asked += 1
        if self.due is None or self.due > now:
            return self.due
        self.ended_at = now
        return None


@anything
@given(st.lists(times, max_size=30), st.lists(st.floats(0, 5), max_size=60))
def test_nobody_ends_early_and_nobody_more_than_a_tick_late(
    dues: list[float], steps: list[float]
) -> None:
    wheel = Deadlines(tick=0.1)
    subjects = [Subject(due) for due in dues]
    for subject in subjects:
        assert subject.due is not None
        wheel.file(subject, subject.due)
    now = 0.5
    for step in steps:
        now += step
        assert not wheel.advance(now, NOBODY)
        for subject in subjects:
            assert subject.due is not None
            if subject.due <= now - wheel.tick - ROUNDING:
                assert subject.ended_at is not None
            if subject.due > now + ROUNDING:
                assert subject.ended_at is None
    waiting = [subject for subject in subjects if subject.ended_at is None]
    assert len(wheel) == len(waiting)
    assert (wheel.next_due is None) == (not waiting)


@anything
@given(st.lists(st.tuples(times, times), max_size=20), st.lists(st.floats(0, 3), max_size=60))
def test_activity_only_moves_the_due_time_and_the_wheel_finds_out(
    pairs: list[tuple[float, float]], steps: list[float]
) -> None:
    """Filed for the first of two times, due at the later: as a connection that was active."""
    wheel = Deadlines(tick=0.1)
    subjects = [Subject(max(pair)) for pair in pairs]
    for subject, pair in zip(subjects, pairs, strict=True):
        wheel.file(subject, min(pair))
    now = 0.5
    for step in [*steps, 100.0]:
        now += step
        wheel.advance(now, NOBODY)
        for subject in subjects:
            if subject.ended_at is not None:
                assert subject.due is not None
                assert subject.ended_at >= subject.due
    # A subject that had to be asked again was asked once more, not once per message.
    assert all(subject.asked <= 2 for subject in subjects)


@anything
@given(st.data())
def test_whatever_is_done_each_is_held_once_and_nothing_stays(data: st.DataObject) -> None:
    """Against a plain dictionary."""
    wheel = Deadlines(tick=0.1)
    subjects = [Subject(None) for _ in range(5)]
    filed: dict[Subject, float] = {}
    for _ in range(data.draw(st.integers(0, 40))):
        subject = data.draw(st.sampled_from(subjects))
        if data.draw(st.booleans()):
            when = data.draw(times)
            wheel.file(subject, when)
            # The earlier of two times is kept.
            filed[subject] = min(when, filed.get(subject, when))
        else:
            wheel.withdraw(subject)
            filed.pop(subject, None)
        assert len(wheel) == len(filed)
        if filed:
            assert wheel.next_due is not None
            earliest = min(filed.values())
            assert earliest - ROUNDING <= wheel.next_due <= earliest + wheel.tick + ROUNDING
        else:
            assert wheel.next_due is None
    wheel.advance(1_000, NOBODY)
    assert len(wheel) == 0
    assert wheel._slots == {}
    assert {subject for subject in subjects if subject.asked} == set(filed)


def test_fifteen_thousand_that_are_due_together_end_in_bounded_rounds() -> None:
    wheel = Deadlines()
    subjects = [Subject(10.0) for _ in range(15_000)]
    for subject in subjects:
        wheel.file(subject, 10.0)
    rounds = ended = 0
    more = True
    while more:
        more = wheel.advance(20.0, 128)
        rounds += 1
        now_ended = sum(subject.ended_at is not None for subject in subjects)
        assert now_ended - ended <= 128
        ended = now_ended
    assert ended == 15_000
    assert rounds <= 15_000 // 128 + 2
    assert all(subject.asked == 1 for subject in subjects)


def test_a_subject_that_insists_on_the_past_does_not_hold_the_round() -> None:
    class Stubborn(Subject):
        def on_deadline(self, now: float) -> float:
            self.asked += 1
            return now - 5

    wheel = Deadlines(tick=0.1)
    subject = Stubborn(None)
    wheel.file(subject, 10.0)
    assert not wheel.advance(20.0, NOBODY)
    assert subject.asked == 1
    assert wheel.next_due is not None
    assert wheel.next_due > 20.0


def test_a_subject_may_take_others_out_while_it_is_asked() -> None:
    wheel = Deadlines(tick=0.1)
    others = [Subject(10.0) for _ in range(3)]

    class Jealous(Subject):
        def on_deadline(self, now: float) -> float | None:
            for other in others:
                wheel.withdraw(other)
            return super().on_deadline(now)

    first, second = Jealous(10.0), Jealous(10.0)
    for subject in (first, *others, second):
        wheel.file(subject, 10.0)
    assert not wheel.advance(20.0, NOBODY)
    assert first.ended_at == second.ended_at == 20.0
    assert len(wheel) == 0
    assert wheel._slots == {}


def test_a_subject_may_file_others_while_it_is_asked() -> None:
    wheel = Deadlines(tick=0.1)
    child = Subject(10.0)

    class Parent(Subject):
        def on_deadline(self, now: float) -> float | None:
            wheel.file(child, 10.0)
            return super().on_deadline(now)

    wheel.file(Parent(10.0), 10.0)
    assert not wheel.advance(20.0, NOBODY)
    assert child.ended_at == 20.0
    assert wheel._slots == {}


def test_one_that_fails_does_not_stop_the_others(error_log: ErrorLog) -> None:
    class Broken(Subject):
        def on_deadline(self, now: float) -> float | None:
            raise RuntimeError("a defect of ours")

    wheel = Deadlines(tick=0.1)
    subjects = [Broken(10.0) if number % 2 else Subject(10.0) for number in range(10)]
    for subject in subjects:
        wheel.file(subject, 10.0)
    assert not wheel.advance(20.0, NOBODY)
    assert [subject.ended_at for subject in subjects[::2]] == [20.0] * 5
    assert len(wheel) == 0
    assert len(error_log.take()) == 5


def test_withdrawing_what_is_not_filed_is_nothing() -> None:
    wheel = Deadlines()
    subject = Subject(1.0)
    wheel.withdraw(subject)
    wheel.file(subject, 1.0)
    wheel.withdraw(subject)
    wheel.withdraw(subject)
    assert subject.slot == 0
    assert not wheel.advance(5.0, NOBODY)
    assert subject.asked == 0


@pytest.mark.parametrize("tick", [0.01, 0.1, 1.0])
def test_exact_times_come_up_when_their_tick_is_over(tick: float) -> None:
    wheel = Deadlines(tick)
    subject = Subject(3.0)
    wheel.file(subject, 3.0)
    wheel.advance(3.0 - tick / 2, NOBODY)
    assert subject.ended_at is None
    wheel.advance(3.0 + tick, NOBODY)
    assert subject.ended_at == 3.0 + tick
