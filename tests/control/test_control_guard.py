"""A guard through its control socket: both sides of its sessions, its upstreams, its settings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tieline
from control.controlled import controlled, guarded
from support.clock import Clock
from support.hooks import eventually
from support.peers import Peer
from support.transports import Secrets
from tieline import CloseReason
from tieline.control import Control, ControlError, blocking, connect, serve
from tieline.control.verbs import VERBS
from tieline.control.watching import measure
from tieline.guard import SETTINGS, Guard, GuardSettings

#: No checks, so that nothing is counted but what a test does.
QUIET = GuardSettings(check_interval=None)


async def talk(peer: Peer, line: bytes = b"hello\n") -> None:
    """A line there and back."""
    await peer.send(line)
    assert await peer.receive(len(line)) == line


async def only(control: Control) -> Any:
    """The row of the one session there is."""
    [row] = (await control.connections())["connections"]
    return row


# ---- Sessions


async def test_a_session_is_a_row_with_its_upstream(path: Path) -> None:
    clock = Clock()
    async with guarded(path) as (guard, control):
        async with await Peer.connect(guard.addresses[0]) as peer:
            await talk(peer)
            clock.advance(7)
            row = await only(control)
            assert row["upstream"] == "db1"
            assert row["local"] == str(guard.addresses[0])
            assert (row["bytes_received"], row["bytes_sent"], row["owed"]) == (6, 6, 0)
            assert (row["receive_idle"], row["send_idle"], row["idle"]) == (7, 7, 7)
            assert (row["state"], row["messages_sent"], row["encoding"]) == ("open", 0, None)
            assert row["clock"] == "idle_timeout"
            info = await control.info()
            assert info["guard"] == {"upstreams": 1, "up": 1, "waiting": 0}
            assert info["connections"] == 1


async def test_idle_is_told_of_each_direction(path: Path) -> None:
    clock = Clock()
    heard: list[tieline.Connection] = []

    async def listen(connection: tieline.Connection) -> None:
        heard.append(connection)
        async for _ in connection:
            pass

    async with guarded(path, handler=listen) as (guard, control):
        async with await Peer.connect(guard.addresses[0]) as peer:
            await eventually(lambda: heard)
            clock.advance(3)
            await peer.send(b"a line\n")
            await eventually(lambda: heard[0].bytes_received)
            clock.advance(2)
            await heard[0].send(b"back")
            assert await peer.receive_line() == b"back\n"
            clock.advance(1)
            row = await only(control)
            assert (row["receive_idle"], row["send_idle"], row["idle"]) == (3, 1, 1)
            details = await control.connection(row["id"])
            side = details["upstream_side"]
            assert side is not None
            # What came from the client went to the upstream, and the other way round.
            assert (side["send_idle"], side["receive_idle"]) == (3, 1)
            assert (details["received_idle"], details["sent_idle"]) == (3, 1)


async def test_a_server_has_no_upstreams(path: Path) -> None:
    async with controlled(path) as (server, control):
        assert (await control.info())["guard"] is None
        async with await Peer.connect(server.addresses[0]) as peer:
            await talk(peer)
            row = await only(control)
            assert row["upstream"] is None
            assert (await control.connection(row["id"]))["upstream_side"] is None
            assert (await control.connections(upstream="db1"))["connections"] == []


async def test_sessions_are_found_and_sorted_by_their_upstream(path: Path) -> None:
    names = ["name=db1", "name=db2,max=1", "name=db3,backup"]
    async with guarded(path, *names, settings=QUIET) as (guard, control):
        peers = [await Peer.connect(guard.addresses[0]) for _ in range(4)]
        for peer in peers:
            await talk(peer)

        async def found(**query: Any) -> list[str | None]:
            page = await control.connections(**query)
            return [row["upstream"] for row in page["connections"]]

        assert await found() == ["db1", "db2", "db1", "db1"]
        assert await found(sort="upstream", descending=True) == ["db2", "db1", "db1", "db1"]
        assert await found(upstream="db2") == ["db2"]
        assert await found(upstream=["db2", "db3"]) == ["db2"]
        assert len(await found(upstream=["db1", "db2"], limit=3)) == 3
        assert await found(upstream="db") == []
        for peer in peers:
            peer.close()


async def test_a_session_in_detail_shows_the_whole_way(path: Path) -> None:
    opened: list[tieline.Connection] = []

    async def echo(connection: tieline.Connection) -> None:
        opened.append(connection)
        async for line in connection:
            await connection.send(line)

    async with guarded(path, handler=echo) as (guard, control):
        async with await Peer.connect(guard.addresses[0]) as peer:
            await talk(peer, b"a line\n")
            details = await control.connection((await only(control))["id"])
            side = details["upstream_side"]
            assert side is not None
            host, port = peer.socket.getsockname()
            assert details["peer"] == f"{host}:{port}"
            assert details["local"] == str(guard.addresses[0])
            assert side["local"] == str(opened[0].peer)
            assert side["peer"] == str(opened[0].local)
            assert (details["bytes_received"], details["bytes_sent"]) == (7, 7)
            assert (side["bytes_received"], side["bytes_sent"]) == (7, 7)
            assert (side["owed"], side["state"], side["clocks"], side["tls"]) == (
                0,
                "open",
                [],
                None,
            )
            for tcp in (details["tcp"], side["tcp"]):
                assert tcp is not None
                assert (tcp["state"], tcp["bytes_received"]) == ("established", 7)


async def test_tls_and_what_is_owed_are_told_of_each_side(path: Path, secrets: Secrets) -> None:
    stuck = asyncio.Event()

    async def wait(connection: tieline.Connection) -> None:
        await stuck.wait()

    async with guarded(path, handler=wait, tls=secrets.server) as (guard, control):
        async with await Peer.connect(guard.addresses[0], secrets.client) as peer:
            # More than two kernels keep, so that the upstream's side is owed the rest.
            sending = asyncio.create_task(peer.send(bytes(16_000_000)))
            [leg] = guard.connections
            await eventually(lambda: leg.upstream_leg is not None and leg.upstream_leg.owed)
            details = await control.connection((await only(control))["id"])
            side = details["upstream_side"]
            assert side is not None
            assert details["owed"] == 0
            assert side["owed"] > 0
            assert details["tls"] is not None
            assert details["tls"]["version"].startswith("TLS")
            assert side["tls"] is None
            assert "write_stall" in [clock["reason"] for clock in side["clocks"]]
            sending.cancel()
            await asyncio.wait([sending])
        stuck.set()


async def test_a_session_that_waits_has_no_upstream_yet(path: Path) -> None:
    async with guarded(path, "name=db1,max=1", settings=QUIET) as (guard, control):
        async with await Peer.connect(guard.addresses[0]) as first:
            await talk(first)
            async with await Peer.connect(guard.addresses[0]):
                await eventually(lambda: guard.pool.waiting)
                page = await control.connections(sort="upstream")
                waiting = page["connections"][0]
                assert (waiting["upstream"], waiting["clock"]) == (None, "queue_timeout")
                assert 9 < (waiting["left"] or 0) <= 10
                assert (await control.connection(waiting["id"]))["upstream_side"] is None
                assert (await control.info())["guard"] == {"upstreams": 1, "up": 1, "waiting": 1}
                result = await control.upstreams()
                assert result["waiting"] == result["upstreams"][0]["waiting"] == 1


async def test_the_verbs_of_any_server_work_on_sessions(path: Path) -> None:
    async with guarded(path) as (guard, control):
        first, second, third = [await Peer.connect(guard.addresses[0]) for _ in range(3)]
        for peer in (first, second, third):
            await talk(peer)
        ids = [row["id"] for row in (await control.connections())["connections"]]
        assert (await control.clients())["clients"][0]["connections"] == 3
        assert await control.kick(ids[0]) == {"kicked": 1, "missing": []}
        assert await first.is_reset()
        changed = (await control.change_limits(idle=20, per_client=1, evict=True))["changed"]
        assert changed["idle"] == {"old": 300.0, "new": 20}
        await eventually(lambda: guard.counters.closed[CloseReason.EVICTED] == 1)
        assert (await control.ban("127.0.0.1"))["closed"] == 1
        await eventually(lambda: not len(guard))
        assert (await control.unban("127.0.0.1"))["network"] == "127.0.0.1"
        assert "tieline_upstream_up" in (await control.metrics())["text"]
        assert await control.drain(5) == {"connections": 0, "clean": True}
        for peer in (first, second, third):
            peer.close()


async def test_a_drain_waits_for_sessions(path: Path) -> None:
    async with guarded(path) as (guard, control):
        async with await Peer.connect(guard.addresses[0]) as peer:
            await talk(peer)
            draining = asyncio.create_task(control.drain(10))
            assert await peer.receive_all() == b""
            peer.close()
            assert await draining == {"connections": 1, "clean": True}


# ---- Upstreams


async def test_upstreams_are_listed_with_what_they_have(path: Path) -> None:
    clock = Clock()
    async with guarded(
        path, "name=db1,weight=3,max=50", "name=spare,backup", settings=QUIET
    ) as (guard, control):  # fmt: skip
        async with await Peer.connect(guard.addresses[0]) as peer:
            await talk(peer)
            await control.upstream_drain("db1")
            await control.upstream_enable("db1")
            clock.advance(5)
            db1, spare = (await control.upstreams())["upstreams"]
        address = str(guard.pool.upstreams[0].spec.address)
        since = db1.pop("since")  # type: ignore[misc]
        assert 4 < time.time() - since < 6
        assert db1 == {
            "name": "db1", "address": address, "state": "up", "weight": 3, "max": 50,
            "backup": False, "names": [], "sessions": 1, "waiting": 0, "connected": 1,
            "failed": 0, "checks_failed": 0, "bytes_received": 6, "bytes_sent": 6,
            "last_error": "", "addresses": [address],
        }  # fmt: skip
        assert (spare["backup"], spare["max"], spare["connected"]) == (True, None, 0)


async def test_bytes_of_an_upstream_count_once_and_never_less(path: Path) -> None:
    async with guarded(path, settings=QUIET) as (guard, control):

        async def passed() -> tuple[int, int, int]:
            [row] = (await control.upstreams())["upstreams"]
            return row["bytes_received"], row["bytes_sent"], row["sessions"]

        for number in range(1, 4):
            async with await Peer.connect(guard.addresses[0]) as peer:
                await talk(peer)
                assert await passed() == (number * 6, number * 6, 1)
                [leg] = guard.connections
                upstream_leg = leg.upstream_leg
                assert upstream_leg is not None
                peer.reset()
            await eventually(lambda: not len(guard))
            # The upstream's side may be there for a while longer.
            assert (await passed())[:2] == (number * 6, number * 6)
            await upstream_leg.wait_closed()
            assert await passed() == (number * 6, number * 6, 0)


async def test_upstreams_come_and_go_while_sessions_are_open(path: Path) -> None:
    async with guarded(path, settings=QUIET) as (guard, control):
        address = guard.pool.upstreams[0].spec.address
        peer = await Peer.connect(guard.addresses[0])
        await talk(peer)
        with pytest.raises(ControlError, match="a name that nobody looks at"):
            await control.upstream_add(f"{address},name=db2,sni=a.example")
        added = (await control.upstream_add(f"{address},name=db2,weight=2"))["upstream"]
        assert (added["name"], added["state"], added["weight"]) == ("db2", "up", 2)
        assert (await control.upstream_remove("db2"))["upstream"]["state"] == "removed"
        assert [row["name"] for row in (await control.upstreams())["upstreams"]] == ["db1"]

        drained = (await control.upstream_drain("db1"))["upstream"]
        assert (drained["state"], drained["sessions"]) == ("draining", 1)
        assert (await control.info())["guard"] == {"upstreams": 1, "up": 0, "waiting": 0}
        assert await is_turned_away(guard)
        await talk(peer)
        assert (await control.upstream_enable("db1"))["upstream"]["state"] == "up"
        async with await Peer.connect(guard.addresses[0]) as other:
            await talk(other)

        await eventually(lambda: len(guard) == 1)
        removed = (await control.upstream_remove("db1"))["upstream"]
        assert (removed["state"], removed["sessions"], removed["bytes_sent"]) == ("removed", 1, 18)
        # It is not forgotten before its last session has ended.
        assert [row["state"] for row in (await control.upstreams())["upstreams"]] == ["removed"]
        assert (await control.info())["guard"] == {"upstreams": 0, "up": 0, "waiting": 0}
        await talk(peer)
        peer.close()
        await eventually(lambda: not guard.pool.upstreams)
        assert (await control.upstreams())["upstreams"] == []


async def is_turned_away(guard: Guard) -> bool:
    """Whether a newcomer finds no upstream."""
    before = guard.counters.closed[CloseReason.NO_UPSTREAM]
    try:
        async with await Peer.connect(guard.addresses[0]) as peer:
            await peer.receive_all()
    except ConnectionResetError:
        pass
    return guard.counters.closed[CloseReason.NO_UPSTREAM] == before + 1


async def test_an_upstream_that_is_down_says_why(path: Path) -> None:
    settings = GuardSettings(check_interval=None, passive_failures=1, tries=1)
    async with guarded(path, settings=settings) as (guard, control):
        with await asyncio.to_thread(_closed_port) as nobody:
            port = nobody.getsockname()[1]
            await control.upstream_drain("db1")
            await control.upstream_add(f"127.0.0.1:{port},name=gone")
            assert await is_turned_away(guard)
        _, gone = (await control.upstreams())["upstreams"]
        assert (gone["state"], gone["failed"], gone["connected"]) == ("down", 1, 0)
        assert "refused" in gone["last_error"]


def _closed_port() -> Any:
    """A socket whose port nobody else is given, and which does not listen."""
    import socket

    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


@pytest.mark.parametrize(
    ("ask", "code", "says"),
    [
        (lambda c: c.upstream_drain("db2"), "not_found", "there is no upstream 'db2'"),
        (lambda c: c.upstream_enable("other"), "not_found", "there is no upstream 'other'"),
        (lambda c: c.upstream_remove(""), "not_found", "there is no upstream ''"),
        (lambda c: c.upstream_add("127.0.0.1:1,name=db1"), "bad_value", "two upstreams are called"),
        (lambda c: c.upstream_add("127.0.0.1"), "bad_value", "no port"),
        (lambda c: c.upstream_add("127.0.0.1:1,wieght=2"), "bad_value", "there is no 'wieght'"),
        (lambda c: c.upstream_add("127.0.0.1:1,weight=257"), "bad_value", "weight must be"),
        (lambda c: c.ask("upstream_add"), "missing_argument", "upstream_add needs upstream"),
        (lambda c: c.ask("upstream_drain", name=3), "bad_value", "must be a text"),
    ],
)
async def test_a_mistake_about_an_upstream_changes_nothing(
    path: Path, ask: Callable[[Control], Any], code: str, says: str
) -> None:
    async with guarded(path) as (_, control):
        with pytest.raises(ControlError, match=says) as raised:
            await ask(control)
        assert raised.value.code == code
        [row] = (await control.upstreams())["upstreams"]
        assert (row["name"], row["state"]) == ("db1", "up")


async def test_the_nearest_upstream_is_the_hint(path: Path) -> None:
    async with guarded(path) as (_, control):
        with pytest.raises(ControlError) as raised:
            await control.upstream_drain("bd1")
        assert raised.value.fields["like"] == "db1"
        with pytest.raises(ControlError) as raised:
            await control.upstream_drain("something else")
        assert raised.value.hint == "the verb upstreams lists them"


# ---- Settings


async def test_every_setting_is_listed_with_its_rule(path: Path) -> None:
    settings = GuardSettings(check_send=b"\xffPING\r\n", accept_proxy=("127.0.0.0/8",))
    async with guarded(path, settings=settings) as (_, control):
        rows = (await control.settings())["settings"]
    assert list(rows) == list(SETTINGS)
    for name, rule in SETTINGS.items():
        assert (rows[name]["unit"], rows[name]["help"]) == (rule.unit, rule.help)
    assert (rows["balance"]["value"], rows["balance"]["default"]) == ("round-robin", "round-robin")
    assert rows["balance"]["choices"] == ["round-robin", "least", "hash"]
    assert rows["check_send"]["value"] == "\udcffPING\r\n"
    assert (rows["check_expect"]["value"], rows["check_expect"]["off"]) == (None, True)
    assert rows["accept_proxy"]["value"] == ["127.0.0.0/8"]


async def test_settings_are_changed_all_or_none(path: Path) -> None:
    async with guarded(path, settings=QUIET) as (guard, control):
        result = await control.change_settings(
            balance="least", tries=2, queue_timeout=10.0, check_send="é\udcff", recover=None
        )
        assert result["changed"] == {
            "balance": {"old": "round-robin", "new": "least"},
            "tries": {"old": 3, "new": 2},
            "check_send": {"old": None, "new": "é\udcff"},
            "recover": {"old": 30.0, "new": None},
        }
        assert guard.settings.check_send == "é".encode() + b"\xff"
        assert guard.pool.settings.balance == "least"
        assert (await control.change_settings(tries=2))["changed"] == {}
        before = guard.settings
        for changes, says in (
            ({"tries": 5, "balnce": "hash"}, "there is no setting 'balnce'"),
            ({"tries": 5, "balance": "rand"}, "balance must be one of"),
            ({"tries": 5, "check_send": ""}, "check_send must be from 1 to 4096 bytes"),
            ({"tries": 5, "check_send": "\ud800"}, "check_send must be from 1 to 4096 bytes"),
            ({"tries": 5, "check_send": 3}, "check_send must be from 1 to 4096 bytes"),
            ({"tries": 5, "accept_proxy": ["10.0.0.1/8"]}, "accept_proxy must be networks"),
            ({"tries": 0}, "tries must be a whole number"),
        ):
            with pytest.raises(ControlError, match=says) as raised:
                await control.change_settings(**changes)
            assert raised.value.code == "bad_value"
            assert guard.settings is before
        with pytest.raises(ControlError) as raised:
            await control.change_settings(nothing_like_it=1)
        assert raised.value.hint == "the verb settings lists them"


# ---- Whoever asks


async def test_only_a_guard_has_the_verbs_of_one(path: Path) -> None:
    verbs = [verb.name for verb in VERBS.values() if verb.guard]
    assert len(verbs) == 6
    async with controlled(path) as (_, control):
        listed = (await control.help())["verbs"]
        assert [row["verb"] for row in listed if row["guard"]] == verbs
        for verb in verbs:
            with pytest.raises(ControlError, match="it is no guard") as raised:
                required = [each.name for each in VERBS[verb].arguments if each.required]
                await control.ask(verb, **dict.fromkeys(required, "db1"))
            assert raised.value.code == "unsupported"
            assert raised.value.hint


async def test_what_changes_a_guard_is_logged_with_who_asked(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with guarded(path) as (_, control):
        with caplog.at_level(logging.INFO, "tieline.control"):
            await control.upstreams()
            await control.settings()
            await control.upstream_add("127.0.0.1:1,name=db2,max=1")
            await control.upstream_drain("db2")
            await control.upstream_enable("db2")
            await control.upstream_remove("db2")
            await control.change_settings(tries=1)
    asked = [line.split()[3] for line in caplog.messages]
    assert asked == [
        "upstream_add", "upstream_drain", "upstream_enable", "upstream_remove", "settings",
    ]  # fmt: skip


async def test_the_blocking_client_asks_the_same_of_a_guard(path: Path) -> None:
    async with guarded(path) as (guard, _):
        address = str(guard.pool.upstreams[0].spec.address)

        def act() -> None:
            with blocking.connect(path) as control:
                assert control.upstreams()["upstreams"][0]["name"] == "db1"
                added = control.upstream_add(f"{address},name=db2,backup")["upstream"]
                assert added["backup"]
                assert control.upstream_drain("db2")["upstream"]["state"] == "draining"
                assert control.upstream_enable("db2")["upstream"]["state"] == "up"
                assert control.upstream_remove("db2")["upstream"]["state"] == "removed"
                assert control.settings()["settings"]["tries"]["value"] == 3
                assert control.change_settings(tries=1)["changed"]["tries"]["new"] == 1
                assert control.connections(upstream=["db1"])["matched"] == 0

        await asyncio.to_thread(act)


# ---- Following


async def test_what_happens_to_upstreams_and_sessions_is_told(path: Path) -> None:
    async with guarded(path, settings=QUIET) as (guard, control):
        async with control.watch(stats=False) as watched:

            async def next_of(name: str) -> dict[str, Any]:
                async with asyncio.timeout(10):
                    while (event := await anext(watched))["event"] != name:
                        pass
                return event

            address = str(guard.pool.upstreams[0].spec.address)
            await control.upstream_drain("db1")
            assert (await next_of("upstream_draining"))["upstream"] == "db1"
            await control.upstream_enable("db1")
            assert (await next_of("upstream_up"))["upstream"] == "db1"
            async with await Peer.connect(guard.addresses[0]) as peer:
                opened = await next_of("connection_opened")
                relayed = await next_of("session_relayed")
                assert relayed["id"] == opened["id"]
                assert (relayed["upstream"], relayed["address"]) == ("db1", address)
                await talk(peer)
            closed = await next_of("connection_closed")
            assert (closed["id"], closed["upstream"]) == (opened["id"], "db1")
            assert (closed["bytes_received"], closed["bytes_sent"]) == (6, 6)
            await control.upstream_add("127.0.0.1:1,name=db2")
            assert (await next_of("upstream_added"))["upstream"] == "db2"
            await control.upstream_remove("db2")
            assert (await next_of("upstream_removed"))["upstream"] == "db2"


async def test_statistics_of_a_guard_say_how_many_wait(path: Path) -> None:
    async with guarded(path, "name=db1,max=1", settings=QUIET) as (guard, _):
        other = path.with_name("other.sock")
        control_server = serve(guard, other)
        control_server._operations.statistics._seconds = 0.0
        async with control_server, connect(other) as control:
            async with control.watch([]) as watched:
                first = await Peer.connect(guard.addresses[0])
                await talk(first)
                second = await Peer.connect(guard.addresses[0])
                async with asyncio.timeout(10):
                    while (await anext(watched))["waiting"] != 1:
                        pass
                first.close()
                await talk(second)
                async with asyncio.timeout(10):
                    while (await anext(watched))["waiting"] != 0:
                        pass
                second.close()
        totals, owed = await measure(guard)
        assert (totals.bytes_received, totals.bytes_sent, owed) == (12, 12, 0)
