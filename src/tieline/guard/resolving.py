"""Where the names of upstreams lead, looked up again and again."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, TypeAlias

from ..address import Address
from ..errors import TielineError
from ..reactor import Reactor
from ..resolve import Candidate, interleave, lookup_name, not_resolved
from .own_addresses import leads_back
from .pool import Pool
from .upstream import Upstream, known_at_once

__all__ = ["LookUp", "Resolving", "look_up"]

#: Finds where an address leads; raises `TielineError` or `OSError` where it leads nowhere.
LookUp: TypeAlias = Callable[[Address], Awaitable[Sequence[Candidate]]]


async def look_up(address: Address) -> list[Candidate]:
    """Ask the system's resolver.

    Raises:
        ResolveError: there is no such name, or it has no address.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            lookup_name(address), address.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        raise not_resolved(error, address) from error
    return interleave(found)


class Resolving:
    """Looks up the names of a pool's upstreams, and sees whether one leads back to the guard.

    What is found out, the pool is told: a name that leads elsewhere now is taken over, one that
    cannot be looked up keeps the addresses that it had.

    Args:
        pool: whose upstreams.
        look_up: finds the addresses of a name (default: the system's resolver).
    """

    #: Seconds that `start` waits for the resolver, and after which a name that has no address yet
    #: is looked up again.
    PATIENCE: ClassVar[float] = 5.0
    RETRY: ClassVar[float] = 2.0

    def __init__(self, pool: Pool, look_up: LookUp = look_up) -> None:
        self.slot = 0
        self._pool = pool
        self._look_up = look_up
        self._reactor: Reactor | None = None
        self._tasks: dict[Upstream, asyncio.Task[None]] = {}
        self._known: set[Upstream] = set()
        #: When all are looked up again.
        self._due = math.inf

    async def start(self) -> None:
        """Look every name up for the first time, and go on from then.

        It waits until each has been looked up, for 5 seconds at the most; a slow resolver goes on
        in the background. Cancelled, it goes on too: `stop` ends it.
        """
        self._reactor = Reactor.of(asyncio.get_running_loop())
        self._pool.watch(self._on_change)
        self._on_change()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=self.PATIENCE)

    async def stop(self) -> None:
        """Look up no more. Idempotent."""
        self._pool.unwatch(self._on_change)
        reactor, self._reactor = self._reactor, None
        if reactor is not None:
            reactor.withdraw(self)
            reactor.close_if_unused()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def on_deadline(self, now: float) -> float | None:
        """The reactor's call: look up those that have no address yet, and all if it is time."""
        upstreams = self._live()
        all_are_due = now >= self._due
        if all_are_due:
            self._due = self._round_after(now)
        for upstream in upstreams:
            if all_are_due or not upstream.addresses:
                self._see(upstream)
        return self._next(upstreams, now)

    def _round_after(self, now: float) -> float:
        every = self._pool.settings.resolve_every
        return math.inf if every is None else now + every

    def _next(self, upstreams: list[Upstream], now: float) -> float | None:
        unknown = any(not upstream.addresses for upstream in upstreams)
        when = min(self._due, now + self.RETRY) if unknown else self._due
        return None if when == math.inf else when

    def _live(self) -> list[Upstream]:
        return [upstream for upstream in self._pool.upstreams if not upstream.removed]

    def _on_change(self) -> None:
        """Upstreams, settings or the guard's own addresses have changed."""
        reactor = self._reactor
        if reactor is None:
            return
        upstreams = self._live()
        for upstream in upstreams:
            if upstream not in self._known:
                self._see(upstream)
            elif upstream.addresses:
                self._judge(upstream, upstream.addresses)
        self._known = set(upstreams)
        now = reactor.now or reactor.clock()
        after = self._round_after(now)
        # Never later than it would have been: changes may come more often than rounds.
        self._due = after if after == math.inf else min(self._due, after)
        when = self._next(upstreams, now)
        if when is not None:
            reactor.file(self, when)

    def _see(self, upstream: Upstream) -> None:
        if known_at_once(upstream.spec.address):
            self._judge(upstream, upstream.addresses)
        elif upstream not in self._tasks:
            # One at a time: a resolver that hangs is not asked again.
            task = asyncio.get_running_loop().create_task(self._resolve(upstream))
            self._tasks[upstream] = task
            task.add_done_callback(lambda _: self._tasks.pop(upstream))

    async def _resolve(self, upstream: Upstream) -> None:
        try:
            found = await self._look_up(upstream.spec.address)
        except (TielineError, OSError, UnicodeError) as error:
            self._pool.not_resolved(upstream, str(error))
            return
        if found:
            self._judge(upstream, found)
        else:
            why = f"no address is known for {upstream.spec.address.host}"
            self._pool.not_resolved(upstream, why)

    def _judge(self, upstream: Upstream, found: Sequence[Candidate]) -> None:
        """Tell the pool, unless it knows all this already."""
        is_own = leads_back(found, self._pool.own_addresses)
        if is_own != upstream.is_own or set(found) != set(upstream.addresses):
            self._pool.resolved(upstream, found, is_own)
