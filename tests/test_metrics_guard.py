"""A guard's numbers for Prometheus: those of any server, and those of each upstream."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

import tieline
import tieline.guard
from support.hooks import echo, eventually
from support.peers import Peer
from tieline import CloseReason, Line
from tieline.guard import Guard, GuardSettings, UpstreamSpec, parse_upstream
from tieline.guard.figures import figures
from tieline.metrics import exposition, serve_metrics

#: No checks, so that nothing is counted but what a test does.
QUIET = GuardSettings(check_interval=None)

OBSERVABILITY = Path(__file__).parent.parent / "docs" / "observability.md"


def families(guard: Guard) -> dict[str, Metric]:
    """What Prometheus' own parser reads, by name."""
    return {family.name: family for family in text_string_to_metric_families(exposition(guard))}


def value(guard: Guard, name: str, **labels: str) -> float:
    """One number."""
    (found,) = (
        sample.value
        for family in families(guard).values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )
    return float(found)


def of_upstream(guard: Guard, upstream: str) -> dict[str, float]:
    """All numbers of one upstream."""
    return {
        sample.name.removeprefix("tieline_upstream_"): sample.value
        for family in families(guard).values()
        for sample in family.samples
        if sample.labels == {"upstream": upstream}
    }


@contextlib.asynccontextmanager
async def guarded(*upstreams: str, **options: Any) -> AsyncIterator[Guard]:
    """A guard before a server of lines, to which all of its upstreams lead."""
    async with tieline.serve(echo("responder"), "127.0.0.1:0", framing=Line()) as server:
        specs = [f"{server.addresses[0]},{each}" for each in upstreams]
        options.setdefault("settings", QUIET)
        async with tieline.guard.serve("127.0.0.1:0", upstreams=specs, **options) as guard:
            yield guard


async def talk(peer: Peer, line: bytes = b"hello\n") -> None:
    await peer.send(line)
    assert await peer.receive(len(line)) == line


async def test_a_guard_has_the_numbers_of_a_server_and_its_own() -> None:
    async with guarded("name=db1") as guard:
        async with await Peer.connect(guard.addresses[0]) as peer:
            await talk(peer)
            assert value(guard, "tieline_connections", state="open") == 1
            assert value(guard, "tieline_received_bytes_total") == 6
            assert of_upstream(guard, "db1") == {
                "up": 1, "sessions": 1, "connected_total": 1, "failed_total": 0,
                "checks_failed_total": 0, "received_bytes_total": 6, "sent_bytes_total": 6,
            }  # fmt: skip
            assert value(guard, "tieline_sessions_waiting") == 0
            assert value(guard, "tieline_pipes_short_total") == 0
        found = families(guard)
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        others = {f.name for f in text_string_to_metric_families(exposition(server))}
    assert found.keys() > others
    own = found.keys() - others
    assert {name for name in own if "upstream" not in name} == {
        "tieline_sessions_waiting", "tieline_pipes", "tieline_pipes_short",
    }  # fmt: skip
    for family in found.values():
        assert family.documentation.endswith(".") or "..." in family.documentation
        for sample in family.samples:
            assert sample.name.endswith("_total") is (family.type == "counter"), sample.name


async def test_no_counter_ever_falls() -> None:
    async with guarded("name=db1", "name=db2") as guard:
        before: dict[tuple[str, str], float] = {}

        def look() -> None:
            for family in families(guard).values():
                for sample in family.samples:
                    key = (sample.name, str(sample.labels))
                    if family.type == "counter" and key[0] != "process_cpu_seconds_total":
                        assert sample.value >= before.get(key, 0), key
                        before[key] = sample.value

        for number in range(6):
            async with await Peer.connect(guard.addresses[0]) as peer:
                await talk(peer)
                look()
                if number % 2:
                    peer.reset()
                else:
                    await peer.end()
            while len(guard):
                look()
                await asyncio.sleep(0)
            look()
        await eventually(lambda: not any(each.sessions for each in guard.pool.upstreams))
        look()
        assert value(guard, "tieline_upstream_sent_bytes_total", upstream="db1") == 18


async def test_an_upstream_that_gets_no_sessions_is_not_up() -> None:
    async with guarded("name=db1", "name=db2,max=1") as guard:
        guard.pool.drain("db1")
        async with (
            await Peer.connect(guard.addresses[0]) as first,
            await Peer.connect(guard.addresses[0]),
        ):
            await talk(first)
            await eventually(lambda: guard.pool.waiting)
            assert value(guard, "tieline_upstream_up", upstream="db1") == 0
            assert value(guard, "tieline_upstream_up", upstream="db2") == 1
            assert value(guard, "tieline_upstream_sessions", upstream="db2") == 1
            assert value(guard, "tieline_sessions_waiting") == 1


async def test_attempts_that_fail_are_counted() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{nobody.getsockname()[1]},name=gone"
        settings = GuardSettings(check_interval=None, tries=1, passive_failures=1)
        async with tieline.guard.serve(
            "127.0.0.1:0", upstreams=[where], settings=settings
        ) as guard:
            # It may be reset before it knows that it was connected.
            with contextlib.suppress(ConnectionResetError):
                async with await Peer.connect(guard.addresses[0]) as peer:
                    await peer.receive_all()
            assert of_upstream(guard, "gone")["failed_total"] == 1
            assert of_upstream(guard, "gone")["up"] == 0
            reason = CloseReason.NO_UPSTREAM.value
            assert value(guard, "tieline_connections_closed_total", reason=reason) == 1


async def test_a_removed_upstream_is_told_of_until_it_is_forgotten() -> None:
    async with guarded("name=db1") as guard:
        address = guard.pool.upstreams[0].spec.address
        async with await Peer.connect(guard.addresses[0]) as peer:
            await talk(peer)
            guard.pool.remove("db1")
            assert of_upstream(guard, "db1")["sessions"] == 1
            assert of_upstream(guard, "db1")["up"] == 0
            # One of the same name elsewhere: a label is there once.
            guard.pool.add(parse_upstream(f"{address.host}:1,name=db1"))
            assert len(guard.pool.upstreams) == 2
            assert of_upstream(guard, "db1")["up"] == 1
            assert of_upstream(guard, "db1")["connected_total"] == 0
        await eventually(lambda: len(guard.pool.upstreams) == 1)
        assert of_upstream(guard, "db1")["up"] == 1


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ('/run/a"b\\c.sock', 'unix:/run/a"b\\c.sock'),
        ("/run/a\nb.sock", "unix:/run/a\nb.sock"),
        ("/run/\udcff.sock", "unix:/run/\\udcff.sock"),
        ("/run/数据.sock", "unix:/run/数据.sock"),
    ],
)
async def test_names_are_escaped(path: str, label: str) -> None:
    spec = UpstreamSpec(tieline.Address(path=path))
    async with tieline.guard.serve("127.0.0.1:0", upstreams=[spec], settings=QUIET) as guard:
        exposition(guard).encode()
        assert value(guard, "tieline_upstream_up", upstream=label) == 1


async def test_a_scrape_of_a_guard() -> None:
    async with guarded("name=db1") as guard, serve_metrics(guard, "127.0.0.1:0") as metrics:
        async with await Peer.connect(metrics.addresses[0]) as peer:
            await peer.send(b"GET /metrics HTTP/1.1\r\n\r\n")
            body = (await peer.receive_all()).partition(b"\r\n\r\n")[2].decode()
    assert '\ntieline_upstream_up{upstream="db1"} 1\n' in body


async def test_pipes_are_counted() -> None:
    async with guarded("name=db1") as guard:
        pipe = guard.pipes.take()
        assert pipe is not None
        assert value(guard, "tieline_pipes") == 1
        guard.pipes.give_back(pipe)
        guard.pipes.short += 1
        assert value(guard, "tieline_pipes_short_total") == 1


async def test_the_numbers_of_a_guard_are_those_of_the_documentation() -> None:
    async with guarded("name=db1") as guard:
        page = exposition(guard)
        wanted = []
        for figure in figures(guard):
            label = "" if isinstance(figure.values, (int, float)) else "`upstream`"
            meaning = figure.help.removesuffix(".")
            wanted.append([f"`{figure.name}`", figure.kind, label, meaning])
            assert f"# HELP {figure.name} {figure.help}\n# TYPE {figure.name} {figure.kind}" in page
    table = re.search(
        r"((?:^\|.*\|\n)*^\| `tieline_upstream_up` .*\n(?:\|.*\|\n)*)",
        OBSERVABILITY.read_text("utf-8"), re.M,
    )  # fmt: skip
    assert table is not None
    rows = [line.split("|")[1:-1] for line in table[1].splitlines()[2:]]
    assert [[cell.strip() for cell in row] for row in rows] == wanted
