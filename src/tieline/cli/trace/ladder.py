"""The ladder in a terminal: two lifelines, an arrow for each packet, both sides' states.

    SYN-SENT ├─ SYN seq=0 ────────────────────────────▶│ SYN-RECEIVED
             │◀──────────────────── SYN ACK seq=0 ack=1┤

What comes from a peer has been made visible before it gets here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...trace.model import Side, Source, Step, Trace
from ..help_screen import wrap
from ..translation import gettext as _
from ..visible import visible, width
from .ending import closing_lines, opening_line
from .rows import Row, Tone, first_states, rows_of
from .wording import duration

__all__ = ["ASCII", "LEAST", "LINES", "MOST", "Glyphs", "fitted", "ladder_lines"]

#: The narrowest ladder, and the widest: longer arrows would say no more.
LEAST, MOST = 64, 110

#: From here on there is room for the time since the beginning too.
_BOTH_TIMES = 92

#: As wide as the longest name of a state, and a space.
_STATE = 13

_TIME = 9


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What lines and arrows are made of.

    Attributes:
        life: a lifeline; `right` and `left` one from which an arrow starts.
        line: an arrow's shaft; `dashed`: of one that was not seen on the wire.
        to_right, to_left: arrowheads.
        lost: where an arrow ends that does not arrive.
        crossings: the two characters where crossing arrows pass, above and below.
        event: what a program did.
        more: what was cut off.
        dot: on both sides of a title.
        plain: whether nothing but ASCII may be written.
    """

    life: str
    right: str
    left: str
    line: str
    dashed: str
    to_right: str
    to_left: str
    lost: str
    crossings: tuple[tuple[str, str], tuple[str, str]]
    event: str
    more: str
    dot: str
    plain: bool


LINES = Glyphs(
    "│", "├", "┤", "─", "┄", "▶", "◀", "✕", (("╲", "╱"), ("╱", "╲")), "●", "…", "·", plain=False
)
ASCII = Glyphs(
    "|", "|", "|", "-", ".", ">", "<", "x", (("\\", "/"), ("/", "\\")), "*", "...", "-", plain=True
)

_COLORS = {
    Tone.OPENING: "32",
    Tone.DATA: "36",
    Tone.CONFIRMED: "2",
    Tone.CLOSING: "35",
    Tone.TROUBLE: "31",
}


def ladder_lines(
    trace: Trace,
    preview: Callable[[Step], str],
    *,
    columns: int = 80,
    explain: bool = False,
    glyphs: Glyphs = LINES,
    color: bool = False,
) -> list[str]:
    """The picture, line by line.

    Args:
        trace: what happened.
        preview: makes a step's data readable and safe.
        columns: of the terminal; the picture takes `LEAST` to `MOST` of them.
        explain: whether each step says what it means.
        glyphs: what to draw with.
        color: whether to colour it.
    """
    ladder = _Ladder(trace, min(max(columns, LEAST), MOST), glyphs, color)
    return ladder.draw(rows_of(trace, preview, explain=explain))


class _Ladder:
    """Draws one."""

    def __init__(self, trace: Trace, columns: int, glyphs: Glyphs, color: bool) -> None:
        self._trace = trace
        self._columns = columns
        self._glyphs = glyphs
        self._color = color
        self._times = _TIME * (2 if columns >= _BOTH_TIMES else 1)
        self._inner = columns - self._times - 2 * _STATE - 3
        self._line = glyphs.line if trace.source is Source.CAPTURE else glyphs.dashed

    def draw(self, rows: list[Row]) -> list[str]:
        lines = self._head()
        for row in rows:
            if row.title:
                lines.append(self._title(row))
            lines += self._row(row)
        if rows and not rows[-1].meaning:
            lines.append(self._between())
        return [*(line.rstrip() for line in lines), *self._tail()]

    # -------------------------------------------------------------- above and below

    def _head(self) -> list[str]:
        trace = self._trace
        lines = [self._dim(text) for text in wrap(opening_line(trace), self._columns)]
        if not trace.steps:
            return lines
        client, server = first_states(trace)
        left = self._times + _STATE + 1
        names = self._sides(_("client"), _("server"))
        addresses = self._sides(visible(str(trace.client)), visible(str(trace.server)))
        return [
            *lines,
            "",
            " " * (left - 1) + self._bold(names),
            " " * (left - 1) + self._dim(addresses),
            self._full("", "", client, self._blank(), server),
        ]

    def _sides(self, client: str, server: str) -> str:
        room = self._inner + 2
        # Two long addresses do not fit side by side: then each has a line's half.
        if width(client) + width(server) >= room:
            half = (room - 1) // 2
            client, server = (_pinched(each, half, self._glyphs) for each in (client, server))
        return client + " " * (room - width(client) - width(server)) + server

    def _tail(self) -> list[str]:
        lines: list[str] = []
        for text in closing_lines(self._trace, plain=self._glyphs.plain):
            lines += wrap(text, self._columns)
        return lines

    # -------------------------------------------------------------- rows

    def _row(self, row: Row) -> list[str]:
        first, second = self._time_of(row)
        color = _COLORS[row.tone]
        if row.crossing is not None:
            lines = self._crossing(row, first, second, color)
        elif row.is_event:
            lines = [self._full(first, second, row.client, self._event(row, color), row.server)]
        else:
            arrow = self._paint(self._arrow(row), color)
            lines = [self._full(first, second, row.client, arrow, row.server)]
        lines += [self._below(row, text, "33") for text in row.remarks]
        if row.preview:
            lines.append(self._below(row, row.preview, ""))
        for paragraph in row.meaning:
            lines += self._meaning(paragraph)
        return lines

    def _time_of(self, row: Row) -> tuple[str, str]:
        plain = self._glyphs.plain
        after = "" if row.after is None else f"+{duration(row.after, plain=plain)}"
        return duration(row.step.at, plain=plain) if row.step.at else "0", after

    def _full(self, since: str, after: str, client: str, middle: str, server: str) -> str:
        """A whole line. The middle has the lifelines."""
        times = after or since if self._times == _TIME else ""
        if self._times != _TIME:
            times = f"{since:>{_TIME - 1}}{after:>{_TIME}}"
        left = self._dim(f"{times:>{self._times - 1}}") + f" {client:>{_STATE - 1}} "
        return f"{left}{middle} {server}"

    def _blank(self) -> str:
        life = self._glyphs.life
        return life + " " * self._inner + life

    def _between(self) -> str:
        return self._full("", "", "", self._blank(), "")

    def _title(self, row: Row) -> str:
        dot = self._glyphs.dot
        text = f"{dot} {fitted(row.title, self._inner - 6, self._glyphs)} {dot}"
        before = (self._inner - width(text)) // 2
        after = self._inner - width(text) - before
        life = self._glyphs.life
        middle = life + " " * before + self._dim(text) + " " * after + life
        return self._full("", "", "", middle, "")

    def _arrow(self, row: Row) -> str:
        """`├─ SYN seq=0 ─────▶│` with its lifelines."""
        glyphs, line = self._glyphs, self._line
        to_right = row.sender is Side.CLIENT
        label = fitted(row.label, self._inner - 6, glyphs)
        room = self._inner - width(label) - 3
        if row.is_lost:
            # It gets a little further than its label, and no further.
            shaft = line * 3 + glyphs.lost
            gap = " " * max(room - 3, 0)
            if to_right:
                return f"{glyphs.right}{line} {label} {shaft}{gap}"[:-1] + glyphs.life
            return f"{glyphs.life}{gap[:-1]}{shaft[::-1]} {label} {line}{glyphs.left}"
        if to_right:
            shaft = line * (room - 1) + glyphs.to_right
            return f"{glyphs.right}{line} {label} {shaft}{glyphs.life}"
        shaft = glyphs.to_left + line * (room - 1)
        return f"{glyphs.life}{shaft} {label} {line}{glyphs.left}"

    def _event(self, row: Row, color: str) -> str:
        """What a program did or saw, at its own side."""
        glyphs = self._glyphs
        text = fitted(f"{glyphs.event} {row.label}", self._inner - 1, glyphs)
        gap = " " * (self._inner - width(text) - 1)
        if row.step.side is Side.CLIENT:
            return f"{glyphs.life} {self._paint(text, color)}{gap}{glyphs.life}"
        return f"{glyphs.life}{gap}{self._paint(text, color)} {glyphs.life}"

    def _crossing(self, row: Row, since: str, after: str, color: str) -> list[str]:
        """Two arrows that pass each other, on two lines."""
        glyphs, line = self._glyphs, self._line
        half = (self._inner - 4) // 2
        rest = self._inner - 4 - 2 * half
        labels = (row.label, row.crossing_label)
        if row.step.side is Side.SERVER:
            labels = labels[::-1]
        left, right = (fitted(label, half - 4, glyphs) for label in labels)
        (high, up), (low, down) = glyphs.crossings
        above = (
            f"{glyphs.right}{line} {left} {line * (half - width(left) - 3)}{high}"
            f"{' ' * (2 + rest)}{up}{line * (half - width(right) - 3)} {right} {line}{glyphs.left}"
        )
        below = (
            f"{glyphs.life}{glyphs.to_left}{line * (half - 1)}{low}{' ' * (2 + rest)}{down}"
            f"{line * (half - 1)}{glyphs.to_right}{glyphs.life}"
        )
        assert row.crossing is not None
        sent = {each.side: each for each in (row.step, row.crossing)}
        client = sent[Side.CLIENT].client_state.value if row.client else ""
        server = sent[Side.SERVER].server_state.value if row.server else ""
        return [
            self._full(since, after, client, self._paint(above, color), server),
            self._full("", "", row.client, self._paint(below, color), row.server),
        ]

    def _below(self, row: Row, text: str, color: str) -> str:
        """A remark or data, below its arrow, near its sender."""
        text = fitted(text, self._inner - 4, self._glyphs)
        gap = " " * (self._inner - width(text) - 3)
        painted = self._paint(text, color) if color else text
        to_right = row.sender is Side.CLIENT
        middle = f"   {painted}{gap}" if to_right else f"{gap}{painted}   "
        life = self._glyphs.life
        return self._full("", "", "", f"{life}{middle}{life}", "")

    def _meaning(self, paragraph: str) -> list[str]:
        """An explanation, between the lifelines."""
        life = self._glyphs.life
        lines = []
        for text in wrap(paragraph, self._inner - 4):
            gap = " " * (self._inner - width(text) - 2)
            middle = f"{life}  {self._dim(text)}{gap}{life}"
            lines.append(self._full("", "", "", middle, ""))
        return [*lines, self._between()]

    # -------------------------------------------------------------- colours

    def _paint(self, text: str, color: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self._color else text

    def _dim(self, text: str) -> str:
        return self._paint(text, "2") if text.strip() else text

    def _bold(self, text: str) -> str:
        return self._paint(text, "1")


def fitted(text: str, columns: int, glyphs: Glyphs = LINES) -> str:
    """The text, cut where it has more columns than this."""
    if width(text) <= columns:
        return text
    room = columns - width(glyphs.more)
    kept = ""
    for character in text:
        room -= width(character)
        if room < 0:
            break
        kept += character
    return kept + glyphs.more


def _pinched(text: str, columns: int, glyphs: Glyphs) -> str:
    """The text, without its middle where it has more columns than this: an address has its port
    at the end."""
    if width(text) <= columns:
        return text
    end = (columns - width(glyphs.more)) // 2
    return fitted(text, columns - end, glyphs) + text[-end:]
