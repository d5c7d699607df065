"""Charts: round ticks, labels that do not overlap, bars that hold all there is; and their words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import made_up
from tieline.bench import Failure, Histogram, Mode
from tieline.bench.recording import TIMES as RECORDED
from tieline.cli.bench import amounts, words
from tieline.cli.bench.charts import Drawing, Mark, Plot, Scale, rows_for, spread_out, steps
from tieline.cli.bench.charts_spread import PIECES, in_pieces

SECONDS = st.floats(1e-9, 1e4)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"), (3.2e-10, "0.32 ns"), (5e-7, "500 ns"), (9.994e-4, "999 µs"),
        (9.996e-4, "1.00 ms"), (0.00104, "1.04 ms"), (0.0123, "12.3 ms"), (2.5, "2.50 s"),
        (59.96, "60.0 s"), (1200.0, "1,200 s"),
    ],
)  # fmt: skip
def test_a_measured_time_has_three_digits(seconds: float, text: str) -> None:
    assert amounts.duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (0.0, "0%"), (0.00002, "0.002%"), (0.0123, "1.2%"), (0.5, "50.0%"), (0.9999, "99.99%"),
        (0.9999999, "99.99%"), (1.0, "100%"),
    ],
)  # fmt: skip
def test_a_share_is_neither_nothing_nor_all_unless_it_is(part: float, text: str) -> None:
    assert amounts.share(part) == text


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (amounts.per_second(42_123.4), "42,123"), (amounts.per_second(3.0), "3.00"),
        (amounts.per_second(0.0), "0"), (amounts.size(64), "64 B"),
        (amounts.size(7500), "7.3 KiB"), (amounts.size(3 * 1024**4), "3.0 TiB"),
        (amounts.round_count(0), "0"), (amounts.round_count(1500), "1.5k"),
        (amounts.round_count(2e6), "2M"), (amounts.round_duration(3e-4), "300 µs"),
        (amounts.round_duration(0.01), "10 ms"), (amounts.round_duration(0), "0"),
        (amounts.round_share(0.025), "2.5%"), (amounts.round_share(1), "100%"),
    ],
)  # fmt: skip
def test_other_amounts(made: str, text: str) -> None:
    assert made == text


@given(st.lists(SECONDS, min_size=1), st.booleans(), st.integers(2, 9))
def test_a_scale_holds_its_values_and_its_ticks_are_few(
    values: list[float], logarithmic: bool, most: int
) -> None:
    scale = Scale.of(values, 100.0, 500.0, logarithmic=logarithmic)
    assert scale.low <= min(values)
    assert max(values) <= scale.high * (1 + 1e-9)
    assert all(100.0 <= scale(value) <= 500.0 for value in values)
    ticks = scale.ticks(most)
    assert len(ticks) <= most + 1
    assert all(scale.low * 0.99 <= tick <= scale.high * 1.01 for tick in ticks)
    # Round: two digits at most.
    for tick in filter(None, ticks):
        digits = tick / 10 ** math.floor(math.log10(tick * (1 + 1e-9)))
        assert digits * 10 == pytest.approx(round(digits * 10))


def test_a_scale_of_nothing_is_a_scale() -> None:
    assert Scale.of([], 0.0, 100.0)(0.5) == 50.0
    assert Scale.of([], 0.0, 100.0, logarithmic=True)(1.0) == 100.0
    same = Scale.of([0.01, 0.01], 0.0, 100.0, logarithmic=True)
    assert same.low < 0.01 <= same.high


@given(st.lists(st.floats(0, 300), max_size=8))
def test_labels_do_not_overlap(wanted: list[float]) -> None:
    places = spread_out(wanted, 0.0, 300.0)
    assert all(abs(one - other) >= 14.9 for one, other in itertools.combinations(places, 2))
    assert sorted(places) == [places[i] for i in sorted(range(len(wanted)), key=wanted.__getitem__)]


def test_marks_that_are_near_stand_in_rows() -> None:
    across = Scale(0.0, 100.0, 0.0, 1000.0)
    near = [Mark(50.0, "p50 451 µs", "one"), Mark(51.0, "p99 1.03 ms", "one")]
    far = [Mark(10.0, "p50 451 µs", "one"), Mark(60.0, "p99 1.03 ms", "one")]
    assert rows_for(near, across) == 2 * rows_for(far, across) > 0
    assert rows_for([], across) == 0
    # At the right end there is room at the left only.
    drawing = Drawing("d", 1000, 300, "t", "d")
    Plot(drawing, across, Scale(0.0, 1.0, 200.0, 50.0)).marks([Mark(100.0, "at the end", "one")])
    label = ElementTree.fromstring(drawing.markup()).findall("text")[-1]
    assert label.get("text-anchor") == "end"


def test_a_line_is_broken_where_nothing_was() -> None:
    assert steps([(0, 1, 5), (1, 2, None), (2, 3, 6)]) == [(0, 5), (1, 5), None, (2, 6), (3, 6)]


def test_what_comes_into_a_drawing_is_escaped() -> None:
    drawing = Drawing("d", 10, 10, "<script>", "a & b")
    drawing.label(1, 2, 'x"</svg>\x1b[2J', "a b")
    with drawing.group('"><script>'):
        drawing.add("rect", x=0.04, width=None, class_='"')
    read = ElementTree.fromstring(drawing.markup())
    assert read.findtext("title") == "<script>"
    assert read.findtext("desc") == "a & b"
    assert read.findtext("text") == 'x"</svg>\\x1b[2J'
    assert read.find("g/rect").attrib == {"x": "0", "class": '"'}  # type: ignore[union-attr]


@given(st.lists(st.floats(1e-7, 1e3), min_size=1, max_size=200))
def test_bars_hold_all_there_is(times: list[float]) -> None:
    histogram = Histogram(times)
    across = Scale.of((histogram.least, histogram.most), 0.0, 1.0, logarithmic=True)
    bars = in_pieces(histogram, across.low, math.log2(across.high / across.low))
    assert len(bars) == PIECES
    assert sum(bars) == pytest.approx(1.0)
    assert min(bars) >= 0


def test_every_mode_time_and_failure_has_words(english: Callable[[str], None]) -> None:
    assert sorted(words.TIMES) == sorted(RECORDED)
    names = [words.failure_name(failure.value) for failure in Failure]
    assert len(set(names)) == len(names)
    assert all(words.meaning_of_failure(failure.value) for failure in Failure)
    assert all(words.mode_name(mode.value) != mode.value for mode in Mode)
    open_loop, closed = made_up.result(rate=5.0), made_up.result()
    for name in words.TIMES:
        assert words.time_name(name)
        assert words.meaning_of_time(name, closed)
    assert "instant" in words.meaning_of_time("exchange", open_loop)
    assert "open loop: 5.00 a second" in words.loop_of(open_loop)
    # Of a later version, or of somebody who means ill.
    assert words.failure_name("new\x1b") == words.mode_name("new\x1b") == "new\\x1b"
    assert words.meaning_of_failure("new") == ""


def test_a_run_in_a_sentence(english: Callable[[str], None]) -> None:
    run = made_up.result(failing=True, cut_short=True)
    assert words.headline(run) == (
        "40,192 exchanges a second over 20 long connections at once: half of them within 451 µs, "
        "99 of 100 within 1.03 ms."
    )
    cut, failed = words.remarks(run)
    assert cut == "Cut short: this is what was measured in 30.0 s."
    assert failed.startswith(f"{run.failed} of {run.exchanges + run.failed:,} came to nothing")
    assert words.headline(made_up.held_result()).startswith("15,000 connections open at once")
    assert words.headline(made_up.empty_result()) == "Not one exchange was answered."
    assert words.headline(made_up.result("storm", exchanges=0, opened=0)) == (
        "Not one connection was made."
    )


def test_what_must_be_known_first_is_said(english: Callable[[str], None]) -> None:
    run = made_up.result(rate=1000.0, waiting=500)
    run.generator.busiest = 0.97
    run.kernel.retransmitted = 1
    behind = "\n".join(words.remarks(run))
    assert "The load itself was busy for 97.0% of the time" in behind
    assert "up to 500 exchanges were due at once" in behind
    assert "sent 1 segment again" in behind
    run.generator.starved = 0.5
    assert "had none for 50.0% of the time" in "\n".join(words.remarks(run))
    assert words.remarks(made_up.result(rate=1000.0, waiting=20)) == []
    held = words.remarks(made_up.held_result())
    assert held == ["3 failures.", "The other side ended 3 connections that were to be held."]


def test_what_a_connection_costs_is_said(english: Callable[[str], None]) -> None:
    comparison = made_up.comparison()
    cost, pays, cpu = words.what_a_connection_costs(comparison)
    assert cost.startswith(f"A connection costs {amounts.duration(comparison.connection_cost)}")
    assert f"from {comparison.tenth_from} exchanges on" in pays
    assert amounts.duration(comparison.cpu_cost) in cpu

    nothing = made_up.comparison()
    nothing.short = nothing.long
    assert "costs nothing that can be measured" in words.what_a_connection_costs(nothing)[0]
    nothing.short = made_up.empty_result()
    assert "nothing to compare" in words.what_a_connection_costs(nothing)[0]

    little = made_up.comparison()
    little.short.exchanges = int(little.long.exchanges * 0.95)
    assert "even where it carries only one" in words.what_a_connection_costs(little)[1]
