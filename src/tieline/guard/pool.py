"""A guard's upstreams, and which of them gets the next session. Decisions only, no sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from ..address import Address
from ..errors import SettingError
from ..events import (
    Event,
    UpstreamAdded,
    UpstreamDown,
    UpstreamDraining,
    UpstreamRemoved,
    UpstreamUp,
)
from ..resolve import Candidate
from ..rules import nearest
from .balancing import BALANCES
from .recovery import Recovery
from .routing import Routes, Waiting
from .settings import GuardSettings
from .spec import UpstreamSpec, check_names
from .upstream import Upstream, UpstreamState
from .waiting_room import WaitingRoom, call_soon

__all__ = ["Pool"]

_OWN = "it leads back to this guard itself"


class Pool:
    """A guard's upstreams.

    For each session: `choose` one, `take` it, say whether it `connected` or `failed`, and
    `give_back` when the session is over or has failed. Where `choose` finds none, `has_hope` says
    whether to `wait`.

    Args:
        settings: how to choose, and when an upstream is down.
        specs: the upstreams.
        clock: seconds, monotonic.
        announce: is called with each event of `tieline.events` that happens to an upstream.
        own_addresses: where the guard itself listens.
        soon: for tests: has something called soon; returns whether it can.

    Raises:
        SettingError: two upstreams have the same name.

    Attributes:
        settings: as they are now.
        own_addresses: where the guard itself listens; may be set.
    """

    def __init__(
        self,
        settings: GuardSettings,
        specs: Iterable[UpstreamSpec] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        announce: Callable[[Event], object] = lambda event: None,
        own_addresses: Iterable[Address] = (),
        soon: Callable[[Callable[[], None]], bool] = call_soon,
    ) -> None:
        specs = list(specs)
        check_names(specs)
        self.settings = settings
        self._balance = BALANCES[settings.balance]
        self._clock = clock
        self._announce = announce
        self._own_addresses = tuple(own_addresses)
        self._room = WaitingRoom(soon)
        self._watchers: list[Callable[[], object]] = []
        self._upstreams = [Upstream(spec, clock()) for spec in specs]
        self._routes = Routes(self._upstreams)
        self._recovery = Recovery()
        self._resting = self._recovery.resting
        self._growing = self._recovery.growing

    # ---- For each session

    def choose(
        self, key: str, name: str | None = None, tried: Collection[Upstream] = ()
    ) -> Upstream | None:
        """The upstream for a session.

        Args:
            key: the client, for `balance="hash"`.
            name: the name that it asked for (SNI); `None`: none, or that is not looked at.
            tried: those that have failed it, and are left out.

        Returns:
            One that is up, has room and is for this name; `None` if there is none now.
        """
        route = self._routes.find(name)
        if self._growing:
            self._recovery.grow(self._clock(), self.settings.recover)
        if self._resting:
            trial = self._recovery.find_trial(route, tried, self._clock())
            if trial is not None:
                return trial
        up = route.up
        if len(up) == 1:
            upstream = up[0]
            if upstream.sessions < upstream.most and upstream not in tried:
                return upstream
            return None
        return self._balance(up, key, tried)

    def take(self, upstream: Upstream) -> None:
        """A session that chose it begins to connect."""
        upstream.sessions += 1
        if self._resting and upstream in self._resting:
            upstream.health.begin_trial(self.settings, self._clock())

    def connected(self, upstream: Upstream) -> None:
        """A session's attempt to connect has succeeded."""
        upstream.connected += 1
        if upstream.health.connected():
            self._settle(upstream)

    def failed(self, upstream: Upstream, why: str) -> None:
        """A session's attempt to connect has failed. `why`: a sentence."""
        upstream.failed += 1
        upstream.last_error = why
        upstream.health.failed(self.settings, self._clock())
        self._settle(upstream)

    def give_back(self, upstream: Upstream, bytes_sent: int = 0, bytes_received: int = 0) -> None:
        """A session that took it is over, or did not come about.

        Raises:
            RuntimeError: nobody has it: a defect of the caller's.
        """
        if upstream.sessions <= 0:
            raise RuntimeError(f"{upstream!r} was given back more often than taken")
        upstream.sessions -= 1
        upstream.bytes_sent += bytes_sent
        upstream.bytes_received += bytes_received
        if self._room.count:
            self._room.call(self._routes.of(upstream))
        if upstream.state is UpstreamState.REMOVED:
            self._forget_unused()

    # ---- Where there is none

    def serves(self, name: str | None) -> bool:
        """Whether any upstream, up or not, is for this name."""
        return bool(self._routes.find(name).upstreams)

    def has_hope(self, name: str | None) -> bool:
        """Whether any upstream for this name is up, though perhaps full, or may be tried."""
        route = self._routes.find(name)
        return route.hope or self._recovery.find_trial(route, (), self._clock()) is not None

    def wait(self, waiting: Waiting) -> bool:
        """Have a session's `on_room` called when it makes sense for it to choose again.

        It is called once, never from inside `choose` or `wait`; then it waits no more.

        Returns:
            Whether it waits. False: as many wait as may, or nothing is up to wait for.
        """
        route = self._routes.find(waiting.name)
        if self._room.count >= self.settings.queue or not route.hope:
            return False
        self._room.enter(route, waiting)
        return True

    def leave(self, waiting: Waiting) -> None:
        """It waits no more. Idempotent."""
        self._room.leave(self._routes.find(waiting.name), waiting)

    @property
    def waiting(self) -> int:
        """How many sessions wait."""
        return self._room.count

    def waiting_for(self, upstream: Upstream) -> int:
        """How many sessions wait that an upstream is for; some may go to others as well."""
        return sum(len(route.waiting) for route in self._routes.of(upstream))

    # ---- Which there are

    @property
    def upstreams(self) -> list[Upstream]:
        """All upstreams, and behind them the removed ones that still have sessions."""
        return list(self._upstreams)

    def find(self, name: str) -> Upstream | None:
        """The upstream of this name; a removed one only where there is no other."""
        named = [upstream for upstream in self._upstreams if upstream.name == name]
        return min(named, key=_is_removed, default=None)

    def add(self, spec: UpstreamSpec) -> Upstream:
        """One more.

        Raises:
            SettingError: there is one of this name.
        """
        check_names([*(upstream.spec for upstream in self._live()), spec])
        upstream = self._admit(spec)
        self._changed()
        return upstream

    def remove(self, name: str) -> Upstream:
        """One less. It gets no new sessions; those it has go on, and it is forgotten after them.

        Raises:
            SettingError: there is none of this name.
        """
        upstream = self._find_live(name)
        self._dismiss(upstream)
        self._changed()
        return upstream

    def drain(self, name: str) -> Upstream:
        """Give it no new sessions until `enable`; those it has go on. Idempotent.

        Raises:
            SettingError: there is none of this name.
        """
        upstream = self._find_live(name)
        upstream.draining = True
        self._settle(upstream)
        return upstream

    def enable(self, name: str) -> Upstream:
        """Undo `drain`: it gets sessions again, if it is up. Idempotent.

        Raises:
            SettingError: there is none of this name.
        """
        upstream = self._find_live(name)
        upstream.draining = False
        self._settle(upstream)
        return upstream

    def apply(self, specs: Iterable[UpstreamSpec]) -> None:
        """Have these upstreams, and no others. Idempotent.

        Those whose name and address are the same stay what they are, with their health, their
        counts, and an operator's wish to drain them; their other fields change at once.

        Raises:
            SettingError: two have the same name; nothing has changed.
        """
        specs = list(specs)
        check_names(specs)
        wanted = {spec.name: spec for spec in specs}
        for upstream in self._live():
            spec = wanted.get(upstream.name)
            if spec is None or spec.address != upstream.spec.address:
                self._dismiss(upstream)
        kept = []
        for spec in specs:
            found = self.find(spec.name)
            if found is None or found.removed:
                found = self._admit(spec)
            elif found.spec != spec:
                found.change(spec)
            kept.append(found)
        self._upstreams = kept + [each for each in self._upstreams if each not in kept]
        self._changed()

    def change_settings(self, settings: GuardSettings) -> None:
        """Take over other settings, at once and for all upstreams."""
        self.settings = settings
        self._balance = BALANCES[settings.balance]
        now = self._clock()
        for upstream in self._upstreams:
            upstream.health.take_over(settings, now)
            self._settle(upstream)
        self._tell_watchers()

    # ---- What is found out about them

    def check_passed(self, upstream: Upstream, silent: Collection[Candidate] = ()) -> None:
        """A check got an answer from it. `silent`: its addresses that gave none."""
        upstream.shun(silent)
        upstream.health.check_passed(self.settings, self._clock())
        self._settle(upstream)

    def check_failed(self, upstream: Upstream, why: str) -> None:
        """A check got no answer, or a wrong one. `why`: a sentence."""
        upstream.checks_failed += 1
        upstream.last_error = why
        upstream.health.check_failed(self.settings)
        self._settle(upstream)

    def resolved(
        self, upstream: Upstream, candidates: Sequence[Candidate], is_own: bool = False
    ) -> None:
        """Its name was looked up: this is where it leads; `is_own`: back to the guard."""
        upstream.unknown = False
        upstream.is_own = is_own
        if is_own:
            upstream.last_error = _OWN
        if upstream.move(candidates):
            # What failed was perhaps the old place.
            upstream.health.end_rest(self._clock())
        self._settle(upstream)
        self._refresh(upstream)

    def not_resolved(self, upstream: Upstream, why: str) -> None:
        """Its name could not be looked up. What was known of it stays."""
        upstream.last_error = why
        upstream.unknown = not upstream.addresses
        self._settle(upstream)

    @property
    def own_addresses(self) -> tuple[Address, ...]:
        return self._own_addresses

    @own_addresses.setter
    def own_addresses(self, addresses: Iterable[Address]) -> None:
        self._own_addresses = tuple(addresses)
        self._tell_watchers()

    def watch(self, call: Callable[[], object]) -> None:
        """Have `call` called after upstreams were added or removed, or settings changed."""
        self._watchers.append(call)

    def unwatch(self, call: Callable[[], object]) -> None:
        """Undo `watch`. Idempotent."""
        if call in self._watchers:
            self._watchers.remove(call)

    # ---- Changes

    def _settle(self, upstream: Upstream) -> None:
        """Something was found out about an upstream, or is wanted: act on what it is now."""
        if self._judge(upstream):
            self._refresh(upstream)

    def _judge(self, upstream: Upstream) -> bool:
        """See what an upstream is now. Returns whether it was something else."""
        state = upstream.judge()
        self._recovery.note(upstream)
        if state is upstream.state:
            return False
        upstream.state = state
        upstream.changed_at = self._clock()
        self._recovery.begin(upstream, upstream.changed_at, self.settings.recover)
        name = upstream.name
        if state is UpstreamState.UP:
            self._announce(UpstreamUp(upstream=name))
        elif state is UpstreamState.DOWN:
            self._announce(UpstreamDown(upstream=name, why=upstream.last_error))
        elif state is UpstreamState.DRAINING:
            self._announce(UpstreamDraining(upstream=name))
        else:
            self._announce(UpstreamRemoved(upstream=name))
        return True

    def _refresh(self, upstream: Upstream) -> None:
        """See which upstreams of its routes are up now, and call who waits there."""
        routes = self._routes.of(upstream)
        for route in routes:
            route.refresh()
        if self._room.count:
            self._room.call(routes)

    def _changed(self) -> None:
        """There are other upstreams now, or other fields of theirs."""
        self._forget_unused()
        old = self._routes
        self._routes = Routes(self._live())
        self._room.move(old, self._routes)
        self._tell_watchers()
        if self._room.count:
            self._room.call(self._routes.all)

    def _admit(self, spec: UpstreamSpec) -> Upstream:
        """Add one: if it was there before, and still has sessions, that one with its counts."""
        for upstream in self._upstreams:
            if upstream.name == spec.name and upstream.spec.address == spec.address:
                upstream.change(spec)
                upstream.removed = upstream.draining = False
                upstream.state = UpstreamState.UP
                break
        else:
            upstream = Upstream(spec, self._clock())
            self._upstreams.append(upstream)
        self._announce(UpstreamAdded(upstream=upstream.name))
        self._judge(upstream)
        return upstream

    def _dismiss(self, upstream: Upstream) -> None:
        upstream.removed = True
        self._judge(upstream)
        # Behind those that are there to stay.
        self._upstreams.remove(upstream)
        self._upstreams.append(upstream)

    def _forget_unused(self) -> None:
        self._upstreams = [
            upstream for upstream in self._upstreams if upstream.sessions or not upstream.removed
        ]

    def _live(self) -> list[Upstream]:
        return [upstream for upstream in self._upstreams if not upstream.removed]

    def _find_live(self, name: str) -> Upstream:
        live = {upstream.name: upstream for upstream in self._live()}
        if name in live:
            return live[name]
        like = nearest(name, live)
        raise SettingError(
            "there is no upstream {name!r}",
            hint="did you mean {like!r}?" if like else "",
            name=name,
            like=like,
        )

    def _tell_watchers(self) -> None:
        for call in list(self._watchers):
            call()


def _is_removed(upstream: Upstream) -> bool:
    return upstream.removed
