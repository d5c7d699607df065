"""`tieline ctl`: look into a running server, and direct it, through its control socket.

`talking` is what all verbs share; `looking`, `listing`, `acting`, `limiting`, `guarding` and
`following` have the verbs, `saying` puts what happens into words, `readable` numbers into short
ones.
"""

from __future__ import annotations

from typing import Any

import click

from ..commands import Commands
from ..options import settings
from ..translation import N_
from .talking import talking_settings

__all__ = ["command"]

_VERBS: dict[str, tuple[str, str]] = {
    "info": ("looking:info", N_("the server: since when, how many, how much")),
    "connections": ("listing:connections", N_("the open connections")),
    "connection": ("looking:connection", N_("all there is to know of one connection")),
    "clients": ("listing:clients", N_("the client machines that hold connections")),
    "bans": ("listing:bans", N_("who is banned, and who owes penalties")),
    "metrics": ("looking:metrics", N_("everything as Prometheus reads it")),
    "watch": ("following:watch", N_("what happens, and how much each second")),
    "tap": ("following:tap", N_("the messages of one connection as they pass")),
    "limits": ("limiting:limits", N_("show limits, or change them at once")),
    "settings": ("limiting:settings", N_("show how a guard relays, or change it at once")),
    "upstreams": ("guarding:upstreams", N_("a guard's upstreams")),
    "upstream": ("guarding:upstream", N_("add, drain, enable or remove one")),
    "kick": ("acting:kick", N_("cut connections off, by number or by client")),
    "ban": ("acting:ban", N_("refuse a client or network, and cut off what it holds")),
    "unban": ("acting:unban", N_("lift a ban, forgive penalties")),
    "drain": ("acting:drain", N_("let connections finish, then end the server")),
}


@click.group(
    cls=Commands,
    title=N_("Look into a running server or guard (--control), and direct it."),
    examples=("tieline ctl connections --sort idle --limit 10",),
    found={name: (f"{__name__}.{place}", text) for name, (place, text) in _VERBS.items()},
)
@settings(*talking_settings())
def command(**_given: Any) -> None:
    """What all verbs have in common."""
