"""The listeners of `tieline guard` while they run: together, one server to who waits for it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from typing import Self

from ..errors import UsageError
from ..guard import Guard
from .companions import Beside, companions
from .guard_making import make
from .guard_settings import ListenerSettings
from .guard_telling import Telling
from .log import Log

__all__ = ["RunningGuards", "RunningListener"]


class RunningListener:
    """One listener: a guard, and what runs beside it.

    Attributes:
        settings: what it is told now.
        first_settings: what it was told when it was made.
        guard: what relays.
        tls, upstream_tls: the contexts of both of its sides; `None` without TLS.
        telling: shows what happens.
        beside: where to find what runs beside it.
        has_sockets: whether sockets were handed over for it.
    """

    def __init__(
        self, settings: ListenerSettings, log: Log, sockets: Iterable[socket.socket] = ()
    ) -> None:
        """
        Raises:
            UsageError, SettingError: its settings make no sense.
        """
        self.settings = self.first_settings = settings
        self.telling = Telling(log, settings.name)
        sockets = tuple(sockets)
        self.has_sockets = bool(sockets)
        made = make(settings, sockets, self.telling.on_refuse)
        self.guard: Guard = made.guard
        self.tls: ssl.SSLContext | None = made.tls
        self.upstream_tls: ssl.SSLContext | None = made.upstream_tls
        self.beside = Beside()
        self._listens = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.telling.follow(self.guard)

    async def start(self) -> None:
        """Listen, and run what runs beside it.

        Raises:
            BindError, ResolveError: an address cannot be listened on.
            SettingError: its log cannot be opened.
        """
        self._task = asyncio.create_task(self._live())
        listens = asyncio.create_task(self._listens.wait())
        try:
            await asyncio.wait((self._task, listens), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        finally:
            listens.cancel()
        if self._task.done():
            # It has failed; or it has ended within a moment.
            self._task.result()

    async def _live(self) -> None:
        async with companions(self.guard, self.settings.given) as beside, self.guard:
            self.beside = beside
            self._listens.set()
            await self.guard.wait_closed()

    def tell(self) -> None:
        """Say where it listens."""
        self.telling.listening(self.settings, self.guard, self.beside)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, with what runs beside it."""
        return self._task is not None and self._task.done()

    async def wait_over(self) -> None:
        """Wait until it has."""
        if self._task is not None:
            await asyncio.wait((self._task,))
            self._task.result()

    async def drain(self) -> bool:
        """Let its sessions finish. Whether all did in time."""
        given = self.settings.given
        return await self.guard.drain(given["drain"], given["drain_spread"])

    async def close(self) -> None:
        """Stop now."""
        await self.guard.close()
        await self.wait_over()


class RunningGuards:
    """All listeners of the command. Use it as an asynchronous context; leaving it closes them.

    Args:
        listeners: not started yet.
    """

    def __init__(self, listeners: Iterable[RunningListener]) -> None:
        self._listeners = list(listeners)
        self._leaving: set[asyncio.Task[bool]] = set()
        self._changed = asyncio.Event()
        self._closing: asyncio.Future[None] | None = None
        self.is_draining = False

    @property
    def listeners(self) -> list[RunningListener]:
        """Those that listen."""
        return [each for each in self._all() if not each.guard.is_draining]

    def _all(self) -> list[RunningListener]:
        self._listeners = [each for each in self._listeners if not each.is_over]
        return list(self._listeners)

    def __len__(self) -> int:
        """How many sessions there are."""
        return sum(len(each.guard) for each in self._listeners)

    @property
    def longest_drain(self) -> float:
        """Seconds that sessions have to finish, at the longest."""
        drains = [each.settings.given["drain"] for each in self._listeners]
        return max(drains, default=0.0)

    async def __aenter__(self) -> Self:
        """Start all of them, or none.

        Raises:
            BindError, ResolveError, SettingError: one cannot be started.
        """
        # Side by side: each may have to wait for the resolver.
        starts = [asyncio.create_task(listener.start()) for listener in self._listeners]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for task in starts:
                task.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self.close()
            raise
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        await self.close()

    def tell(self) -> None:
        """Say where each of them listens."""
        for listener in self._listeners:
            listener.tell()

    async def add(self, listener: RunningListener) -> None:
        """Start one more.

        Raises:
            BindError, ResolveError, SettingError: it cannot be started.
            UsageError: they are about to end.
        """
        if self.is_draining:
            raise UsageError("a server that does not listen takes no more addresses")
        await listener.start()
        self._listeners.append(listener)
        self._changed.set()

    def remove(self, listener: RunningListener) -> None:
        """Let one of them listen no longer, and its sessions finish."""
        task = asyncio.create_task(listener.drain())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def wait_closed(self) -> None:
        """Wait until all of them have ended."""
        while listeners := self._all():
            self._changed.clear()
            waiting = [asyncio.create_task(each.wait_over()) for each in listeners]
            changed = asyncio.create_task(self._changed.wait())
            try:
                done, _ = await asyncio.wait(
                    (*waiting, changed), return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                for task in (*waiting, changed):
                    task.cancel()
            for task in done:
                task.result()

    async def drain(self) -> bool:
        """Let the sessions of all of them finish. Whether all did in time."""
        self.is_draining = True
        return all(await asyncio.gather(*(each.drain() for each in self._all())))

    def close_soon(self) -> None:
        """Have all of them stopped."""
        self._closing = asyncio.ensure_future(self.close())

    async def close(self) -> None:
        """Stop all of them now. Idempotent."""
        listeners = self._all()
        for listener in listeners:
            await listener.guard.close()
        ends = [asyncio.create_task(listener.wait_over()) for listener in listeners]
        # What has failed was said when it did.
        await asyncio.gather(*ends, *self._leaving, return_exceptions=True)
