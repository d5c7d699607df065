"""What `Connection.send` returns: done at once, or when the peer has caught up."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Protocol

__all__ = ["ALREADY_DONE", "Drain"]


class _AlreadyDone:
    """An awaitable that never waits. One for all, since it has no state."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        # Any iterator will do for `await`, and this one costs no frame.
        return iter(())  # type: ignore[return-value]


ALREADY_DONE = _AlreadyDone()


class _Drainable(Protocol):
    def _wait_drained(self) -> asyncio.Future[None] | None: ...


class Drain:
    """Waits, when awaited, while more is owed to the peer than the high-water mark.

    Raises:
        ConnectionClosedError: the connection ended before that; what was owed is lost.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: _Drainable) -> None:
        self._connection = connection

    def __await__(self) -> Generator[Any, None, None]:
        future = self._connection._wait_drained()
        if future is not None:
            yield from future
            # Woken at the end too: then this raises.
            self._connection._wait_drained()
