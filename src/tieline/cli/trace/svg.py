"""The ladder as a picture for a page: one SVG file, light and dark, whose text is text.

Time runs down. A lifeline's colour is the state of its side. An arrow slopes: a packet takes
time, though how much is not drawn to scale.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from ...trace.model import Side, Source, Step, Trace
from ..help_screen import wrap
from ..translation import gettext as _
from ..visible import visible
from .ending import closing_lines, opening_line
from .ladder import fitted
from .rows import Row, first_states, rows_of
from .svg_style import STYLE, state_class
from .wording import duration

__all__ = ["draw"]

_WIDTH, _MARGIN = 940, 22
#: Where the lifelines stand.
_CLIENT, _SERVER = 268, 772
#: Where times end, from the left.
_TIMES = 112
_TOP = 112
#: How far an arrow comes down on its way.
_SLOPE, _CROSSING_SLOPE = 13, 34
_ROW, _LINE, _TITLE = 46, 17, 34
#: For explanations: how wide that column is, in pixels and in columns of text.
_MEANING, _MEANING_COLUMNS = 372, 52
#: Columns that a label has on an arrow, and what stands below it.
_COLUMNS, _BELOW_COLUMNS = 58, 46


def draw(trace: Trace, preview: Callable[[Step], str], *, explain: bool = False) -> str:
    """The picture, as the text of an SVG file.

    Args:
        trace: what happened.
        preview: makes a step's data readable and safe.
        explain: whether each step says what it means, in a column of its own.
    """
    picture = _Picture(trace, explain)
    return picture.draw(rows_of(trace, preview, explain=explain))


class _Picture:
    """Draws one."""

    def __init__(self, trace: Trace, explain: bool) -> None:
        self._trace = trace
        self._width = _WIDTH + (_MEANING if explain else 0)
        self._bands: list[str] = []
        self._arrows: list[str] = []
        self._texts: list[str] = []
        self._states: dict[Side, list[tuple[float, str]]] = {Side.CLIENT: [], Side.SERVER: []}
        self._seen = "dashed" if trace.source is Source.SOCKET else ""

    def draw(self, rows: list[Row]) -> str:
        bottom = self._rows(rows) if rows else _TOP
        lines = [opening_line(self._trace), *closing_lines(self._trace)]
        height = bottom + 26 + _LINE * len(lines) + _MARGIN
        head = self._head() if rows else []
        lives = [*self._life(Side.CLIENT, bottom), *self._life(Side.SERVER, bottom)] if rows else []
        foot = [
            _text(_MARGIN, bottom + 34 + number * _LINE, line, "foot")
            for number, line in enumerate(lines)
        ]
        about = escape(_("A TCP connection, packet by packet") + f": {self._trace.server}")
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self._width} {height:g}" '
                f'width="{self._width}" height="{height:g}" role="img" aria-label="{about}">',
                f"<title>{about}</title>",
                f"<style>{STYLE}</style>",
                f'<rect class="page" width="{self._width}" height="{height:g}" rx="10"/>',
                *self._bands, *head, *lives, *self._arrows, *self._texts, *foot,
                "</svg>", "",
            ]
        )  # fmt: skip

    # -------------------------------------------------------------- the frame

    def _head(self) -> list[str]:
        lines = []
        sides = (
            (_CLIENT, _("client"), self._trace.client),
            (_SERVER, _("server"), self._trace.server),
        )
        for x, name, address in sides:
            shown = fitted(visible(str(address)), 48)
            kind = "address" if len(shown) < 38 else "address long"
            lines += [
                f'<rect class="box" x="{x - 155}" y="20" width="310" height="50" rx="8"/>',
                _text(x, 41, name, "side", "middle"),
                _text(x, 60, shown, kind, "middle"),
            ]
        return lines

    def _life(self, side: Side, bottom: float) -> list[str]:
        """A lifeline, with the names of its states."""
        x = _CLIENT if side is Side.CLIENT else _SERVER
        lines = []
        states = [(82.0, first_states(self._trace)[0 if side is Side.CLIENT else 1])]
        states += self._states[side]
        for number, (y, state) in enumerate(states):
            end = states[number + 1][0] if number + 1 < len(states) else bottom + 4
            kind = state_class(state)
            lines.append(
                f'<rect class="life {kind}" x="{x - 3}" y="{y:g}" width="6" '
                f'height="{max(end - y, 3):g}" rx="3"/>'
            )
            where = (x - 14, "end") if side is Side.CLIENT else (x + 14, "start")
            lines.append(
                _text(where[0], y + 4 + 8 * (not number), state, f"state {kind}", where[1])
            )
        return lines

    # -------------------------------------------------------------- rows

    def _rows(self, rows: list[Row]) -> float:
        """Draw all rows; where the last one ends."""
        y = float(_TOP)
        band = y
        for number, row in enumerate(rows):
            if row.title:
                if number:
                    self._band(band, y - 8)
                    y += 4
                band = y
                self._texts.append(_text(_MARGIN + 12, y + 19, row.title, "part"))
                y += _TITLE
            y += 18
            below = self._row(row, y)
            if row.meaning:
                below = max(below, self._meaning(row, y))
            y += below
        self._band(band, y - 8)
        return y

    def _band(self, top: float, bottom: float) -> None:
        self._bands.append(
            f'<rect class="band" x="{_MARGIN - 6}" y="{top:g}" '
            f'width="{self._width - 2 * _MARGIN + 12}" height="{bottom - top:g}" rx="8"/>'
        )

    def _row(self, row: Row, y: float) -> float:
        """Draw a row; the room that it takes below its beginning."""
        self._times(row, y)
        if row.crossing is not None:
            self._cross(row, y)
            drop = _CROSSING_SLOPE
        elif row.is_event:
            self._event(row, y)
            drop = 0
        else:
            self._arrow(row, y)
            drop = _SLOPE
        notes = [(text, "remark") for text in row.remarks]
        if row.preview:
            notes.append((row.preview, "payload"))
        x, anchor = (_CLIENT + 20, "start")
        if row.crossing is not None:
            x, anchor = (_CLIENT + _SERVER) // 2, "middle"
        elif row.sender is Side.SERVER:
            x, anchor = _SERVER - 20, "end"
        for number, (text, kind) in enumerate(notes):
            start = y + drop + (10 if row.crossing is None else 2)
            self._texts.append(
                _text(x, start + number * _LINE, fitted(text, _BELOW_COLUMNS), kind, anchor)
            )
        return max(_ROW - 18, drop + 10 + len(notes) * _LINE + (4 if notes else 8))

    def _times(self, row: Row, y: float) -> None:
        since = duration(row.step.at) if row.step.at else "0"
        self._texts.append(_text(_TIMES, y + 4, since, "time", "end"))
        if row.after is not None:
            self._texts.append(_text(_TIMES, y - 14, f"+{duration(row.after)}", "gap", "end"))

    def _enter(self, side: Side, state: str, y: float) -> None:
        if state:
            self._states[side].append((y, state))

    def _arrow(self, row: Row, y: float) -> None:
        side = row.sender
        arrives = not row.is_lost
        for each, state in ((Side.CLIENT, row.client), (Side.SERVER, row.server)):
            self._enter(each, state, y if each is side else y + _SLOPE)
        start, end = (
            (_CLIENT + 6, _SERVER - 6) if side is Side.CLIENT else (_SERVER - 6, _CLIENT + 6)
        )
        if not arrives:
            end = round(start + (end - start) * 0.6)
        drop = _SLOPE if arrives else _SLOPE * 0.6
        self._line(start, y, end, y + drop, row.tone)
        if arrives:
            self._tip(end, y + drop, row.tone, to_right=side is Side.CLIENT)
        else:
            self._arrows.append(
                f'<path class="arrow {row.tone}" '
                f'd="M{end - 6} {y + drop - 6:g}l12 12m0 -12l-12 12"/>'
            )
        # On the line, a little nearer to where it comes from.
        middle = start + ((_CLIENT + _SERVER) / 2 - start) * (1 if arrives else 0.62)
        height = y + drop * (middle - start) / (end - start) - 6
        angle = 1.5 if side is Side.CLIENT else -1.5
        self._texts.append(
            _text(
                middle, height, fitted(row.label, _COLUMNS), f"label {row.tone}", "middle",
                turn=f"rotate({angle} {middle:g} {height:g})",
            )
        )  # fmt: skip

    def _cross(self, row: Row, y: float) -> None:
        """Two that pass each other."""
        assert row.crossing is not None
        sent = {each.side: each for each in (row.step, row.crossing)}
        if row.client:
            self._enter(Side.CLIENT, sent[Side.CLIENT].client_state.value, y)
            self._enter(Side.CLIENT, row.client, y + _CROSSING_SLOPE)
        if row.server:
            self._enter(Side.SERVER, sent[Side.SERVER].server_state.value, y)
            self._enter(Side.SERVER, row.server, y + _CROSSING_SLOPE)
        labels = {row.step.side: row.label, row.crossing.side: row.crossing_label}
        left, right = _CLIENT + 6, _SERVER - 6
        for side, (start, end) in (
            (Side.CLIENT, (left, right)),
            (Side.SERVER, (right, left)),
        ):
            self._line(start, y, end, y + _CROSSING_SLOPE, row.tone)
            self._tip(end, y + _CROSSING_SLOPE, row.tone, to_right=side is Side.CLIENT)
            x = start + (end - start) * 0.22
            self._texts.append(_text(x, y - 3, labels[side], f"label {row.tone}", "middle"))

    def _event(self, row: Row, y: float) -> None:
        self._enter(Side.CLIENT, row.client, y)
        self._enter(Side.SERVER, row.server, y)
        client = row.step.side is Side.CLIENT
        x = _CLIENT if client else _SERVER
        self._arrows.append(f'<circle class="event {row.tone}" cx="{x}" cy="{y:g}" r="6"/>')
        at, anchor = (x + 20, "start") if client else (x - 20, "end")
        self._texts.append(_text(at, y + 4, row.label, f"label {row.tone}", anchor))

    def _meaning(self, row: Row, y: float) -> float:
        lines = [text for each in row.meaning for text in wrap(each, _MEANING_COLUMNS)]
        for number, text in enumerate(lines):
            self._texts.append(_text(_WIDTH - 4, y + 2 + number * _LINE, text, "meaning"))
        return 2 + len(lines) * _LINE + 4

    def _line(self, x: float, y: float, to_x: float, to_y: float, tone: str) -> None:
        kind = " ".join(filter(None, ("arrow", tone, self._seen)))
        self._arrows.append(f'<path class="{kind}" d="M{x:g} {y:g}L{to_x:g} {to_y:g}"/>')

    def _tip(self, x: float, y: float, tone: str, *, to_right: bool) -> None:
        back = -11 if to_right else 11
        self._arrows.append(f'<path class="tip {tone}" d="M{x:g} {y:g}l{back} -5.5v11z"/>')


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start", turn: str = "") -> str:
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    turned = f' transform="{turn}"' if turn else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{where}{turned}>{escape(text)}</text>'
