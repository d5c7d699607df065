"""What each verb answers, and what it does to the server."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import time
from pathlib import Path

import pytest

import tieline
from control.controlled import Wire, controlled
from support.hooks import Watch, echo, eventually
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Connection, Limits, Line
from tieline.control import ControlError, connect, serve
from tieline.control.verbs import VERBS
from tieline.limits import RULES


async def test_info_says_what_the_server_is_and_has_counted(path: Path, plain: Place) -> None:
    limits = Limits(per_client=1, dry_run=("idle",))
    async with controlled(path, limits=limits) as (server, control):
        async with await Peer.connect(server.addresses[0]) as peer:
            await peer.send(b"hello\n")
            await peer.receive_line()
            assert await plain.is_turned_away(server)
            info = await control.info()
    assert info["addresses"] == [str(server.addresses[0])]
    assert (info["tieline"], info["pid"], info["uid"]) == (
        tieline.__version__, os.getpid(), os.getuid(),
    )  # fmt: skip
    assert (info["connections"], info["clients"], info["known_clients"]) == (1, 1, 1)
    assert info["counters"]["accepted"] == 1
    assert info["counters"]["refused"] == {"client_limit": 1}
    assert info["counters"].keys() == {field.name for field in dataclasses.fields(tieline.Counters)}
    assert info["dry_run"] == ["idle"]
    assert info["draining"] is False
    assert 0 <= info["uptime"] < 100
    assert abs(info["started_at"] - time.time()) < 100


async def test_a_connection_in_detail(plain: Place, path: Path) -> None:
    async def wait(connection: Connection) -> None:
        async for _ in connection:
            await asyncio.Event().wait()

    async with plain.serve(wait, framing=Line(), encoding="gbk") as server:
        async with serve(server, path), connect(path) as control:
            async with await Peer.connect(server.addresses[0]) as peer:
                await peer.send(b"begun\nand not")
                await eventually(
                    lambda: [each.bytes_received for each in server.connections] == [13]
                )
                [connection] = server.connections
                details = await control.connection(connection.id)
                assert details["id"] == connection.id
                assert (details["encoding"], details["is_receiving"]) == ("gbk", True)
                assert details["is_idle"] is False
                assert details["handler"] is not None
                assert ".wait (test_control_verbs.py:" in details["handler"]
                reasons = [clock["reason"] for clock in details["clocks"]]
                assert sorted(reasons) == ["idle_timeout", "message_timeout", "slow_sender"]
                left = [clock["left"] for clock in details["clocks"]]
                assert left == sorted(left)
                assert details["clock"] == reasons[0]
                assert details["left"] == pytest.approx(left[0], abs=1)
                assert details["tcp"] is not None
                assert details["tcp"]["state"] == "established"
                assert (details["tls"], details["user"]) == (None, None)
                assert abs(details["opened_at"] - time.time()) < 100
                peer.reset()
                await eventually(lambda: len(server) == 0)
                with pytest.raises(
                    ControlError, match="no open connection has the number"
                ) as raised:
                    await control.connection(connection.id)
                assert raised.value.code == "not_found"


async def test_a_connection_over_tls_and_one_over_a_unix_socket(
    tls_place: Place, unix_place: Place, path: Path
) -> None:
    for place in (tls_place, unix_place):
        async with place.serve(echo("responder")) as server:
            async with serve(server, path), connect(path) as control:
                async with await place.peer(server) as peer:
                    await peer.send(b"hello")
                    await peer.receive(5)
                    [row] = (await control.connections())["connections"]
                    details = await control.connection(row["id"])
        assert details["handler"] is None
        if place.is_tls:
            assert details["tls"] is not None
            assert details["tls"]["version"] == "TLSv1.3"
            assert "AES" in details["tls"]["cipher"] or "CHACHA" in details["tls"]["cipher"]
        else:
            assert (details["tcp"], details["user"]) == (None, os.getuid())
            assert details["client"] == f"uid:{os.getuid()}"


# ---- Kicking and banning


async def test_connections_are_kicked_by_number(path: Path) -> None:
    watch = Watch()
    async with controlled(path, **watch.hooks) as (server, control):
        peers = [await Peer.connect(server.addresses[0]) for _ in range(4)]
        opened = [await watch.next_open() for _ in peers]
        first, second, third, fourth = (connection.id for connection in opened)
        assert await control.kick(first) == {"kicked": 1, "missing": []}
        assert await control.kick(second, third, second) == {"kicked": 2, "missing": []}
        for peer in peers[:3]:
            assert await peer.is_reset()
        assert await control.kick(fourth, third) == {"kicked": 1, "missing": [third]}
        with pytest.raises(ControlError, match=f"no open connection has the number {third}"):
            await control.kick(third)
        with pytest.raises(ControlError, match="needs an id or a client") as raised:
            await control.kick()
        assert raised.value.code == "missing_argument"
        with pytest.raises(ControlError, match="needs an id or a client"):
            await control.kick(1, client="127.0.0.1")
        for peer in peers:
            peer.close()
        await eventually(lambda: len(server) == 0)
    assert server.counters.closed == {CloseReason.KICKED: 4}


async def test_a_client_is_kicked_with_all_it_holds(path: Path) -> None:
    async with controlled(path) as (server, control):
        peers = [
            await Peer.connect(server.addresses[0], source=source)
            for source in ("127.0.0.2", "127.0.0.2", "127.0.0.3")
        ]
        await eventually(lambda: len(server) == 3)
        assert await control.kick(client="127.0.0.2") == {"kicked": 2, "missing": []}
        await eventually(lambda: len(server) == 1)
        with pytest.raises(ControlError, match=r"no client '127\.0\.0\.2' holds"):
            await control.kick(client="127.0.0.2")
        for peer in peers:
            peer.close()


async def test_a_ban_closes_refuses_and_can_be_lifted(path: Path, plain: Place) -> None:
    async with controlled(path) as (server, control):
        async with await Peer.connect(server.addresses[0], source="127.9.0.2") as peer:
            await eventually(lambda: len(server) == 1)
            result = await control.ban("127.9.0.0/16", seconds=600, why="a test")
            assert result == {"network": "127.9.0.0/16", "left": 600, "closed": 1}
            assert await peer.is_reset()
        assert await plain.is_turned_away(server, source="127.9.0.3")
        [ban] = (await control.bans())["bans"]
        assert (ban["network"], ban["why"], ban["refusals"]) == ("127.9.0.0/16", "a test", 1)
        assert ban["left"] is not None
        assert 0 < ban["left"] <= 600
        assert await control.unban("127.9.0.0/16") == {"network": "127.9.0.0/16"}
        assert (await control.bans())["bans"] == []
        async with await Peer.connect(server.addresses[0], source="127.9.0.3") as peer:
            await peer.send(b"again\n")
            assert await peer.receive_line() == b"again\n"
        with pytest.raises(ControlError, match="is not banned") as raised:
            await control.unban("127.9.0.0/16")
        assert raised.value.code == "not_found"


@pytest.mark.parametrize("network", ["somewhere", "", "10.0.0.0/99", "10.0.0.7;"])
async def test_a_ban_of_nonsense_is_refused(path: Path, network: str) -> None:
    async with controlled(path) as (_, control):
        with pytest.raises(ControlError) as raised:
            await control.ban(network)
        assert raised.value.code == "bad_value"
        assert (await control.bans())["bans"] == []


async def test_a_ban_needs_some_time(path: Path) -> None:
    async with controlled(path) as (_, control):
        for seconds in (0, -1):
            with pytest.raises(ControlError) as raised:
                await control.ban("127.9.0.2", seconds=seconds)
            assert raised.value.code == "bad_value"
        assert (await control.ban("127.9.0.2"))["left"] is None


async def test_penalties_are_listed_and_forgiven(path: Path) -> None:
    async def blame(connection: Connection) -> None:
        async for _ in connection:
            connection.penalize(20, "a wrong password")
            await connection.send(b"no")

    async with controlled(path, blame) as (server, control):
        async with await Peer.connect(server.addresses[0], source="127.0.0.2") as peer:
            await peer.send(b"secret\n")
            await peer.receive_line()
        [penalty] = (await control.bans())["penalties"]
        assert (penalty["client"], penalty["why"]) == ("127.0.0.2", "a wrong password")
        assert penalty["refused"] is True
        assert 0 < penalty["owed"] <= 20
        assert await control.unban("127.0.0.2") == {"network": "127.0.0.2"}
        assert (await control.bans())["penalties"] == []


async def test_bans_are_listed_up_to_a_limit(path: Path) -> None:
    async with controlled(path) as (_, control):
        for number in range(12):
            await control.ban(f"10.0.0.{number}")
        found = await control.bans(limit=5)
        assert (len(found["bans"]), found["more"]) == (5, True)
        found = await control.bans(limit=12)
        assert (len(found["bans"]), found["more"]) == (12, False)


# ---- Limits


async def test_every_limit_is_listed_with_its_rule(path: Path) -> None:
    async with controlled(path, limits=Limits(idle=None, per_client=7)) as (_, control):
        limits = (await control.limits())["limits"]
    assert list(limits) == list(RULES)
    assert limits["per_client"] == {
        "value": 7, "unit": "connections", "default": 100, "off": True, "choices": [],
        "help": RULES["per_client"].help,
    }  # fmt: skip
    assert (limits["idle"]["value"], limits["idle"]["default"]) == (None, 300.0)
    assert limits["client_full"]["choices"] == ["refuse", "evict"]


async def test_limits_are_changed_all_or_none(path: Path) -> None:
    async with controlled(path) as (server, control):
        before = server.limits
        for changes, said in (
            ({"idle": 20, "per_client": 0}, "per_client must be a whole number of at least 1"),
            ({"idle": 20, "idel": 3}, "there is no limit 'idel'"),
            ({"idle": 20, "evict": True}, "there is no limit 'evict'"),
            ({"idle": "20"}, "idle must be a number of seconds above zero or None, not '20'"),
            ({"low_water": 99_999, "idle": 20}, "low_water (99999) must be below high_water"),
            ({"exempt_networks": ["here"]}, "exempt_networks must be networks"),
        ):
            with pytest.raises(ControlError) as raised:
                await control.ask("limits", changes=changes)
            assert said in str(raised.value)
            assert raised.value.code == "bad_value"
            assert server.limits is before
        changed = await control.change_limits(idle=20, per_client=None, total=10_000)
        assert changed == {
            "changed": {"idle": {"old": 300.0, "new": 20}, "per_client": {"old": 100, "new": None}}
        }
        assert (server.limits.idle, server.limits.per_client) == (20, None)
        changed = await control.change_limits(exempt_networks=["10.0.0.0/8"])
        assert changed["changed"] == {"exempt_networks": {"old": [], "new": ["10.0.0.0/8"]}}


async def test_a_lowered_cap_may_evict(path: Path) -> None:
    async with controlled(path) as (server, control):
        peers = [await Peer.connect(server.addresses[0]) for _ in range(5)]
        await eventually(lambda: len(server) == 5)
        await control.change_limits(per_client=4)
        assert (await control.info())["connections"] == 5
        await control.change_limits(per_client=2, evict=True)
        await eventually(lambda: len(server) == 2)
        for peer in peers:
            peer.close()
        await eventually(lambda: len(server) == 0)
    assert server.counters.closed[CloseReason.EVICTED] == 3


# ---- The rest


async def test_draining_closes_the_idle_and_resets_who_is_late(path: Path) -> None:
    async def work(connection: Connection) -> None:
        async for _ in connection:
            await asyncio.Event().wait()

    async with controlled(path, work) as (server, control):
        async with await Peer.connect(server.addresses[0]) as idle:
            async with await Peer.connect(server.addresses[0]) as busy:
                await busy.send(b"job\n")
                await eventually(
                    lambda: [each.messages_received for each in server.connections] == [0, 1]
                )
                draining = asyncio.create_task(control.drain(0.3))
                assert await idle.receive_all() == b""
                idle.close()
                assert await busy.is_reset()
                assert await draining == {"connections": 2, "clean": False}
        assert (await control.info())["draining"] is True
        with pytest.raises(ControlError, match="spread"):
            await control.drain(1, spread=2)


async def test_metrics_are_what_a_scrape_would_get(path: Path) -> None:
    async with controlled(path) as (server, control):
        async with tieline.connect(server.addresses[0]):
            await eventually(lambda: len(server) == 1)
            metrics = await control.metrics()
    assert metrics["content_type"].startswith("text/plain; version=0.0.4")
    assert "\ntieline_connections_accepted_total 1\n" in metrics["text"]


async def test_help_lists_every_verb_with_its_arguments(path: Path) -> None:
    async with controlled(path) as (_, control):
        verbs = (await control.help())["verbs"]
    assert [row["verb"] for row in verbs] == list(VERBS)
    assert [row["verb"] for row in verbs if row["stream"]] == ["watch", "tap"]
    for row in verbs:
        assert row["help"]
        for argument in row["arguments"]:
            assert argument["help"]
            assert argument.keys() >= {"name", "kind", "unit", "required", "default"}


async def test_what_changes_the_server_is_logged_with_who_asked(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "tieline.control"):
        async with controlled(path) as (_, control):
            await control.info()
            await control.limits()
            await control.ban("10.0.0.7", why="a test")
            await control.change_limits(idle=20)
            await control.drain()
    words = [line.split()[:4] for line in caplog.messages]
    by = f"uid:{os.getuid()}"
    assert words == [[by, "asked", "for", verb] for verb in ("ban", "limits", "drain")]
    assert "10.0.0.7" in caplog.messages[0]


async def test_every_verb_takes_what_its_clients_methods_give(path: Path) -> None:
    """By hand, to see the lines: both keys of an answer, and an id that is anything."""
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        async with serve(server, path), await Wire.connect(path) as wire:
            await wire.hear()
            answer = await wire.ask({"id": {"any": "thing"}, "verb": "bans", "args": {"limit": 3}})
            assert answer == {
                "v": 1, "id": {"any": "thing"}, "ok": True,
                "result": {"bans": [], "penalties": [], "more": False},
            }  # fmt: skip
