"""Which clock strikes next, and for how long a slow peer's credit lasts: decisions, no sockets."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline import CloseReason, Limits, State
from tieline.clocks import Credit, first_check, next_due, running_clocks

#: Everything a clock can measure, switched off.
OFF: dict[str, Any] = {
    "idle": None, "first_byte": None, "message": None, "write_stall": None, "half_closed": None,
    "min_receive_rate": None, "min_send_rate": None,
}  # fmt: skip
LIVE = [State.OPEN, State.PEER_ENDED, State.HALF_CLOSED]


@dataclass
class Facts:
    """A connection, as its clocks see it. Times begin at 1,000."""

    state: State = State.OPEN
    id: int = 1
    opened_at: float = 1_000.0
    last_received: float = 1_000.0
    last_sent: float = 1_000.0
    bytes_received: int = 0
    unfinished: Credit | None = None
    owing: Credit | None = None
    closing_at: float = 0.0

    @property
    def last_active(self) -> float:
        return max(self.last_received, self.last_sent)


def _running(facts: Facts, limits: Limits, fullness: float = 0.0) -> dict[CloseReason, float]:
    found = running_clocks(facts, limits, fullness)
    assert len({reason for _, reason in found}) == len(found)
    return {reason: due for due, reason in found}


# ---- Each clock


def test_while_closing_nothing_else_counts() -> None:
    facts = Facts(State.CLOSING, closing_at=1_007.0, unfinished=Credit(1_000, 0, 20))
    limits = Limits(lifetime=1, receive_idle=1, send_idle=1)
    assert _running(facts, limits) == {CloseReason.CLOSE_TIMEOUT: 1_007.0}


def test_during_the_handshake_nothing_else_counts() -> None:
    limits = Limits(handshake=7, lifetime=1, receive_idle=1, send_idle=1, first_byte=1)
    assert _running(Facts(State.HANDSHAKE), limits) == {CloseReason.HANDSHAKE_TIMEOUT: 1_007.0}


def test_by_default_a_new_connection_has_two_clocks() -> None:
    assert _running(Facts(), Limits()) == {
        CloseReason.IDLE_TIMEOUT: 1_300.0,
        CloseReason.FIRST_BYTE_TIMEOUT: 1_060.0,
    }


@pytest.mark.parametrize("state", LIVE)
def test_all_of_them_may_be_off(state: State) -> None:
    facts = Facts(state, unfinished=Credit(1_000, 0, 20), owing=Credit(1_000, 0, 20))
    assert running_clocks(facts, Limits(**OFF)) == []
    assert next_due(facts, Limits(**OFF))[0] is None


def test_idleness_counts_from_the_last_byte_of_either_side() -> None:
    limits = Limits(**{**OFF, "idle": 60, "receive_idle": 50, "send_idle": 40})
    assert _running(Facts(last_received=1_010, last_sent=1_030), limits) == {
        CloseReason.IDLE_TIMEOUT: 1_090,
        CloseReason.RECEIVE_IDLE_TIMEOUT: 1_060,
        CloseReason.SEND_IDLE_TIMEOUT: 1_070,
    }


def test_a_side_that_has_ended_owes_no_bytes() -> None:
    limits = Limits(**{**OFF, "receive_idle": 50, "send_idle": 40})
    assert set(_running(Facts(State.PEER_ENDED), limits)) == {CloseReason.SEND_IDLE_TIMEOUT}
    assert set(_running(Facts(State.HALF_CLOSED), limits)) == {CloseReason.RECEIVE_IDLE_TIMEOUT}


def test_the_first_byte_is_waited_for_until_it_comes() -> None:
    limits = Limits(**{**OFF, "first_byte": 9})
    # What is sent to the peer gives it no time.
    facts = Facts(last_sent=1_008)
    assert _running(facts, limits) == {CloseReason.FIRST_BYTE_TIMEOUT: 1_009}
    facts.bytes_received = 1
    assert _running(facts, limits) == {}


def test_half_closed_counts_from_the_last_byte_once_a_side_has_ended() -> None:
    limits = Limits(**{**OFF, "half_closed": 30})
    assert _running(Facts(), limits) == {}
    for state in (State.PEER_ENDED, State.HALF_CLOSED):
        facts = Facts(state, last_received=1_004, last_sent=1_002)
        assert _running(facts, limits) == {CloseReason.HALF_CLOSED_TIMEOUT: 1_034}


def test_a_message_has_its_time_and_its_credit() -> None:
    limits = Limits(**{**OFF, "message": 30, "min_receive_rate": 10, "rate_grace": 20})
    facts = Facts(unfinished=Credit(1_005, 0, 20), last_received=1_010, bytes_received=40)
    assert _running(facts, limits) == {
        CloseReason.MESSAGE_TIMEOUT: 1_035,
        CloseReason.SLOW_SENDER: 1_029,
    }


def test_what_is_owed_has_its_time_and_its_credit() -> None:
    limits = Limits(**{**OFF, "write_stall": 30, "min_send_rate": 10, "rate_grace": 20})
    # Bytes that were taken before these were owed say nothing about them.
    facts = Facts(owing=Credit(1_005, 100, 20), last_sent=1_001)
    assert _running(facts, limits) == {
        CloseReason.WRITE_STALL: 1_035,
        CloseReason.SLOW_READER: 1_025,
    }
    assert facts.owing is not None
    facts.owing.moved, facts.owing.moved_at = 140, 1_010
    assert _running(facts, limits) == {
        CloseReason.WRITE_STALL: 1_040,
        CloseReason.SLOW_READER: 1_029,
    }


@given(st.floats(0, 1), st.floats(0, 1))
def test_idleness_shrinks_as_the_server_fills(some: float, more: float) -> None:
    some, more = sorted((some, more))
    limits = Limits(**{**OFF, "idle": 100, "idle_when_full": 10})
    idle = CloseReason.IDLE_TIMEOUT
    assert _running(Facts(), limits, some)[idle] >= _running(Facts(), limits, more)[idle]
    assert _running(Facts(), limits, 0.5) == {idle: 1_100}
    assert _running(Facts(), limits, 0.75) == {idle: 1_055}
    assert _running(Facts(), limits, 1.0) == {idle: 1_010}
    assert _running(Facts(), Limits(**{**OFF, "idle": 100}), 1.0) == {idle: 1_100}


# ---- Lifetime


def _end(limits: Limits, id: int, **facts: Any) -> float:
    return _running(Facts(id=id, **facts), limits)[CloseReason.LIFETIME]


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_a_lifetime_is_shortened_by_at_most_the_jitter(id: int, jitter: float) -> None:
    limits = Limits(**OFF, lifetime=1_000, lifetime_jitter=jitter)
    end = _end(limits, id)
    assert 2_000 - 1_000 * jitter - 1e-6 <= end <= 2_000 + 1e-6
    assert end == _end(limits, id)


@pytest.mark.parametrize("first", [1, 1_000_000])
def test_lifetimes_of_connections_that_came_together_are_spread_evenly(first: int) -> None:
    limits = Limits(**OFF, lifetime=1_000, lifetime_jitter=0.1)
    ends = sorted(_end(limits, first + number) for number in range(1_000))
    gaps = [later - earlier for earlier, later in itertools.pairwise(ends)]
    # 1,000 ends in 100 seconds: 0.1 each on average.
    assert max(gaps) < 0.3
    assert ends[-1] - ends[0] > 99


def test_without_jitter_all_live_equally_long() -> None:
    limits = Limits(**OFF, lifetime=1_000, lifetime_jitter=0)
    assert {_end(limits, id) for id in range(1, 100)} == {2_000}


def test_one_that_was_told_to_finish_has_until_then() -> None:
    limits = Limits(**OFF, lifetime=1_000, closing=5)
    assert _end(limits, 7, closing_at=9_000.0) == 9_000


# ---- Which is next


def _limits() -> st.SearchStrategy[Limits]:
    seconds = st.none() | st.floats(0.1, 1_000)
    return st.builds(
        _make_limits, idle=seconds, receive_idle=seconds, send_idle=seconds, first_byte=seconds,
        lifetime=seconds, lifetime_jitter=st.floats(0, 1), half_closed=seconds, message=seconds,
        write_stall=seconds, idle_when_full=st.none() | st.floats(0.1, 1_000),
    )  # fmt: skip


def _make_limits(**values: Any) -> Limits:
    least = values["idle_when_full"]
    if least is not None and values["idle"] is not None:
        values["idle_when_full"] = min(least, values["idle"])
    return Limits(**values)


REASONS = st.frozensets(st.sampled_from(list(CloseReason)))


@given(_limits(), st.sampled_from(list(State)), REASONS, st.floats(0, 1))
def test_the_next_is_the_earliest_that_is_not_spared(
    limits: Limits, state: State, spared: frozenset[CloseReason], fullness: float
) -> None:
    closing_at = 1_003.0 if state is State.CLOSING else 0.0
    facts = Facts(state, closing_at=closing_at, last_received=1_001.0)
    due, reason = next_due(facts, limits, fullness, spared)
    running = _running(facts, limits, fullness)
    left = {why: when for why, when in running.items() if why not in spared}
    if due is None:
        assert left == {}
    else:
        assert due == left[reason] == min(left.values())


@given(_limits(), st.floats(0, 1), st.integers(1, 10_000))
def test_nothing_strikes_before_the_first_look(limits: Limits, fullness: float, id: int) -> None:
    due, _ = next_due(Facts(id=id), limits, fullness)
    first = first_check(limits)
    assert (due is None) == (first is None) or limits.idle_when_full is not None
    if due is not None and first is not None:
        assert first <= due - 1_000 + 1e-6


# ---- Credit

RATE, GRACE, BEGAN = 100.0, 20.0, 1_000.0

#: Seconds since the last bytes, and how many come then.
Moves = list[tuple[float, int]]
MOVES: st.SearchStrategy[Moves] = st.lists(
    st.tuples(st.floats(0.001, 30), st.integers(1, 5_000)), max_size=40
)


def _exact(moves: Moves) -> float:
    """When credit runs out by Postfix's rule, settled at every move."""
    at, credit = BEGAN, GRACE
    for pause, size in moves:
        if pause >= credit:
            break
        at += pause
        credit = min(credit - pause + size / RATE, GRACE)
    return at + credit


def _ours(moves: Moves, every_move: bool = False) -> tuple[float, float, int]:
    """When it runs out as we count it, when bytes moved last before that, and how many had."""
    credit, at, moved, moved_at = Credit(BEGAN, 0, GRACE), BEGAN, 0, BEGAN
    for pause, size in moves:
        at += pause
        # The wheel asks when it seems to be over.
        while credit.due <= at:
            due = credit.due
            if credit.settle(moved, moved_at, RATE, GRACE) == due:
                return due, moved_at, moved
        moved, moved_at = moved + size, at
        if every_move:
            credit.settle(moved, moved_at, RATE, GRACE)
    return credit.settle(moved, moved_at, RATE, GRACE), moved_at, moved


@given(MOVES)
def test_settled_at_every_move_it_is_postfixs_rule(moves: Moves) -> None:
    assert math.isclose(_ours(moves, every_move=True)[0], _exact(moves), abs_tol=1e-6)


@given(MOVES)
def test_settled_late_it_never_runs_out_earlier(moves: Moves) -> None:
    assert _ours(moves)[0] >= _exact(moves) - 1e-6


@given(MOVES)
def test_settled_late_it_is_bounded_all_the_same(moves: Moves) -> None:
    """Nobody holds out for longer than the bytes it moved pay for, nor by one big burst."""
    due, moved_at, moved = _ours(moves)
    assert due <= BEGAN + GRACE + moved / RATE + 1e-6
    assert due <= moved_at + GRACE + 1e-6
    assert due >= BEGAN + GRACE


@given(st.floats(0.01, GRACE - 1), st.floats(0.05, 0.95))
def test_a_drip_below_the_rate_runs_out_of_credit(pause: float, share: float) -> None:
    size = max(1, int(pause * RATE * share))
    moves = [(pause, size)] * 100_000
    due, _, _ = _ours(moves)
    if size < pause * RATE:
        # It loses this much of each second.
        loss = 1 - size / (pause * RATE)
        assert due <= BEGAN + GRACE / loss + pause + 1e-6


@given(st.floats(0.01, GRACE - 1), st.floats(1.0, 10.0))
def test_a_peer_that_keeps_to_the_rate_never_does(pause: float, share: float) -> None:
    size = math.ceil(pause * RATE * share)
    due, moved_at, _ = _ours([(pause, size)] * 300)
    assert due >= moved_at + GRACE - pause - 1e-6
    assert moved_at >= BEGAN + 299 * pause


def test_bytes_that_came_before_buy_nothing() -> None:
    credit = Credit(BEGAN, 5_000, GRACE)
    assert credit.settle(5_000, BEGAN - 3, RATE, GRACE) == BEGAN + GRACE
    assert credit.settle(5_100, BEGAN + 10, RATE, GRACE) == BEGAN + GRACE + 1


def test_bytes_are_counted_once() -> None:
    credit = Credit(BEGAN, 0, GRACE)
    due = credit.settle(100, BEGAN + 10, RATE, GRACE)
    assert due == BEGAN + GRACE + 1
    assert credit.settle(100, BEGAN + 10, RATE, GRACE) == due


def test_a_change_of_the_grace_counts_from_where_it_is() -> None:
    credit = Credit(BEGAN, 0, GRACE)
    assert credit.settle(0, BEGAN, RATE, 5) == BEGAN + 5
    credit = Credit(BEGAN, 0, GRACE)
    assert credit.settle(0, BEGAN, RATE, 40) == BEGAN + 40
