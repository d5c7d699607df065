"""Which upstreams are for a name that clients ask for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from .upstream import Upstream, UpstreamState

__all__ = ["Route", "Routes", "Waiting"]


class Waiting(Protocol):
    """A session that waits for an upstream with room."""

    @property
    def key(self) -> str:
        """Its client, for a stable choice."""

    @property
    def name(self) -> str | None:
        """The name that it asked for."""

    @property
    def tried(self) -> Collection[Upstream]:
        """Upstreams that have failed it."""

    def on_room(self) -> None:
        """It waits no more: it may choose again, and finds one, or that none is left."""


class Route:
    """The upstreams for some names, and the sessions that wait for one of them.

    Attributes:
        upstreams: all of them.
        up: those that sessions may go to now: they are up, have a share, and their addresses are
            known; backups only if nothing else is. Full ones are among them.
        hope: whether any is up, though its address may be yet unknown.
        waiting: who waits, in order, with a number that counts on through all routes.
    """

    __slots__ = ("hope", "up", "upstreams", "waiting")

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self.upstreams = tuple(upstreams)
        self.up: tuple[Upstream, ...] = ()
        self.hope = False
        self.waiting: dict[Waiting, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """See anew which are up."""
        up = [
            upstream
            for upstream in self.upstreams
            if upstream.state is UpstreamState.UP and upstream.spec.weight
        ]
        self.hope = bool(up)
        known = [upstream for upstream in up if upstream.addresses]
        primary = [upstream for upstream in known if not upstream.spec.backup]
        self.up = tuple(primary or known)

    def first_ready(self) -> Waiting | None:
        """Who has waited longest of those for whom there is room, or no hope any more."""
        if not self.waiting:
            return None
        if not self.hope:
            return next(iter(self.waiting))
        free = [upstream for upstream in self.up if upstream.sessions < upstream.most]
        if free:
            for waiting in self.waiting:
                tried = waiting.tried
                if not tried or any(upstream not in tried for upstream in free):
                    return waiting
        return None


class Routes:
    """All routes, by name.

    Which upstreams are for a name does not depend on which are up: nobody is sent to another
    service because his own is down. An exact name goes before `*.name`, which is for all names
    below it, and the longest of those before the others; what no upstream has goes to those that
    have no names.
    """

    __slots__ = ("_exact", "_nobody", "_of", "_plain", "_wild", "all")

    def __init__(self, upstreams: Iterable[Upstream] = ()) -> None:
        plain: list[Upstream] = []
        by_name: dict[str, list[Upstream]] = {}
        for upstream in upstreams:
            if not upstream.spec.names:
                plain.append(upstream)
            for name in upstream.spec.names:
                by_name.setdefault(name, []).append(upstream)
        #: One route for all names of the same upstreams, so that their sessions wait in one row.
        made: dict[tuple[Upstream, ...], Route] = {}
        self._nobody = Route(())
        self._plain = _made(made, plain) if plain else self._nobody
        self._exact: dict[str, Route] = {}
        self._wild: dict[str, Route] = {}
        for name, those in by_name.items():
            table = self._wild if name.startswith("*.") else self._exact
            table[name.removeprefix("*.")] = _made(made, those)
        self.all: tuple[Route, ...] = (*made.values(), self._nobody)
        self._of: dict[Upstream, list[Route]] = {}
        for route in made.values():
            for upstream in route.upstreams:
                self._of.setdefault(upstream, []).append(route)

    def find(self, name: str | None) -> Route:
        """The route of a name; of `None`, and of a name that nobody has, the nameless ones'."""
        if name is None:
            return self._plain
        route = self._exact.get(name)
        if route is None and self._wild:
            route = self._find_wild(name)
        return route or self._plain

    def _find_wild(self, name: str) -> Route | None:
        rest = name.partition(".")[2]
        while rest:
            route = self._wild.get(rest)
            if route is not None:
                return route
            rest = rest.partition(".")[2]
        return None

    def of(self, upstream: Upstream) -> Collection[Route]:
        """The routes that lead to an upstream."""
        return self._of.get(upstream, ())


def _made(made: dict[tuple[Upstream, ...], Route], upstreams: list[Upstream]) -> Route:
    those = tuple(upstreams)
    route = made.get(those)
    if route is None:
        route = made[those] = Route(those)
    return route
