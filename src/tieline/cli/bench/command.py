"""The command's flags, and what they mean together."""

from __future__ import annotations

from typing import Any

import click

from ...address import Address, parse_address
from ..commands import Command, Shared
from ..options import settings
from ..parameters import Written
from ..translation import N_
from .diff import command as diff
from .doing import Telling, run_bench
from .flags import LOAD, MESSAGE, RESULT, WAY
from .planning import check, plan_of

__all__ = ["command"]


class _Bench(Command):
    """`bench`; `bench diff` is a command of its own."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if args[:1] == ["diff"]:
            # Above it stands a context without the arguments of `bench`.
            above = click.Context(click.Command("bench"), parent, info_name, **extra)
            return diff.make_context("diff", args[1:], above)
        return super().make_context(info_name, args, parent, **extra)


@click.command(
    cls=_Bench,
    check=check,
    help=N_("Put a load on a service, and tell what its connections and exchanges take."),
    examples=(
        "tieline bench 127.0.0.1:7788 hello --framing line -c 100 --html report.html",
        "tieline bench 127.0.0.1:7788 --compare --duration 5s",
        "tieline bench diff before.json after.json",
    ),
)
@click.argument("address", type=Written("ADDRESS", parse_address))
@click.argument("message", required=False)
@settings(*LOAD, *MESSAGE, *WAY, *RESULT)
@click.pass_obj
def command(
    shared: Shared, /, address: Address, message: str | None, **given: Any
) -> int:  # fmt: skip
    """Make a plan of it, and run that."""
    plan = plan_of(address, message, given)
    telling = Telling(
        html=given["html"], save=given["save"], thresholds=given["fail_if"],
        is_short=shared.quiet,
    )  # fmt: skip
    log = shared.log("json" if given["json"] else "text")
    return run_bench(plan, given["compare"], telling, log)
