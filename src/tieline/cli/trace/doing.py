"""What the command does: get a trace, show it, write the files, and say how it went."""

from __future__ import annotations

import io
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from ...errors import EndOfStreamError, SettingError
from ...trace import Call, Outcome, Step, Trace, Watch, write_pcapng
from ..exits import Exit, exit_of
from ..log import Log
from ..running import exit_of_signal
from ..translation import gettext as _
from .ladder import ASCII, LINES, ladder_lines
from .preview import Preview
from .records import records_of
from .svg import draw

__all__ = ["Drawing", "run_trace"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a trace is shown, and what else is to be written.

    Attributes:
        preview: makes its data readable.
        explain: whether each step says what it means.
        svg: file for a picture, and `pcap` for the packets; `None`: none.
    """

    preview: Preview
    explain: bool
    svg: Path | None
    pcap: Path | None


def run_trace(what: Call | Watch, drawing: Drawing, log: Log) -> int:
    """Get a trace, show it, write the files.

    Returns:
        The exit code.

    Raises:
        SettingError: a file cannot be written.
        TielineError: there is nothing to show: no such name, no right to watch.
    """
    if isinstance(what, Watch):
        log.notice(_("waiting for a connection to port {port}").format(port=what.port))
    seen, ended_by = _see(what)
    code = Exit.DONE
    if seen is not None and (seen.steps or log.form == "json"):
        _show(seen, drawing, log)
    if seen is not None and seen.steps:
        _write_picture(seen, drawing)
        code = _write_packets(seen, drawing.pcap, log)
    if ended_by is not None:
        log.complain(_("interrupted by {signal}").format(signal=ended_by.name))
        return exit_of_signal(ended_by)
    assert seen is not None
    return _told(seen, log, what) or code


class _Interrupted(KeyboardInterrupt):
    """A signal has come. Nothing that handles errors may take it for one."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


def _see(what: Call | Watch) -> tuple[Trace | None, signal.Signals | None]:
    """The trace, or what there is of it when a signal comes; and that signal."""

    def on(number: int, _frame: object) -> None:
        raise _Interrupted(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, on) for number in numbers}
    try:
        return what.run(), None
    except _Interrupted as interrupted:
        return what.so_far(), interrupted.signal
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(seen: Trace, drawing: Drawing, log: Log) -> None:
    if log.form == "json":
        for record in records_of(seen, drawing.preview, explain=drawing.explain):
            log.json_line(**record)
        return
    charset = sys.stdout.encoding or "ascii"
    glyphs = LINES if _fits("├┄▶✕╲●…µ", charset) else ASCII

    def preview(step: Step) -> str:
        # Escapes have a width, too: so they come before the lines are measured.
        return drawing.preview(step).encode(charset, "backslashreplace").decode(charset)

    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 80
    for line in ladder_lines(
        seen, preview, columns=columns, explain=drawing.explain, glyphs=glyphs,
        color=log.paints,
    ):  # fmt: skip
        log.print(line)


def _fits(text: str, charset: str) -> bool:
    """Whether a charset has these characters."""
    try:
        text.encode(charset)
    except UnicodeEncodeError:
        return False
    return True


def _write_packets(seen: Trace, path: Path | None, log: Log) -> Exit:
    if path is None:
        return Exit.DONE
    if not seen.packets:
        log.complain(_("{file} was not written: no packets were captured").format(file=path))
        return Exit.FAILED
    file = io.BytesIO()
    write_pcapng(seen, file)
    _write(path, file.getvalue())
    return Exit.DONE


def _write_picture(seen: Trace, drawing: Drawing) -> None:
    if drawing.svg is not None:
        _write(drawing.svg, draw(seen, drawing.preview, explain=drawing.explain).encode())


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SettingError(
            "{file} cannot be written: {detail}",
            file=str(path), detail=error.strerror or str(error),
        ) from error  # fmt: skip


#: The exit code of a connection that went wrong without an error of ours.
_BY_OUTCOME = {
    Outcome.REFUSED: Exit.NOT_CONNECTED,
    Outcome.UNREACHABLE: Exit.NOT_CONNECTED,
    Outcome.TIMEOUT: Exit.TIMED_OUT,
    Outcome.RESET: Exit.CLOSED_EARLY,
}


def _told(seen: Trace, log: Log, what: Call | Watch) -> Exit:
    """Say what went wrong.

    Returns:
        The exit code for it. What others do to each other is nobody's mistake here.
    """
    failure = seen.failure
    if not seen.steps and isinstance(what, Watch):
        log.complain(_("nobody has connected to port {port}").format(port=what.port))
        return Exit.TIMED_OUT
    if failure is None:
        ours = isinstance(what, Call) and what.close != "reset"
        return _BY_OUTCOME.get(seen.outcome, Exit.DONE) if ours else Exit.DONE
    if isinstance(failure, EndOfStreamError):
        log.complain(_("the peer ended its stream before its reply was whole"))
    else:
        log.error(failure)
    return exit_of(failure)
