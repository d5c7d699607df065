"""The verb `tap`: the messages of one connection as they pass, for one control client."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from ..events import TapBegun, TapEnded
from ..guard import ClientLeg
from ..tap import Passed, PieceTap, Tap
from .columns import AnyConnection
from .outlet import Outlet

if TYPE_CHECKING:
    from ..listening import Listening

__all__ = ["Tapping"]


class Tapping:
    """A tap on a connection whose messages, or on a session whose pieces, go to an outlet, until
    one of the two ends.

    Begin and end are announced as events, so that nobody is read in secret.

    Args:
        server: the connection's.
        connection: what passes on it.
        outlet: where they go.
        most: after how many it ends by itself; `None`: never.
        by: who looks, for the event.
    """

    def __init__(
        self,
        server: Listening,
        connection: AnyConnection,
        outlet: Outlet,
        most: int | None,
        by: str,
    ) -> None:
        self._server = server
        self._connection = connection
        self._outlet = outlet
        self._left = most
        self._tap: Tap | PieceTap | None = (
            PieceTap(connection, self._show)
            if isinstance(connection, ClientLeg)
            else Tap(connection, self._show)
        )
        self._watcher = asyncio.get_running_loop().create_task(self._watch_end())
        if server.events.wanted:
            server.events.announce(TapBegun(id=connection.id, peer=connection.peer, by=by))

    def _show(self, passed: Passed) -> None:
        if self._tap is None:
            return  # it had enough with the one before, which came in the same read
        # What is kept while it waits: the bytes, and text that takes up to four times as much.
        kept = 5 * len(passed.data)
        self._outlet.put(partial(_event, self._connection.id, passed), kept)
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.end()
                self._outlet.end("most")

    async def _watch_end(self) -> None:
        await self._connection.wait_closed()
        self._outlet.end("connection_closed", reason=self._connection.close_reason)

    def end(self) -> None:
        """Look no more. Idempotent."""
        if self._tap is None:
            return
        tap, self._tap = self._tap, None
        tap.remove()
        self._watcher.cancel()
        events = self._server.events
        if events.wanted:
            events.announce(TapEnded(id=self._connection.id, messages=tap.messages))


def _event(id: int, passed: Passed) -> dict[str, Any]:
    event: dict[str, Any] = {
        "event": "message", "time": passed.time, "connection": id,
        "direction": passed.direction, "size": passed.size, "cut": passed.is_cut,
        "text": passed.text, "hex": passed.data.hex(),
    }  # fmt: skip
    if passed.error:
        event |= {"event": "offence", "error": passed.error}
    return event
