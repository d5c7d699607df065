"""What a result must not be, as people write it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline import SettingError
from tieline.bench import Histogram, Result
from tieline.bench.result import KernelView
from tieline.bench.thresholds import METRICS, parse_threshold


def measured() -> Result:
    """Of a hundred exchanges, 1 to 100 ms, in two seconds; three came to nothing."""
    times = [number / 1000 for number in range(1, 101)]
    return Result(
        "127.0.0.1:7", "long", seconds=2.0, exchanges=97, opened=10,
        exchange=Histogram(times), connecting=Histogram([0.001, 0.002]),
        failures=Counter({"reset": 2, "wrong_answer": 1}), kernel=KernelView(sampled=10),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "crossed"),
    [
        ("p50>49ms", True),
        ("p50>51ms", False),
        ("p75 > 70ms", True),
        ("p90<89ms", False),
        ("p95<96ms", True),
        ("p99>=98ms", True),
        ("p99.9>0.0995s", True),
        ("p99.99<=100ms", True),
        ("max>100ms", False),
        ("max>=100ms", True),
        ("max>=100000us", True),
        ("max>=100000\u00b5s", True),
        ("max>=100000\u03bcs", True),
        ("max>=100000000ns", True),
        ("max<1m", True),
        ("max<1min", True),
        ("mean>50ms", True),
        ("mean>51ms", False),
        ("exchange.p50>49ms", True),
        ("connect.max>1ms", True),
        ("connect.max>2ms", False),
        ("rate<48.5", False),
        ("rate<48.6", True),
        ("rate<=48.5", True),
        ("rate<1k", True),
        ("rate>.001M", False),
        ("failures>0", True),
        ("failures>=3", True),
        ("failures>3", False),
        ("failures>2.9%", True),
        ("failures>=3%", True),
        ("failures>3%", False),
        ("wrong_answer>0", True),
        ("wrong_answer>1%", False),
        ("refused>0", False),
        ("refused>=0", True),
        ("lost>0", False),
        ("retransmits>0", False),
        ("  p50  >  49 ms ", True),
    ],
)
def test_a_threshold_is_crossed_or_not(text: str, crossed: bool) -> None:
    threshold = parse_threshold(text)
    assert threshold.crossed(measured()) is crossed
    assert str(threshold) == text.strip()


def test_what_a_threshold_is_made_of() -> None:
    threshold = parse_threshold("connect.p99.9>=1.5ms")
    assert (threshold.metric, threshold.operator) == ("connect.p99.9", ">=")
    assert threshold.bound == pytest.approx(0.0015)
    assert not threshold.is_share
    share = parse_threshold("failures<1%")
    assert share.bound == pytest.approx(0.01)
    assert share.is_share
    assert share.value(measured()) == pytest.approx(0.03)


@pytest.mark.parametrize(
    "text",
    ["p99>5s", "p99<5s", "connect.p50>1s", "tls.max>1s", "first_byte.mean<1s", "whole.p99>1s",
     "lateness.p99>1s", "rate<1", "rate>1", "failures>1%", "retransmits>0"],
)  # fmt: skip
def test_what_was_not_measured_is_crossed(text: str) -> None:
    threshold = parse_threshold(text)
    nothing = Result("127.0.0.1:7", "long")
    assert threshold.value(nothing) is None
    assert threshold.crossed(nothing)


def test_a_count_of_nothing_is_none() -> None:
    assert not parse_threshold("failures>0").crossed(Result("127.0.0.1:7", "long"))


def test_connections_that_were_held_have_a_rate_and_shares() -> None:
    held = Result(
        "127.0.0.1:7", "hold", seconds=2.0, opened=100, lost=3,
        failures=Counter({"closed_early": 3}),
    )  # fmt: skip
    assert parse_threshold("rate>=50").crossed(held)
    assert parse_threshold("lost>2%").crossed(held)
    assert not parse_threshold("failures>3%").crossed(held)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("", "'' is no threshold", "p99>5ms"),
        ("p99", "'p99' is no threshold", "p99>5ms"),
        ("p99>", "is no threshold", "p99>5ms"),
        ("p99=5ms", "is no threshold", "p99>5ms"),
        ("p99>-5ms", "is no threshold", "p99>5ms"),
        ("p99>5ms!", "is no threshold", "p99>5ms"),
        ("p99>5ms p50>1ms", "is no threshold", "p99>5ms"),
        ("5ms<p99", "is no threshold", "p99>5ms"),
        ("p98>5ms", "'p98' is no figure of a bench", "p9"),
        ("conect.p99>5ms", "'conect.p99' is no figure", ""),
        ("connect.rate>5", "'connect.rate' is no figure", ""),
        ("failure>0", "'failure' is no figure", "did you mean failures?"),
        ("zzzzzz>0", "'zzzzzz' is no figure", "there are p50 to p99.99"),
        ("p99>5", "p99 is a time and needs a unit", "write p99>5ms"),
        ("p99>5MS", "'MS' is no unit of p99", "write p99>5ms"),
        ("p99>5%", "'%' is no unit of p99", "write p99>5ms"),
        ("connect.max>5kB", "'kB' is no unit of connect.max", "write connect.max>5ms"),
        ("rate<5ms", "'ms' is no unit of rate", "write a number"),
        ("rate<5%", "'%' is no unit of rate", "write a number"),
        ("failures>1ms", "'ms' is no unit of failures", "a share as 1%"),
        ("retransmits>1%", "'%' is no unit of retransmits", "write a number"),
    ],
)
def test_what_is_no_threshold(text: str, said: str, hint: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_threshold(text)
    assert said in str(caught.value)
    assert hint in caught.value.hint.format(**caught.value.fields)


@pytest.mark.parametrize("metric", METRICS)
def test_every_figure_can_be_asked_for(metric: str) -> None:
    unit = "ms" if metric.startswith("p") or metric in ("mean", "max") else ""
    assert parse_threshold(f"{metric}>1{unit}").metric == metric


@given(st.text(st.sampled_from("p9.5<>=m s%kratefilu_0"), max_size=20))
def test_whatever_is_written_is_a_threshold_or_a_sentence(text: str) -> None:
    try:
        told = str(parse_threshold(text).crossed(measured()))
    except SettingError as error:
        told = str(error) + error.hint.format(**error.fields)
    assert told
