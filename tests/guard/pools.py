"""A pool with a clock that only tests move, and sessions that say what became of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from tieline.events import Event
from tieline.guard.pool import Pool
from tieline.guard.settings import GuardSettings
from tieline.guard.spec import UpstreamSpec, parse_upstream
from tieline.guard.upstream import Upstream

__all__ = ["Bench", "Session", "specs"]


def specs(*texts: str) -> list[UpstreamSpec]:
    """Upstreams: `a` is one of that name, `a,max=2` has something to it."""
    found = []
    for text in texts:
        name, comma, rest = text.partition(",")
        port = 1 + sum(name.encode()) % 60_000
        found.append(parse_upstream(f"127.0.0.1:{port},name={name}{comma}{rest}"))
    return found


class Bench:
    """A pool under test.

    Attributes:
        told: its events: `+a` added, `a up`, `a down: why`, `a draining`, `-a` removed.
        soon: what it wants called soon.
    """

    def __init__(self, *texts: str, **settings: Any) -> None:
        self.now = 1_000.0
        self.told: list[str] = []
        self.soon: list[Callable[[], None]] = []
        self.pool = Pool(
            GuardSettings(**settings),
            specs(*texts),
            clock=lambda: self.now,
            announce=self._hear,
            soon=self._later,
        )

    def _hear(self, event: Event) -> None:
        said = event.as_dict()
        name = said["upstream"]
        self.told.append({
            "upstream_added": f"+{name}", "upstream_removed": f"-{name}",
            "upstream_up": f"{name} up", "upstream_draining": f"{name} draining",
            "upstream_down": f"{name} down: {said.get('why')}",
        }[event.name])  # fmt: skip

    def _later(self, call: Callable[[], None]) -> bool:
        self.soon.append(call)
        return True

    def turn(self) -> None:
        """A turn of the loop: what was to be called soon."""
        calls, self.soon = self.soon, []
        for call in calls:
            call()

    def take_told(self) -> list[str]:
        told, self.told = self.told, []
        return told

    def __getitem__(self, name: str) -> Upstream:
        upstream = self.pool.find(name)
        assert upstream is not None
        return upstream

    def choose(self, name: str | None = None, *tried: str, key: str = "client") -> str | None:
        """The name of the chosen upstream, which is not taken."""
        found = self.pool.choose(key, name, [self[each] for each in tried])
        return None if found is None else found.name

    def open(self, count: int = 1, **session: Any) -> list[Session]:
        """Sessions that connect at once, or wait."""
        return [Session(self, **session).dial() for _ in range(count)]

    def fail(self, name: str, times: int = 1) -> None:
        """Sessions that cannot connect there."""
        for _ in range(times):
            self.pool.take(self[name])
            self.pool.failed(self[name], "refused")
            self.pool.give_back(self[name])


class Session:
    """A session as a guard has it.

    Attributes:
        at: the upstream that it has.
        state: `new`, `open`, `waits`, `refused` (the queue is full), `hopeless`, `over`.
        calls: how often it was told of room.
    """

    def __init__(
        self,
        bench: Bench,
        name: str | None = None,
        key: str = "client",
        tried: Collection[Upstream] = (),
    ) -> None:
        self._bench = bench
        self.name = name
        self.key = key
        self.tried: Collection[Upstream] = tried
        self.at: Upstream | None = None
        self.state = "new"
        self.calls = 0

    def dial(self) -> Session:
        pool = self._bench.pool
        found = pool.choose(self.key, self.name, self.tried)
        if found is not None:
            pool.take(found)
            pool.connected(found)
            self.at, self.state = found, "open"
        elif not pool.has_hope(self.name):
            self.state = "hopeless"
        else:
            self.state = "waits" if pool.wait(self) else "refused"
        return self

    def on_room(self) -> None:
        assert self.state == "waits"
        self.calls += 1
        self.state = "called"
        self.dial()

    def end(self) -> None:
        if self.state == "waits":
            self._bench.pool.leave(self)
        elif self.at is not None:
            self._bench.pool.give_back(self.at, 10, 20)
            self.at = None
        self.state = "over"
