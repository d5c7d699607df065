"""The verbs that go on: `watch` and `tap`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ...control.blocking import Events
from ...control.watching import EVENT_NAMES
from ..exits import Exit
from ..options import Setting
from ..parameters import Written
from ..payload import Payload
from ..translation import N_
from ..translation import gettext as _
from ..units import parse_count
from ..visible import visible
from .readable import bytes_text, clock_text
from .saying import say, say_statistics
from .talking import Talk, verb

__all__ = ["tap", "watch"]

Event = dict[str, Any]


@verb(
    Setting(
        ["--events"], multiple=True, type=click.Choice((*EVENT_NAMES, "none")), metavar="NAME",
        brief=True, help=N_("these only; may be repeated (none: statistics only)"),
    ),
    Setting(["--no-stats"], is_flag=True, brief=True, help=N_("events only")),
    title=N_("Follow what happens to a server: events, and once a second how much."),
    examples=(
        "tieline ctl watch",
        "tieline ctl watch --events connection_refused --no-stats",
        "tieline ctl watch --json | jq .event",
    ),
)  # fmt: skip
def watch(talk: Talk, *, events: tuple[str, ...], no_stats: bool) -> int:
    """Show events until somebody ends it, or the server does."""
    names = [name for name in events if name != "none"] if events else None
    with talk.control() as control:
        following = control.watch(names, stats=not no_stats)
        return _follow(talk, following, lambda event: _show_event(talk, event))


def _follow(talk: Talk, following: Events, show: Callable[[Event], object]) -> int:
    """Show events until there are no more; Ctrl-C is how that is ended, and needs no words."""
    try:
        for event in following:
            show(event)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return _over(talk, following)


def _show_event(talk: Talk, event: Event) -> None:
    if talk.json:
        talk.log.json_line(**event)
        return
    time = clock_text(event.get("time", 0.0))
    if event.get("event") == "stats":
        # To the second, so that the line fits 80 columns.
        talk.log.print(talk.log.dim(f"{time[:8]} {say_statistics(event)}"))
    else:
        talk.log.print(f"{talk.log.dim(time)}  {visible(say(event))}")


@verb(
    Setting(["--hex"], is_flag=True, brief=True, help=N_("show bytes instead of text")),
    Setting(
        ["--most"],
        type=Written("N", parse_count),
        brief=True,
        help=N_("end after so many messages"),
    ),
    title=N_("Show the messages of one connection as they pass. The server's log tells of it."),
    examples=("tieline ctl tap 42", "tieline ctl tap 42 --hex --most 10"),
)
@click.argument("id", type=click.IntRange(min=1))
def tap(talk: Talk, *, id: int, hex: bool, most: int | None) -> int:
    """Show messages until the connection ends, or somebody ends it."""
    talk.log = talk.log_in("hex" if hex else "text")
    with talk.control() as control:
        following = control.tap(id, most=most)
        return _follow(talk, following, lambda event: _show_message(talk, following, event))


def _show_message(talk: Talk, following: Events, event: Event) -> None:
    log = talk.log
    if talk.json:
        log.json_line(**event)
    elif event.get("event") != "message":
        log.complain(visible(str(event.get("error") or say(event))))
    else:
        tapped = following.result or {}
        log.message(tapped["id"], tapped["peer"], event["direction"], _payload(event))
        if event["cut"]:
            log.notice(_("  (cut off: {size} in all)").format(size=bytes_text(event["size"])))


def _payload(event: Event) -> Payload:
    return Payload(bytes.fromhex(event["hex"]), event["text"])


def _over(talk: Talk, following: Events) -> int:
    """Say why there is no more."""
    ended = following.ended or {}
    if talk.json:
        talk.log.json_line(**{"event": "stream_ended", **ended})
    elif ended.get("why") == "connection_closed":
        talk.log.notice(_("the connection has ended: {reason}").format(reason=ended.get("reason")))
    elif ended.get("why") != "most":
        talk.log.notice(_("the server has ended"))
    return Exit.DONE
