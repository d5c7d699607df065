"""Charts of what a connection costs: one exchange, many of them, and from how many on it pays."""

from __future__ import annotations

from ...bench import Comparison
from ..translation import gettext as _
from .amounts import count, duration, round_duration, round_share, share
from .charts import Drawing, Line, Mark, Plot, Scale, label_width

__all__ = ["connection_share", "one_exchange", "total_time"]

_WIDTH, _HEIGHT = 430.0, 290.0
_LEFT, _TOP, _BOTTOM = 58.0, 34.0, 52.0

_BAR = 30.0


def one_exchange(comparison: Comparison) -> str:
    """What one exchange takes over either, and which part of it is the connection's."""
    cost, exchange = comparison.connection_cost, comparison.long_time
    width, height = 880.0, 150.0
    names = [_("short"), _("long")]
    drawing = Drawing(
        "one-exchange", width, height, _("The time of one exchange"),
        _("Over a short connection {short}, {cost} of it for the connection; over a long one "
          "{long}.").format(
            short=duration(cost + exchange), cost=duration(cost), long=duration(exchange)
        ),
    )  # fmt: skip
    left = max(map(label_width, names)) + 14
    across = Scale(0.0, cost + exchange, left, width - 90)
    for row, (name, kind) in enumerate(zip(names, ("short", "long"), strict=True)):
        y = 30 + row * 62.0
        drawing.label(left - 12, y + 20, name, f"label name {kind}", text_anchor="end")
        parts = [(exchange, _("exchange"), f"bar plain {kind}")]
        if row == 0:
            parts.insert(0, (cost, _("making and ending the connection"), "bar extra"))
        at = 0.0
        for seconds, text, class_ in parts:
            x, end = across(at), across(at + seconds)
            said = _("{what}: {time}").format(what=text, time=duration(seconds))
            with drawing.group(said):
                drawing.add(
                    "rect", x=x, y=y, width=max(end - x - 1, 1.0), height=_BAR, class_=class_
                )
            if row == 0 and label_width(said) < end - x:
                drawing.label(x, y - 8, said)
            at += seconds
        drawing.label(across(at) + 10, y + 20, duration(at), "label figure")
    return drawing.markup()


def total_time(comparison: Comparison) -> str:
    """How long so many exchanges take, over short connections and over one long one."""
    most = min(max(comparison.tenth_from, 10), 100)
    ends = comparison.time_of(most)
    title = _("One after another")
    drawing = Drawing(
        "total-time", _WIDTH, _HEIGHT, title,
        _("{number} exchanges take {short} over short connections, {long} over one long one.")
        .format(number=most, short=duration(ends[0]), long=duration(ends[1])),
    )  # fmt: skip
    names = (_("short"), _("long"))
    across = Scale(1.0, float(most), _LEFT, _WIDTH - 20 - max(map(label_width, names)))
    plot = Plot(drawing, across, Scale.of(ends, _HEIGHT - _BOTTOM, _TOP))
    plot.axis_up(round_duration, _("time of all of them"))
    plot.axis_across(_numbers(across), _("exchanges"))
    plot.lines([
        Line([(across(number), plot.up(comparison.time_of(number)[which]))
              for number in (1, most)], name, kind)
        for which, (name, kind) in enumerate(zip(names, ("short", "long dashed"), strict=True))
    ])  # fmt: skip
    return drawing.markup()


def _numbers(across: Scale) -> list[tuple[float, str]]:
    """Whole numbers below the axis; the first one always, and none too near to it."""
    found = [
        value
        for value in across.ticks(6)
        if value == int(value) and across(value) > across.start + 24
    ]
    return [(value, count(value)) for value in [across.low, *found]]


def connection_share(comparison: Comparison) -> str:
    """Which part of the time is the connection's, by how many exchanges it carries."""
    tenth = comparison.tenth_from
    drawing = Drawing(
        "connection-share", _WIDTH, _HEIGHT, _("The connection's part of the time"),
        _("With one exchange {one}, with ten {ten}; less than a tenth from {exchanges} on.").format(
            one=share(_share(comparison, 1)), ten=share(_share(comparison, 10)),
            exchanges=count(tenth),
        ),
    )  # fmt: skip
    across = Scale.of((1.0, max(100.0, tenth * 8.0)), _LEFT, _WIDTH - 20, logarithmic=True)
    plot = Plot(drawing, across, Scale(0.0, 1.0, _HEIGHT - _BOTTOM, _TOP + 14))
    plot.axis_up(round_share, _("part of the time that is the connection's"))
    plot.axis_across(
        [(value, count(value)) for value in across.ticks(5)],
        _("exchanges of a connection, logarithmic"),
    )
    points = [
        across.low * (across.high / across.low) ** (number / 80) for number in range(81)
    ]  # fmt: skip
    plot.lines([
        Line([(across(number), plot.up(_share(comparison, number))) for number in points], "",
             "long")
    ])  # fmt: skip
    if across.low < tenth:
        text = _("less than a tenth from {exchanges} on").format(exchanges=count(tenth))
        plot.marks([Mark(tenth, text, "tenth")])
        drawing.add(
            "circle", cx=across(tenth), cy=plot.up(_share(comparison, tenth)), r=5.0,
            class_="dot long",
        )  # fmt: skip
    return drawing.markup()


def _share(comparison: Comparison, exchanges: float) -> float:
    cost = comparison.connection_cost
    return cost / (cost + exchanges * comparison.long_time)
