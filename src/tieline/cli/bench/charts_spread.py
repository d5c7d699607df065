"""Charts of how times are spread: a histogram, a curve of percentiles, the times compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...bench import Histogram
from ..translation import gettext as _
from .amounts import count, duration, round_duration, round_share, share
from .charts import Drawing, Line, Mark, Plot, Scale, label_width, rows_for
from .charts_runs import Run, said_of, with_name
from .words import TIMES, time_name

__all__ = ["PIECES", "histogram", "in_pieces", "percentile_curve", "times_compared"]

_WIDTH, _HEIGHT = 880.0, 300.0
_LEFT, _TOP, _BOTTOM = 64.0, 34.0, 64.0

#: About as many bars a histogram has.
PIECES = 90

#: The least height of a bar that stands for anything.
_SEEN = 1.5

_ROW = 46.0


def histogram(runs: Sequence[Run]) -> str:
    """How many exchanges took how long."""
    runs = [run for run in runs if run.result.exchange.count]
    title = _("How exchanges are spread")
    across = Scale.of(
        (value for run in runs for value in (_above_none(run), run.result.exchange.most)),
        _LEFT, _WIDTH - 24 - max(label_width(run.name) for run in runs), logarithmic=True,
    )  # fmt: skip
    octaves = math.log2(across.high / across.low)
    bars = [in_pieces(run.result.exchange, across.low, octaves) for run in runs]
    marks = [
        Mark(value, with_name(run, f"{name} {duration(value)}"), run.kind)
        for run in runs
        for name, value in (("p50", run.result.exchange.percentile(0.5)),
                            ("p99", run.result.exchange.percentile(0.99)))
    ]  # fmt: skip
    top = _TOP + rows_for(marks, across)
    up = Scale.of((part for each in bars for part in each), top + _HEIGHT - _TOP - _BOTTOM, top)
    drawing = Drawing(
        "histogram", _WIDTH, top + _HEIGHT - _TOP, title, " ".join(map(_in_words, runs))
    )
    plot = Plot(drawing, across, up)
    plot.axis_up(round_share, _("share of the exchanges that took so long"))
    plot.axis_across(round_duration, _("time of an exchange, logarithmic"))
    for run, parts in zip(runs, bars, strict=True):
        _draw_pieces(plot, run, parts, octaves)
    plot.marks(marks)
    return drawing.markup()


def _above_none(run: Run) -> float:
    """The smallest time; none at all has no place on a logarithmic axis."""
    times = run.result.exchange
    return times.least or next((low for low, _h, _n in times.buckets() if low), times.most)


def in_pieces(times: Histogram, low: float, octaves: float) -> list[float]:
    """The share of the times in each of `PIECES` pieces of equal factors, from `low` on.

    A bucket that lies in two pieces is divided between them.
    """
    parts = [0.0] * PIECES
    per_octave = PIECES / octaves
    for start, end, number in times.buckets():
        first, last = (
            min(math.log2(max(at, low) / low) * per_octave, float(PIECES)) for at in (start, end)
        )
        # None is so thin that a part of it is lost, and what is on the end is before it.
        first = min(first, PIECES - 1e-6)
        last = max(last, first + 1e-6)
        for piece in range(int(first), min(math.ceil(last), PIECES)):
            within = min(last, piece + 1) - max(first, piece)
            parts[piece] += number * within / (last - first)
    return [part / times.count for part in parts]


def _draw_pieces(plot: Plot, run: Run, parts: Sequence[float], octaves: float) -> None:
    base = plot.up.start
    for piece, part in enumerate(parts):
        if not part:
            continue
        start, end = (plot.across.low * 2 ** (octaves * at / PIECES) for at in (piece, piece + 1))
        x, right = plot.across(start), plot.across(end)
        y = min(plot.up(part), base - _SEEN)
        text = _("{start} to {end}: {share}").format(
            start=duration(start), end=duration(end), share=share(part)
        )
        with plot.drawing.group(with_name(run, text)):
            plot.drawing.add(
                "rect", x=x, y=y, width=max(right - x - 1, 1.0), height=base - y,
                class_=f"bar {run.kind}",
            )  # fmt: skip


def percentile_curve(runs: Sequence[Run]) -> str:
    """Which time how many did not exceed, the slowest ones stretched."""
    curves = _curves(runs)
    title = _("Time by percentile")
    names = [name for name, _kind, _times in curves]
    most = max(times.count for _name, _kind, times in curves)
    across = Scale(
        1.0, max(10.0, float(most)), _LEFT, _WIDTH - 24 - max(map(label_width, names)),
        logarithmic=True,
    )  # fmt: skip
    drawing = Drawing(
        "percentiles", _WIDTH, _HEIGHT, title,
        " ".join(_named(name, _percentiles(times)) for name, _kind, times in curves),
    )  # fmt: skip
    values = [value for _name, _kind, times in curves for value in (times.least, times.most)]
    plot = Plot(
        drawing, across, Scale.of(values, _HEIGHT - _BOTTOM, _TOP, logarithmic=True)
    )  # fmt: skip
    plot.axis_up(round_duration, _("time, logarithmic"))
    plot.axis_across(
        _percent_ticks(across.high), _("share of them that took no longer, the last ones stretched")
    )
    plot.lines([Line(_curve(plot, times), name, kind) for name, kind, times in curves])
    return drawing.markup()


def _curves(runs: Sequence[Run]) -> list[tuple[str, str, Histogram]]:
    """Exchanges of all runs; of a single one, what else there is."""
    found = [
        (run.name or time_name("exchange"), run.kind, run.result.exchange)
        for run in runs
        if run.result.exchange.count
    ]
    if len(runs) > 1:
        return found
    looks = {"connecting": "other dashed", "whole": "other dotted", "lateness": "late dashed"}
    for name, kind in looks.items():
        # Of a few connections there is no curve.
        if runs[0].times(name).count >= 100:
            found.append((time_name(name), kind, runs[0].times(name)))
    return found


def _curve(plot: Plot, times: Histogram) -> list[tuple[float, float] | None]:
    points: list[tuple[float, float] | None] = []
    seen, whole = 0, times.count
    for start, end, number in times.buckets():
        value = min(max((start + end) / 2, times.least), times.most)
        for rank in (seen, seen + number):
            left = max(whole - rank, 1)
            points.append((plot.across(whole / left), plot.up(value)))
        seen += number
    return points


def _percent_ticks(high: float) -> list[tuple[float, str]]:
    """0 %, 50 %, 90 %, 99 %, 99.9 % ... as far as there are times enough."""
    ticks = [(1.0, "0%"), (2.0, "50%")]
    nines = 1
    while 10.0**nines <= high * 1.001 and nines < 9:
        text = "90" if nines == 1 else "99" + ("." + "9" * (nines - 2) if nines > 2 else "")
        ticks.append((10.0**nines, f"{text}%"))
        nines += 1
    return ticks


def times_compared(runs: Sequence[Run]) -> str:
    """Connect, first byte, exchange and the rest beside each other."""
    rows = [
        (time_name(name), run, run.times(name))
        for name in TIMES
        for run in runs
        if run.times(name).count
    ]
    names = [with_name(run, name) for name, run, _times in rows]
    notes = [_percentiles(times) for _name, _run, times in rows]
    height = _TOP + _ROW * len(rows) + _BOTTOM - 10
    drawing = Drawing(
        "times", _WIDTH, height, _("The times beside each other"),
        " ".join(map(_named, names, notes)),
    )  # fmt: skip
    across = Scale.of(
        (value for _name, _run, times in rows for value in (times.least, times.most)),
        max(map(label_width, names)) + 16, _WIDTH - 30, logarithmic=True,
    )  # fmt: skip
    base = height - _BOTTOM + 4
    plot = Plot(drawing, across, Scale(0.0, 1.0, base, _TOP - 10))
    for value in across.ticks(10):
        x = across(value)
        drawing.add("line", x1=x, x2=x, y1=base, y2=_TOP - 10, class_="grid")
    plot.axis_across(round_duration, _("time, logarithmic"))
    for number, (name, note, (_name, run, times)) in enumerate(
        zip(names, notes, rows, strict=True)
    ):
        _row(drawing, across, _TOP + _ROW * number + 20, name, note, run.kind, times)
    return drawing.markup()


def _row(
    drawing: Drawing, across: Scale, y: float, name: str, note: str, kind: str, times: Histogram
) -> None:
    """From the smallest to the largest a thin line, to p99 a thick one, at the median a dot."""
    half, slow = across(times.percentile(0.5)), across(times.percentile(0.99))
    least, most = across(times.least), across(times.most)
    drawing.label(across.start - 14, y + 4, name, f"label name {kind}", text_anchor="end")
    with drawing.group(_named(name, note)):
        drawing.add("line", x1=least, x2=most, y1=y, y2=y, class_=f"reach {kind}")
        drawing.add("line", x1=most, x2=most, y1=y - 5, y2=y + 5, class_=f"reach {kind}")
        drawing.add("line", x1=half, x2=slow, y1=y, y2=y, class_=f"span {kind}")
        drawing.add("circle", cx=half, cy=y, r=5.5, class_=f"dot {kind}")
    drawing.label(across.end + 24, y - 12, note, "label tick", text_anchor="end")


def _percentiles(times: Histogram) -> str:
    return _("p50 {p50}, p99 {p99}, largest {most}").format(
        p50=duration(times.percentile(0.5)), p99=duration(times.percentile(0.99)),
        most=duration(times.most),
    )  # fmt: skip


def _named(name: str, figures: str) -> str:
    return _("{name}: {figures}.").format(name=name, figures=figures)


def _in_words(run: Run) -> str:
    times = run.result.exchange
    text = _("{count} exchanges: {percentiles}.").format(
        count=count(times.count), percentiles=_percentiles(times)
    )
    return said_of(run, text)
