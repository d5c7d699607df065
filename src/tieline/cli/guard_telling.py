"""What `tieline guard` shows of its listeners and their sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..events import (
    ConnectionClosed,
    Event,
    EventsLost,
    SessionRelayed,
    UpstreamAdded,
    UpstreamDown,
    UpstreamDraining,
    UpstreamRemoved,
    UpstreamUp,
)
from ..guard import Guard, UpstreamSpec
from .companions import Beside
from .guard_settings import ListenerSettings
from .log import Log
from .service import Refusals, how_to_look
from .translation import N_, ngettext
from .translation import gettext as _
from .visible import visible

__all__ = ["Telling", "where_to"]

#: Events of one listener that may wait to be shown; those above are counted.
_CAPACITY = 10_000

#: What is said of an upstream, by the event.
_OF_UPSTREAMS: dict[type[Event], str] = {
    UpstreamUp: N_("upstream {upstream} is up again"),
    UpstreamDown: N_("upstream {upstream} is down: {why}"),
    UpstreamAdded: N_("upstream {upstream} was added"),
    UpstreamDraining: N_("upstream {upstream} gets no new sessions"),
    UpstreamRemoved: N_("upstream {upstream} was removed"),
}


class Telling:
    """Shows what happens on one listener.

    Args:
        log: where it shows it.
        name: what the listener is called; empty: there is no need to say which.
    """

    def __init__(self, log: Log, name: str) -> None:
        self._log = log
        #: A client was told no at the door.
        self.on_refuse = Refusals(log)
        self.call(name)
        self._of_sessions: dict[type[Event], Callable[[Any], object]] = {
            SessionRelayed: self._relayed,
            ConnectionClosed: self._closed,
            EventsLost: self._lost,
        }

    @property
    def _which(self) -> dict[str, str | None]:
        return {"listener": self._name or None}

    def call(self, name: str) -> None:
        """Call the listener this from now on."""
        self._name = name
        self._head = self.on_refuse.head = f"{name}: " if name else ""
        self.on_refuse.more = self._which

    def follow(self, guard: Guard) -> None:
        """Show what happens to its sessions and upstreams; before it starts."""
        # Events cost something; where nobody is shown anything, none are made.
        if self._log.shows_connections:
            guard.events.subscribe(self._on_event, _CAPACITY)

    def listening(self, listener: ListenerSettings, guard: Guard, beside: Beside) -> None:
        """It listens."""
        addresses = [str(address) for address in guard.addresses]
        upstreams = [str(spec) for spec in listener.upstreams]
        also = {"control": beside.control, "metrics": beside.metrics}
        self._log.event(
            "listening", addresses=addresses, **{name: at for name, at in also.items() if at},
            **self._which, upstreams=upstreams,
        )  # fmt: skip
        text = _("listening on {addresses}").format(addresses=", ".join(addresses))
        self._log.notice(self._head + text)
        goes_on = _("goes on to {upstreams}").format(upstreams=where_to(listener.upstreams))
        for line in [goes_on, *how_to_look(beside)]:
            self._log.notice("  " + line)

    def listens_no_longer(self, guard: Guard) -> None:
        """It was taken out of the settings; its sessions have a while to finish."""
        text = ngettext(
            "no longer listening; {count} session finishes",
            "no longer listening; {count} sessions finish",
            len(guard),
        )
        self._log.notice("  " + self._head + text.format(count=len(guard)))

    # ---- Events

    def _on_event(self, event: Event) -> None:
        show = self._of_sessions.get(type(event))
        if show is not None:
            show(event)
        elif type(event) in _OF_UPSTREAMS:
            said = event.as_dict()
            del said["event"], said["time"]
            self._log.event(event.name, **self._which, **said)
            text = _(_OF_UPSTREAMS[type(event)]).format(**said)
            self._log.notice(self._head + visible(text))

    def _relayed(self, event: SessionRelayed) -> None:
        self._log.relayed(
            event.id, event.peer, self._name, event.upstream,
            address=str(event.address), waited=round(event.waited, 6),
        )  # fmt: skip

    def _closed(self, event: ConnectionClosed) -> None:
        self._log.session_closed(
            event.id, event.peer, self._name, event.upstream, event.reason.value,
            event.bytes_sent, event.bytes_received, event.duration,
        )  # fmt: skip

    def _lost(self, event: EventsLost) -> None:
        self._log.event("lost", count=event.count, **self._which)
        text = ngettext(
            "{count} event came too fast to be shown",
            "{count} events came too fast to be shown",
            event.count,
        )
        self._log.notice(self._head + text.format(count=event.count))


def where_to(upstreams: tuple[UpstreamSpec, ...]) -> str:
    """Upstreams for people: their addresses, and their names where they have others."""
    return ", ".join(map(_upstream, upstreams))


def _upstream(spec: UpstreamSpec) -> str:
    address = str(spec.address)
    text = address
    if spec.name != address:
        text = _("{upstream} ({address})").format(upstream=spec.name, address=address)
    return _("{upstream} as a backup").format(upstream=text) if spec.backup else text
