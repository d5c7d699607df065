"""Charts as SVG: a drawing, scales with round ticks, axes, and labels that do not overlap.

A drawing has classes and no colours: the page's style sheet gives it those of its theme. Whatever
is told apart by colour is told apart by dashes, patterns or a label too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

from ..visible import visible, width

__all__ = [
    "Drawing",
    "Line",
    "Mark",
    "Plot",
    "Scale",
    "label_width",
    "rows_for",
    "spread_out",
    "steps",
]

#: Pixels of half a Chinese character, or of a Latin one, in the size of labels.
_CHARACTER = 7.4

#: Between the middles of two labels.
_LABEL_HEIGHT = 15.0


class Drawing:
    """An SVG picture, put together piece by piece. Everything that comes into it is escaped.

    Args:
        name: its own on the page.
        width, height: in pixels.
        title: what it shows, and `description`, what is to be seen, for those who cannot see it.
    """

    def __init__(self, name: str, width: float, height: float, title: str, description: str):
        self.name = name
        self.width = width
        self.height = height
        self._pieces: list[str] = []
        self._begin(
            "svg",
            {
                "viewBox": f"0 0 {_number(width)} {_number(height)}", "width": width,
                "height": height, "role": "img", "class": "chart",
                "aria-labelledby": f"{name}-title {name}-description",
            },
        )  # fmt: skip
        self.add("title", title, id=f"{name}-title")
        self.add("desc", description, id=f"{name}-description")

    def add(self, element: str, text: str | None = None, **attributes: object) -> None:
        """Add an element, perhaps with text in it. Of attributes, an underscore at the end is
        taken off, and `None` is none."""
        self._begin(element, attributes)
        self._pieces.append(f"{escape(visible(text or ''))}</{element}>")

    def label(self, x: float, y: float, text: str, class_: str = "label", **more: object) -> None:
        """Write a text."""
        self.add("text", text, x=x, y=y, class_=class_, **more)

    @contextmanager
    def group(self, hint: str | None = None, **attributes: object) -> Iterator[None]:
        """What is added within belongs together; a `hint` shows where the pointer rests on it."""
        self._begin("g", attributes)
        if hint is not None:
            self.add("title", hint)
        yield
        self._pieces.append("</g>")

    def markup(self) -> str:
        """The picture."""
        return "".join(self._pieces) + "</svg>"

    def _begin(self, element: str, attributes: Mapping[str, object]) -> None:
        written = "".join(
            f' {name.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
            for name, value in attributes.items()
            if value is not None
        )
        self._pieces.append(f"<{element}{written}>")


def _number(value: object) -> str:
    """Pixels need no more than tenths."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values on pixels.

    Attributes:
        low, high: the values at the ends. `start`, `end`: the pixels there.
        logarithmic: whether equal ways are equal factors.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; one beyond the ends is put at the end."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values between the ends, no more than `most`."""
        found = self._decades(most) if self.logarithmic else self._round(most)
        slack = (self.high - self.low) * 1e-9
        return [each for each in found if self.low - slack <= each <= self.high + slack]

    def _round(self, most: int) -> list[float]:
        step = _round_up((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _decades(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for inner in ((1, 2, 5), (1, 3), (1,)):
            found = [
                digit * 10.0**power for power in range(first, last + 1) for digit in inner
                if self.low * 0.999 <= digit * 10.0**power <= self.high * 1.001
            ]  # fmt: skip
            if len(found) <= most:
                return found
        return found[:: math.ceil(len(found) / most)]

    @classmethod
    def of(
        cls, values: Iterable[float], start: float, end: float, *, logarithmic: bool = False
    ) -> Scale:
        """A scale that holds all these, with round ends; a linear one begins at 0."""
        found = [value for value in values if value > 0 or not logarithmic]
        high = max(found, default=1.0) or 1.0
        if not logarithmic:
            step = _round_up(high / 5)
            return cls(0.0, math.ceil(high / step - 1e-9) * step, start, end)
        low = min(found, default=high)
        low, high = _round_down(low), _round_up(high)
        return cls(low if low < high else high / 10, high, start, end, logarithmic=True)


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 with zeros."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * next((each for each in (1, 2, 5) if each * power >= value * (1 - 1e-9)), 10)


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return power * next((each for each in (5, 2) if each * power <= value * (1 + 1e-9)), 1)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart.

    Attributes:
        points: its pixels; `None` where it is broken off. name: what stands at its end. class_: how
            it looks, its kind first.
    """

    points: Sequence[tuple[float, float] | None]
    name: str
    class_: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Axes within a drawing.

    Attributes:
        across, up: the scales of both axes.
    """

    drawing: Drawing
    across: Scale
    up: Scale

    def axis_up(self, write: Callable[[float], str], name: str) -> None:
        """Draw the axis at the left, with lines across: how values are written, what they are."""
        drawing, left, right = self.drawing, self.across.start, self.across.end
        for value in self.up.ticks(5):
            y = self.up(value)
            drawing.add("line", x1=left, x2=right, y1=y, y2=y, class_="grid")
            drawing.label(left - 8, y + 4, write(value), "label tick", text_anchor="end")
        drawing.label(0, 14, name)

    def axis_across(
        self, ticks: Callable[[float], str] | Sequence[tuple[float, str]], name: str = ""
    ) -> None:
        """Draw the axis below: how values are written, or what is written where."""
        drawing, left, right = self.drawing, self.across.start, self.across.end
        base = self.up.start
        drawing.add("line", x1=left, x2=right, y1=base, y2=base, class_="axis")
        if callable(ticks):
            ticks = [(value, ticks(value)) for value in self.across.ticks(8)]
        for value, text in ticks:
            x = self.across(value)
            drawing.add("line", x1=x, x2=x, y1=base, y2=base + 4, class_="axis")
            drawing.label(x, base + 18, text, "label tick", text_anchor="middle")
        if name:
            drawing.label((left + right) / 2, base + 38, name, text_anchor="middle")

    def lines(self, lines: Sequence[Line]) -> None:
        """Draw lines, and their names at their ends, at the right."""
        named: list[tuple[Line, float]] = []
        for line in lines:
            self.drawing.add("path", d=_path(line.points), class_=f"line {line.class_}")
            ends = [point for point in line.points if point is not None]
            if ends and line.name:
                named.append((line, ends[-1][1]))
        low, high = sorted((self.up.start, self.up.end))
        places = spread_out([y for _, y in named], low, high)
        for (line, _), y in zip(named, places, strict=True):
            kind = line.class_.split()[0]
            self.drawing.label(self.across.end + 10, y + 4, line.name, f"label name {kind}")

    def marks(self, marks: Sequence[Mark]) -> None:
        """Draw a line up from each value, with its text beside the upper end."""
        for mark, x, row, is_left in _rows_of(marks, self.across):
            y = self.up.end - (row + 1) * _LABEL_HEIGHT
            self.drawing.add("line", x1=x, x2=x, y1=self.up.start, y2=y, class_=f"mark {mark.kind}")
            self.drawing.label(
                x - 5 if is_left else x + 5, y + 10, mark.text, f"label name {mark.kind}",
                text_anchor="end" if is_left else "start",
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mark:
    """A value that is marked on the axis across, and what it is."""

    value: float
    text: str
    kind: str


def rows_for(marks: Sequence[Mark], across: Scale) -> float:
    """The height that the texts of marks take above a plot."""
    rows = [row for _mark, _x, row, _is_left in _rows_of(marks, across)]
    return (max(rows, default=-1) + 1) * _LABEL_HEIGHT


def _rows_of(marks: Sequence[Mark], across: Scale) -> list[tuple[Mark, float, int, bool]]:
    """Each mark, where it is, in which row its text has room, and whether that is at its left.

    From right to left, each in the lowest row where no line and no text is in its way.
    """
    found: list[tuple[Mark, float, int, bool]] = []
    free_until: list[float] = []
    for mark in sorted(marks, key=lambda each: -each.value):
        x = across(mark.value)
        wide = label_width(mark.text) + 10
        is_left = x + wide > across.end + 24
        right = x if is_left else x + wide
        row = next((row for row, until in enumerate(free_until) if right < until), len(free_until))
        # Its line goes down through all the rows below.
        free_until[: row + 1] = [x - wide if is_left else x] * (row + 1)
        found.append((mark, x, row, is_left))
    return found


def _path(points: Iterable[tuple[float, float] | None]) -> str:
    """The points as SVG writes a line; one that follows a gap begins anew."""
    written: list[str] = []
    pen = "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        written.append(f"{pen}{_number(point[0])},{_number(point[1])}")
        pen = "L"
    return "".join(written)


def label_width(text: str) -> float:
    """About as many pixels as a label takes."""
    return width(visible(text)) * _CHARACTER


def spread_out(wanted: Sequence[float], low: float, high: float) -> list[float]:
    """Places for labels: as near to those wanted as they can be without overlapping."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    places = [min(max(wanted[index], low), high) for index in order]
    for position in range(1, len(places)):
        places[position] = max(places[position], places[position - 1] + _LABEL_HEIGHT)
    limit = high
    for position in reversed(range(len(places))):
        places[position] = min(places[position], limit)
        limit = places[position] - _LABEL_HEIGHT
    found = [0.0] * len(wanted)
    for index, place in zip(order, places, strict=True):
        found[index] = place
    return found


def steps(
    pieces: Iterable[tuple[float, float, float | None]],
) -> list[tuple[float, float] | None]:
    """The points of a line over pieces: each from, to, and how high; `None` for a gap."""
    points: list[tuple[float, float] | None] = []
    for start, end, y in pieces:
        points += [(start, y), (end, y)] if y is not None else [None]
    return points
