"""A bench as one page of HTML: nothing is fetched, so it can be sent, kept and printed."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ... import __version__
from ...bench import Comparison, Result
from ...errors import SettingError, UsageError
from ..translation import gettext as _
from ..visible import visible
from .amounts import count, duration, per_second
from .charts_cost import connection_share, one_exchange, total_time
from .charts_runs import Run, runs_of, said_of
from .charts_spread import histogram, percentile_curve, times_compared
from .charts_time import held, over_time, throughput
from .page_tables import Table, failures, intervals, moment, outcome, percentiles, plan_of
from .page_words import how_to_read, interface
from .words import counts_connections, headline, mode_name, remarks, what_a_connection_costs

if TYPE_CHECKING:
    from jinja2 import Environment, Template

__all__ = ["load_template", "on_its_own", "page", "write_page"]

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        title: what it is about. note: what its charts show.
        charts: SVG; two of them stand beside each other where there is room, if `is_pair`.
        table: its figures. is_folded: whether they are shown on request only.
    """

    title: str
    note: str = ""
    charts: Sequence[str] = ()
    is_pair: bool = False
    table: Table | None = None
    is_folded: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the large figures at the top."""

    value: str
    name: str
    kind: str = field(default="one")


def write_page(results: Result | Comparison, file: Path) -> None:
    """Write a page about a run, or about two that are compared, in the language of the command.

    Raises:
        UsageError: `jinja2`, of the extra `cli`, is not installed.
        SettingError: the file cannot be written.
    """
    text = page(results)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingError(
            "{path} cannot be written: {reason}", path=str(file), reason=error.strerror or error
        ) from error


def page(results: Result | Comparison) -> str:
    """The page.

    Raises:
        UsageError: `jinja2`, of the extra `cli`, is not installed.
    """
    template = load_template()
    script = (_HERE / "page.js").read_text("utf-8")
    runs = runs_of(results)
    one = results.short if isinstance(results, Comparison) else results
    is_comparison = isinstance(results, Comparison)
    return template.render(
        say=interface(),
        address=visible(one.address),
        kind=mode_name("comparison" if is_comparison else one.mode),
        began=moment(one.started),
        version=__version__,
        lead=_lead(results),
        remarks=_remarks(results, runs),
        figures=_figures(results),
        sections=_sections(results, runs),
        plan=plan_of(results),
        outcome=outcome(_measured(results, runs)),
        reading=how_to_read(results),
        script=script,
        script_digest=_digest(script),
    )


def on_its_own(chart: str) -> str:
    """A chart of a page as a file of its own: with its colours and patterns, in both themes.

    Raises:
        UsageError: `jinja2`, of the extra `cli`, is not installed.
    """
    start = chart.index(">") + 1
    opening = re.sub(r'viewBox="0 0 (\S+) ([^"]+)"', _with_margin, chart[: start - 1], count=1)
    opening += ' xmlns="http://www.w3.org/2000/svg">'
    style = _environment().get_template("charts.css").render()
    patterns = (_HERE / "patterns.svg").read_text("utf-8")
    ground = '<rect x="-16" y="-16" width="100%" height="100%" fill="var(--ground)"/>'
    return f"{opening}<style>\n{style}</style>{patterns}{ground}{chart[start:]}"


def _with_margin(view: re.Match[str]) -> str:
    """On a page there is room around a chart, in a file of its own there is none."""
    return f'viewBox="-16 -16 {float(view[1]) + 32:g} {float(view[2]) + 32:g}"'


def load_template() -> Template:
    """The page's template. Call it before a long run, whose result would otherwise have no page.

    Raises:
        UsageError: `jinja2`, of the extra `cli`, is not installed.
    """
    return _environment().get_template("page.html")


def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise UsageError(
            "the command needs {module}: pip install 'tieline[cli]'", module="jinja2"
        ) from error
    return Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _digest(script: str) -> str:
    """By which a browser knows the page's own script: it runs no other one."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _lead(results: Result | Comparison) -> list[str]:
    if isinstance(results, Comparison):
        return [_unbroken(text) for text in what_a_connection_costs(results)]
    return [_unbroken(headline(results))]


def _unbroken(text: str) -> str:
    """A text in which no line ends between a number and its unit."""
    return re.sub(r"(?<=\d) (?=[nµm]?s\b)", "\N{NO-BREAK SPACE}", text)


def _measured(results: Result | Comparison, runs: Sequence[Run]) -> Sequence[Run]:
    """The runs that had a load of their own: the parts of a mixed one had not."""
    return runs if isinstance(results, Comparison) else [Run("", "one", results)]


def _remarks(results: Result | Comparison, runs: Sequence[Run]) -> list[str]:
    return [
        _unbroken(said_of(run, remark))
        for run in _measured(results, runs)
        for remark in remarks(run.result)
    ]


def _figures(results: Result | Comparison) -> list[Figure]:
    if isinstance(results, Comparison):
        if not results.is_whole:
            return []
        return [
            Figure(duration(results.connection_cost), _("a connection costs")),
            Figure(f"{results.cost_in_exchanges:,.1f}", _("exchanges cost as much")),
            Figure(per_second(results.short.per_second), _("exchanges a second, short"), "short"),
            Figure(per_second(results.long.per_second), _("exchanges a second, long"), "long"),
        ]
    times = results.exchange
    figures = [
        Figure(
            per_second(results.per_second),
            _("connections a second") if counts_connections(results) else _("exchanges a second"),
        )
    ]
    if times.count:
        figures.append(Figure(duration(times.percentile(0.5)), "p50"))
        figures.append(Figure(duration(times.percentile(0.99)), "p99"))
    else:
        figures.append(Figure(count(results.held_most), _("open at once")))
    figures.append(
        Figure(count(results.failed), _("failed"), "failed" if results.failed else "one")
    )
    return figures


def _sections(results: Result | Comparison, runs: Sequence[Run]) -> list[Section]:
    """What the page shows: of each chart, only where there is something to draw."""
    sections: list[Section] = []
    with_times = [run for run in runs if run.result.exchange.count]
    over = [run for run in _measured(results, runs) if run.result.per_second]
    if isinstance(results, Comparison) and results.connection_cost:
        sections += _costs(results)
    if over:
        sections.append(
            Section(
                _("Over time"), _("Every step is one piece of the run."),
                _charts_over_time(over), table=intervals(over), is_folded=True,
            )
        )  # fmt: skip
    if with_times:
        sections.append(
            Section(
                _("How exchanges are spread"),
                _("Bars show how many took how long. The curve below stretches the slowest ones."),
                [histogram(with_times), percentile_curve(with_times)],
            )
        )
    if any(run.times(name).count for run in runs for name in ("exchange", "connecting")):
        sections.append(
            Section(
                _("The times beside each other"),
                _("The dot is the median, the thick line goes on to p99, the thin one from the "
                  "smallest to the largest."),
                [times_compared(runs)], table=percentiles(runs),
            )
        )  # fmt: skip
    failed = failures(_measured(results, runs))
    if failed.rows:
        sections.append(
            Section(_("What failed"), _("Each is counted once, where it happened."), table=failed)
        )
    return sections


def _costs(comparison: Comparison) -> list[Section]:
    return [
        Section(
            _("What a connection costs"),
            _("One exchange over a connection of its own, and over one that is there."),
            [one_exchange(comparison)],
        ),
        Section(
            _("From how many exchanges on a long one pays"),
            _("The more exchanges share a connection, the less each pays for it."),
            [total_time(comparison), connection_share(comparison)],
            is_pair=True,
        ),
    ]


def _charts_over_time(runs: Sequence[Run]) -> list[str]:
    charts = [throughput(runs)]
    if runs[0].result.mode == "hold":
        charts.append(held(runs[0]))
    if any(each.most for run in runs for each in run.result.intervals):
        charts.append(over_time(runs))
    return charts
