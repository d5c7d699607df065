"""`tieline guard`: relay connections to upstreams, with the whole policy at the door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from .commands import Command, Shared
from .exits import Exit
from .guard_check import check_all, check_listeners, shortage
from .guard_reload import GuardReload
from .guard_running import RunningGuards, RunningListener
from .guard_settings import (
    OF_THE_PROCESS,
    ListenerSettings,
    check_complete,
    guard_settings,
    listeners_of,
    share_out,
)
from .guard_together import check_together
from .log import Log
from .options import PLACES, settings
from .running import exit_of_signal, raise_descriptor_limit, run_loop
from .service import report, tell_of_signal
from .serving import handed_over_by_name, serve_notifying
from .translation import N_

__all__ = ["command"]


class _Check(click.Option):
    """`--check`: a flag that is no setting, so that no file can switch it on."""

    brief = True


@click.command(
    cls=Command,
    kind="listener",
    outer=OF_THE_PROCESS,
    check_all=check_all,
    help=N_("Relay connections to upstreams, with limits, checks and control at the door."),
    examples=(
        "tieline guard :5432 127.0.0.1:5433 --idle 5m --per-client 20",
        "tieline guard :443 10.0.0.1:443 10.0.0.2:443,backup --send-proxy v2",
        "tieline guard --config guard.toml --check",
    ),
)
@click.argument("addresses", nargs=-1, metavar="[LISTEN UPSTREAM...]")
@settings(*guard_settings())
@click.option("--check", is_flag=True, cls=_Check, help=N_("say what is wrong, and do not listen"))
@click.pass_context
def command(ctx: click.Context, /, check: bool, **given: Any) -> int:
    """Relay until a signal comes."""
    shared: Shared = ctx.obj
    log = shared.log("json" if given["json"] else "text")
    listeners = listeners_of(ctx)
    if check:
        return run_loop(lambda: check_listeners(listeners, log), given["loop"])
    report(log, shared.verbose)
    with handed_over_by_name() as sockets:
        shares = share_out(sockets, listeners)
        for listener in listeners:
            check_complete(listener, has_sockets=bool(shares[listener.name]))
        running = RunningGuards(
            [RunningListener(each, log, shares[each.name]) for each in listeners]
        )
        check_together(listeners)
        _raise_descriptor_limit(listeners, log)
        # Without a file there is nothing to read again: then a hangup ends it, as it ends any
        # program.
        reads = ctx.meta.get(PLACES) is not None
        reload = GuardReload(ctx, running, log) if reads else None
        return run_loop(lambda: _serve(running, log, reload), given["loop"])


def _raise_descriptor_limit(listeners: Sequence[ListenerSettings], log: Log) -> None:
    if text := shortage(listeners, raise_descriptor_limit()):
        log.notice(text)


async def _serve(running: RunningGuards, log: Log, reload: GuardReload | None) -> int:
    def ready(running: RunningGuards) -> None:
        running.tell()
        # Nobody watches any more once stdout's reader has gone.
        log.on_broken_pipe = running.close_soon

    with log.without_waiting():
        number = await serve_notifying(
            running,
            ready=ready,
            stop=running.drain,
            on_signal=lambda number, first: tell_of_signal(
                log, number, first, len(running), running.longest_drain
            ),
            on_hangup=reload,
        )
    return Exit.DONE if number is None else exit_of_signal(number)
