"""Active checks: each upstream is asked again and again whether it answers."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable

from ..proxy_protocol import build
from ..reactor import Reactor
from ..resolve import Candidate
from .pool import Pool
from .probing import Probe
from .settings import GuardSettings
from .upstream import Upstream

__all__ = ["Checks"]

#: Checks of one upstream come sooner or later by up to this share of their interval, so that
#: those of many upstreams, or of many guards, do not stay together.
_JITTER = 0.1

_log = logging.getLogger("tieline")


class Checks:
    """Checks each upstream of a pool, each on its own time, and tells the pool.

    A check connects to every address of an upstream, and passes if one of them answers: it
    accepts the connection and, with `check_expect`, sends what is expected. A check's connection
    is no session, and counts nowhere.

    Args:
        pool: whose upstreams; its settings say how.
        tls: a client-side context, if the upstreams speak TLS. Only checks that send or expect
            something use it.
        server_name: the name that upstreams must prove to have (default: the host of each).
        chance: for tests, in place of `random.random`.
    """

    def __init__(
        self,
        pool: Pool,
        tls: ssl.SSLContext | None = None,
        *,
        server_name: str | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._pool = pool
        self._tls = tls
        self._server_name = server_name
        self._chance = chance
        self._reactor: Reactor | None = None
        self._checks: dict[Upstream, _Check] = {}

    def start(self) -> None:
        """Check from now on, in the running loop: each upstream for the first time at some moment
        within `check_interval`."""
        self._reactor = Reactor.of(asyncio.get_running_loop())
        self._pool.watch(self._on_change)
        self._on_change()

    async def stop(self) -> None:
        """Check no more. Checks under way end without a result. Idempotent."""
        self._pool.unwatch(self._on_change)
        reactor, self._reactor = self._reactor, None
        if reactor is None:
            return
        tasks = [check.end(reactor) for check in self._checks.values()]
        self._checks.clear()
        reactor.close_if_unused()
        under_way = [task for task in tasks if task is not None]
        if under_way:
            await asyncio.wait(under_way)

    def _on_change(self) -> None:
        """Upstreams or settings have changed: see who is to be checked, and when."""
        reactor = self._reactor
        if reactor is None:
            return
        interval = self._pool.settings.check_interval
        wanted = [] if interval is None else [u for u in self._pool.upstreams if not u.removed]
        for upstream in [upstream for upstream in self._checks if upstream not in wanted]:
            self._checks.pop(upstream).end(reactor)
        now = reactor.now or reactor.clock()
        for upstream in wanted:
            check = self._checks.get(upstream)
            if check is None:
                check = self._checks[upstream] = _Check(self, upstream)
            elif check.interval == interval:
                continue
            check.interval = interval or 0.0
            reactor.withdraw(check)
            reactor.file(check, now + check.interval * self._chance())

    # ---- For each check

    def next_at(self, now: float, interval: float) -> float:
        """When an upstream that is checked now is checked again."""
        return now + interval * (1 + _JITTER * (2 * self._chance() - 1))

    async def check(self, upstream: Upstream) -> None:
        """Check one upstream, and tell the pool."""
        settings = self._pool.settings
        probe = Probe(settings, _header(settings), self._tls, self._name_of(upstream))
        candidates = upstream.addresses
        found = await asyncio.gather(*map(probe.check, candidates))
        # A check that was under way when it was moved says nothing about the new place.
        if upstream.addresses == candidates and not upstream.removed:
            self._tell(upstream, dict(zip(candidates, found, strict=True)))

    def _tell(self, upstream: Upstream, found: dict[Candidate, str | None]) -> None:
        if "" in found.values():
            self._pool.check_passed(upstream, [where for where, wrong in found.items() if wrong])
        elif None not in found.values():
            self._pool.check_failed(upstream, str(next(iter(found.values()))))

    def _name_of(self, upstream: Upstream) -> str | None:
        return self._server_name or upstream.spec.address.host or None


class _Check:
    """The checks of one upstream.

    Attributes:
        interval: seconds between two, as they are filed now.
    """

    __slots__ = ("_checks", "_task", "_upstream", "interval", "slot")

    def __init__(self, checks: Checks, upstream: Upstream) -> None:
        self.slot = 0
        self.interval = 0.0
        self._checks = checks
        self._upstream = upstream
        self._task: asyncio.Task[None] | None = None

    def on_deadline(self, now: float) -> float | None:
        """The reactor's call: begin a check, unless the last one is still under way."""
        upstream = self._upstream
        if self._task is None and upstream.addresses and not upstream.is_own:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._checks.check(upstream))
            self._task.add_done_callback(self._done)
        return self._checks.next_at(now, self.interval)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of ours. The next check may go better.
            _log.exception("unexpected error in a check", exc_info=error)

    def end(self, reactor: Reactor) -> asyncio.Task[None] | None:
        """Check no more. Returns the check under way, which ends soon."""
        reactor.withdraw(self)
        if self._task is not None:
            self._task.cancel()
        return self._task


def _header(settings: GuardSettings) -> bytes:
    """What upstreams that want a PROXY header are told of a connection that is nobody's."""
    if settings.send_proxy == "off":
        return b""
    return build(1 if settings.send_proxy == "v1" else 2, None, None)
