"""`tieline doctor`: how many connections this machine can hold, and what would make it more."""

from __future__ import annotations

from typing import Any

import click

from ..doctor import Load, Role, examine, judge, short_rate
from .commands import Command, Shared
from .doctor_lines import write_lines
from .doctor_telling import tell
from .exits import Exit
from .options import Setting, settings
from .parameters import COUNT, Written
from .translation import N_
from .units import parse_size

__all__ = ["command"]

_SIZE = Written("SIZE", parse_size)

_SETTINGS = (
    Setting(
        ["--for"], type=COUNT, brief=True,
        help=N_("ask about so many; exit code 1 if they cannot be held"),
    ),
    Setting(["--server"], is_flag=True, brief=True, help=N_("as a server")),
    Setting(["--client"], is_flag=True, brief=True, help=N_("as a client, to one HOST:PORT")),
    Setting(["--guard"], is_flag=True, brief=True, help=N_("as a guard, to one upstream")),
    Setting(
        ["--per-connection"], type=_SIZE, default="1KiB", brief=True,
        help=N_("memory that your program keeps for each connection"),
    ),
    Setting(
        ["--sources"], type=COUNT, default="1", brief=True,
        help=N_("addresses of this machine that a client connects from"),
    ),
    Setting(["--json"], is_flag=True, brief=True, help=N_("JSON Lines, for programs")),
)  # fmt: skip


@click.command(
    cls=Command,
    help=N_("Say how many connections this machine can hold, and what ends first."),
    examples=(
        "tieline doctor",
        "tieline doctor --for 100k --server",
        "tieline doctor --for 100k --client --sources 4 --json",
    ),
)
@settings(*_SETTINGS)
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> int:
    """Look at the machine, and say what it can hold."""
    shared: Shared = ctx.obj
    log = shared.log("json" if given["json"] else "text")
    load = Load(per_connection=given["per_connection"], sources=given["sources"])
    roles = [role for role in Role if given[role.value]] or [Role.SERVER, Role.CLIENT]
    machine = examine()
    verdicts = [judge(machine, role, aim=given["for"], load=load) for role in roles]
    show = write_lines if given["json"] else tell
    # A server gives out no ports.
    short = None if roles == [Role.SERVER] else short_rate(machine, load)
    show(log, machine, load, verdicts, short)
    return Exit.DONE if all(verdict.is_met for verdict in verdicts) else Exit.FAILED
