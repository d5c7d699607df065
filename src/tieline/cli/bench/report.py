"""What a bench tells on a terminal: sentences, times, how they are spread, what failed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ...bench import Comparison, Histogram, Result
from ..help_screen import wrap
from ..log import Log
from ..tables import Cell, Column, show_pairs, show_table
from ..translation import gettext as _
from ..visible import visible, width
from .amounts import count, digits, duration, per_second, share
from .charts_runs import Run, runs_of
from .drawing import Glyphs, bins, condensed, glyphs_for
from .page_tables import Table, failures, outcome
from .words import (
    TIMES,
    failure_name,
    headline,
    loop_of,
    meaning_of_failure,
    mode_name,
    remarks,
    time_name,
    what_a_connection_costs,
)

__all__ = ["print_wrapped", "show_report", "show_short"]

_SHARES = (0.5, 0.75, 0.9, 0.99, 0.999, 0.9999)

#: Columns of a histogram's longest bar.
_BAR = 40

#: Columns of a line over time, where there is no terminal whose width could be asked.
_WIDE = 80


def _show_summary(log: Log, results: Result | Comparison) -> None:
    """What a bench comes to, in sentences, and what must be known before they are believed."""
    for text in _lead(results):
        print_wrapped(log, text)
    for run in _measured(results):
        for remark in remarks(run.result):
            print_wrapped(log, "! " + _of(run, remark), 2, style="yellow")


def show_short(log: Log, results: Result | Comparison) -> None:
    """The sentences only, and why something failed."""
    _show_summary(log, results)
    for run in _measured(results):
        for reason, number in run.result.failures.most_common():
            text = _("{label}: {text}").format(
                label=f"{failure_name(reason)} {count(number)}", text=meaning_of_failure(reason)
            )
            print_wrapped(log, "  " + _of(run, text), 2, style="red")


def show_report(log: Log, results: Result | Comparison) -> None:
    """Everything that a terminal can show of a bench."""
    _show_summary(log, results)
    print_wrapped(log, _subject(results), style="dim")
    runs = runs_of(results)
    measured = _measured(results)
    blocks: list[Callable[[], None]] = []
    if len(runs) > 1:
        blocks.append(partial(_show_side_by_side, log, runs))
    elif _times_of(runs[0].result):
        blocks.append(partial(_show_times, log, runs[0].result))
    blocks += [partial(_show_histogram, log, run) for run in runs if run.result.exchange.count]
    blocks += [partial(_show_over_time, log, run) for run in measured if _has_course(run)]
    failed = failures(measured)
    if failed.rows:
        blocks.append(partial(_show_failures, log, failed))
    blocks.append(partial(_show_outcome, log, measured))
    for block in blocks:
        log.print("")
        block()


def _lead(results: Result | Comparison) -> list[str]:
    if isinstance(results, Comparison):
        return what_a_connection_costs(results)
    return [headline(results)]


def _subject(results: Result | Comparison) -> str:
    """What was measured, of whom, and how."""
    one = results.short if isinstance(results, Comparison) else results
    mode = "comparison" if isinstance(results, Comparison) else one.mode
    return _("{address}, {mode}; {loop}; {seconds}.").format(
        address=visible(one.address), mode=mode_name(mode), loop=loop_of(one),
        seconds=duration(one.seconds),
    )  # fmt: skip


def _measured(results: Result | Comparison) -> Sequence[Run]:
    """The runs that had a load of their own: the parts of a mixed one had not."""
    return runs_of(results) if isinstance(results, Comparison) else [Run("", "one", results)]


def _of(run: Run, text: str) -> str:
    return _("{run}: {remark}").format(run=run.name, remark=text) if run.name else text


# ---- Tables


def _times_of(result: Result) -> list[tuple[str, Histogram]]:
    found = ((time_name(name), getattr(result, name)) for name in TIMES)
    return [(name, times) for name, times in found if times.count]


def _show_times(log: Log, result: Result) -> None:
    """A column for each kind of time, from the fastest to the slowest."""
    times = _times_of(result)
    columns = [Column(""), *(Column(name, right=True) for name, _times in times)]
    rows: list[list[Cell]] = [[_("count"), *(count(each.count) for _name, each in times)]]
    rows.append([_("mean"), *(duration(each.mean) for _name, each in times)])
    rows.append([_("smallest"), *(duration(each.least) for _name, each in times)])
    rows += [
        [f"p{at * 100:.6g}", *(_percentile(each, at) for _name, each in times)] for at in _SHARES
    ]
    rows.append([_("largest"), *(duration(each.most) for _name, each in times)])
    show_table(log, columns, rows)


def _percentile(times: Histogram, at: float) -> Cell:
    """A percentile; dim where it is no more than the largest, for there are so few."""
    is_thin = times.count * (1 - at) < 1 - 1e-9
    return (duration(times.percentile(at)), "dim" if is_thin else "")


def _show_side_by_side(log: Log, runs: Sequence[Run]) -> None:
    """Figure by figure, and how many times the one is the other."""
    columns = [Column(""), *(Column(run.name, right=True) for run in runs)]
    columns.append(Column(" / ".join(run.name for run in runs), right=True))
    rows = []
    for name, read, shown in _figures(runs):
        values = [read(run.result) for run in runs]
        if any(values):
            factor = digits(values[0] / values[1]) if all(values) else ""
            rows.append([name, *(shown(value) if value else "–" for value in values), factor])
    show_table(log, columns, rows)


_Figure = tuple[str, Callable[[Result], float], Callable[[float], str]]


def _figures(runs: Sequence[Run]) -> Iterator[_Figure]:
    yield _("exchanges a second"), lambda result: result.per_second, per_second
    for name in TIMES:
        for at in (0.5, 0.99, 0.999) if name == "exchange" else (0.5, 0.99):
            title = _("{time}, {percentile}").format(
                time=time_name(name), percentile=f"p{at * 100:.6g}"
            )
            yield title, _reader(name, at), duration
    yield _("processor time for an exchange"), lambda result: result.cpu_per_exchange, duration


def _reader(name: str, at: float) -> Callable[[Result], float]:
    def read(result: Result) -> float:
        times: Histogram = getattr(result, name)
        return times.percentile(at)

    return read


def _show_outcome(log: Log, runs: Sequence[Run]) -> None:
    """What came of it besides times: side by side where there is room, else one after the other."""
    table = outcome(runs)
    wide = [max(width(row[at].text) for row in table.rows) + 2 for at in range(len(runs) + 1)]
    if len(runs) > 1 and (not _terminal() or sum(wide) - 2 <= _terminal()):
        columns = [Column(cell.text, right=bool(index)) for index, cell in enumerate(table.head)]
        show_table(log, columns, [[cell.text for cell in row] for row in table.rows])
        return
    for index, run in enumerate(runs, 1):
        if run.name:
            log.print(log.dim(_("{run}:").format(run=run.name)))
        show_pairs(log, ((row[0].text, row[index].text) for row in table.rows))


def _show_failures(log: Log, table: Table) -> None:
    """How many, why, and what that means: a sentence each."""
    print_wrapped(log, _("what failed"), style="dim")
    left, middle = (max(width(row[at].text) for row in table.rows) for at in (1, 2))
    for name, number, part, meaning in table.rows:
        head = f"  {number.text:>{left}}  {part.text:>{middle}}  "
        text = _("{label}: {text}").format(label=name.text, text=meaning.text)
        print_wrapped(log, head + text, len(head), style="red")


# ---- Pictures


def _show_histogram(log: Log, run: Run) -> None:
    times = run.result.exchange
    found = bins(times)
    longest = max(each.count for each in found)
    glyphs = _glyphs()
    print_wrapped(log, _of(run, _("how exchanges are spread")), style="dim")
    labels = [_("up to {time}").format(time=duration(each.end)) for each in found]
    left = max(map(width, labels))
    for label, each in zip(labels, found, strict=True):
        bar = glyphs.bar(each.count / longest, _BAR)
        gap = " " * (left - width(label))
        log.print(
            f"  {gap}{label}  {bar:<{_BAR}}  {share(each.count / times.count):>6}  "
            f"{count(each.count):>9}"
        )


def _has_course(run: Run) -> bool:
    return len(run.result.intervals) > 1 and bool(list(_lines_over_time(run.result)))


def _show_over_time(log: Log, run: Run) -> None:
    """A line for each thing that goes up and down, from the beginning to the end."""
    intervals = run.result.intervals
    end = intervals[-1].at + intervals[-1].seconds
    title = _("over time, {seconds} in all").format(seconds=duration(end))
    print_wrapped(log, _of(run, title), style="dim")
    rows = list(_lines_over_time(run.result))
    left = max(width(name) for name, _values, _shown, _largest in rows)
    right = max(width(_span(values, shown)) for _name, values, shown, _largest in rows)
    most = min(_terminal() or _WIDE, 120) - left - right - 6
    glyphs = _glyphs()
    for name, values, shown, largest in rows:
        drawn = glyphs.columns(condensed(values, max(most, 8), largest=largest))
        log.print(f"  {name}{' ' * (left - width(name))}  {drawn}  {_span(values, shown)}")


_Line = tuple[str, list[float], Callable[[float], str], bool]


def _lines_over_time(result: Result) -> Iterator[_Line]:
    intervals = [each for each in result.intervals if each.seconds]
    if result.exchanges:
        rates = [each.exchanges / each.seconds for each in intervals]
        yield _("exchanges a second"), rates, per_second, False
    if result.mode in ("hold", "storm"):
        yield _("open"), [float(each.held) for each in intervals], count, False
        rates = [each.opened / each.seconds for each in intervals]
        yield _("opened a second"), rates, per_second, False
    if any(each.p99 for each in intervals):
        yield "p50", [each.p50 for each in intervals], duration, False
        yield "p99", [each.p99 for each in intervals], duration, True
        yield _("largest"), [each.most for each in intervals], duration, True
    if any(each.failures for each in intervals):
        yield _("failed"), [float(each.failures) for each in intervals], count, True


def _span(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """From the smallest to the largest."""
    return _("{least} to {most}").format(least=shown(min(values)), most=shown(max(values)))


# ---- How


def _glyphs() -> Glyphs:
    return glyphs_for(sys.stdout.encoding)


def _terminal() -> int:
    """The columns of the terminal; 0 where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


_STYLES = {"red": "31", "yellow": "33", "dim": "2"}


def print_wrapped(log: Log, text: str, indent: int = 0, style: str = "") -> None:
    """A sentence, in lines that fit the terminal; where there is none, in one.

    Args:
        log: where it is shown.
        indent: columns that lines but the first leave free; its own beginning is as wide.
        style: a word of `_STYLES`.
    """
    most = _terminal()
    # The first line has its own beginning.
    head, rest = text[:indent], text[indent:]
    lines = wrap(rest, max(20, most - indent)) if most else [rest]
    for line in lines:
        line, head = head + line, " " * indent
        log.print(f"\x1b[{_STYLES[style]}m{line}\x1b[0m" if style and log.paints else line)
