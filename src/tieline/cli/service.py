"""What `tieline serve` does with connections, and what it shows of them."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from ..address import Address
from ..connection import Connection
from ..reasons import CloseReason
from ..server import Server
from .companions import Beside
from .control_path import default_control_path
from .handlers import is_conversation
from .log import Log
from .payload import Payload
from .translation import gettext as _
from .translation import ngettext
from .units import format_duration
from .visible import visible
from .watched import WatchedConnection, send_shown
from .written import Parts

__all__ = [
    "HandlerReports",
    "Refusals",
    "Service",
    "how_to_look",
    "how_to_talk",
    "report",
    "tell_of_signal",
]


class Service:
    """Shows what happens on a server's connections, and answers as it was asked to.

    Args:
        log: where it shows it.
        once: serve one connection, and let nobody else in.
    """

    def __init__(self, log: Log, *, once: bool) -> None:
        self._log = log
        self._once = once
        self._served: Connection | None = None
        self._watched: dict[int, WatchedConnection] = {}
        self._closing: asyncio.Task[None] | None = None
        #: A client was told no at the door.
        self.on_refuse = Refusals(log)
        self.server: Server | None = None
        #: Seconds that connections have to finish, and over which idle ones are closed.
        self.drain, self.drain_spread = 10.0, 0.0

    def handler(self, *, reply: Parts | None, echo: bool, own: Any) -> Callable[..., Any]:
        """The handler for the library: one of these, or one that only shows."""
        log = self._log

        def show(connection: Connection, payload: Payload) -> None:
            log.message(connection.id, connection.peer, "in", payload)
            if echo:
                send_shown(connection, log, payload.data)
            elif reply is not None:
                send_shown(connection, log, *reply)

        def respond(connection: Connection, payload: Payload) -> None:
            watched = self._watched[connection.id]
            answer = own(watched, watched.show(payload))
            if answer is not None:
                watched.send(answer)

        async def converse(connection: Connection) -> None:
            await own(self._watched[connection.id])

        if own is None:
            return show
        return converse if is_conversation(own) else respond

    # ---- What the library calls

    def on_open(self, connection: Connection) -> None:
        """A connection is there."""
        if self._once and self._served is not None:
            # It came in the same moment as the one that is served.
            connection.abort()
            return
        self._served = connection
        self._watched[connection.id] = WatchedConnection(connection, self._log)
        self._log.opened(connection.id, connection.peer, connection.local)
        if self._once and self.server is not None:
            self.server.close_listeners()

    def on_close(self, connection: Connection, reason: CloseReason) -> None:
        """A connection has ended."""
        if self._watched.pop(connection.id, None) is not None:
            self._log.closed(
                connection.id, connection.peer, reason.value,
                connection.bytes_sent, connection.bytes_received,
            )  # fmt: skip

    def on_ready(self, server: Server, beside: Beside) -> None:
        """It listens."""
        addresses = [str(address) for address in server.addresses]
        also = {"control": beside.control, "metrics": beside.metrics}
        self._log.event(
            "listening", addresses=addresses, **{name: at for name, at in also.items() if at}
        )
        self._log.notice(_("listening on {addresses}").format(addresses=", ".join(addresses)))
        for line in [*how_to_talk(server.addresses[0]), *how_to_look(beside)]:
            self._log.notice("  " + line)
        # Nobody watches any more once stdout's reader has gone.
        self._log.on_broken_pipe = self._close

    def _close(self) -> None:
        assert self.server is not None
        self._closing = asyncio.ensure_future(self.server.close())

    def stop(self) -> Awaitable[object]:
        """Let connections finish."""
        assert self.server is not None
        return self.server.drain(self.drain, self.drain_spread)

    def on_signal(self, number: signal.Signals, first: bool) -> None:
        """SIGINT or SIGTERM has come."""
        assert self.server is not None
        tell_of_signal(self._log, number, first, len(self.server), self.drain)


class Refusals:
    """Shows that a client was told no at the door: once a second at most, with how many more.

    Args:
        log: where it shows it.

    Attributes:
        head: what the line begins with.
        more: what else programs are told.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.head = ""
        self.more: dict[str, Any] = {}
        # When the next one may be shown, and how many were not since the last one.
        self._from = 0.0
        self._unshown = 0

    def __call__(self, peer: Address, reason: CloseReason) -> None:
        now = time.monotonic()
        if now < self._from:
            self._unshown += 1
            return
        unshown, self._unshown = self._unshown, 0
        self._from = now + 1.0
        self._log.event(
            "refused", peer=str(peer), reason=reason.value, unshown=unshown, **self.more
        )
        text = _("refused {peer}: {reason}").format(peer=visible(str(peer)), reason=reason.value)
        if unshown:
            more = ngettext("and {count} more", "and {count} more", unshown)
            text += " (" + more.format(count=unshown) + ")"
        self._log.notice(self.head + text)


def tell_of_signal(
    log: Log, number: signal.Signals, first: bool, count: int, seconds: float
) -> None:
    """Say what a signal means for `count` connections, which have so many seconds to finish."""
    if not first:
        log.notice(_("{signal}: leaving now").format(signal=number.name))
        return
    log.event("draining", signal=number.name, connections=count)
    if not count:
        log.notice(_("{signal}: stopping").format(signal=number.name))
        return
    text = ngettext(
        "{signal}: no newcomers; {count} connection has {time} to finish (again: leave now)",
        "{signal}: no newcomers; {count} connections have {time} to finish (again: leave now)",
        count,
    )
    allowed = format_duration(seconds)
    log.notice(text.format(signal=number.name, count=count, time=allowed))


def how_to_talk(address: Address) -> list[str]:
    """Three lines on how to talk to a server."""
    if address.is_unix:
        path = str(address).removeprefix("unix:")
        commands = [f"{_own_name()} connect unix:{path}", f"ncat -U {path}", f"socat - UNIX:{path}"]
    else:
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(
            address.host, address.host
        )
        dialled = str(Address(host, address.port))
        commands = [
            f"{_own_name()} connect {dialled}", f"ncat {host} {address.port}",
            f"telnet {host} {address.port}",
        ]  # fmt: skip
    first, *others = commands
    return [
        _("talk to it with: {command}").format(command=first),
        *(_("or: {command}").format(command=other) for other in others),
    ]


def how_to_look(beside: Beside) -> list[str]:
    """Where a running server can be looked into."""
    lines = []
    if beside.control:
        default = beside.control == default_control_path(os.environ, os.geteuid())
        where = "" if default else f" --control {beside.control}"
        command = f"{_own_name()} ctl{where} info"
        lines.append(_("look into it with: {command}").format(command=command))
    if beside.metrics:
        lines.append(_("metrics: {url}").format(url=f"http://{beside.metrics}/metrics"))
    return lines


def _own_name() -> str:
    """How this command is called from here: it may not be on the PATH."""
    called = sys.argv[0]
    if shutil.which("tieline") or os.path.basename(called) != "tieline":
        return "tieline"
    return os.path.relpath(called)


def report(log: Log, verbose: bool) -> None:
    """Show what the library logs."""
    logger = logging.getLogger("tieline")
    logger.addHandler(HandlerReports(log, verbose=verbose))
    logger.propagate = False
    if verbose:
        logger.setLevel(logging.INFO)


class HandlerReports(logging.Handler):
    """Says in a sentence what the library logs: that a handler failed, and where.

    Args:
        log: where it is said.
        verbose: whether the whole traceback follows; and whether it is said too who asked for
            what on the control socket.
    """

    def __init__(self, log: Log, *, verbose: bool) -> None:
        super().__init__(logging.INFO if verbose else logging.WARNING)
        self._shown = log
        self._verbose = verbose

    def emit(self, record: logging.LogRecord) -> None:
        text = _(str(record.msg)) % (record.args or ())
        if record.levelno < logging.WARNING:
            self._shown.notice(visible(text))
            return
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            self._shown.complain(visible(text))
            return
        where = traceback.extract_tb(error.__traceback__)[-1]
        self._shown.complain(
            visible(f"{text}: {type(error).__name__}: {error} ({where.filename}:{where.lineno})")
        )
        if self._verbose:
            self._shown.complain("".join(traceback.format_exception(error)).rstrip())
