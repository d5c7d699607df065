"""The tables of a page: every figure that its charts show, and those that none shows."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...bench import Comparison, Histogram, Result
from ..translation import gettext as _
from ..visible import visible
from .amounts import count, duration, per_second, share, size
from .charts_runs import Run, with_name
from .words import (
    TIMES,
    counts_connections,
    failure_name,
    loop_of,
    meaning_of_failure,
    meaning_of_time,
    mode_name,
    time_name,
)

__all__ = [
    "Cell", "Table", "failures", "intervals", "moment", "outcome", "percentiles", "plan_of",
]  # fmt: skip

_SHARES = (0.5, 0.75, 0.9, 0.99, 0.999, 0.9999)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        is_number: whether it stands at the right.
        is_thin: whether there are too few of what was measured to tell it from the largest.
        note: what is read where the pointer rests.
    """

    text: str
    is_number: bool = False
    is_thin: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its head, and its rows, of which the first cell names the row."""

    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default=())


def percentiles(runs: Sequence[Run]) -> Table:
    """All times of all runs, from the median to the largest."""
    head = [Cell(_("time")), _right(_("count")), _right(_("mean"))]
    head += [_right(f"p{at * 100:.6g}") for at in _SHARES]
    head.append(_right(_("largest")))
    rows = [
        _row(with_name(run, time_name(name)), meaning_of_time(name, run.result), run.times(name))
        for name in TIMES
        for run in runs
        if run.times(name).count
    ]
    notes = []
    if any(cell.is_thin for row in rows for cell in row):
        notes.append(
            _("° Of so few times, this percentile is the largest of them: it says no more.")
        )
    return Table(head, rows, notes)


def _row(name: str, meaning: str, times: Histogram) -> list[Cell]:
    row = [Cell(name, note=meaning), _right(count(times.count)), _right(duration(times.mean))]
    for at in _SHARES:
        # Nearest rank: of 50 times, p99 is the 50th.
        is_thin = times.count * (1 - at) < 1 - 1e-9
        row.append(Cell(duration(times.percentile(at)), is_number=True, is_thin=is_thin))
    row.append(_right(duration(times.most)))
    return row


def failures(runs: Sequence[Run]) -> Table:
    """What came to nothing, by reason, and what the reasons mean."""
    head = [Cell(_("reason")), _right(_("count")), _right(_("share of all")), Cell(_("meaning"))]
    rows = []
    for run in runs:
        tried = run.result.exchanges + run.result.failed
        has_whole = not counts_connections(run.result)
        for reason, number in run.result.failures.most_common():
            if number:
                rows.append([
                    Cell(with_name(run, failure_name(reason))),
                    _right(count(number)),
                    _right(share(number / tried) if has_whole else "–"),
                    Cell(meaning_of_failure(reason)),
                ])  # fmt: skip
    return Table(head, rows)


def intervals(runs: Sequence[Run]) -> Table:
    """The run piece by piece."""
    head = [
        Cell(_("from, in seconds")), _right(_("exchanges a second")), _right(_("failed")),
        _right(_("opened")), _right(_("open")), _right("p50"), _right("p99"), _right(_("largest")),
    ]  # fmt: skip
    rows = [
        [
            Cell(with_name(run, f"{each.at:.3g}")),
            _right(per_second(each.exchanges / each.seconds if each.seconds else 0.0)),
            _right(count(each.failures)), _right(count(each.opened)), _right(count(each.held)),
            *(_right(duration(value) if each.most else "–")
              for value in (each.p50, each.p99, each.most)),
        ]
        for run in runs
        for each in run.result.intervals
    ]  # fmt: skip
    return Table(head, rows)


def plan_of(results: Result | Comparison) -> list[tuple[str, str]]:
    """What was done, name by name."""
    is_comparison = isinstance(results, Comparison)
    one = results.short if isinstance(results, Comparison) else results
    pairs = [
        (_("server"), visible(one.address)),
        (_("mode"), mode_name("comparison" if is_comparison else one.mode)),
        (_("connections at once"), count(one.connections)),
        (_("pace"), loop_of(one)),
        (_("message"), size(one.message_size) if one.message_size else _("none")),
        (_("TLS"), _("yes") if one.tls else _("no")),
        (_("measured for"), _measured(results)),
    ]
    if one.pipeline > 1:
        pairs.insert(3, (_("messages under way"), count(one.pipeline)))
    began = moment(one.started)
    if began:
        pairs.append((_("began"), began))
    return pairs


def _measured(results: Result | Comparison) -> str:
    if isinstance(results, Comparison):
        return _("{short} short, {long} long").format(
            short=duration(results.short.seconds), long=duration(results.long.seconds)
        )
    return duration(results.seconds)


def moment(seconds: float) -> str:
    """A time of the day, as this machine has it; empty for one that is not known."""
    try:
        when = datetime.datetime.fromtimestamp(seconds, datetime.UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        # Read from a file, which may say anything.
        return ""
    return when.strftime("%Y-%m-%d %H:%M:%S %Z") if seconds else ""


def outcome(runs: Sequence[Run]) -> Table:
    """What came of it besides times: connections, bytes, the kernel, the load's processor."""
    found = [dict(_outcome(run)) for run in runs]
    # One run may have what another has not; the order is that of the longest.
    names = dict.fromkeys(name for each in sorted(found, key=len, reverse=True) for name in each)
    rows = [[Cell(name), *(_right(each.get(name, "–")) for each in found)] for name in names]
    return Table([Cell(""), *(_right(run.name) for run in runs)] if len(runs) > 1 else [], rows)


def _outcome(run: Run) -> list[tuple[str, str]]:
    result, generator, kernel = run.result, run.result.generator, run.result.kernel
    pairs = [
        (_("answered"), count(result.exchanges)),
        (_("failed"), _failed(result)),
        (_("connections opened"), count(result.opened)),
        (_("open at once at most"), count(result.held_most)),
        (_("sent"), size(result.bytes_sent)),
        (_("received"), size(result.bytes_received)),
        (_("processes of the load"), _("{number} (processors: {cores})").format(
            number=count(generator.processes), cores=count(generator.cores))),
        (_("the busiest was busy"), _("{share} of the time").format(
            share=share(min(generator.busiest, 1.0)))),
        (_("it waited for a processor"), _("{share} of the time").format(
            share=share(min(generator.starved, 1.0)))),
    ]  # fmt: skip
    if result.exchanges:
        pairs.append((_("processor time for an exchange"), duration(result.cpu_per_exchange)))
    if result.lost:
        pairs.append((_("lost while they were held"), count(result.lost)))
    if result.waiting:
        pairs.append((_("waited for a connection at most"), count(result.waiting)))
    if kernel.sampled:
        pairs.append((_("round trip, as the kernel has it"), _("p50 {p50}, p99 {p99}").format(
            p50=duration(kernel.round_trip.percentile(0.5)),
            p99=duration(kernel.round_trip.percentile(0.99)))))  # fmt: skip
        pairs.append((_("segments sent again"), _("{count} on {sampled} connections").format(
            count=count(kernel.retransmitted), sampled=count(kernel.sampled))))  # fmt: skip
    return pairs


def _failed(result: Result) -> str:
    """Of connections that are held and nothing else, there is no whole of which it is a part."""
    number = count(result.failed)
    if counts_connections(result) or not result.failed:
        return number
    return f"{number} ({share(result.failure_share)})"


def _right(text: str) -> Cell:
    return Cell(text, is_number=True)
