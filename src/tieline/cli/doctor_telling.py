"""What `tieline doctor` says to people: a table for each role, then sentences."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence

from ..doctor import Ceiling, Load, Machine, Remedy, Role, ShortRate, Verdict, What
from .doctor_words import arithmetic, cost_of, count, name_of, size, what_to_do
from .help_screen import wrap
from .log import Log
from .tables import Column, show_table
from .translation import N_, ngettext
from .translation import gettext as _
from .visible import visible

__all__ = ["tell"]

_HEADS = {
    Role.SERVER: N_("As a server a process can hold {connections} connections."),
    Role.CLIENT: N_("As a client a process can hold {connections} connections to one HOST:PORT."),
    Role.GUARD: N_("As a guard a process can hold {connections} sessions with one upstream."),
}

_OWN = {
    Role.SERVER: N_("A server needs {count} descriptors itself."),
    Role.CLIENT: N_("A client needs {count} descriptors itself."),
    Role.GUARD: N_("A guard needs {count} descriptors itself, and 2 for each session."),
}

_UNBOUNDED = {
    Role.SERVER: N_("As a server: nothing is known that bounds it."),
    Role.CLIENT: N_("As a client: nothing is known that bounds it."),
    Role.GUARD: N_("As a guard: nothing is known that bounds it."),
}


def tell(
    log: Log, machine: Machine, load: Load, verdicts: Sequence[Verdict], short: ShortRate | None
) -> None:
    """Say what can be held, what ends first, and what would raise it."""
    for index, verdict in enumerate(verdicts):
        if index:
            log.print("")
        _tell_of_role(log, machine, load, verdict)
    notes = list(_notes(machine, verdicts, short))
    if notes:
        log.print("")
    for note in notes:
        _print(log, note)


def _tell_of_role(log: Log, machine: Machine, load: Load, verdict: Verdict) -> None:
    if verdict.first is None:
        _print(log, _(_UNBOUNDED[verdict.role]))
    else:
        head = _(_HEADS[verdict.role]).format(connections=count(verdict.first.connections))
        text = _("{head} What ends first: {what}.")
        _print(log, text.format(head=head, what=name_of(verdict.first)))
        log.print("")
        _show_ceilings(log, verdict)
    if verdict.aim is not None:
        log.print("")
        _answer(log, machine, load, verdict, verdict.aim)


def _show_ceilings(log: Log, verdict: Verdict) -> None:
    columns = (
        Column("  " + _("what ends")), Column(_("room for"), right=True),
        Column(_("worked out"), gives=True), Column(_("setting"), gives=True),
    )  # fmt: skip
    aim = verdict.aim or 0
    rows = [
        (
            "  " + name_of(each),
            (count(each.connections), "red" if each.connections < aim else ""),
            arithmetic(each),
            each.setting or "-",
        )
        for each in verdict.ceilings
    ]
    show_table(log, columns, rows)


def _answer(log: Log, machine: Machine, load: Load, verdict: Verdict, aim: int) -> None:
    """Say whether the aim can be met, and what it takes."""
    memory = size(aim * load.memory(verdict.role))
    if verdict.is_met:
        text = _("{aim}: yes. Idle, they take {memory} of memory.")
        _print(log, text.format(aim=count(aim), memory=memory))
        return
    text = _("{aim}: no. What it takes, beside {memory} of memory for all of them while idle:")
    _print(log, text.format(aim=count(aim), memory=memory))
    for ceiling in verdict.ceilings:
        for remedy in verdict.remedies.get(ceiling.what, ()):
            _suggest(log, machine, ceiling, remedy)
        if verdict.remedies.get(ceiling.what) == ():
            text = _("no setting allows one process so many")
            line = _("{label}: {text}").format(label=name_of(ceiling), text=text)
            _print(log, f"  {line}", 4)


def _suggest(log: Log, machine: Machine, ceiling: Ceiling, remedy: Remedy) -> None:
    head = _("or {what}") if remedy.is_alternative else "{what}"
    what = head.format(what=what_to_do(remedy))
    line = _("{label}: {text}").format(label=name_of(ceiling), text=what)
    _print(log, f"  {line}", 4)
    if remedy.command:
        label = _("now, as root") if remedy.needs_root else _("now")
        # Whole, so that it can be copied.
        log.print("    " + _("{label}: {text}").format(label=label, text=remedy.command))
    for label, text in _details(machine, remedy):
        _print(log, "    " + _("{label}: {text}").format(label=label, text=text), 6)


def _details(machine: Machine, remedy: Remedy) -> Iterator[tuple[str, str]]:
    if remedy.setting == "RLIMIT_NOFILE" and machine.raises_limits is False:
        yield _("but"), _("this process may not: it lacks the right CAP_SYS_RESOURCE")
    if remedy.unit:
        yield _("for a service"), _("{line} in its unit").format(line=remedy.unit)
    if remedy.lasting:
        yield _("to last"), remedy.lasting
    if cost := cost_of(remedy):
        yield _("costs"), cost


def _notes(machine: Machine, verdicts: Sequence[Verdict], short: ShortRate | None) -> Iterator[str]:
    """What else bears on it."""
    roles = {verdict.role for verdict in verdicts}
    for verdict in verdicts:
        for ceiling in verdict.ceilings:
            if ceiling.what is What.DESCRIPTORS:
                text = _(_OWN[verdict.role])
                yield text.format(count=count(ceiling.parts["own"]))
    soft, hard = machine.soft_descriptors, machine.hard_descriptors
    if soft is not None and hard is not None and soft < hard:
        yield _(
            "The soft limit of open files is {soft}. Tieline raises it to the hard one, {hard}, by "
            "itself; other programs may not."
        ).format(soft=count(soft), hard=count(hard))
    wanted = verdicts[0].aim or verdicts[0].connections
    if machine.buffers_most is not None and wanted:
        yield _(
            "Bytes that wait in buffers may take {size} of all connections together "
            "(net.ipv4.tcp_mem): {each} each of {count}."
        ).format(
            size=size(machine.buffers_most), count=count(wanted),
            each=size(machine.buffers_most / (wanted * verdicts[0].role.ends)),
        )  # fmt: skip
    if short is not None:
        yield from _of_short_connections(machine, short)
    if machine.backlog_most is not None and roles - {Role.CLIENT}:
        yield _(
            "At most {backlog} clients wait to be accepted (net.core.somaxconn); those beyond try "
            "again after a second."
        ).format(backlog=count(machine.backlog_most))
    if machine.processors is not None:
        text = ngettext(
            "There is {count} processor. A process of tieline uses one.",
            "There are {count} processors. A process of tieline uses one.",
            1 if machine.processors == 1 else 2,
        )
        yield text.format(count=f"{machine.processors:g}")
    if machine.unknown:
        names = ", ".join(machine.unknown)
        yield _("Not known here, and left out: {names}.").format(names=names)


def _of_short_connections(machine: Machine, short: ShortRate) -> Iterator[str]:
    text = _(
        "Short connections to one HOST:PORT, closed from this side: {rate} a second for as long as "
        "you like, since each of {ports} ports then rests for {seconds} s."
    )
    yield text.format(
        rate=count(int(short.elsewhere)), ports=count(short.ports), seconds=f"{short.rest:g}"
    )
    if short.rest_loopback != short.rest:
        text = _("Within this machine it is {seconds} s (net.ipv4.tcp_tw_reuse): {rate} a second.")
        yield text.format(rate=count(int(short.loopback)), seconds=f"{short.rest_loopback:g}")
    if machine.time_wait_now:
        text = _("Resting now (TIME-WAIT): {count}.")
        yield text.format(count=count(machine.time_wait_now))


def _print(log: Log, text: str, indent: int = 0) -> None:
    """A sentence, in lines that fit the terminal; where there is none, in one."""
    if not sys.stdout.isatty():
        log.print(visible(text))
        return
    most = shutil.get_terminal_size().columns
    first = len(text) - len(text.lstrip())
    lines = wrap(visible(text.lstrip()), max(20, most - indent))
    for index, line in enumerate(lines):
        log.print(" " * (indent if index else first) + line)
