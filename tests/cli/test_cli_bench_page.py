"""The page of a bench: whole, on its own, safe whatever it shows, and in both languages."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import made_up
from tieline import SettingError, UsageError
from tieline.bench import Comparison, Result
from tieline.bench.result import Interval
from tieline.cli.bench.amounts import duration
from tieline.cli.bench.charts_cost import one_exchange
from tieline.cli.bench.page import load_template, on_its_own, page, write_page

Results = Result | Comparison

MADE: dict[str, Callable[[], Results]] = {
    "long": made_up.result,
    "short": lambda: made_up.result("short", tls=True, pipeline=1),
    "pipelined": lambda: made_up.result(pipeline=16),
    "open loop": lambda: made_up.result(rate=5000.0, waiting=900),
    "failing": lambda: made_up.result(failing=True, cut_short=True),
    "mixed": made_up.mixed_result,
    "hold": made_up.held_result,
    "empty": made_up.empty_result,
    "nothing": lambda: Result(address="h:1", mode="long"),
    "one": lambda: least_result(),
    "comparison": made_up.comparison,
    "half a comparison": lambda: Comparison(made_up.result("short"), made_up.empty_result()),
    "no comparison": lambda: Comparison(made_up.empty_result(), made_up.empty_result()),
    "no cost": lambda: Comparison(made_up.result(), made_up.result()),
}

#: Elements that have no end.
VOID = {"meta", "link", "br", "img", "input"}


def least_result() -> Result:
    """The least that can be measured, in no time at all."""
    made = Result(address="h:1", mode="long", exchanges=1, seconds=1e-4)
    made.exchange.add([0.0])
    made.intervals.append(Interval(at=0.0, seconds=0.0, exchanges=1))
    return made


class Reader(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(autouse=True)
def speaks_english(english: Callable[[str], None]) -> Callable[[str], None]:
    return english


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_a_page_is_whole(name: str, language: str, speaks_english: Callable[[str], None]) -> None:
    speaks_english(language)
    text = page(MADE[name]())
    read = Reader(text)
    assert dict(read.attributes)["lang"] == {"en": "en", "zh_CN": "zh-Hans"}[language]
    identities = [value for attribute, value in read.attributes if attribute == "id"]
    assert len(set(identities)) == len(identities)
    for attribute, value in read.attributes:
        if attribute == "aria-labelledby":
            assert set(value.split()) <= set(identities)
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)
    # No number got lost on its way.
    assert not re.search(r"\b(nan|inf)\b", text)


@pytest.mark.parametrize("name", ["comparison", "failing", "hold"])
def test_a_page_in_chinese_has_nothing_left_in_english(
    name: str, speaks_english: Callable[[str], None]
) -> None:
    speaks_english("zh_CN")
    read = Reader(page(MADE[name]()))
    hints = [value for attribute, value in read.attributes if attribute == "aria-label"]
    # Names of units and percentiles, the command and the flags are the same in both.
    known = re.compile(r"tieline|bench|--\w+|p[\d.]+|[nµm]?s|[KMG]?i?B|k|[A-Z]{3,4}|v?\d\S*")
    left = [
        word
        for word in re.findall(r"[A-Za-zµ][\w.µ-]*|--\w+", " ".join([*read.texts, *hints]))
        if not known.fullmatch(word)
    ]
    assert left == []


def test_a_page_fetches_nothing() -> None:
    text = page(made_up.comparison())
    read = Reader(text)
    assert not {"link", "img", "iframe", "object"} & set(read.elements)
    assert not {"src", "href", "action", "style"} & {name for name, _ in read.attributes}
    assert "@import" not in text
    assert re.findall(r"\w+://", text) == []
    assert set(re.findall(r"url\((.*?)\)", text)) == {"#hatched", "#failed"}


def test_only_its_own_script_runs() -> None:
    text = page(made_up.result())
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_nothing_that_is_shown_becomes_a_part_of_the_page() -> None:
    """A result may come from a file, and from anywhere."""
    bad = "\"><script>alert(1)</script><b a='\x1b[2J\udcff"
    made = made_up.result(failing=True, address=bad)
    made.mode = bad
    made.failures[bad] = 3
    made.started = float("inf")
    for results in (made, Comparison(made, made_up.result(address=bad))):
        text = page(results)
        read = Reader(text)
        assert read.elements.count("script") == 1
        assert "b" not in read.elements
        assert "\x1b" not in text
        assert "<script>alert(1)</script>" in read.text
        assert "\\x1b[2J" in read.text


def test_its_figures_are_those_of_the_result() -> None:
    made = made_up.result(failing=True, cut_short=True)
    text = Reader(page(made)).text
    for share in (0.5, 0.75, 0.9, 0.99, 0.999, 0.9999):
        assert duration(made.exchange.percentile(share)) in text
    assert duration(made.exchange.most) in text
    assert f"{made.exchanges:,}" in text
    assert "Cut short" in text
    for reason in ("no answer in time", "reset", "wrong answer"):
        assert reason in text
    # Of 20 connections, p99 is no more than the largest.
    assert f"{duration(made.connecting.percentile(0.99))}°" in text


def test_a_comparison_says_what_a_connection_costs() -> None:
    comparison = made_up.comparison()
    text = Reader(page(comparison)).text
    assert f"less than a tenth from {comparison.tenth_from} on" in text
    cost = duration(comparison.connection_cost).replace(" ", "\N{NO-BREAK SPACE}")
    assert f"A connection costs {cost}".replace("\N{NO-BREAK SPACE}", " ") in text


def test_what_was_not_measured_is_not_drawn() -> None:
    def charts(results: Results) -> set[str]:
        return set(re.findall(r'id="([\w-]+)-title"', page(results)))

    spread = {"histogram", "percentiles", "times"}
    assert charts(made_up.result()) == {"throughput", "over-time", *spread}
    assert charts(made_up.held_result()) == {"throughput", "held", "times"}
    assert charts(made_up.empty_result()) == set()
    assert charts(made_up.comparison()) == {
        "one-exchange", "total-time", "connection-share", "throughput", "over-time", *spread,
    }  # fmt: skip


def test_an_open_loop_is_read_otherwise_than_a_closed_one() -> None:
    closed, opened = (Reader(page(made_up.result(rate=rate))).text for rate in (None, 5.0))
    assert "was a closed loop" in closed
    assert "was an open loop" in opened
    assert "loop" not in Reader(page(made_up.held_result())).text


def test_a_chart_can_stand_on_its_own() -> None:
    text = on_its_own(one_exchange(made_up.comparison()))
    read = ElementTree.fromstring(text)
    assert read.tag == "{http://www.w3.org/2000/svg}svg"
    assert read[0].tag.endswith("style")
    assert "prefers-color-scheme: dark" in (read[0].text or "")
    assert 'id="hatched"' in text


def test_a_page_is_written(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_page(made_up.result(), file)
    assert file.read_text("utf-8") == page(made_up.result())


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"page\.html cannot be written: No such file"):
        write_page(made_up.result(), tmp_path / "missing" / "page.html")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"needs jinja2: pip install 'tieline\[cli\]'"):
        load_template()
