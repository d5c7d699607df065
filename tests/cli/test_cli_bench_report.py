"""What a bench tells on a terminal, of results that nobody measured."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import made_up
from tieline.bench import Comparison, Histogram, Phase, Progress, Result
from tieline.bench.thresholds import parse_threshold
from tieline.cli.bench import report
from tieline.cli.bench.doing import exit_of_run, judge
from tieline.cli.bench.drawing import ASCII, BLOCKS, bins, condensed, glyphs_for
from tieline.cli.bench.files import document
from tieline.cli.bench.live import LiveLine, live_text
from tieline.cli.log import Log
from tieline.cli.visible import width

RESULTS: dict[str, Callable[[], Result | Comparison]] = {
    "long": lambda: made_up.result("long"),
    "short": lambda: made_up.result("short", failing=True),
    "open": made_up.open_loop_result,
    "mixed": made_up.mixed_result,
    "hold": made_up.held_result,
    "storm": made_up.storm_result,
    "nobody": made_up.empty_result,
    "comparison": made_up.comparison,
    "half": lambda: Comparison(made_up.result("short"), Result("127.0.0.1:1", "long")),
    "nothing": lambda: Result("127.0.0.1:1", "long"),
}


def shown(results: Result | Comparison, capsys: pytest.CaptureFixture[str]) -> str:
    report.show_report(Log(), results)
    return capsys.readouterr().out


class Terminal(io.StringIO):
    """A terminal, as far as a stream is one."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("language", ["en", "zh_CN"])
@pytest.mark.parametrize("name", RESULTS)
def test_no_line_is_wider_than_the_terminal(
    name: str, language: str, columns: int, english: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    english(language)
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((columns, 40)))
    report.show_report(Log(color="never"), RESULTS[name]())
    lines = terminal.getvalue().splitlines()
    assert lines
    assert [line for line in lines if width(line) > columns] == []


def test_what_must_be_known_comes_before_the_figures(
    english: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(made_up.open_loop_result(), capsys).splitlines()
    assert lines[0].startswith("40,192 exchanges a second over 20 long connections at once")
    assert lines[1] == "! 90 of 1,205,850 came to nothing (0.0075%); no time counts them."
    assert lines[2].startswith("! The server fell behind: up to 43,000 exchanges were due at once")
    assert lines[3].startswith("127.0.0.1:7788, long connections; open loop: 42,000 a second")
    failed = lines[lines.index("what failed") + 1 :][:4]
    assert [line.split()[0] for line in failed] == ["71", "12", "4", "3"]
    assert "never sent: its instant came, and no connection was free for it" in failed[1]


def test_a_comparison_is_side_by_side(english: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(made_up.comparison(), capsys).splitlines()
    assert lines[0].startswith("A connection costs 1.78 ms, as much as 3.7 exchanges over one")
    rows = [re.split(r"  +", line) for line in lines]
    assert ["", "short", "long", "short / long"] in rows
    assert ["exchanges a second", "8,851", "41,536", "0.213"] in rows
    assert ["connections opened", "270,000", "20"] in rows


def test_what_came_from_elsewhere_is_made_visible(
    english: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    result = made_up.result(address="\x1b[2Jevil", mode="\x1b[1m")
    result.failures["\x1b]0;x\x07"] = 3
    report.show_report(Log(), result)
    report.show_short(Log(), result)
    assert "\x1b" not in capsys.readouterr().out


# ---- Pictures


@given(st.lists(st.floats(1e-7, 1e3), min_size=1, max_size=200), st.integers(1, 12))
def test_bins_hold_every_time_once_and_their_ends_grow(times: list[float], fine: int) -> None:
    found = bins(Histogram(times), fine)
    assert sum(each.count for each in found) == len(times)
    ends = [each.end for each in found]
    assert ends == sorted(ends)
    assert len(found) <= fine + 5
    assert ends[-1] >= max(times) * (1 - 1 / 128)


def test_bins_of_nothing_and_of_one() -> None:
    assert bins(Histogram()) == []
    assert [each.count for each in bins(Histogram([0.0]))] == [1]
    assert [each.count for each in bins(Histogram([0.002] * 5))] == [5]


@given(st.floats(0, 1), st.integers(1, 60))
def test_a_bar_is_as_long_as_its_share(share: float, columns: int) -> None:
    for glyphs in (BLOCKS, ASCII):
        bar = glyphs.bar(share, columns)
        assert len(bar) <= columns
        assert abs(len(bar) - share * columns) <= 1
        assert bool(bar) == (share > 0)
        assert len(glyphs.progress(share, columns)) == columns


def test_a_line_of_columns() -> None:
    assert BLOCKS.columns([0, 1, 4, 8]) == " ▂▅█"
    assert BLOCKS.columns([]) == ""
    assert condensed([1, 3, 5, 7], 2) == [2, 6]
    assert condensed([1, 3, 5, 7], 2, largest=True) == [3, 7]
    assert condensed([1, 3], 5) == [1, 3]


@pytest.mark.parametrize(
    ("charset", "glyphs"),
    [("utf-8", BLOCKS), ("gb18030", BLOCKS), ("gbk", ASCII), ("ascii", ASCII), (None, ASCII)],
)
def test_a_terminal_without_blocks_gets_letters(charset: str | None, glyphs: object) -> None:
    assert glyphs_for(charset) is glyphs


# ---- While it runs


def moment(**changes: Any) -> Progress:
    defaults: dict[str, Any] = {
        "phase": Phase.MEASURING, "elapsed": 4.1, "share": 0.41, "exchanges": 170_000,
        "per_second": 42_123.4, "p50": 0.00045, "p99": 0.0012, "held": 20,
    }  # fmt: skip
    return Progress(**{**defaults, **changes})


def test_the_live_line(english: Any) -> None:
    assert live_text(moment(), 100, BLOCKS) == (
        "measuring ████░░░░░░  41%  42,123/s  p50 450 µs  p99 1.20 ms  open 20"
    )
    failing = moment(waiting=7)
    failing.failures["reset"] = 12
    assert live_text(failing, 100, ASCII, "short") == (
        "short: measuring ####......  41%  42,123/s  p50 450 µs  p99 1.20 ms  failed 12  open 20  "
        "waiting 7"
    )
    assert live_text(moment(share=None, phase=Phase.WARMUP), 100, BLOCKS).startswith(
        "warming up 4 s  42,123/s"
    )


def test_a_narrow_terminal_shows_what_matters(english: Any) -> None:
    failing = moment(waiting=7)
    failing.failures["reset"] = 12
    assert live_text(failing, 50, BLOCKS) == "measuring ████░░░░░░  41%  42,123/s  failed 12"
    for language in ("en", "zh_CN"):
        english(language)
        for columns in range(100):
            assert width(live_text(failing, columns, BLOCKS)) <= columns


def test_the_live_line_is_only_for_a_terminal(
    english: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with LiveLine(stream=terminal) as live:
        live.show(moment())
    assert terminal.getvalue().startswith("\r\x1b[Kmeasuring ")
    assert terminal.getvalue().endswith("\r\x1b[K")
    for stream, shown in ((io.StringIO(), True), (Terminal(), False)):
        with LiveLine(shown=shown, stream=stream) as live:
            live.show(moment())
        assert stream.getvalue() == ""


# ---- For programs, and what comes of it


@pytest.mark.parametrize("name", RESULTS)
def test_what_is_kept_is_read_again(name: str) -> None:
    results = RESULTS[name]()
    read = type(results).from_json(document(results))
    assert read.as_json() == results.as_json()


@pytest.mark.parametrize(
    ("name", "code"), [("long", 0), ("short", 0), ("hold", 0), ("storm", 0), ("nothing", 1)]
)
def test_a_run_in_which_something_went_well_has_not_failed(name: str, code: int) -> None:
    result = RESULTS[name]()
    assert isinstance(result, Result)
    assert exit_of_run(result) == code


def test_what_was_cut_short_says_so_whatever_was_crossed(english: Any) -> None:
    crossed = [parse_threshold("rate>0")]
    assert judge(made_up.result(), crossed, Log()) == 99
    assert judge(made_up.result(), [], Log()) == 0
    assert judge(made_up.result(cut_short=True), crossed, Log()) == 130


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        ("rate>0", r"it was [0-9,]+"),
        ("p50>1ns", r"it was [0-9.]+ [mµ]s"),
        ("failures>=0%", r"it was [0-9.]+%"),
        ("failures>=0", r"it was [0-9,]+"),
        ("tls.p50>1s", "it was never measured"),
    ],
)
def test_what_was_crossed_says_by_what(
    english: Any, capsys: pytest.CaptureFixture[str], threshold: str, said: str
) -> None:
    assert judge(made_up.result(), [parse_threshold(threshold)], Log()) == 99
    assert re.fullmatch(f"crossed: {threshold}: {said}\n", capsys.readouterr().err)
