"""Two results side by side: what is more than chance, and what cannot be told."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from bench.made_up import empty_result, held_result, result
from tieline.bench import Histogram, Result
from tieline.bench.differing import Difference, Figure, differ
from tieline.bench.result import Interval


def run(
    seed: int,
    middle: float = 0.001,
    *,
    count: int = 50,
    wavering: Callable[[float], float] = lambda share: 1.0,
    **changes: Any,
) -> Result:
    """A run of a service that takes so many seconds, and a few percent more or less.

    Args:
        wavering: how many times as slow it is, when this share of the run is over.
    """
    chance = random.Random(seed)
    made = Result("127.0.0.1:7", "long", connections=10, seconds=count * 0.1)
    for index in range(count):
        slow = middle * wavering(index / count) * chance.gauss(1, 0.03)
        made.intervals.append(
            Interval(
                at=index / 10, seconds=0.1, exchanges=round(1 / slow), held=10, p50=slow,
                p99=slow * chance.uniform(2, 3), most=slow * chance.uniform(5, 50),
            )
        )  # fmt: skip
    made.exchanges = sum(interval.exchanges for interval in made.intervals)
    made.exchange = Histogram([interval.p50 for interval in made.intervals])
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def figure(difference: Difference, name: str) -> Figure:
    (found,) = [figure for figure in difference.figures if figure.name == name]
    return found


def names(difference: Difference) -> set[str]:
    return {figure.name for figure in difference.figures}


def test_a_run_does_not_differ_from_itself() -> None:
    difference = differ(run(1), run(1))
    assert not difference.plans
    assert not difference.failures
    assert {figure.ratio for figure in difference.figures} == {1.0}
    assert not any(figure.is_difference or figure.is_better for figure in difference.figures)
    assert figure(difference, "rate").chance == 1.0


def test_equal_services_hardly_ever_differ() -> None:
    pairs = [differ(run(seed), run(seed + 1000)) for seed in range(20)]
    wrong = Counter(
        figure.name for pair in pairs for figure in pair.figures if figure.is_difference
    )
    assert wrong["rate"] <= 1
    assert wrong["p50"] <= 1
    assert wrong["p99"] <= 1


@pytest.mark.parametrize(("after", "is_better"), [(0.0011, False), (0.0009, True)])
def test_a_tenth_is_seen(after: float, is_better: bool) -> None:
    for seed in range(3):
        difference = differ(run(seed), run(seed + 1000, after))
        for name in ("rate", "p50"):
            found = figure(difference, name)
            assert found.is_difference
            assert found.is_better is is_better
            assert found.chance is not None
            assert found.chance < 0.01
            ratio = after / 0.001 if name == "p50" else 0.001 / after
            assert found.ratio == pytest.approx(ratio, rel=0.03)


def test_what_wavers_by_itself_is_no_difference() -> None:
    # A neighbour takes the processor for half of one run: the intervals alone would tell a lot.
    disturbed = run(1, wavering=lambda share: 1.3 if share > 0.4 else 1.0)
    found = figure(differ(run(2), disturbed), "rate")
    assert found.chance is not None
    assert found.chance < 0.01
    assert not found.is_difference


def test_the_answer_is_the_same_each_time() -> None:
    assert differ(run(1), run(2)) == differ(run(1), run(2))


@pytest.mark.parametrize(("before", "after"), [(9, 50), (50, 9), (0, 50), (9, 9)])
def test_a_run_that_is_too_short_does_not_tell(before: int, after: int) -> None:
    difference = differ(run(1, count=before), run(2, 0.002, count=after))
    assert figure(difference, "rate").is_difference is None
    assert all(figure.chance is None for figure in difference.figures)


def test_intervals_in_which_nothing_was_answered_are_slow_and_not_fast() -> None:
    frozen = run(1)
    for interval in frozen.intervals[::2]:
        interval.exchanges, interval.p50, interval.p99, interval.most = 0, 0.0, 0.0, 0.0
    difference = differ(run(2), frozen)
    assert figure(difference, "rate").is_difference
    assert not figure(difference, "p50").is_difference
    assert not figure(difference, "p99").is_difference


def test_what_was_left_at_the_end_is_no_interval() -> None:
    longer = run(1, count=11)
    longer.intervals[-1].seconds = 0.01
    assert figure(differ(longer, run(2)), "rate").chance is not None
    longer.intervals[-2].seconds = 0.01
    assert figure(differ(longer, run(2)), "rate").chance is None


def test_intervals_of_another_length_have_another_p99() -> None:
    longer = run(1)
    for interval in longer.intervals:
        interval.seconds, interval.exchanges = 0.2, interval.exchanges * 2
    difference = differ(longer, run(2))
    assert figure(difference, "p50").chance is not None
    assert figure(difference, "p99").chance is None
    assert figure(difference, "max").chance is None


def test_a_time_that_only_one_has_is_not_compared() -> None:
    short = run(1, whole=Histogram([0.002]), connecting=Histogram([0.001]))
    assert {"whole.p50", "connect.p50"} <= names(differ(short, short))
    assert not {"whole.p50", "connect.p50", "lateness.p99"} & names(differ(short, run(2)))


def test_a_rate_of_none_is_compared() -> None:
    difference = differ(run(1), empty_result())
    assert names(difference) == {"rate"}
    found = figure(difference, "rate")
    assert found.ratio == 0.0
    assert not found.is_better
    other = figure(differ(empty_result(), run(1)), "rate")
    assert other.ratio is None
    assert other.is_better


def test_what_the_plans_have_unlike_is_said() -> None:
    difference = differ(run(1), run(2, connections=20, mode="short", tls=True))
    assert difference.plans == {
        "mode": ("long", "short"), "connections": (10, 20), "tls": (False, True),
    }  # fmt: skip


def test_failures_of_both() -> None:
    difference = differ(
        run(1, failures=Counter(reset=2, refused=1)), run(2, failures=Counter(reset=5, other=4))
    )
    assert difference.failures == {"other": (0, 4), "refused": (1, 0), "reset": (2, 5)}


def test_connections_that_are_held_can_be_compared() -> None:
    difference = differ(held_result(), held_result())
    assert figure(difference, "rate").ratio == 1.0
    assert figure(difference, "rate").is_difference is None
    assert "p50" not in names(difference)


def test_runs_as_they_come() -> None:
    difference = differ(result("short"), result("long"))
    assert figure(difference, "rate").is_difference
    assert figure(difference, "p50").is_better
    assert "mode" in difference.plans
