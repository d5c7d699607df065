"""`tieline bench diff`: two results beside each other, and what of it is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ...bench import Comparison, Result
from ...bench.differing import Difference, Figure, differ
from ...errors import UsageError
from ..commands import Command, Shared
from ..exits import Exit
from ..log import Log
from ..options import Setting, settings
from ..tables import Cell, Column, show_table
from ..translation import N_
from ..translation import gettext as _
from ..visible import visible
from .amounts import count, duration, per_second
from .files import read_result
from .page_tables import moment
from .report import print_wrapped
from .words import failure_name, headline, time_name

__all__ = ["command"]

_FILE = click.Path(path_type=Path)

#: Which of a result's times a figure is of.
_TIMES = {
    "": "exchange", "connect": "connecting", "first_byte": "first_byte", "whole": "whole",
    "lateness": "lateness",
}  # fmt: skip

#: What of two plans may differ.
_PLAN = {
    "address": N_("server"),
    "mode": N_("mode"),
    "connections": N_("connections at once"),
    "pipeline": N_("messages under way"),
    "rate": N_("rate"),
    "tls": N_("TLS"),
    "processes": N_("processes of the load"),
    "message_size": N_("bytes of a message"),
}


@click.command(
    cls=Command,
    help=N_("Compare two results of --save, and say what is more than chance."),
    examples=(
        "tieline bench diff before.json after.json",
        "tieline bench diff before.json after.json --fail-if-worse",
    ),
)
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@settings(
    Setting(["--json"], is_flag=True, brief=True, help=N_("write JSON, for programs")),
    Setting(
        ["--fail-if-worse"], is_flag=True, brief=True,
        help=N_("exit code 99 if something is, by more than chance"),
    ),
)  # fmt: skip
@click.pass_obj
def command(shared: Shared, /, before: Path, after: Path, **given: Any) -> int:
    """Read them, compare, tell."""
    log = shared.log("json" if given["json"] else "text")
    found = _differences(read_result(before), read_result(after))
    if given["json"]:
        _write(log, found)
    else:
        for index, (name, difference) in enumerate(found):
            if index:
                log.print("")
            _tell(log, difference, name)
    worse = any(_worse(difference) for _name, difference in found)
    return Exit.CROSSED if worse and given["fail_if_worse"] else Exit.DONE


def _differences(
    before: Result | Comparison, after: Result | Comparison
) -> list[tuple[str, Difference]]:
    """What there is to compare: a run with a run, of comparisons each kind with its own."""
    if isinstance(before, Comparison) and isinstance(after, Comparison):
        return [
            ("short", differ(before.short, after.short)),
            ("long", differ(before.long, after.long)),
        ]
    if isinstance(before, Result) and isinstance(after, Result):
        return [("", differ(before, after))]
    raise UsageError("one of the two is a single run, and the other one a comparison")


def _better(difference: Difference) -> list[Figure]:
    return [each for each in difference.figures if each.is_difference and each.is_better]


def _worse(difference: Difference) -> list[Figure]:
    return [each for each in difference.figures if each.is_difference and not each.is_better]


# ---- For people


def _tell(log: Log, difference: Difference, name: str) -> None:
    head = {"short": _("short connections"), "long": _("long connections")}.get(name, "")
    for title, result in ((_("before"), difference.before), (_("after"), difference.after)):
        label = " ".join(filter(None, (head, title, moment(result.started))))
        print_wrapped(log, _("{label}: {text}").format(label=label, text=headline(result)))
    for plan, (old, new) in difference.plans.items():
        text = _("! The two were not done alike: {what} {before} before, {after} after.")
        text = text.format(what=_(_PLAN[plan]), before=_value(old), after=_value(new))
        print_wrapped(log, text, 2, style="yellow")
    log.print("")
    _show_figures(log, difference)
    log.print("")
    for text in _verdict(difference):
        print_wrapped(log, text)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, (int, float)):
        return count(value)
    return _("none") if value is None else visible(str(value))


def _show_figures(log: Log, difference: Difference) -> None:
    columns = [
        Column(""), Column(_("before"), right=True), Column(_("after"), right=True),
        Column(_("change"), right=True), Column("", gives=True),
    ]  # fmt: skip
    rows: list[Sequence[Cell]] = [
        [
            _name(each), _shown(each, each.before), _shown(each, each.after), _change(each),
            _judgement(each),
        ]
        for each in difference.figures
    ]  # fmt: skip
    rows += [
        [failure_name(reason), count(old), count(new), "", ""]
        for reason, (old, new) in difference.failures.items()
    ]
    show_table(log, columns, rows)


def _name(figure: Figure) -> str:
    if figure.name == "rate":
        return _("exchanges a second")
    if figure.name == "cpu":
        return _("processor time for an exchange")
    word, dot, share = figure.name.partition(".")
    if not dot or word not in _TIMES:
        word, share = "", figure.name
    share = _("largest") if share == "max" else share
    return _("{time}, {percentile}").format(time=time_name(_TIMES[word]), percentile=share)


def _shown(figure: Figure, value: float) -> str:
    if not value:
        return "–"
    return per_second(value) if figure.name == "rate" else duration(value)


def _change(figure: Figure) -> str:
    if not figure.ratio:
        return ""
    return f"{(figure.ratio - 1) * 100:+,.1f}%"


def _judgement(figure: Figure) -> Cell:
    """Whether it is better or worse, where that can be told."""
    if figure.is_difference is None:
        return ""
    if not figure.is_difference:
        return (_("may be chance"), "dim")
    return (_("better"), "green") if figure.is_better else (_("worse"), "red")


def _verdict(difference: Difference) -> list[str]:
    """What the figures come to, in sentences."""
    better, worse = _better(difference), _worse(difference)
    if difference.plans:
        return [_("So the figures say nothing about the service alone.")]
    texts = []
    if better:
        texts.append(_("Better: {figures}.").format(figures=" · ".join(map(_name, better))))
    if worse:
        texts.append(_("Worse: {figures}.").format(figures=" · ".join(map(_name, worse))))
    if texts:
        return texts
    if all(each.is_difference is None for each in difference.figures):
        return [_("These runs are too short to tell a difference from chance.")]
    return [_("No difference that is more than chance.")]


# ---- For programs


def _write(log: Log, found: Sequence[tuple[str, Difference]]) -> None:
    records = {name: _record(difference) for name, difference in found}
    # A single run has no name.
    log.json_line(type="bench_diff", **records.pop("", records))


def _record(difference: Difference) -> dict[str, Any]:
    return {
        "figures": [
            {
                "name": each.name, "before": each.before, "after": each.after,
                "ratio": each.ratio, "chance": each.chance, "is_difference": each.is_difference,
                "is_better": each.is_better,
            }
            for each in difference.figures
        ],
        "plans": {name: list(pair) for name, pair in difference.plans.items()},
        "failures": {reason: list(pair) for reason, pair in difference.failures.items()},
    }  # fmt: skip
