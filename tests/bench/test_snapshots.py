"""What processes tell becomes one result."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tieline
from tieline.bench import Comparison, Histogram, Mode, Phase, Plan, Result
from tieline.bench.messages import Constant
from tieline.bench.recording import Piece, Recorder
from tieline.bench.result import Failure, KernelView
from tieline.bench.snapshots import Gathering, Last, Snapshot

ADDRESS = tieline.Address("127.0.0.1", 7788)


def plan(**options: object) -> Plan:
    given: dict[str, object] = {"messages": Constant(b"a"), "connections": 4, **options}
    return Plan(address=ADDRESS, **given)  # type: ignore[arg-type]


def piece(index: int, exchanges: int, kind: str = "long", seconds: float = 0.1) -> Snapshot:
    times = [0.001 * (number + 1) for number in range(exchanges)]
    made = Piece(exchanges=exchanges, exchange=Histogram(times), failures=Counter({"reset": 1}))
    return Snapshot(
        index=index, phase=Phase.MEASURING, at=index * seconds, seconds=seconds,
        elapsed=index * seconds, share=None, held=2, waiting=0, pieces={kind: made},
    )  # fmt: skip


def last(cpu: float = 0.5, seconds: float = 1.0, cut_short: bool = False) -> Snapshot:
    told = piece(99, 0)
    told.pieces = {}
    told.last = Last(cpu, 0.25, seconds, seconds, 2, 3, 5, cut_short, KernelView(sampled=1))
    return told


def test_pieces_of_two_processes_become_one() -> None:
    gathering = Gathering(plan(processes=2), 0.0, 2)
    assert gathering.add(piece(0, 3)) is None
    progress = gathering.add(piece(0, 4))
    assert progress is not None
    assert (progress.exchanges, progress.held) == (7, 4)
    assert progress.per_second == pytest.approx(70)
    assert gathering.add(last(cpu=0.5)) is None
    # The other goes on alone.
    progress = gathering.add(piece(1, 5))
    assert progress is not None
    assert progress.exchanges == 12
    gathering.add(last(cpu=0.9, cut_short=True))
    result = gathering.result()
    assert (result.exchanges, result.failures, result.exchange.count) == (12, {"reset": 3}, 12)
    assert [interval.exchanges for interval in result.intervals] == [7, 5]
    assert result.cut_short
    assert (result.held_most, result.waiting, result.kernel.sampled) == (4, 6, 2)
    assert result.generator.cpu_seconds == pytest.approx(1.4)
    assert result.generator.busiest == pytest.approx(0.9)
    assert result.generator.is_limit


def test_what_came_before_the_measuring_counts_for_connections_only() -> None:
    gathering = Gathering(plan(), 0.0, 1)
    early = piece(-1, 5)
    early.pieces["long"].opened = 4
    early.pieces["long"].connecting = Histogram([0.1] * 4)
    gathering.add(early)
    gathering.add(piece(0, 2))
    gathering.add(last())
    result = gathering.result()
    assert (result.exchanges, result.exchange.count, result.failed) == (2, 2, 1)
    assert (result.opened, result.connecting.count) == (4, 4)


def test_what_ends_after_the_measuring_is_timed_and_not_counted() -> None:
    gathering = Gathering(plan(), 0.0, 1)
    gathering.add(piece(0, 2))
    finishing = last()
    finishing.pieces = piece(0, 3).pieces
    gathering.add(finishing)
    result = gathering.result()
    assert (result.exchanges, result.exchange.count) == (2, 5)
    assert result.failures == {"reset": 2}


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3000))
def test_intervals_stay_few_and_lose_nothing(count: int) -> None:
    gathering = Gathering(plan(), 0.0, 1)
    for index in range(count):
        gathering.add(piece(index, index % 3))
    gathering.add(last())
    intervals = gathering.result().intervals
    assert len(intervals) <= 240
    assert sum(interval.exchanges for interval in intervals) == sum(i % 3 for i in range(count))
    assert sum(interval.seconds for interval in intervals) == pytest.approx(0.1 * count)
    assert max(each.most for each in intervals) == pytest.approx(0.001 * min(count - 1, 2))
    lengths = {round(interval.seconds, 6) for interval in intervals[:-1]}
    assert len(lengths) <= 1


def test_a_mixed_result_has_its_parts() -> None:
    gathering = Gathering(plan(mode=Mode.MIXED), 0.0, 1)
    both = piece(0, 2, "short")
    both.pieces["long"] = piece(0, 5).pieces["long"]
    gathering.add(both)
    gathering.add(last())
    result = gathering.result()
    assert {kind: part.exchanges for kind, part in result.parts.items()} == {"short": 2, "long": 5}
    assert result.exchanges == 7
    assert result.as_json() == Result.from_json(result.as_json()).as_json()


def test_a_recorder_counts_what_is_plain_and_what_is_not() -> None:
    recorder = Recorder(message_size=5, answer_size=7)
    recorder.times += [0.1, 0.2, 0.3]
    recorder.other_exchanges = 1
    recorder.late_first.append(0.25)
    recorder.late_whole.append(0.3)
    recorder.counted.bytes_sent += 50
    recorder.fail(Failure.RESET)
    taken = recorder.take()
    assert (taken.exchanges, taken.bytes_sent, taken.bytes_received) == (3, 60, 14)
    assert taken.first_byte.count == taken.exchange.count == 3
    assert taken.first_byte.total == pytest.approx(0.55)
    assert taken.failures == {"reset": 1}
    assert recorder.take().exchanges == 0


def test_what_a_connection_costs() -> None:
    short = Result(address="a", mode="short", connections=10, seconds=2.0, exchanges=20_000)
    long = Result(address="a", mode="long", connections=10, seconds=2.0, exchanges=100_000)
    comparison = Comparison(short, long)
    assert comparison.short_time == pytest.approx(0.001)
    assert comparison.long_time == pytest.approx(0.0002)
    assert comparison.connection_cost == pytest.approx(0.0008)
    assert comparison.cost_in_exchanges == pytest.approx(4)
    # 37 exchanges: 0.0008 of 0.0008 + 37 x 0.0002 is the first under a tenth.
    assert comparison.tenth_from == 37
    over_short, over_long = comparison.time_of(10)
    assert over_short == pytest.approx(0.01)
    assert over_long == pytest.approx(0.0028)
    read = Comparison.from_json(comparison.as_json())
    assert read.as_json() == comparison.as_json()


def test_a_comparison_without_answers_compares_nothing() -> None:
    nothing = Comparison(Result("a", "short"), Result("a", "long", exchanges=3, seconds=1.0))
    assert not nothing.is_whole
    assert (nothing.connection_cost, nothing.cost_in_exchanges, nothing.cpu_cost) == (0, 0, 0)
