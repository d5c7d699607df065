"""Pages of connections and clients: filtered, sorted, cut, of a crowd, without holding the loop."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import tieline
from control.controlled import controlled
from support.hooks import eventually
from support.peers import Peer
from tieline import Address, CloseReason, Limits, State
from tieline.control import ControlError
from tieline.control.arguments import check_arguments
from tieline.control.columns import CLIENT_COLUMNS, CONNECTION_COLUMNS
from tieline.control.listing import list_clients, list_connections
from tieline.control.selection import Wanted, select
from tieline.control.verbs import VERBS

NOW = 10_000.0
HERE = Address("127.0.0.1", 7788)


@dataclass
class Fake:
    """As much of a connection as a listing looks at."""

    id: int
    client: Any
    peer: Address
    opened_at: float
    last_active: float
    owed: int = 0
    state: State = State.OPEN
    bytes_received: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    waiting_messages: int = 0
    encoding: str | None = None
    local: Address = HERE
    upstream: str | None = None
    last_received: float = 0.0
    last_sent: float = 0.0
    running: list[tuple[float, CloseReason]] = field(default_factory=list)

    @property
    def age(self) -> float:
        return NOW - self.opened_at

    @property
    def peer_host(self) -> str:
        return self.peer.host

    def clocks(self) -> list[tuple[float, CloseReason]]:
        return self.running


def crowd(count: int) -> list[Any]:
    """So many connections, all different, the same each time."""
    chance = random.Random(count)
    clients = [SimpleNamespace(key=f"10.0.{number}.0/24") for number in range(50)]
    found = []
    for id in range(1, count + 1):
        number = chance.randrange(50)
        opened = chance.uniform(0, NOW)
        clock = chance.choice([CloseReason.IDLE_TIMEOUT, CloseReason.WRITE_STALL])
        active = chance.uniform(opened, NOW)
        found.append(
            Fake(
                id=id,
                client=clients[number],
                peer=Address(f"10.0.{number}.{chance.randrange(256)}", chance.randrange(65_536)),
                opened_at=opened,
                last_active=active,
                last_received=chance.choice([opened, active]),
                last_sent=chance.uniform(opened, active),
                upstream=chance.choice([None, "db1", "db2"]),
                owed=chance.choice([0, 0, 0, chance.randrange(100_000)]),
                state=chance.choice([State.OPEN, State.OPEN, State.PEER_ENDED, State.CLOSING]),
                bytes_received=chance.randrange(1_000),
                encoding=chance.choice([None, "utf-8", "gb18030"]),
                running=chance.choice([[], [(chance.uniform(0, 300), clock)]]),
            )
        )
    return found


def given(verb: str, **arguments: Any) -> dict[str, Any]:
    return check_arguments(verb, VERBS[verb].arguments, arguments)


async def page(connections: Sequence[Any], **arguments: Any) -> Any:
    return await list_connections(connections, given("connections", **arguments))


async def ids(connections: Sequence[Any], **arguments: Any) -> list[int]:
    return [row["id"] for row in (await page(connections, **arguments))["connections"]]


# ---- Sorting


def _by_value(name: str, fakes: list[Any]) -> list[Any]:
    """Sorted by what a row shows, as anybody would; addresses by their numbers."""
    value = CONNECTION_COLUMNS[name].value
    numbers: Callable[[Any], Any] = lambda text: [  # noqa: E731 - a key, and no more
        int(part) for part in text.replace(":", ".").split(".")
    ]

    def key(fake: Any) -> Any:
        shown = value(fake)
        if name in ("peer", "local"):
            return numbers(shown)
        if shown is None:
            return float("inf") if name == "left" else ""
        return shown

    return sorted(fakes, key=lambda fake: (key(fake), fake.id))


@pytest.mark.one_loop
@pytest.mark.parametrize("name", CONNECTION_COLUMNS)
async def test_every_column_can_be_sorted_by_either_way(name: str) -> None:
    fakes = crowd(1_500)
    expected = [CONNECTION_COLUMNS[name].value(fake) for fake in _by_value(name, fakes)]
    shown = [row[name] for row in (await page(fakes, sort=name, limit=1000))["connections"]]
    assert shown == expected[:1000]
    down = await page(fakes, sort=name, limit=1000, descending=True)
    assert [row[name] for row in down["connections"]] == expected[::-1][:1000]


@pytest.mark.one_loop
@pytest.mark.parametrize("name", CONNECTION_COLUMNS)
@pytest.mark.parametrize("descending", [False, True])
async def test_pages_hold_every_connection_once(name: str, descending: bool) -> None:
    fakes = crowd(700)
    seen: list[int] = []
    after = None
    pages = 0
    while pages < 100:
        pages += 1
        found = await page(fakes, sort=name, descending=descending, limit=100, after=after)
        assert (found["total"], found["matched"]) == (700, 700)
        seen += [row["id"] for row in found["connections"]]
        after = found["next"]
        if after is None:
            break
    assert pages == 7
    assert sorted(seen) == list(range(1, 701))


@pytest.mark.one_loop
async def test_a_page_is_fifty_of_the_oldest_unless_asked_otherwise() -> None:
    found = await page(crowd(300))
    assert [row["id"] for row in found["connections"]] == list(range(1, 51))
    assert found["next"] == [50, 50]
    assert (await page([]))["connections"] == []
    last = await page(crowd(50))
    assert (len(last["connections"]), last["next"]) == (50, None)


@pytest.mark.one_loop
async def test_a_place_of_another_sort_is_refused() -> None:
    with pytest.raises(ControlError, match="with the same sort") as raised:
        await page(crowd(9), sort="id", after=["10.0.0.1", 3])
    assert raised.value.code == "bad_value"
    with pytest.raises(ControlError):
        await page(crowd(9), sort="peer", after=[3, 3])
    with pytest.raises(ControlError):
        await page(crowd(9), sort="id", after=[3, "3"])


# ---- Filters


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("arguments", "matches"),
    [
        ({"client": "10.0.7.0/24"}, lambda each: each.client.key == "10.0.7.0/24"),
        ({"peer": "10.0.7.0/24"}, lambda each: each.peer.host.startswith("10.0.7.")),
        ({"peer": "10.0.0.0/21"}, lambda each: int(each.peer.host.split(".")[2]) < 8),
        ({"peer": "::/0"}, lambda each: False),
        ({"state": "closing"}, lambda each: each.state is State.CLOSING),
        ({"state": ["closing", "open"]}, lambda each: each.state is not State.PEER_ENDED),
        ({"clock": "write_stall"}, lambda each: "write_stall" in dict(each.running).values()),
        ({"min_age": 5_000}, lambda each: each.age >= 5_000),
        ({"min_idle": 5_000}, lambda each: each.last_active <= 5_000),
        ({"min_owed": 1}, lambda each: each.owed > 0),
        (
            {"min_owed": 50_000, "min_age": 1_000, "state": "open"},
            lambda each: each.owed >= 50_000 and each.age >= 1_000 and each.state is State.OPEN,
        ),
    ],
)  # fmt: skip
async def test_filters_leave_what_passes_all_of_them(
    arguments: dict[str, Any], matches: Callable[[Any], bool]
) -> None:
    fakes = crowd(900)
    expected = [fake.id for fake in fakes if matches(fake)]
    found = await page(fakes, limit=1000, **arguments)
    assert [row["id"] for row in found["connections"]] == expected
    assert (found["matched"], found["total"]) == (len(expected), 900)


@pytest.mark.one_loop
async def test_a_peer_may_be_given_in_every_way_that_it_is_shown() -> None:
    client = SimpleNamespace(key="x")
    peers = [
        Address("10.0.0.9", 50_000), Address("10.0.0.10", 50_000), Address("::ffff:10.0.0.9", 1),
        Address("2001:db8::1", 5), Address("fe80::1", 5, scope=2),
        Address(path="/run/a.sock"), Address(path="(unnamed)"), Address(path="\0here"),
    ]  # fmt: skip
    fakes = [cast(Any, Fake(id, client, peer, 0.0, 0.0)) for id, peer in enumerate(peers, start=1)]
    assert await ids(fakes, peer="10.0.0.9") == [1, 3]
    assert await ids(fakes, peer="10.0.0.9:50000") == [1]
    assert await ids(fakes, peer="10.0.0.0/8") == [1, 2, 3]
    assert await ids(fakes, peer="2001:db8::/32") == [4]
    assert await ids(fakes, peer="[2001:db8::1]:5") == [4]
    assert await ids(fakes, peer="unix:") == [6, 7, 8]
    assert await ids(fakes, peer="unix:/run") == [6]
    assert await ids(fakes, peer="unix:@here") == [8]
    assert await ids(fakes, sort="peer") == [3, 1, 2, 4, 5, 7, 6, 8]
    with pytest.raises(ControlError, match="not 'somebody'"):
        await page(fakes, peer="somebody")


@pytest.mark.one_loop
async def test_one_that_ends_meanwhile_is_left_out() -> None:
    fakes = crowd(200)

    class Ending(Fake):
        """Is there when it is looked for, and gone when its row is made."""

        looked = False

        def __getattribute__(self, name: str) -> Any:
            if name == "state":
                was, type(self).looked = type(self).looked, True
                return State.CLOSED if was else State.OPEN
            return super().__getattribute__(name)

    fakes[3] = Ending(**vars(fakes[3]))
    fakes[8].state = State.CLOSED
    found = await page(fakes, limit=20)
    assert [row["id"] for row in found["connections"]] == [
        id for id in range(1, 22) if id not in (4, 9)
    ]
    assert found["matched"] == 199


# ---- A crowd


@pytest.mark.one_loop
async def test_twenty_thousand_do_not_hold_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock says that time passes at each look: so others run after every piece."""
    fakes = crowd(20_000)
    time = iter(range(1_000_000))
    monkeypatch.setattr("tieline.control.pace.time.perf_counter", lambda: float(next(time)))
    turns = 0

    async def run_beside() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(run_beside())
    found = await page(fakes, sort="idle", descending=True, min_owed=1, limit=10)
    assert turns > 20_000 / 128
    turns = 0
    await page(fakes[:1_000], limit=1_000)
    assert turns > 1_000 / 128 + 1_000 / 16
    beside.cancel()
    expected = sorted((fake for fake in fakes if fake.owed), key=lambda fake: fake.last_active)
    assert [row["id"] for row in found["connections"]] == [fake.id for fake in expected[:10]]


@pytest.mark.one_loop
async def test_a_crowd_costs_the_memory_of_a_page() -> None:
    class Item:
        def __init__(self, number: int) -> None:
            self.number = number

    class Endless(Sequence[Any]):
        """Items that nobody keeps but whoever looks at them."""

        def __init__(self) -> None:
            self.alive: weakref.WeakSet[Item] = weakref.WeakSet()
            self.most = 0

        def __len__(self) -> int:
            return 20_000

        def __getitem__(self, index: Any) -> Any:
            made = [Item(number * 7_919 % 20_011) for number in range(*index.indices(20_000))]
            self.alive.update(made)
            self.most = max(self.most, len(self.alive))
            return made

        def __iter__(self) -> Iterator[Any]:
            raise AssertionError("all of them at once")

    items = Endless()
    wanted: Wanted[Any] = Wanted(lambda each: each.number, lambda each: each.number, limit=50)
    found = await select(items, wanted)
    assert found.matched == 20_000
    assert [each.number for each in found.items] == sorted(
        number * 7_919 % 20_011 for number in range(20_000)
    )[:50]
    assert items.most < 500


# ---- Clients


@pytest.mark.one_loop
async def test_clients_are_sorted_by_what_they_hold() -> None:
    chance = random.Random(1)
    clients = [
        SimpleNamespace(
            key=f"10.0.{number // 256}.{number % 256}", host="10.0.0.1", refused=number % 7,
            connections=chance.randrange(1, 100), exempt=number % 3 == 0,
            network=None if number % 2 else SimpleNamespace(key="10.0.0.0/16"),
        )
        for number in range(500)
    ]  # fmt: skip
    gone = SimpleNamespace(**{**vars(clients[0]), "connections": 0, "key": "gone"})

    async def listed(**arguments: Any) -> Any:
        return await list_clients(cast(Any, [*clients, gone]), given("clients", **arguments))

    found = await listed()
    expected = sorted(clients, key=lambda each: (each.connections, each.key), reverse=True)
    assert [row["client"] for row in found["clients"]] == [each.key for each in expected[:50]]
    assert found["clients"][0] == {
        "client": expected[0].key, "host": "10.0.0.1", "connections": expected[0].connections,
        "refused": expected[0].refused, "exempt": expected[0].exempt,
        "network": expected[0].network and expected[0].network.key,
    }  # fmt: skip
    second = await listed(after=found["next"])
    assert [row["client"] for row in second["clients"]] == [each.key for each in expected[50:100]]
    few = await listed(min_connections=90, limit=1000)
    assert {row["connections"] for row in few["clients"]} <= set(range(90, 100))
    for name in CLIENT_COLUMNS:
        rows = (await listed(sort=name, descending=False, limit=1000))["clients"]
        assert len(rows) == 500
        values = [row[name] or "" if name == "network" else row[name] for row in rows]
        assert values == sorted(values)


# ---- Of a server


async def test_a_servers_connections_as_rows(path: Path) -> None:
    async with controlled(path, limits=Limits(idle=100, first_byte=50)) as (server, control):
        async with await Peer.connect(server.addresses[0], source="127.0.0.2") as quiet:
            await eventually(lambda: len(server) == 1)
            async with await Peer.connect(server.addresses[0], source="127.0.0.3") as loud:
                await loud.send(b"hello\n")
                await loud.receive_line()
                rows = (await control.connections())["connections"]
                here = str(server.addresses[0])
                assert [row["peer"] for row in rows] == [
                    "{}:{}".format(*peer.socket.getsockname()) for peer in (quiet, loud)
                ]
                first, second = rows
                assert first.items() >= {
                    "client": "127.0.0.2", "local": here, "state": "open", "owed": 0,
                    "bytes_received": 0, "clock": "first_byte_timeout", "encoding": None,
                }.items()  # fmt: skip
                assert second.items() >= {
                    "client": "127.0.0.3", "bytes_received": 6, "bytes_sent": 6, "waiting": 0,
                    "messages_received": 1, "messages_sent": 1, "clock": "idle_timeout",
                }.items()  # fmt: skip
                assert 0 <= first["age"] < 100
                assert first["left"] is not None
                assert 0 < first["left"] <= 50
                found = await control.connections(clock="first_byte_timeout")
                assert [row["id"] for row in found["connections"]] == [first["id"]]
                found = await control.connections(client="127.0.0.3")
                assert [row["id"] for row in found["connections"]] == [second["id"]]
                clients = (await control.clients())["clients"]
                assert {row["client"]: row["connections"] for row in clients} == {
                    "127.0.0.2": 1, "127.0.0.3": 1,
                }  # fmt: skip


async def test_a_client_may_be_given_by_an_address_of_its_own(path: Path) -> None:
    limits = Limits(client_ipv4_prefix=24)
    async with controlled(path, limits=limits) as (server, control):
        async with tieline.connect(server.addresses[0]):
            await eventually(lambda: len(server) == 1)
            for client in ("127.0.0.0/24", "127.0.0.1", "127.0.0.99"):
                assert (await control.connections(client=client))["matched"] == 1
            for client in ("127.0.1.1", "nobody", ""):
                assert (await control.connections(client=client))["matched"] == 0
