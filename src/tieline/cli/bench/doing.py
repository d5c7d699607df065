"""What the command does: say what will run out, run, tell, write, and judge."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...bench import Comparison, Failure, Mode, Plan, Progress, Result, compare, run
from ...bench.sources import shortages
from ...bench.thresholds import Threshold
from ...errors import TielineError, translate_os_error
from ...framing import Raw
from ..exits import Exit
from ..log import Log
from ..running import raise_descriptor_limit
from ..translation import gettext as _
from ..translation import hint_of, sentence, with_hint
from .amounts import count, duration, per_second, share
from .charts_runs import runs_of
from .files import check_place, document, write_result
from .live import LiveLine
from .page import load_template, write_page
from .report import show_report, show_short

__all__ = ["Telling", "judge", "run_bench"]


@dataclass(frozen=True, slots=True)
class Telling:
    """What becomes of what is measured.

    Attributes:
        html, save: files to be written; `None`: none.
        thresholds: what makes it a failure.
        is_short: whether only its sentences are shown, and nothing while it runs.
    """

    html: Path | None = None
    save: Path | None = None
    thresholds: Sequence[Threshold] = ()
    is_short: bool = False


def run_bench(plan: Plan, compares: bool, telling: Telling, log: Log) -> int:
    """Run a plan, and tell what came of it.

    Args:
        plan: what to do.
        compares: whether it is done twice, over short connections and then over long ones.

    Returns:
        The exit code.

    Raises:
        TielineError: it could not be begun, or a file could not be written.
        KeyboardInterrupt: a second signal came before its end.
    """
    if telling.html is not None:
        load_template()
    for file in (telling.html, telling.save):
        if file is not None:
            check_place(file)
    raise_descriptor_limit()
    for shortage in shortages(plan):
        told = TielineError(shortage.template, hint=shortage.hint, **shortage.fields)
        log.notice(with_hint(sentence(told), hint_of(told)))
    signals: list[signal.Signals] = []
    with LiveLine(shown=not telling.is_short) as live:
        results = _run(plan, compares, live, signals.append)
    if _finds_nobody(results) and log.form != "json":
        refused = ConnectionRefusedError(errno.ECONNREFUSED, "")
        log.error(translate_os_error(refused, "connect", plan.address))
    else:
        _tell(results, telling, log)
    if _waits_in_vain(plan, results):
        log.notice(_("if the server waits for the end of a message, --framing says what ends one"))
    _write(results, telling)
    code = judge(results, telling.thresholds, log)
    terminated = code == Exit.INTERRUPTED and signal.SIGTERM in signals
    return Exit.TERMINATED if terminated else code


def _finds_nobody(results: Result | Comparison) -> bool:
    """Whether there is nothing to tell but that nobody listens there."""
    one = results.short if isinstance(results, Comparison) else results
    return not one.opened and one.failures.keys() == {Failure.REFUSED.value}


def _run(
    plan: Plan, compares: bool, live: LiveLine, on_signal: Callable[[signal.Signals], None]
) -> Result | Comparison:
    if not compares:
        return run(plan, live.show, on_signal)
    names = {Mode.SHORT: _("short"), Mode.LONG: _("long")}

    def show(mode: Mode, progress: Progress) -> None:
        live.show(progress, names[mode])

    return compare(plan, show, on_signal)


def _waits_in_vain(plan: Plan, results: Result | Comparison) -> bool:
    """Whether nothing was answered, perhaps since the server has not yet seen a whole message."""
    one = results.short if isinstance(results, Comparison) else results
    silent = one.failures[Failure.REPLY_TIMEOUT.value] + one.failures[Failure.UNFINISHED.value]
    return isinstance(plan.framing, Raw) and bool(silent) and not one.exchanges


def _tell(results: Result | Comparison, telling: Telling, log: Log) -> None:
    if log.form == "json":
        log.json_line(**document(results))
    elif telling.is_short:
        show_short(log, results)
    else:
        show_report(log, results)


def _write(results: Result | Comparison, telling: Telling) -> None:
    """Write the files; one that cannot be written does not keep the other from it."""
    failed: TielineError | None = None
    for file, write in ((telling.save, write_result), (telling.html, write_page)):
        try:
            if file is not None:
                write(results, file)
        except TielineError as error:
            failed = failed or error
    if failed is not None:
        raise failed


# ---- The exit code

#: Of a run in which nothing was answered: what most of its failures say.
_BY_FAILURE = {
    Failure.REFUSED: Exit.NOT_CONNECTED,
    Failure.UNREACHABLE: Exit.NOT_CONNECTED,
    Failure.CONNECT_TIMEOUT: Exit.TIMED_OUT,
    Failure.TLS: Exit.TLS,
    Failure.RESET: Exit.CLOSED_EARLY,
    Failure.CLOSED_EARLY: Exit.CLOSED_EARLY,
    Failure.REPLY_TIMEOUT: Exit.TIMED_OUT,
    Failure.UNFINISHED: Exit.TIMED_OUT,
    Failure.WRONG_ANSWER: Exit.UNEXPECTED,
}


def judge(results: Result | Comparison, thresholds: Sequence[Threshold], log: Log) -> int:
    """Say which thresholds were crossed.

    Returns:
        The exit code: 130 for a run that was cut short, `CROSSED`, or that of `exit_of_run`.
    """
    runs = runs_of(results) if isinstance(results, Comparison) else []
    measured = [(each.name, each.result) for each in runs]
    if isinstance(results, Result):
        measured = [("", results)]
    crossed = False
    for name, result in measured:
        for threshold in thresholds:
            if threshold.crossed(result):
                crossed = True
                _say_crossed(threshold, result, name, log)
    if any(result.cut_short for _name, result in measured):
        return Exit.INTERRUPTED
    if crossed:
        return Exit.CROSSED
    return max((exit_of_run(result) for _name, result in measured), default=Exit.DONE)


def _say_crossed(threshold: Threshold, result: Result, name: str, log: Log) -> None:
    value = threshold.value(result)
    if value is None:
        text = _("crossed: {threshold}: it was never measured").format(threshold=str(threshold))
    else:
        text = _("crossed: {threshold}: it was {value}")
        text = text.format(threshold=str(threshold), value=_written(threshold, value))
    log.complain(_("{run}: {remark}").format(run=name, remark=text) if name else text)


def _written(threshold: Threshold, value: float) -> str:
    if threshold.is_share:
        return share(value)
    if threshold.is_time:
        return duration(value)
    return per_second(value) if threshold.metric == "rate" else count(value)


def exit_of_run(result: Result) -> Exit:
    """The exit code of a run by itself: that of its failures, if nothing went well."""
    if result.exchanges or (result.opened and result.mode in (Mode.HOLD, Mode.STORM)):
        return Exit.DONE
    most = next(iter(result.failures.most_common(1)), ("", 0))[0]
    known = most in _BY_FAILURE
    return _BY_FAILURE[Failure(most)] if known else Exit.FAILED
