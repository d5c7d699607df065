"""Where names lead: asked again and again, taken over when it changes, kept when nobody knows."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from support.clock import TICK, Clock
from tieline import Address, ResolveError
from tieline.guard.pool import Pool
from tieline.guard.resolving import Resolving, look_up
from tieline.guard.settings import GuardSettings
from tieline.guard.spec import parse_upstream
from tieline.guard.upstream import Upstream
from tieline.resolve import Candidate

EVERY = 30.0


class Names:
    """A resolver that knows what the test says.

    Attributes:
        known: hosts by name.
        asked: names, in the order in which they were asked for.
        held: names that are not answered until they are let go.
    """

    def __init__(self, **known: list[str]) -> None:
        self.known = {name.replace("_", "."): hosts for name, hosts in known.items()}
        self.asked: list[str] = []
        self.held: dict[str, asyncio.Event] = {}
        self._news = asyncio.Event()

    async def look_up(self, address: Address) -> Sequence[Candidate]:
        self.asked.append(address.host)
        self._news.set()
        if address.host in self.held:
            await self.held[address.host].wait()
        if address.host not in self.known:
            raise ResolveError(address=address.host)
        return [(socket.AF_INET, (host, address.port)) for host in self.known[address.host]]

    async def wait_for(self, count: int) -> None:
        """Until so many have been asked for and answered, as far as they are."""
        while len(self.asked) < count:
            self._news.clear()
            await self._news.wait()
        for _ in range(3):
            await asyncio.sleep(0)


class Named:
    """A pool whose names are looked up, on a clock that only the test moves."""

    def __init__(
        self, names: Names, *texts: str, own: Sequence[Address] = (), **given: Any
    ) -> None:
        self.clock = Clock()
        self.told: list[str] = []
        self.names = names
        self.pool = Pool(
            GuardSettings(**given),
            map(parse_upstream, texts),
            clock=lambda: self.clock.time,
            announce=lambda event: self.told.append(event.name),
            own_addresses=own,
        )
        self.resolving = Resolving(self.pool, names.look_up)

    async def __aenter__(self) -> Named:
        await self.resolving.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.resolving.stop()

    async def pass_time(self, seconds: float, asked: int = 0) -> None:
        """Let time pass, and so many names be asked for in all."""
        self.clock.advance(seconds + TICK)
        await self.names.wait_for(asked or len(self.names.asked))

    def hosts(self, name: str) -> list[str]:
        return sorted(where[1][0] for where in self[name].addresses)

    def __getitem__(self, name: str) -> Upstream:
        upstream = self.pool.find(name)
        assert upstream is not None
        return upstream


async def test_names_are_known_after_start() -> None:
    names = Names(a_example=["10.0.0.1", "10.0.0.2"], b_example=["10.0.0.3"])
    async with Named(names, "a.example:5,name=a", "b.example:5,name=b", "10.9.9.9:5") as named:
        assert named.hosts("a") == ["10.0.0.1", "10.0.0.2"]
        assert named.hosts("b") == ["10.0.0.3"]
        # Nobody needs to be asked where an IP address is.
        assert sorted(names.asked) == ["a.example", "b.example"]
        assert named.told == []


async def test_a_name_that_leads_elsewhere_now_is_taken_over() -> None:
    names = Names(a_example=["10.0.0.1"])
    async with Named(names, "a.example:5,name=a") as named:
        names.known["a.example"] = ["10.0.0.2", "10.0.0.3"]
        await named.pass_time(EVERY / 2)
        assert named.hosts("a") == ["10.0.0.1"]
        await named.pass_time(EVERY / 2, asked=2)
        assert named.hosts("a") == ["10.0.0.2", "10.0.0.3"]
        assert named.told == []


async def test_a_name_that_nobody_knows_any_more_keeps_its_addresses() -> None:
    names = Names(a_example=["10.0.0.1"], b_example=["10.0.0.2"])
    async with Named(names, "a.example:5,name=a", "b.example:5,name=b") as named:
        del names.known["a.example"]
        names.known["b.example"] = []
        await named.pass_time(EVERY, asked=4)
        assert named.hosts("a") == ["10.0.0.1"]
        assert named.hosts("b") == ["10.0.0.2"]
        assert named.told == []
        assert "no address is known for a.example" in named["a"].last_error
        assert "no address is known for b.example" in named["b"].last_error


async def test_a_name_that_nobody_knows_is_down_and_asked_for_again_soon() -> None:
    names = Names()
    async with Named(names, "a.example:5,name=a") as named:
        assert named["a"].state.value == "down"
        await named.pass_time(Resolving.RETRY, asked=2)
        assert named.told == ["upstream_down"]
        names.known["a.example"] = ["10.0.0.1"]
        await named.pass_time(Resolving.RETRY, asked=3)
        assert named.told == ["upstream_down", "upstream_up"]
        # From then on as rarely as the others.
        await named.pass_time(Resolving.RETRY)
        await named.pass_time(Resolving.RETRY)
        assert len(names.asked) <= 4


async def test_changes_do_not_put_the_next_round_off() -> None:
    names = Names(a_example=["10.0.0.1"])
    async with Named(names, "a.example:5,name=a") as named:
        for _ in range(4):
            await named.pass_time(EVERY / 4)
            named.pool.change_settings(named.pool.settings)
        await names.wait_for(2)
        assert names.asked == ["a.example"] * 2


async def test_names_may_be_looked_up_once_only() -> None:
    names = Names(a_example=["10.0.0.1"])
    async with Named(names, "a.example:5,name=a", resolve_every=None) as named:
        await named.pass_time(100 * EVERY)
        assert names.asked == ["a.example"]
        named.pool.change_settings(GuardSettings(resolve_every=5.0))
        await named.pass_time(5.0, asked=2)
        assert names.asked == ["a.example"] * 2
        named.pool.change_settings(GuardSettings(resolve_every=None))
        await named.pass_time(100 * EVERY)
        assert names.asked == ["a.example"] * 2


async def test_a_resolver_that_hangs_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resolving, "PATIENCE", 0.0)
    names = Names(a_example=["10.0.0.1"], b_example=["10.0.0.2"])
    names.held["a.example"] = asyncio.Event()
    async with Named(names, "a.example:5,name=a", "b.example:5,name=b") as named:
        await names.wait_for(2)
        assert named.hosts("b") == ["10.0.0.2"]
        assert named.hosts("a") == []
        assert named["a"].state.value == "up"
        for count in range(3, 6):
            await named.pass_time(EVERY, asked=count)
        assert names.asked.count("a.example") == 1
        names.held["a.example"].set()
        await names.wait_for(5)
        assert named.hosts("a") == ["10.0.0.1"]


async def test_stopped_while_a_resolver_hangs_it_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Resolving, "PATIENCE", 0.0)
    names = Names()
    names.held["a.example"] = asyncio.Event()
    async with Named(names, "a.example:5,name=a") as named:
        await names.wait_for(1)
    await named.resolving.stop()
    assert named.told == []


async def test_a_start_that_is_cancelled_is_ended_by_stop() -> None:
    names = Names()
    names.held["a.example"] = asyncio.Event()
    named = Named(names, "a.example:5,name=a")
    starting = asyncio.ensure_future(named.resolving.start())
    await names.wait_for(1)
    starting.cancel()
    await asyncio.wait([starting])
    await named.resolving.stop()


async def test_who_comes_is_looked_up_at_once() -> None:
    names = Names(a_example=["10.0.0.1"])
    async with Named(names) as named:
        named.pool.add(parse_upstream("a.example:5,name=a"))
        await names.wait_for(1)
        assert named.hosts("a") == ["10.0.0.1"]
        named.pool.remove("a")
        await named.pass_time(2 * EVERY)
        assert names.asked == ["a.example"]


# ---- Circles


async def test_one_that_leads_back_is_down_from_the_start() -> None:
    own = [Address("127.0.0.1", 5)]
    names = Names(a_example=["10.0.0.1", "127.0.0.1"])
    async with Named(names, "a.example:5,name=a", "127.0.0.1:5,name=b", "127.0.0.1:6,name=c",
                     own=own) as named:  # fmt: skip
        assert [named[name].is_own for name in "abc"] == [True, True, False]
        assert named["b"].last_error == "it leads back to this guard itself"
        assert named.pool.choose("x") is named["c"]


async def test_every_address_of_this_machine_leads_back_to_a_wildcard() -> None:
    names = Names()
    async with Named(names, "127.0.0.9:5,name=a", "192.0.2.9:5,name=b", "[::1]:5,name=c",
                     own=[Address("0.0.0.0", 5)]) as named:  # fmt: skip
        assert [named[name].is_own for name in "abc"] == [True, False, False]
        named.pool.own_addresses = (Address("::", 5),)
        assert [named[name].is_own for name in "abc"] == [False, False, True]


async def test_one_that_comes_later_or_moves_there() -> None:
    names = Names(a_example=["10.0.0.1"])
    async with Named(names, "a.example:5,name=a", own=[Address("127.0.0.1", 5)]) as named:
        named.pool.add(parse_upstream("127.0.0.1:5,name=b"))
        assert named["b"].is_own
        names.known["a.example"] = ["127.0.0.1"]
        await named.pass_time(EVERY, asked=2)
        assert named["a"].is_own
        names.known["a.example"] = ["10.0.0.1"]
        await named.pass_time(EVERY, asked=3)
        assert named["a"].state.value == "up"
        assert named.told == [
            "upstream_added", "upstream_down", "upstream_down", "upstream_up",
        ]  # fmt: skip


# ---- The system's resolver


async def test_the_system_knows_this_machine() -> None:
    found = await look_up(Address("localhost", 5))
    assert (socket.AF_INET, ("127.0.0.1", 5)) in found or (
        socket.AF_INET6, ("::1", 5, 0, 0)
    ) in found  # fmt: skip
    assert await look_up(Address("127.0.0.1", 5)) == [(socket.AF_INET, ("127.0.0.1", 5))]


async def test_a_name_that_cannot_even_be_written() -> None:
    with pytest.raises(ResolveError):
        await look_up(Address("a..b", 5))
