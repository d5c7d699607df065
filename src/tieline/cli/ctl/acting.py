"""The verbs that act on connections and clients: `kick`, `ban`, `unban`, `drain`."""

from __future__ import annotations

import click

from ...errors import UsageError
from ..exits import Exit
from ..options import Setting
from ..parameters import DURATION, PAUSE
from ..translation import N_, ngettext
from ..translation import gettext as _
from ..units import format_duration
from .talking import Talk, verb

__all__ = ["ban", "drain", "kick", "unban"]

_NETWORK = click.argument("network", metavar="WHO")


@verb(
    Setting(
        ["--client"], metavar="KEY", brief=True, help=N_("all of this client, as clients names it")
    ),
    title=N_("Cut connections off (RST), by number or by client. Their clients may return."),
    examples=("tieline ctl kick 17 42", "tieline ctl kick --client 10.0.0.7"),
)
@click.argument("ids", nargs=-1, type=click.IntRange(min=1), metavar="[ID]...")
def kick(talk: Talk, *, ids: tuple[int, ...], client: str | None) -> int:
    """Kick them."""
    if bool(ids) == (client is not None):
        raise UsageError("say which: numbers of connections, or --client KEY")
    with talk.control() as control:
        result = control.kick(*ids, client=client)
    count, missing = result["kicked"], result["missing"]
    text = ngettext("{count} connection cut off", "{count} connections cut off", count)
    talk.answer(result, text.format(count=count))
    if missing:
        text = _("no open connection has the number {ids}")
        talk.log.complain(text.format(ids=", ".join(map(str, missing))))
    return Exit.FAILED if missing else Exit.DONE


@verb(
    Setting(
        ["--for", "seconds"],
        type=DURATION,
        brief=True,
        help=N_("for this long; without it, until it is lifted"),
    ),
    Setting(["--why"], default="", metavar="TEXT", brief=True, help=N_("for whoever asks")),
    title=N_("Refuse a client or a network, and cut off what it holds."),
    examples=(
        'tieline ctl ban 10.0.0.0/24 --for 10m --why "port scan"',
        "tieline ctl ban 2001:db8::/32",
        "tieline ctl ban uid:1000",
    ),
)
@_NETWORK
def ban(talk: Talk, *, network: str, seconds: float | None, why: str) -> None:
    """Ban it."""
    with talk.control() as control:
        result = control.ban(network, seconds, why)
    if result["left"] is None:
        text = ngettext(
            "{network} is banned until it is lifted; {count} connection cut off",
            "{network} is banned until it is lifted; {count} connections cut off",
            result["closed"],
        )
    else:
        text = ngettext(
            "{network} is banned for {time}; {count} connection cut off",
            "{network} is banned for {time}; {count} connections cut off",
            result["closed"],
        )
    time = format_duration(result["left"] or 0.0)
    said = text.format(network=result["network"], time=time, count=result["closed"])
    talk.answer(result, said)


@verb(
    title=N_("Lift a ban, and forgive what a client owes in penalties."),
    examples=("tieline ctl unban 10.0.0.0/24",),
)
@_NETWORK
def unban(talk: Talk, *, network: str) -> None:
    """Unban it."""
    with talk.control() as control:
        result = control.unban(network)
    talk.answer(result, _("{network} is not banned any more").format(network=result["network"]))


@verb(
    Setting(
        ["--for", "seconds"],
        type=PAUSE,
        default="10s",
        brief=True,
        help=N_("connections have this long to finish"),
    ),
    Setting(
        ["--spread"],
        type=PAUSE,
        default="0s",
        brief=True,
        help=N_("idle ones are closed one by one over this time, not all at once"),
    ),
    title=N_("Let nobody new in, let connections finish, and wait until the server has ended."),
    examples=("tieline ctl drain", "tieline ctl drain --for 1m --spread 10s"),
)
def drain(talk: Talk, *, seconds: float, spread: float) -> int:
    """Drain it."""
    if spread > seconds:
        raise UsageError("--spread must not be longer than --for")
    with talk.control() as control:
        result = control.drain(seconds, spread)
    count = result["connections"]
    if result["clean"]:
        text = ngettext(
            "the server has ended; {count} connection has finished",
            "the server has ended; {count} connections have finished",
            count,
        )
    else:
        text = _(
            "the server has ended; of {count} connections, those that took too long were cut off"
        )
    talk.answer(result, text.format(count=count))
    return Exit.DONE if result["clean"] else Exit.TIMED_OUT
