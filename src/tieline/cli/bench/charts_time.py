"""Charts over the time of a run: how much was done, what failed, how long exchanges took."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...bench.result import Interval
from ..translation import gettext as _
from .amounts import count, duration, per_second, round_count, round_duration
from .charts import Drawing, Line, Plot, Scale, label_width, steps
from .charts_runs import Run, said_of, with_name
from .words import counts_connections

__all__ = ["held", "over_time", "throughput"]

_WIDTH, _HEIGHT = 880.0, 300.0
_LEFT, _TOP, _BOTTOM = 64.0, 34.0, 48.0

#: Height of a strip of failures, and of what stands above it.
_STRIP, _STRIP_TITLE = 34.0, 34.0

Value = Callable[[Interval], float]


def throughput(runs: Sequence[Run]) -> str:
    """How much was done a second, and below it what failed."""
    failing = [run for run in runs if any(each.failures for each in run.result.intervals)]
    counts = counts_connections(runs[0].result)
    title = _("Connections opened a second") if counts else _("Exchanges a second")
    values: list[Value] = [
        _opened if counts_connections(run.result) else _exchanged for run in runs
    ]
    names = [run.name or _("mean {rate}").format(rate=per_second(run.result.per_second))
             for run in runs]  # fmt: skip
    bottom = _HEIGHT - _BOTTOM
    drawing = Drawing(
        "throughput", _WIDTH, _HEIGHT + len(failing) * (_STRIP + _STRIP_TITLE), title,
        " ".join(map(_in_words, runs, values)),
    )  # fmt: skip
    across = _time_scale(runs, _room_for(names))
    highest = [value(each) for run, value in zip(runs, values, strict=True)
               for each in run.result.intervals]  # fmt: skip
    plot = Plot(drawing, across, Scale.of(highest, bottom, _TOP))
    plot.axis_up(round_count, title)
    plot.axis_across(_as_it_is)
    drawing.label((_LEFT + across.end) / 2, drawing.height - 10, _time_name(),
                  text_anchor="middle")  # fmt: skip
    if len(runs) == 1:
        _area(plot, runs[0], values[0])
        y = plot.up(runs[0].result.per_second)
        mean = [(across.start, y), (across.end, y)]
        plot.lines([Line(_points(plot, runs[0], values[0]), "", "one"),
                    Line(mean, names[0], "one mean")])  # fmt: skip
    else:
        plot.lines([Line(_points(plot, run, value), name, run.kind)
                    for run, value, name in zip(runs, values, names, strict=True)])  # fmt: skip
    for row, run in enumerate(failing):
        top = bottom + _STRIP_TITLE * (row + 1) + 20 + _STRIP * row
        _failures(drawing, across, run, top)
    _hints(plot, runs, drawing.height - 20, _what_was_done)
    return drawing.markup()


def over_time(runs: Sequence[Run]) -> str:
    """The median, the 99th percentile and the largest of the exchanges' times, over the run."""
    title = _("Time of an exchange")
    looks: list[tuple[str, str, Value]] = [
        ("p50", "", lambda each: each.p50),
        ("p99", "dashed", lambda each: each.p99),
        (_("largest"), "dotted", lambda each: each.most),
    ]
    if len(runs) > 1:
        looks.pop()
    drawing = Drawing("over-time", _WIDTH, _HEIGHT, title, " ".join(map(_times_in_words, runs)))
    names = [with_name(run, name) for run in runs for name, _look, _value in looks]
    plot = Plot(
        drawing, _time_scale(runs, _room_for(names)),
        Scale.of(
            (value(each) for run in runs for _n, _l, value in looks
             for each in run.result.intervals),
            _HEIGHT - _BOTTOM, _TOP, logarithmic=True,
        ),
    )  # fmt: skip
    plot.axis_up(round_duration, _("{what}, logarithmic").format(what=title))
    plot.axis_across(_as_it_is, _time_name())
    plot.lines([
        Line(_points(plot, run, value), with_name(run, name), f"{run.kind} {look}")
        for run in runs for name, look, value in looks
    ])  # fmt: skip
    _hints(plot, runs, _HEIGHT - 20, _how_long_it_took)
    return drawing.markup()


def held(run: Run) -> str:
    """How many connections were open, over the run."""
    title = _("Connections open")
    drawing = Drawing(
        "held", _WIDTH, _HEIGHT, title,
        _("{most} at once at most.").format(most=count(run.result.held_most)),
    )  # fmt: skip
    values = [float(each.held) for each in run.result.intervals]
    plot = Plot(
        drawing, _time_scale([run], _room_for([])), Scale.of(values, _HEIGHT - _BOTTOM, _TOP)
    )
    plot.axis_up(round_count, title)
    plot.axis_across(_as_it_is, _time_name())
    _area(plot, run, _held)
    plot.lines([Line(_points(plot, run, _held), "", run.kind)])
    _hints(plot, [run], _HEIGHT - 20, _how_many_are_open)
    return drawing.markup()


# ---- Values of an interval


def _exchanged(each: Interval) -> float:
    return each.exchanges / each.seconds if each.seconds else 0.0


def _opened(each: Interval) -> float:
    return each.opened / each.seconds if each.seconds else 0.0


def _held(each: Interval) -> float:
    return float(each.held)


# ---- Pieces of the charts


def _time_name() -> str:
    return _("seconds since measuring began")


def _as_it_is(value: float) -> str:
    return f"{value:g}"


def _room_for(names: Sequence[str]) -> float:
    """Where the axis ends, so that the lines' names have room."""
    return _WIDTH - 22 - max(map(label_width, names), default=0)


def _time_scale(runs: Sequence[Run], end: float) -> Scale:
    ends = [each.at + each.seconds for run in runs for each in run.result.intervals]
    return Scale(0.0, max(ends, default=1.0) or 1.0, _LEFT, end)


def _points(plot: Plot, run: Run, value: Value) -> list[tuple[float, float] | None]:
    """A line over the intervals; on a logarithmic axis, there is none where nothing was."""
    return steps(
        (
            plot.across(each.at), plot.across(each.at + each.seconds),
            None if plot.up.logarithmic and not value(each) else plot.up(value(each)),
        )
        for each in run.result.intervals
    )  # fmt: skip


def _area(plot: Plot, run: Run, value: Value) -> None:
    points = [point for point in _points(plot, run, value) if point is not None]
    if points:
        closed = [(points[0][0], plot.up.start), *points, (points[-1][0], plot.up.start)]
        plot.drawing.add(
            "polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in closed),
            class_=f"area {run.kind}",
        )  # fmt: skip


def _failures(drawing: Drawing, across: Scale, run: Run, top: float) -> None:
    """A strip of bars: how many failed a second."""
    rates = [each.failures / (each.seconds or 1) for each in run.result.intervals]
    up = Scale(0.0, max(rates), top + _STRIP, top)
    text = _("failures a second, up to {most}").format(most=per_second(max(rates)))
    drawing.label(across.start, top - 8, said_of(run, text))
    for each, rate in zip(run.result.intervals, rates, strict=True):
        if rate:
            x, end = across(each.at), across(each.at + each.seconds)
            # A single failure is seen, too.
            y = min(up(rate), top + _STRIP - 2)
            drawing.add(
                "rect", x=x, y=y, width=max(end - x, 2.0), height=top + _STRIP - y, class_="failed"
            )
    drawing.add(
        "line", x1=across.start, x2=across.end, y1=top + _STRIP, y2=top + _STRIP, class_="axis"
    )


def _hints(plot: Plot, runs: Sequence[Run], bottom: float, say: Callable[[Interval], str]) -> None:
    """What is read where the pointer rests."""
    longest = max(runs, key=lambda run: len(run.result.intervals))
    for number, each in enumerate(longest.result.intervals):
        texts = [
            said_of(run, say(run.result.intervals[number]))
            for run in runs
            if number < len(run.result.intervals)
        ]
        when = _("{start} to {end} s").format(
            start=f"{each.at:.3g}", end=f"{each.at + each.seconds:.3g}"
        )
        x, end = plot.across(each.at), plot.across(each.at + each.seconds)
        with plot.drawing.group(" · ".join([when, *texts])):
            plot.drawing.add(
                "rect", x=x, y=plot.up.end, width=end - x, height=bottom - plot.up.end,
                class_="hint",
            )  # fmt: skip


def _what_was_done(each: Interval) -> str:
    text = _("{rate} a second").format(rate=per_second(_exchanged(each) or _opened(each)))
    if each.failures:
        text += _(", {count} failed").format(count=count(each.failures))
    return text


def _how_long_it_took(each: Interval) -> str:
    if not each.most:
        return _("nothing was answered")
    return _("p50 {p50}, p99 {p99}, largest {most}").format(
        p50=duration(each.p50), p99=duration(each.p99), most=duration(each.most)
    )


def _how_many_are_open(each: Interval) -> str:
    return _("{count} open").format(count=count(each.held))


# ---- For those who cannot see them


def _in_words(run: Run, value: Value) -> str:
    rates = [value(each) for each in run.result.intervals] or [0.0]
    text = _("Between {least} and {most} a second, {mean} in the mean.").format(
        least=per_second(min(rates)), most=per_second(max(rates)),
        mean=per_second(run.result.per_second),
    )  # fmt: skip
    return said_of(run, text)


def _times_in_words(run: Run) -> str:
    worst = max((each.p99 for each in run.result.intervals), default=0.0)
    text = _("Half within {p50} over the whole run; the worst p99 of a piece is {worst}.").format(
        p50=duration(run.result.exchange.percentile(0.5)), worst=duration(worst)
    )
    return said_of(run, text)
