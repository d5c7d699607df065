"""Percentiles of a histogram against those of a sorted list, and what may not get lost."""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline import SettingError
from tieline.bench import Histogram
from tieline.bench.histogram import RELATIVE_ERROR

#: From a nanosecond to a day.
TIMES = st.floats(1e-9, 86_400.0)
SHARES = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.5, 0.9, 0.99, 0.999, 0.9999]))

#: What rounding to a single adds: half of its last bit.
ROUNDING = 2**-24


def exact(times: list[float], share: float) -> float:
    """The time that this share of all does not exceed, by nearest rank."""
    return sorted(times)[max(1, math.ceil(share * len(times))) - 1]


def is_close(found: float, wanted: float) -> bool:
    return abs(found - wanted) <= wanted * (RELATIVE_ERROR + ROUNDING)


@given(st.lists(TIMES, min_size=1), SHARES)
def test_a_percentile_is_within_its_error_of_the_exact_one(
    times: list[float], share: float
) -> None:
    assert is_close(Histogram(times).percentile(share), exact(times, share))


@pytest.mark.parametrize("shape", ["even", "lognormal", "two humps", "all alike"])
def test_a_hundred_thousand_times(shape: str) -> None:
    chance = random.Random(shape)
    draws: dict[str, Callable[[], float]] = {
        "even": lambda: chance.uniform(1e-6, 1.0),
        "lognormal": lambda: chance.lognormvariate(-7, 1.5),
        "two humps": lambda: chance.gauss(1e-3, 1e-5) if chance.random() < 0.99 else 0.2,
        "all alike": lambda: 0.00123,
    }
    draw = draws[shape]
    times = [draw() for _ in range(100_000)]
    histogram = Histogram()
    for begin in range(0, len(times), 1_000):
        histogram.add(times[begin : begin + 1_000])
    shares = (0.0, 0.001, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0)
    for share, found in histogram.percentiles(shares).items():
        assert is_close(found, exact(times, share))
    assert histogram.count == 100_000
    assert histogram.least == min(times)
    assert histogram.most == max(times)
    assert histogram.mean == pytest.approx(sum(times) / 100_000)


@given(st.lists(TIMES))
def test_smallest_largest_and_sum_are_exact(times: list[float]) -> None:
    histogram = Histogram(times)
    assert histogram.count == len(times)
    assert histogram.least == min(times, default=0.0)
    assert histogram.most == max(times, default=0.0)
    assert histogram.total == pytest.approx(sum(times))
    assert histogram.percentile(1.0) <= histogram.most
    assert histogram.percentile(0.0) >= histogram.least


@given(st.lists(TIMES, min_size=1), st.lists(st.floats(0.0, 1.0), min_size=2))
def test_percentiles_rise(times: list[float], shares: list[float]) -> None:
    found = [Histogram(times).percentile(share) for share in sorted(shares)]
    assert found == sorted(found)


def test_none_at_all() -> None:
    histogram = Histogram()
    assert (histogram.count, histogram.mean, histogram.least, histogram.most) == (0, 0.0, 0.0, 0.0)
    assert histogram.percentile(0.99) == 0.0
    assert not histogram.buckets()
    assert Histogram.from_json(histogram.as_json()) == histogram


def test_a_time_of_none_and_one_of_a_clock_that_was_set_back() -> None:
    histogram = Histogram([0.0, -3.0, 0.5])
    assert histogram.count == 3
    assert histogram.least == 0.0
    assert histogram.percentile(0.5) == pytest.approx(0.0, abs=1e-30)
    assert histogram.total == 0.5


# ---- Memory


@given(st.lists(TIMES, min_size=1))
def test_buckets_hold_all_and_are_in_order(times: list[float]) -> None:
    buckets = Histogram(times).buckets()
    assert sum(count for _, _, count in buckets) == len(times)
    assert all(count > 0 and low < high for low, high, count in buckets)
    for (_, before, _), (after, _, _) in itertools.pairwise(buckets):
        assert before <= after
    for low, high, _ in buckets:
        # Half of a bucket, seen from its smallest time, is the error that is promised.
        assert (high - low) / 2 <= low * RELATIVE_ERROR * (1 + 1e-9)


def test_there_are_no_more_buckets_however_many_times() -> None:
    chance = random.Random(1)

    def batch() -> list[float]:
        # From a microsecond to a hundred seconds: 27 powers of two.
        return [10 ** chance.uniform(-6, 2) for _ in range(50_000)]

    histogram = Histogram(batch())
    before = len(histogram.buckets())
    for _ in range(10):
        histogram.add(batch())
    assert before <= len(histogram.buckets()) <= 27 * 128
    size = sys.getsizeof(histogram._buckets)
    assert size < 300_000


# ---- Together


@given(st.lists(TIMES), st.lists(TIMES))
def test_merging_is_adding_all(first: list[float], second: list[float]) -> None:
    merged = Histogram(first)
    merged.merge(Histogram(second))
    together = Histogram(first + second)
    assert merged.buckets() == together.buckets()
    assert (merged.least, merged.most) == (together.least, together.most)
    assert merged.total == pytest.approx(together.total)


@given(st.lists(TIMES), st.lists(TIMES))
def test_taking_away_what_was_added_leaves_the_rest(
    first: list[float], second: list[float]
) -> None:
    histogram = Histogram(first + second)
    histogram.merge(Histogram(second), sign=-1)
    assert histogram.buckets() == Histogram(first).buckets()
    assert histogram.total == pytest.approx(sum(first), abs=1e-6 + 1e-9 * sum(second))


def test_merging_leaves_the_other_alone() -> None:
    first, second = Histogram([1.0]), Histogram([2.0])
    first.merge(second)
    first.add([3.0])
    assert second == Histogram([2.0])
    assert first != second


# ---- Written and read


@given(st.lists(TIMES))
def test_written_and_read_back(times: list[float]) -> None:
    histogram = Histogram(times)
    read = Histogram.from_json(json.loads(json.dumps(histogram.as_json())))
    assert read == histogram
    assert read.percentile(0.9) == histogram.percentile(0.9)
    read.add([1.0])
    assert read.count == len(times) + 1


def test_what_is_written() -> None:
    written = Histogram([0.5, 0.5, 2.0]).as_json()
    assert {name: written[name] for name in ("count", "total", "least", "most")} == {
        "count": 3, "total": 3.0, "least": 0.5, "most": 2.0,
    }  # fmt: skip
    assert written["relative_error"] == RELATIVE_ERROR
    assert [count for _, count in written["buckets"]] == [2, 1]


@pytest.mark.parametrize(
    "read",
    [
        None, 5, "x", [], {}, {"buckets": None}, {"buckets": [[1]]}, {"buckets": [["a", 1]]},
        {"buckets": []}, {"buckets": [], "total": 1.0, "least": 1.0},
        {"buckets": [], "total": "x", "least": 1.0, "most": 1.0},
        {"buckets": [], "total": 1.0, "least": [], "most": 1.0},
        {"buckets": [[1, 2, 3]], "total": 1.0, "least": 1.0, "most": 1.0},
        {"buckets": [[-1, 2]], "total": 1.0, "least": 1.0, "most": 1.0},
        {"buckets": [[0x7F80, 2]], "total": 1.0, "least": 1.0, "most": 1.0},
        {"buckets": [[1, -2]], "total": 1.0, "least": 1.0, "most": 1.0},
        {"buckets": [[1, math.inf]], "total": 1.0, "least": 1.0, "most": 1.0},
        {"buckets": [[1, 2]], "total": math.nan, "least": 1.0, "most": 1.0},
    ],
)  # fmt: skip
def test_what_is_no_histogram(read: Any) -> None:
    with pytest.raises(SettingError, match="this is no histogram"):
        Histogram.from_json(read)
