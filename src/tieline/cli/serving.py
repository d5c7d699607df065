"""How a command serves: until a signal, and under systemd where it was started by that."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from ..run import serve_until_signal
from ..systemd import Served, listening_sockets, notifying
from .translation import ngettext

__all__ = ["handed_over", "handed_over_by_name", "serve_notifying"]


@contextlib.contextmanager
def handed_over() -> Iterator[list[socket.socket]]:
    """The listening sockets that systemd hands to this command; closed at the end.

    Raises:
        SettingError: what it hands over cannot be listened on.
    """
    with handed_over_by_name() as named:
        yield [listening for _name, listening in named]


@contextlib.contextmanager
def handed_over_by_name() -> Iterator[list[tuple[str, socket.socket]]]:
    """As `handed_over`, each with its name."""
    with contextlib.ExitStack() as stack:
        named = listening_sockets()
        for _name, listening in named:
            stack.enter_context(listening)
        yield named


async def serve_notifying(
    server: Any,
    *,
    ready: Callable[[Any], object],
    stop: Callable[[], Awaitable[object]],
    on_signal: Callable[[signal.Signals, bool], object],
    on_hangup: Callable[[], asyncio.Task[None] | None] | None,
) -> signal.Signals | None:
    """As `serve_until_signal`, and tell systemd how the server is doing, if it wants to know.

    Args:
        on_hangup: as there; what takes a while, it gives back as a task.
    """
    async with notifying(server, status=lambda: _status(server)) as notifier:

        def when_ready(server: Any) -> None:
            ready(server)
            notifier.ready(_status(server))

        def when_signalled(number: signal.Signals, first: bool) -> None:
            notifier.stopping()
            on_signal(number, first)

        def when_hung_up() -> None:
            assert on_hangup is not None
            with contextlib.ExitStack() as stack:
                stack.enter_context(notifier.reload())
                under_way = on_hangup()
                if under_way is not None:
                    later = stack.pop_all()
                    under_way.add_done_callback(lambda _: later.close())

        return await serve_until_signal(
            server,
            ready=when_ready,
            stop=stop,
            on_signal=when_signalled,
            on_hangup=None if on_hangup is None else when_hung_up,
        )


def _status(server: Served) -> str:
    """The server in a few words, for `systemctl status`."""
    count = len(server)
    if server.is_draining:
        text = ngettext("draining: {count} connection", "draining: {count} connections", count)
    else:
        text = ngettext("{count} connection", "{count} connections", count)
    return text.format(count=count)
