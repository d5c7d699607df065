"""The ladder in a terminal, as SVG and as JSON, from traces made by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.traced import EVIL, TRACES, segment, trace_of
from tieline.charset import Charset
from tieline.cli.trace.ladder import ASCII, LEAST, LINES, fitted, ladder_lines
from tieline.cli.trace.preview import Preview
from tieline.cli.trace.records import records_of
from tieline.cli.trace.rows import rows_of
from tieline.cli.trace.svg import draw
from tieline.cli.trace.wording import Moment, duration, moments_of
from tieline.cli.visible import width
from tieline.trace import Note, Side, TcpState, Trace

pytestmark = pytest.mark.usefixtures("english")

AUTO = Preview(Charset("auto"))
STEPS = {name: trace for name, trace in TRACES.items() if trace.steps}
ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def ladder(name: str, **options: object) -> str:
    return "\n".join(ladder_lines(TRACES[name], AUTO, **options))  # type: ignore[arg-type]


def body(lines: list[str]) -> list[str]:
    """The lines between the sides' names and what stands below the ladder."""
    first = next(number for number, line in enumerate(lines) if "CLOSED" in line)
    return [line for line in lines[first:] if any(glyph in line for glyph in "│├┤|")]


class TestLadder:
    @pytest.mark.parametrize("language", ["en", "zh_CN"])
    @pytest.mark.parametrize("glyphs", [LINES, ASCII], ids=["lines", "ascii"])
    @pytest.mark.parametrize("explain", [False, True], ids=["", "explain"])
    @pytest.mark.parametrize("name", STEPS)
    def test_it_is_straight_and_fits(
        self, name: str, explain: bool, glyphs: object, language: str, english: Callable[..., None]
    ) -> None:
        english(language)
        for columns in (40, 64, 79, 80, 92, 110, 300):
            lines = ladder_lines(
                TRACES[name], AUTO, columns=columns, explain=explain, glyphs=glyphs,  # type: ignore[arg-type]
            )  # fmt: skip
            most = max(columns, LEAST)
            assert max(map(width, lines)) <= most
            edges = set()
            for line in body(lines):
                at = [
                    width(line[:place])
                    for place, character in enumerate(line)
                    if character in "│├┤|"
                ]
                edges.add((at[0], at[-1]))
            assert len(edges) == 1, "\n".join(lines)

    def test_a_short_connection(self) -> None:
        lines = ladder("short").splitlines()
        assert lines[2:] == [
            "                      client                                server",
            "                      127.0.0.1:53124               127.0.0.1:7788",
            "               CLOSED │                                          │ LISTEN",
            "                      │          · opening: 3 packets ·          │",
            "       0     SYN-SENT ├─ SYN seq=0 ─────────────────────────────▶│ SYN-RECEIVED",
            "  +21 µs  ESTABLISHED │◀─────────────────── SYN ACK seq=0 ack=1 ─┤",
            "  +12 µs              ├─ ACK seq=1 ack=1 ───────────────────────▶│ ESTABLISHED",
            "                      │         · exchange: 4 packets ·          │",
            "  +87 µs              ├─ PSH ACK seq=1 ack=1 len=4 ─────────────▶│",
            '                      │   "你好"                                 │',
            "  +11 µs              │◀─────────────────────── ACK seq=1 ack=5 ─┤",
            " +319 µs              │◀──────────── PSH ACK seq=1 ack=5 len=11 ─┤",
            '                      │                          "thank you !"   │',
            "  +12 µs              ├─ ACK seq=5 ack=12 ──────────────────────▶│",
            "                      │          · closing: 4 packets ·          │",
            " +138 µs   FIN-WAIT-1 ├─ FIN ACK seq=5 ack=12 ──────────────────▶│ CLOSE-WAIT",
            "  +40 µs   FIN-WAIT-2 │◀────────────────────── ACK seq=12 ack=6 ─┤",
            "+2.26 ms    TIME-WAIT │◀────────────────── FIN ACK seq=12 ack=6 ─┤ LAST-ACK",
            "  +15 µs              ├─ ACK seq=6 ack=13 ──────────────────────▶│ CLOSED",
            "                      │                                          │",
            "closed after 2.92 ms: 4 bytes to the server, 11 bytes back",
            "the client closed first: its port stays in TIME-WAIT for a minute",
        ]

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("refused", ["RST ACK", "refused: nothing listens there", "│ CLOSED"]),
            (
                "silence",
                ["SYN seq=0 ───✕", "sent again", "● no answer", "│ (not seen)", "given up"],
            ),
            ("no reply", ["● no answer", "exchange: 2 packets"]),
            ("loss and reset", ["───✕", "never confirmed: lost", "sent again", "reset: cut off"]),
            ("half-close", ["half-close: reads on", "FIN-WAIT-2", "收到：收到"]),
            ("crossing", ["╲  ╱", "╱  ╲", "both close at once", "both stay in TIME-WAIT"]),
            ("windows", ["no more room: stop", "keep-alive", "room again", "still open after"]),
            ("socket alone", ["├┄ send: 6 bytes", "recv: nothing, the end", "(not asked for)"]),
            ("fin and ack in one", ["│ TIME-WAIT", "the server closed first"]),
            ("nothing", ["there was nothing to see"]),
        ],
    )
    def test_what_happened_is_drawn_for_what_it_is(self, name: str, says: list[str]) -> None:
        drawn = ladder(name)
        assert [each for each in says if each not in drawn] == []

    def test_two_that_cross(self) -> None:
        lines = ladder("crossing").splitlines()
        at = next(number for number, line in enumerate(lines) if "╲  ╱" in line)
        assert lines[at : at + 5] == [
            " +267 µs   FIN-WAIT-1 ├─ FIN ACK seq=1 ───╲  ╱─── FIN ACK seq=1 ─┤ FIN-WAIT-1",
            "              CLOSING │◀──────────────────╱  ╲──────────────────▶│ CLOSING",
            "                      │   both close at once                     │",
            "   +8 µs    TIME-WAIT │◀─────────────────────── ACK seq=2 ack=2 ─┤",
            "   +2 µs              ├─ ACK seq=2 ack=2 ───────────────────────▶│ TIME-WAIT",
        ]

    def test_a_lost_packet_does_not_arrive(self) -> None:
        lost = [line for line in ladder("loss and reset").splitlines() if "✕" in line]
        assert lost
        assert not [line for line in lost if "▶" in line]

    def test_the_state_of_a_side_that_nobody_sees_is_not_guessed(self) -> None:
        assert "LISTEN" not in ladder("socket alone") + ladder("silence")

    @pytest.mark.parametrize("name", set(STEPS) - {"half-close", "short", "long names"})
    def test_plain_is_plain(self, name: str) -> None:
        trace = TRACES[name]
        lines = ladder_lines(trace, Preview(None), explain=True, glyphs=ASCII)
        assert "\n".join(lines).isascii()

    def test_colours_change_nothing_else(self) -> None:
        for name in TRACES:
            painted = ladder(name, color=True, explain=True)
            assert re.sub(r"\x1b\[\d+m", "", painted) == ladder(name, explain=True)

    def test_a_long_address_keeps_its_port(self) -> None:
        line = ladder("long names").splitlines()[3]
        assert line.split() == ["[2001:db8:…fff]:65535", "[2001:db8:…666]:65535"]

    def test_a_wide_terminal_shows_the_time_since_the_beginning_too(self) -> None:
        assert "  450 µs  +319 µs" in ladder("short", columns=100)

    @given(
        st.binary(min_size=1, max_size=80), st.sampled_from(["auto", "gbk", "utf-16", "latin-1"])
    )
    def test_nothing_of_a_peer_gets_through_raw(self, payload: bytes, encoding: str) -> None:
        states = (TcpState.ESTABLISHED, TcpState.ESTABLISHED)
        trace = trace_of(segment(0, Side.SERVER, Note.DATA, "ACK", (1, 1), states, payload))
        preview = Preview(Charset(encoding))
        for line in ladder_lines(trace, preview):
            assert line.isprintable() or "\u3000" in line or "\xa0" in line
            assert "\x1b" not in line
        ElementTree.fromstring(draw(trace, preview))
        json.dumps(list(records_of(trace, preview)))


class TestMeaning:
    def test_the_story_of_a_short_connection(self) -> None:
        assert [moment for _step, _part, moment in moments_of(TRACES["short"])] == [
            Moment.SYN, Moment.SYN_ACK, Moment.HANDSHAKE_ACK,
            Moment.DATA, Moment.ACK, Moment.REPLY, Moment.MORE_ACK,
            Moment.FIN, Moment.FIN_CONFIRMED, Moment.SECOND_FIN, Moment.LAST_ACK,
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("name", "moments"),
        [
            ("fin and ack in one", [Moment.FIN, Moment.SECOND_FIN_AT_ONCE, Moment.LAST_ACK]),
            ("refused", [Moment.SYN, Moment.REFUSED]),
            ("silence", [Moment.LOST, Moment.LOST_AGAIN, Moment.TIMEOUT]),
            ("no reply", [Moment.NO_REPLY]),
            ("loss and reset", [Moment.LOST, Moment.AGAIN, Moment.DUPLICATE_ACK, Moment.RESET]),
            ("crossing", [Moment.CROSSING_FIN] * 2 + [Moment.CROSSING_ACK] * 2),
            ("windows", [Moment.ZERO_WINDOW, Moment.KEEPALIVE, Moment.WINDOW_UPDATE]),
            ("half-close", [Moment.REPLY, Moment.MORE_ACK, Moment.SECOND_FIN, Moment.LAST_ACK]),
        ],
    )
    def test_other_stories(self, name: str, moments: list[Moment]) -> None:
        told = [moment for _step, _part, moment in moments_of(TRACES[name])]
        assert told[-len(moments) :] == moments
        assert (Moment.HALF_CLOSE in told) is (name == "half-close")

    @pytest.mark.parametrize("name", STEPS)
    def test_every_row_says_what_it_means(self, name: str) -> None:
        rows = rows_of(TRACES[name], AUTO, explain=True)
        assert all(len(row.meaning) == 1 and row.meaning[0] for row in rows)
        assert not [row for row in rows if "{" in row.meaning[0]]

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.0, "0 µs"), (24e-6, "24 µs"), (0.99949e-3, "999 µs"), (0.9996e-3, "1.00 ms"),
            (0.00999, "9.99 ms"), (0.0123, "12.3 ms"), (0.1234, "123 ms"), (0.99951, "1.00 s"),
            (2.0, "2.00 s"), (75.26, "75.3 s"), (3_600.0, "3600 s"),
        ],
    )  # fmt: skip
    def test_durations(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text
        assert width(text) <= 8

    def test_what_is_too_long_is_cut(self) -> None:
        assert fitted("abcdef", 6) == "abcdef"
        assert fitted("abcdefg", 6) == "abcde…"
        assert fitted("你好你好", 6) == "你好…"
        assert fitted("abcdefg", 6, ASCII) == "abc..."


class TestSvg:
    @pytest.mark.parametrize("explain", [False, True], ids=["", "explain"])
    @pytest.mark.parametrize("name", TRACES)
    def test_it_is_whole_and_its_text_is_text(self, name: str, explain: bool) -> None:
        drawn = draw(TRACES[name], AUTO, explain=explain)
        root = ElementTree.fromstring(drawn)
        wide, high = (float(root.attrib[side]) for side in ("width", "height"))
        for text in root.iter(f"{SVG}text"):
            assert 0 < float(text.attrib["x"]) < wide
            assert 0 < float(text.attrib["y"]) < high
        # Nothing from elsewhere, and no program.
        assert not re.search(r"href|url\(|@import|<script|javascript", drawn)
        assert "prefers-color-scheme: dark" in drawn
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            "svg", "title", "style", "rect", "text", "path", "circle",
        }  # fmt: skip

    def test_states_and_labels_are_in_it(self) -> None:
        texts = _texts(TRACES["short"])
        for text in ("client", "127.0.0.1:7788", "SYN-RECEIVED", "TIME-WAIT", '"你好"', "+319 µs"):
            assert text in texts

    def test_a_lost_packet_has_no_tip(self) -> None:
        tips = [draw(TRACES[name], AUTO).count('class="tip ') for name in ("silence", "short")]
        assert tips == [0, 11]

    def test_nothing_of_a_peer_is_markup(self) -> None:
        drawn = draw(TRACES["loss and reset"], AUTO)
        assert EVIL in TRACES["loss and reset"].steps[3].payload
        assert "</text><script>" not in drawn
        assert "\\x1b[31m" in drawn


def _texts(trace: Trace) -> list[str]:
    root = ElementTree.fromstring(draw(trace, AUTO))
    return [text.text or "" for text in root.iter(f"{SVG}text")]


class TestRecords:
    @pytest.mark.parametrize("name", TRACES)
    def test_their_keys_are_those_of_the_documentation(self, name: str) -> None:
        text = (ROOT / "docs/trace.md").read_text("utf-8")
        documented = {
            event: set(re.findall(r"^\| `(\w+)` \|", _section(text, event), re.M))
            for event in ("trace", "step")
        }
        for explain in (False, True):
            for record in records_of(TRACES[name], AUTO, explain=explain):
                known = documented[record["event"]]
                optional = {"meaning"} if not explain else set()
                assert set(record) | {"v"} | optional == known | optional
                assert json.loads(json.dumps(record)) == record

    def test_a_step(self) -> None:
        step = list(records_of(TRACES["short"], AUTO))[4]
        assert step["time"] == "2023-11-14T22:13:20.000120Z"
        assert (step["text"], step["hex"]) == ("你好", "c4e3bac3")
        assert (step["side"], step["part"], step["flags"]) == ("client", "exchange", "PSH ACK")

    def test_what_is_no_text_has_none(self) -> None:
        steps = list(records_of(TRACES["loss and reset"], Preview(Charset("utf-8"))))
        assert steps[4]["text"] is None
        assert steps[4]["hex"] == EVIL.hex()


def _section(text: str, event: str) -> str:
    """The table of an object's keys."""
    return text.partition(f'`"event": "{event}"`')[2].partition("\n\n")[2].partition("\n\n")[0]
