"""Whatever happens to a pool, in whatever order: what must always hold, holds."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from guard.pools import Bench, Session, specs
from tieline.guard.settings import SETTINGS, GuardSettings
from tieline.guard.spec import UpstreamSpec
from tieline.guard.upstream import Upstream, UpstreamState

NAMES = ["a", "b", "c", "d"]
SERVER_NAMES = [None, "x", "y", "z.y"]

#: An upstream as text; each name has one address.
SPECS = st.builds(
    lambda name, weight, most, backup, names: ",".join(
        [name, f"weight={weight}", *([f"max={most}"] if most else []), *backup, *names]
    ),
    st.sampled_from(NAMES),
    st.sampled_from([1, 1, 1, 3, 0]),
    st.sampled_from([None, 1, 2, 3]),
    st.sampled_from([[], [], ["backup"]]),
    st.lists(st.sampled_from(["sni=x", "sni=*.y"]), unique=True, max_size=2),
)
SETS = st.lists(SPECS, max_size=4, unique_by=lambda text: text[0])
SETTINGS_ALL = st.builds(
    GuardSettings,
    balance=st.sampled_from(SETTINGS["balance"].choices),
    queue=st.integers(0, 5),
    passive_failures=st.sampled_from([None, 1, 2]),
    check_interval=st.sampled_from([None, 2.0]),
    rise=st.integers(1, 2),
    fall=st.integers(1, 2),
    recover=st.sampled_from([None, 30.0]),
)


class PoolMachine(RuleBasedStateMachine):
    """A pool, its sessions, and somebody who does everything that may be done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[Session] = []
        #: Attempts under way, that are yet to connect or fail.
        self.attempts: list[Upstream] = []

    @initialize(texts=SETS, changes=SETTINGS_ALL)
    def begin(self, texts: list[str], changes: GuardSettings) -> None:
        self.bench = Bench(*texts)
        self.pool = self.bench.pool
        self.set(changes)

    # ---- Sessions

    @rule(name=st.sampled_from(SERVER_NAMES), key=st.text(max_size=2))
    def open(self, name: str | None, key: str) -> None:
        session = Session(self.bench, name=name, key=key)
        waiting = self.pool.waiting
        session.dial()
        if session.state == "refused":
            assert waiting >= self.pool.settings.queue
        if session.state == "open":
            assert session.at is not None
            assert_may_have(session.at, name)
        self.sessions.append(session)

    @rule(name=st.sampled_from(SERVER_NAMES), tried=st.sets(st.sampled_from(NAMES)))
    def attempt(self, name: str | None, tried: set[str]) -> None:
        leave_out = [found for each in tried if (found := self.pool.find(each)) is not None]
        chosen = self.pool.choose("key", name, leave_out)
        if chosen is not None:
            assert chosen not in leave_out
            assert_may_have(chosen, name)
            self.pool.take(chosen)
            self.attempts.append(chosen)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), outcome=st.sampled_from(["connected", "failed", "cancelled"]))
    def end_attempt(self, data: st.DataObject, outcome: str) -> None:
        upstream = self.attempts.pop(data.draw(st.integers(0, len(self.attempts) - 1)))
        if outcome == "connected":
            self.pool.connected(upstream)
        elif outcome == "failed":
            self.pool.failed(upstream, "refused")
        self.pool.give_back(upstream, 1, 2)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.sessions.pop(data.draw(st.integers(0, len(self.sessions) - 1))).end()

    # ---- What is found out

    @precondition(lambda self: self.pool.upstreams)
    @rule(data=st.data(), passed=st.booleans())
    def check(self, data: st.DataObject, passed: bool) -> None:
        upstream = data.draw(st.sampled_from(self.pool.upstreams))
        if passed:
            self.pool.check_passed(upstream)
        else:
            self.pool.check_failed(upstream, "silent")

    @precondition(lambda self: self.pool.upstreams)
    @rule(data=st.data(), own=st.booleans())
    def resolve(self, data: st.DataObject, own: bool) -> None:
        upstream = data.draw(st.sampled_from(self.pool.upstreams))
        self.pool.resolved(upstream, upstream.addresses, own)

    @rule(seconds=st.sampled_from([0.5, 5.0, 10.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.bench.now += seconds

    @rule()
    def turn(self) -> None:
        self.bench.turn()

    # ---- An operator

    @rule(texts=SETS)
    def apply(self, texts: list[str]) -> None:
        wanted = specs(*texts)
        self.pool.apply(wanted)
        before = self.picture()
        self.bench.take_told()
        self.pool.apply(wanted)
        assert self.picture() == before
        assert self.bench.told == []
        assert [each.spec for each in self.live()] == wanted

    @rule(name=st.sampled_from(NAMES), verb=st.sampled_from(["drain", "enable", "remove"]))
    def wish(self, name: str, verb: str) -> None:
        if name in [each.name for each in self.live()]:
            getattr(self.pool, verb)(name)

    @rule(text=SPECS)
    def add(self, text: str) -> None:
        if text[0] not in [each.name for each in self.live()]:
            self.pool.add(specs(text)[0])

    @rule(changes=SETTINGS_ALL)
    def set(self, changes: GuardSettings) -> None:
        self.pool.change_settings(changes)

    # ---- What always holds

    def live(self) -> list[Upstream]:
        return [each for each in self.pool.upstreams if not each.removed]

    def picture(self) -> list[tuple[UpstreamSpec, Any]]:
        return [(each.spec, (each.state, each.sessions)) for each in self.pool.upstreams]

    @invariant()
    def counts_are_those_of_the_sessions(self) -> None:
        held = Counter(session.at for session in self.sessions if session.at is not None)
        held.update(self.attempts)
        for upstream in self.pool.upstreams:
            assert upstream.sessions == held.pop(upstream, 0)
        # Nothing with a session was forgotten.
        assert not held

    @invariant()
    def nobody_has_more_than_it_may(self) -> None:
        # `assert_may_have` saw to each one; a limit that was lowered takes nothing away.
        for upstream in self.pool.upstreams:
            assert upstream.sessions >= 0

    @invariant()
    def what_is_removed_and_unused_is_forgotten(self) -> None:
        for upstream in self.pool.upstreams:
            assert upstream.removed == (upstream.state is UpstreamState.REMOVED)
            assert upstream.sessions or not upstream.removed

    @invariant()
    def names_are_given_once(self) -> None:
        names = [each.name for each in self.live()]
        assert len(names) == len(set(names))

    @invariant()
    def nobody_waits_while_there_is_room_or_no_hope(self) -> None:
        waiting = [session for session in self.sessions if session.state == "waits"]
        assert self.pool.waiting == len(waiting)
        if self.bench.soon:
            return
        for session in waiting:
            assert self.pool.has_hope(session.name)
            route = [each for each in self.live() if each.state is UpstreamState.UP]
            free = [
                each
                for each in route
                if each.sessions < each.most and each.spec.weight and for_name(self, each, session)
            ]
            primary_up = any(
                not each.spec.backup and each.spec.weight and for_name(self, each, session)
                for each in route
            )
            assert [each for each in free if not (each.spec.backup and primary_up)] == []


def for_name(machine: PoolMachine, upstream: Upstream, session: Session) -> bool:
    """Whether an upstream is one of those for the name that a session asked for."""
    name = session.name
    exact = [each for each in machine.live() if name in each.spec.names]
    wild = [
        each for each in machine.live() if "*.y" in each.spec.names and (name or "").endswith(".y")
    ]
    return upstream in (exact or wild or [e for e in machine.live() if not e.spec.names])


def assert_may_have(upstream: Upstream, name: str | None) -> None:
    """See that it may have been given this session, which it has by now or is to have."""
    assert upstream.state in (UpstreamState.UP, UpstreamState.DOWN)
    if upstream.state is UpstreamState.DOWN:
        assert upstream.health.rests
        assert not upstream.is_own
    assert upstream.spec.weight > 0
    assert upstream.sessions <= upstream.most
    names = upstream.spec.names
    assert not names or name in names or ("*.y" in names and (name or "").endswith(".y"))


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
