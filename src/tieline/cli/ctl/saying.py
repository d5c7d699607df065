"""What happens to a server, in words: one line for each event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..translation import N_
from ..translation import gettext as _
from .readable import bytes_text, count_text, duration_text

__all__ = ["say", "say_statistics"]

Event = Mapping[str, Any]

#: Sentences, filled in with what the events hold, and with what `_MADE` makes of it.
_TEMPLATES = {
    "server_started": N_("listening on {addresses}"),
    "connection_opened": N_("#{id} {peer}  opened"),
    "connection_refused": N_("{peer}  refused: {reason}"),
    "session_relayed": N_("#{id} {client}  relayed to {upstream} ({address})"),
    "connection_closed": N_("#{id} {peer}  closed: {reason} ({received} in, {sent} out, {time})"),
    "handler_failed": N_("#{id} {peer}  the handler failed: {error}"),
    "limit_spared": N_("{client}  spared by {limit}, which is on trial"),
    "limits_changed": N_("limits changed: {changes}"),
    "client_penalized": N_("{client}  penalty of {seconds}: {why} (owes {owed}{refused})"),
    "client_banned": N_("{network}  banned: {why} ({closed} connections cut off)"),
    "client_unbanned": N_("{network}  may come again"),
    "table_overflowed": N_("more clients than can be told apart: {known} are known ({mode})"),
    "accept_paused": N_("accepting pauses: {why}"),
    "accept_resumed": N_("accepting goes on"),
    "drain_begun": N_("draining: {connections} connections have {seconds}"),
    "drain_ended": N_("drained: {reset} connections were cut off"),
    "tap_begun": N_("#{id} {peer}  tapped by {by}"),
    "tap_ended": N_("#{id}  no longer tapped ({messages} messages)"),
    "upstream_added": N_("upstream {upstream}  added"),
    "upstream_up": N_("upstream {upstream}  up"),
    "upstream_down": N_("upstream {upstream}  down: {why}"),
    "upstream_draining": N_("upstream {upstream}  draining"),
    "upstream_removed": N_("upstream {upstream}  removed"),
    "events_lost": N_("{count} events lost: this reader was too slow"),
}

#: Of a session that has had an upstream.
_RELAYED_TEMPLATE = N_(
    "#{id} {peer}  closed: {reason} (at {upstream}, {received} in, {sent} out, {time})"
)

#: What is put for a field, from the whole event.
_MADE: dict[str, Callable[[Event], str]] = {
    "addresses": lambda event: ", ".join(event["addresses"]),
    "changes": lambda event: ", ".join(event["changes"]),
    "received": lambda event: bytes_text(event["bytes_received"]),
    "sent": lambda event: bytes_text(event["bytes_sent"]),
    "time": lambda event: duration_text(event.get("duration", 0.0)),
    "seconds": lambda event: _time(event["seconds"]),
    "owed": lambda event: duration_text(event["owed"]),
    "refused": lambda event: _(", refused from now on") if event["refused"] else "",
    "known": lambda event: count_text(event["known"]),
}


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration_text(seconds)


class _Fields(dict[str, Any]):
    """What a template asks for. What a newer or older server does not say is left out."""

    def __init__(self, event: Event) -> None:
        super().__init__(event)
        self._event = event

    def __getitem__(self, name: str) -> Any:
        made = _MADE.get(name)
        try:
            return self._event[name] if made is None else made(self._event)
        except (KeyError, TypeError):
            return "?"


def say(event: Event) -> str:
    """One line of words, not yet safe to show. Of an event that is not known here, its fields."""
    name = str(event.get("event"))
    if name in _TEMPLATES:
        was_relayed = name == "connection_closed" and event.get("upstream") is not None
        template = _RELAYED_TEMPLATE if was_relayed else _TEMPLATES[name]
        return _(template).format_map(_Fields(event))
    return " ".join(
        [name, *(f"{key}={value}" for key, value in event.items() if key not in ("event", "time"))]
    )


def say_statistics(event: Event) -> str:
    """A second of a server in one line, whose columns stay where they are."""
    if "waiting" in event:
        template = _(
            "{connections:>6} open +{accepted:<4} -{closed:<4} {refused:>5} refused "
            "{received:>4}/s in {sent:>4}/s out {waiting:>5} wait"
        )
    else:
        template = _(
            "{connections:>6} open +{accepted:<4} -{closed:<4} {refused:>5} refused "
            "{received:>4}/s in {sent:>4}/s out {messages:>5} msg/s"
        )
    return template.format(
        connections=count_text(event["connections"]),
        accepted=count_text(event["accepted"]),
        closed=count_text(event["closed"]),
        refused=count_text(event["refused"]),
        received=bytes_text(event["bytes_received"]),
        sent=bytes_text(event["bytes_sent"]),
        messages=count_text(event["messages_received"]),
        waiting=count_text(event.get("waiting", 0)),
    )
