"""How a command serves: until a signal, and under systemd where it was started by that."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from ..run import serve_until_signal
from ..systemd import Served, listening_sockets, notifying
from .translation import ngettext

__all__ = ["handed_over", "serve_notifying"]


@contextlib.contextmanager
def handed_over() -> Iterator[list[socket.socket]]:
    """The listening sockets that systemd hands to this command; closed at the end.

    Raises:
        SettingError: what it hands over cannot be listened on.
    """
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(listening) for _name, listening in listening_sockets()]


async def serve_notifying(
    server: Any,
    *,
    ready: Callable[[Any], object],
    stop: Callable[[], Awaitable[object]],
    on_signal: Callable[[signal.Signals, bool], object],
    on_hangup: Callable[[], object] | None,
) -> signal.Signals | None:
    """As `serve_until_signal`, and tell systemd how the server is doing, if it wants to know."""
    async with notifying(server, status=lambda: _status(server)) as notifier:

        def when_ready(server: Any) -> None:
            ready(server)
            notifier.ready(_status(server))

        def when_signalled(number: signal.Signals, first: bool) -> None:
            notifier.stopping()
            on_signal(number, first)

        def when_hung_up() -> None:
            assert on_hangup is not None
            with notifier.reload():
                on_hangup()

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
