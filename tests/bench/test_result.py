"""What is written down of a run, and read again."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest

from bench.made_up import (
    comparison,
    empty_result,
    held_result,
    mixed_result,
    open_loop_result,
    result,
    storm_result,
)
from tieline import SettingError
from tieline.bench import Comparison, Result
from tieline.bench.result import VERSION, Generator

RESULTS = {
    "long": result("long"),
    "failing": result("short", failing=True, cut_short=True, tls=True),
    "mixed": mixed_result(),
    "held": held_result(),
    "storm": storm_result(),
    "open loop": open_loop_result(),
    "empty": empty_result(),
    "new": Result("127.0.0.1:7", "long"),
}


def written(made: Result | Comparison) -> dict[str, Any]:
    """As it is found in a file."""
    read: dict[str, Any] = json.loads(json.dumps(made.as_json()))
    return read


@pytest.mark.parametrize("made", RESULTS.values(), ids=RESULTS)
def test_written_and_read_back(made: Result) -> None:
    assert Result.from_json(written(made)) == made


def test_a_comparison_written_and_read_back() -> None:
    made = comparison()
    assert Comparison.from_json(written(made)) == made


def test_what_is_written() -> None:
    made = written(result(rate=100.0))
    assert (made["v"], made["type"]) == (VERSION, "bench")
    assert (made["mode"], made["connections"], made["rate"]) == ("long", 20, 100.0)
    assert made["exchange"]["count"] == 30_000
    assert set(made["intervals"][0]) == {
        "at", "seconds", "exchanges", "failures", "opened", "held", "p50", "p99", "most",
    }  # fmt: skip
    assert set(made["generator"]) == {"processes", "cpu_seconds", "busiest", "cores", "starved",
        "seconds",
    }  # fmt: skip


def test_keys_that_are_not_known_yet_are_passed_over() -> None:
    read = written(result())
    assert Result.from_json({**read, "colour": "blue", "summary": {}}) == result()


def test_keys_that_an_earlier_one_has_not_are_as_for_nothing() -> None:
    read = written(result())
    del read["lateness"], read["waiting"]
    assert Result.from_json(read) == result()


@pytest.mark.parametrize("version", [None, 0, 2, "1", [], "\x1b[31m"])
def test_another_version(version: Any) -> None:
    with pytest.raises(SettingError, match=r"is of version .*; 1 is what is known here"):
        Result.from_json({**written(result()), "v": version})


@pytest.mark.parametrize("read", [None, 5, "bench", [], {}, {"type": "trace"}, {"v": 1}])
def test_what_is_no_result(read: Any) -> None:
    with pytest.raises(SettingError, match="this is no result of a bench"):
        Result.from_json(read)
    with pytest.raises(SettingError, match="this is no comparison of a bench"):
        Comparison.from_json(read)


@pytest.mark.parametrize("missing", ["short", "long"])
def test_a_comparison_of_one(missing: str) -> None:
    read = written(comparison())
    del read[missing]
    with pytest.raises(SettingError, match="this is no comparison"):
        Comparison.from_json(read)


@pytest.mark.parametrize("missing", ["address", "mode"])
def test_a_result_without_an_address_or_a_mode(missing: str) -> None:
    read = written(result())
    del read[missing]
    with pytest.raises(SettingError, match="this result of a bench cannot be read"):
        Result.from_json(read)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seconds", "abc"), ("seconds", None), ("seconds", math.nan), ("seconds", 10**400),
        ("exchanges", [1]), ("connections", None), ("connections", True), ("rate", "fast"),
        ("failures", {"reset": "two"}), ("failures", {"reset": None}), ("failures", []),
        ("intervals", None), ("intervals", [5]), ("intervals", [{"at": None}]),
        ("intervals", [{"at": 0.0, "seconds": "x"}]), ("intervals", {"a": 1}),
        ("kernel", None), ("kernel", {"sampled": "x"}), ("kernel", {"round_trip": []}),
        ("generator", {"busiest": {}}), ("generator", 7), ("exchange", {}), ("exchange", None),
        ("parts", []), ("parts", {"short": {}}), ("parts", {"short": None}),
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=r"this result of a bench cannot be read|no histogram"):
        Result.from_json({**written(result()), name: value})


@pytest.mark.parametrize("name", ["generator", "kernel", "intervals"])
def test_keys_within_that_are_not_known_yet_are_passed_over(name: str) -> None:
    read = written(result())
    inner = read[name][0] if name == "intervals" else read[name]
    inner["colour"] = "blue"
    assert Result.from_json(read) == result()


# ---- What is worked out


def test_the_rate_is_of_exchanges_and_where_there_are_none_of_connections() -> None:
    assert Result("a", "long", seconds=2.0, exchanges=10, opened=4).per_second == 5.0
    assert Result("a", "hold", seconds=2.0, opened=4).per_second == 2.0
    assert Result("a", "storm", seconds=2.0, exchanges=10, opened=4).per_second == 5.0
    assert Result("a", "long", seconds=2.0, opened=4).per_second == 0.0
    assert Result("a", "long", exchanges=10).per_second == 0.0


def test_the_share_of_failures_is_of_all_that_was_tried() -> None:
    failures = Counter(reset=2, refused=1)
    assert Result("a", "long", exchanges=97, failures=failures).failure_share == 0.03
    assert Result("a", "long", failures=failures).failure_share == 1.0
    assert Result("a", "long").failure_share == 0.0
    lost = Result("a", "hold", opened=100, lost=3, failures=Counter(closed_early=3))
    assert (lost.tried, lost.failure_share) == (100, 0.03)
    refused = Result("a", "hold", opened=97, failures=failures)
    assert (refused.tried, refused.failure_share) == (100, 0.03)


def test_what_an_exchange_costs_the_generator() -> None:
    made = Result("a", "long", exchanges=100, generator=Generator(cpu_seconds=0.5))
    assert made.cpu_per_exchange == 0.005
    assert Result("a", "long").cpu_per_exchange == 0.0


@pytest.mark.parametrize(
    ("busiest", "starved", "is_limit"), [(0.5, 0.0, False), (0.95, 0.0, True), (0.6, 0.35, True)]
)
def test_a_generator_that_is_the_limit(busiest: float, starved: float, is_limit: bool) -> None:
    assert Generator(busiest=busiest, starved=starved, seconds=5.0).is_limit is is_limit
    # A moment tells nothing.
    assert not Generator(busiest=busiest, starved=starved, seconds=0.1).is_limit
