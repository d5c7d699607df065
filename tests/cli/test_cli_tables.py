"""Tables, short numbers and sentences about events, as people see them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline import Address, CloseReason, events
from tieline.cli.ctl import readable
from tieline.cli.ctl.saying import say
from tieline.cli.tables import Column, table_lines
from tieline.cli.visible import width

COLUMNS = (Column("id", right=True), Column("peer", gives=True), Column("why", gives=True))


def test_columns_are_aligned_whatever_the_script() -> None:
    rows = [("1", "北京", "x"), ("22", "ab", "你好")]
    assert table_lines(COLUMNS, rows, 80, color=False) == [
        "id  peer  why",
        " 1  北京  x",
        "22  ab    你好",
    ]


@given(
    st.lists(st.tuples(*[st.text("a é北，🙂\x1b\u202e\t\U000e0041", max_size=40)] * 3), max_size=5),
    st.integers(30, 120),
    st.booleans(),
)
def test_no_line_is_wider_than_the_terminal_and_nothing_reaches_it(
    rows: list[tuple[str, str, str]], most: int, painted: bool
) -> None:
    rows = [(str(len(one)), other, why) for one, other, why in rows]
    lines = table_lines(COLUMNS, rows, most, color=False)
    assert len(lines) == len(rows) + 1
    assert all(width(line) <= most for line in lines)
    assert all(line.isprintable() for line in lines)
    if painted:
        assert len(table_lines(COLUMNS, rows, most, color=True)) == len(lines)


def test_what_gives_is_cut_off_and_the_rest_is_not() -> None:
    rows = [("12345", "a" * 50, "b" * 50)]
    (_, line) = table_lines(COLUMNS, rows, 40, color=False)
    assert line.startswith("12345  aaa")
    assert line.count("…") == 2
    assert width(line) == 40


def test_nothing_is_cut_off_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], english: Any
) -> None:
    from tieline.cli.log import Log
    from tieline.cli.tables import show_table

    show_table(Log(), COLUMNS, [("1", "a" * 300, "b" * 300)])
    assert "b" * 300 in capsys.readouterr().out


def test_colours_only_where_they_are_wanted() -> None:
    rows = [(("1", "bold"), "a", "b")]
    assert "\x1b" not in "".join(table_lines(COLUMNS, rows, 80, color=False))
    assert "\x1b[1m" in "".join(table_lines(COLUMNS, rows, 80, color=True))
    # Nothing in a cell is an order to the table's printer.
    lines = table_lines(COLUMNS, [("[bold]x[/]", ":smile:", "[link=x]")], 80, color=True)
    assert "[bold]x[/]" in lines[1]
    assert ":smile:" in lines[1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"), (0.04, "0.0s"), (9.94, "9.9s"), (12, "12s"), (59.9, "59s"), (60, "1m00s"),
        (192, "3m12s"), (7500, "2h05m"), (273_600, "3d04h"), (-1, "0.0s"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert readable.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"), (999, "999"), (1000, "1.0K"), (1024, "1.0K"), (10_188, "9.9K"), (10_240, "10K"),
        (1_023_000, "999K"), (1_023_999, "1.0M"), (3_670_016, "3.5M"), (10**15, "909T"),
    ],
)  # fmt: skip
def test_bytes(size: int, text: str) -> None:
    assert readable.bytes_text(size) == text


@given(st.integers(0, 10**20))
def test_bytes_are_short(size: int) -> None:
    assert len(readable.bytes_text(size)) <= 4


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (0.3, "0.3"), (0.998, "1"), (1204, "1,204"), (3.5, "4")]
)
def test_counts(count: float, text: str) -> None:
    assert readable.count_text(count) == text


PEER = Address("10.0.0.1", 5000)
END: dict[str, Any] = {
    "duration": 3.0, "bytes_received": 1, "bytes_sent": 2, "messages_received": 1,
    "messages_sent": 1,
}  # fmt: skip

#: One of each event that a server announces.
EVENTS: list[events.Event] = [
    events.ServerStarted(addresses=(PEER,)),
    events.ConnectionOpened(id=1, peer=PEER, local=PEER, client="10.0.0.1"),
    events.ConnectionRefused(peer=PEER, client="10.0.0.1", reason=CloseReason.BANNED),
    events.ConnectionClosed(id=1, peer=PEER, client="x", reason=CloseReason.CLOSED, **END),
    events.HandlerFailed(id=1, peer=PEER, error="ValueError: x"),
    events.LimitSpared(limit="idle", client="x"),
    events.LimitsChanged(changes=("idle: 1 -> 2",)),
    events.ClientPenalized(client="x", seconds=3.0, owed=5.0, why="slow", refused=True),
    events.ClientBanned(network="10.0.0.0/8", seconds=None, why="x", closed=2),
    events.ClientUnbanned(network="10.0.0.0/8"),
    events.TableOverflowed(known=100_000, mode="share"),
    events.AcceptPaused(why="full"),
    events.AcceptResumed(),
    events.DrainBegun(connections=3, seconds=10.0, spread=0.0),
    events.DrainEnded(reset=1),
    events.TapBegun(id=1, peer=PEER, by="uid 0"),
    events.TapEnded(id=1, messages=3),
    events.EventsLost(count=7),
    events.SessionRelayed(id=1, peer=PEER, client="x", upstream="db1", address=PEER, waited=0.1),
    events.UpstreamAdded(upstream="db1"),
    events.UpstreamUp(upstream="db1"),
    events.UpstreamDown(upstream="db1", why="nothing listens there"),
    events.UpstreamDraining(upstream="db1"),
    events.UpstreamRemoved(upstream="db1"),
]


def test_every_event_has_its_sentence(english: Any) -> None:
    kinds = {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, events.Event) and kind is not events.Event
    }
    assert {type(event) for event in EVENTS} == kinds
    for event in EVENTS:
        for language in ("zh_CN", "en"):
            english(language)
            said = say(event.as_dict())
            assert "?" not in said, said
            assert not said.startswith(event.name), said


def test_some_sentences(english: Any) -> None:
    said = [say(event.as_dict()) for event in EVENTS]
    assert said[3] == "#1 10.0.0.1:5000  closed: closed (1 in, 2 out, 3.0s)"
    assert said[7] == "x  penalty of 3.0s: slow (owes 5.0s, refused from now on)"
    assert said[10] == "more clients than can be told apart: 100,000 are known (share)"


def test_a_newer_server_may_say_more_and_an_older_one_less(english: Any) -> None:
    assert say({"event": "moon_rose", "time": 1.0, "phase": "full"}) == "moon_rose phase=full"
    assert say({"event": "tap_ended", "id": 3}) == "#3  no longer tapped (? messages)"
