"""Numbers for Prometheus: what is said is what happened, in a form that its own parser reads."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import AsyncExitStack
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

import tieline
from support.clock import TICK, Clock
from support.hooks import Watch, echo, eventually
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Limits, Line, Server, State
from tieline.events import ClientUnbanned
from tieline.limits import LIMIT_OF_REASON, RULES
from tieline.metrics import CONTENT_TYPE, exposition, serve_metrics


def families(server: Server) -> dict[str, Metric]:
    """What Prometheus' own parser reads, by name."""
    return {family.name: family for family in text_string_to_metric_families(exposition(server))}


def value(server: Server, name: str, **labels: str) -> float:
    """One number."""
    (found,) = (
        sample.value
        for family in families(server).values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )
    return float(found)


# ---- The page


async def test_the_page_is_what_prometheus_reads(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        text = exposition(server)
        found = families(server)
    assert text.endswith("\n")
    assert "\n\n" not in text
    for family in found.values():
        assert family.documentation.endswith(".") or "..." in family.documentation
        assert family.samples, family.name
        assert family.type in ("counter", "gauge")
        # The parser takes the suffix of a counter off; a gauge has none.
        for sample in family.samples:
            assert sample.name.endswith("_total") is (family.type == "counter"), sample.name
            assert len(sample.labels) <= 1
    # Each name is said once, with what it is before its numbers.
    heads = re.findall(r"^# TYPE (\S+)", text, re.M)
    assert len(heads) == len(set(heads)) == len(found)
    # Base units only.
    assert not re.search(r"milli|kilo|_ms\b|_kb\b|minutes", text, re.I)


async def test_every_reason_and_state_has_a_number_from_the_start(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        found = families(server)
    closed = found["tieline_connections_closed"].samples
    assert {sample.labels["reason"] for sample in closed} == {each.value for each in CloseReason}
    refused = found["tieline_connections_refused"].samples
    comments = {sample.labels["reason"] for sample in refused}
    assert comments >= {"client_limit", "no_descriptors", "banned", "table_full"}
    states = found["tieline_connections"].samples
    assert {s.labels["state"] for s in states} == {s.value for s in State} - {"closed"}
    spared = found["tieline_spared"].samples
    assert {s.labels["limit"] for s in spared} == set(LIMIT_OF_REASON.values())
    assert all(s.value == 0 for s in [*closed, *refused, *states, *spared])


async def test_connections_are_counted_while_open_and_when_closed(place: Place, kind: str) -> None:
    watch = Watch()
    async with (
        place.serve(echo(kind), framing=Line(), **watch.hooks) as server,
        AsyncExitStack() as stack,
    ):
        one = await stack.enter_async_context(place.connect(server, framing=Line()))
        other = await stack.enter_async_context(place.connect(server, framing=Line()))
        for connection in (one, one, other):
            await connection.send(b"hello")
            assert await connection.receive() == b"hello"

        def numbers() -> list[float]:
            names = ("received_bytes", "sent_bytes", "received_messages", "sent_messages")
            return [value(server, f"tieline_{name}_total") for name in names]

        assert numbers() == [18, 18, 3, 3]
        assert value(server, "tieline_connections", state="open") == 2
        assert value(server, "tieline_clients") == 1
        one.close()
        await watch.next_close()
        # A connection that ends takes nothing away: a counter never falls.
        assert numbers() == [18, 18, 3, 3]
        assert value(server, "tieline_connections", state="open") == 1
        assert value(server, "tieline_connections_accepted_total") == 2
        assert value(server, "tieline_connections_closed_total", reason="peer_closed") == 1


async def test_refusals_are_counted_by_reason(plain: Place) -> None:
    async with plain.serve(echo("responder"), limits=Limits(per_client=1)) as server:
        async with await plain.peer(server):
            await eventually(lambda: len(server) == 1)
            for _ in range(3):
                assert await plain.is_turned_away(server)
            reason = CloseReason.CLIENT_LIMIT.value
            assert value(server, "tieline_connections_refused_total", reason=reason) == 3
            assert value(server, "tieline_connections_accepted_total") == 1


async def test_what_is_owed_is_seen(plain: Place) -> None:
    opened: list[tieline.Connection] = []
    limits = Limits(max_owed=50_000_000)
    async with plain.serve(echo("responder"), on_open=opened.append, limits=limits) as server:
        async with await plain.peer(server, receive_buffer=4_096):
            await eventually(lambda: opened)
            while not opened[0].owed:
                opened[0].send(bytes(1_000_000))
            assert value(server, "tieline_owed_bytes") == opened[0].owed > 0


async def test_no_address_is_a_label(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        async with await plain.peer(server, source="127.9.8.7"):
            await eventually(lambda: len(server) == 1)
            assert "127." not in exposition(server)


async def test_limits_are_numbers_while_they_are_on(plain: Place) -> None:
    limits = Limits(idle=42.5, per_client=None)
    async with plain.serve(echo("responder"), limits=limits) as server:
        told = {s.labels["limit"]: s.value for s in families(server)["tieline_limit"].samples}
        assert told["idle"] == 42.5
        assert told["total"] == 10_000
        for name in RULES:
            assert (name in told) is isinstance(getattr(limits, name), (int, float)), name
        server.change_limits(idle=7, per_client=3)
        assert value(server, "tieline_limit", limit="idle") == 7
        assert value(server, "tieline_limit", limit="per_client") == 3


async def test_what_a_limit_on_trial_spares_is_counted(plain: Place) -> None:
    limits = Limits(per_client=1, dry_run=("per_client",))
    async with plain.serve(echo("responder"), limits=limits) as server:
        async with await plain.peer(server), await plain.peer(server):
            await eventually(lambda: len(server) == 2)
            assert value(server, "tieline_spared_total", limit="per_client") == 1


async def test_what_subscribers_miss_is_counted(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        subscription = server.events.subscribe(lambda event: None, capacity=1)
        for _ in range(3):
            server.events.announce(ClientUnbanned(network="10.0.0.7"))
        # It stays counted when the subscriber has gone.
        subscription.end()
        assert value(server, "tieline_events_lost_total") == 2


async def test_bans_and_draining(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        assert value(server, "tieline_bans") == value(server, "tieline_draining") == 0
        server.ban("10.0.0.0/8")
        assert value(server, "tieline_bans") == 1
        assert await server.drain(5)
        assert value(server, "tieline_draining") == 1


async def test_the_process(plain: Place) -> None:
    async with plain.serve(echo("responder")) as server:
        before = value(server, "process_open_fds")
        assert before == len(os.listdir("/proc/self/fd")) - 1  # that of the listing
        async with await plain.peer(server):
            await eventually(lambda: len(server) == 1)
            assert value(server, "process_open_fds") == before + 2
        assert value(server, "process_max_fds") >= before
        assert value(server, "process_cpu_seconds_total") > 0
        assert value(server, "tieline_start_time_seconds") == server.started_at > 1.7e9
        assert value(server, "tieline_info", version=tieline.__version__) == 1


def test_descriptors_are_counted_on_an_older_kernel_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import tieline.metrics as module

    class Sizeless:
        st_size = 0

    now = module._open_descriptors()
    monkeypatch.setattr(os, "stat", lambda path: Sizeless)
    # The listing itself takes one.
    assert module._open_descriptors() in (now, now + 1)


# ---- Over HTTP


async def ask(metrics: Server, *pieces: bytes) -> tuple[str, dict[str, str], bytes]:
    """What is answered: the status, the headers, the body."""
    async with await Peer.connect(metrics.addresses[0]) as peer:
        for piece in pieces:
            await peer.send(piece)
            await asyncio.sleep(0)
        head, _, body = (await peer.receive_all()).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body


def serving(plain: Place) -> Any:
    class Both:
        async def __aenter__(self) -> tuple[Server, Server]:
            self.server = plain.serve(echo("responder"))
            self.metrics = serve_metrics(self.server, "127.0.0.1:0")
            await self.server.start()
            await self.metrics.start()
            return self.server, self.metrics

        async def __aexit__(self, *_: object) -> None:
            await self.metrics.close()
            await self.server.close()

    return Both()


async def test_a_scrape(plain: Place) -> None:
    async with serving(plain) as (server, metrics):
        status, headers, body = await ask(
            metrics, b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
        )
        assert status == "HTTP/1.1 200 OK"
        assert headers == {
            "Content-Type": CONTENT_TYPE,
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        names = {family.name for family in text_string_to_metric_families(body.decode())}
        assert names == set(families(server))
        # It tells of the other server, not of itself.
        assert value(server, "tieline_connections_accepted_total") == 0
        assert metrics.counters.accepted == 1


@pytest.mark.parametrize(
    "pieces",
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n",),
        (b"GET /metrics HTTP/1.1\n\n",),
        (b"GET /metrics?name=x HTTP/1.1\r\n\r\n",),
        (b"GE", b"T /metrics HTTP/1.1\r", b"\nHost: x\r\n\r", b"\n"),
    ],
)
async def test_other_ways_to_ask(plain: Place, pieces: tuple[bytes, ...]) -> None:
    async with serving(plain) as (_, metrics):
        status, _, body = await ask(metrics, *pieces)
        assert status == "HTTP/1.1 200 OK"
        assert b"tieline_connections" in body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"GET /metricsx HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"POST / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405 Method Not Allowed"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"GET /metrics\r\n\r\n", "400 Bad Request"),
        (b"\x16\x03\x01\x00\xee\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics SPDY/3\r\n\r\n", "400 Bad Request"),
        (b"\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 8_200, "431 Request Header Fields Too Large"),
    ],
)
async def test_what_is_no_scrape(plain: Place, request_: bytes, status: str) -> None:
    async with serving(plain) as (_, metrics):
        found, headers, body = await ask(metrics, request_)
        assert found == f"HTTP/1.1 {status}"
        assert body == b""
        assert headers["Connection"] == "close"
        assert ("Allow" in headers) is status.startswith("405")
        assert headers.get("Allow", "GET") == "GET"


async def test_one_who_leaves_in_the_middle_is_no_error(plain: Place) -> None:
    async with serving(plain) as (_, metrics):
        async with await Peer.connect(metrics.addresses[0]) as peer:
            await peer.send(b"GET /metr")
            await peer.end()
            assert await peer.receive_all() == b""
        await eventually(lambda: len(metrics) == 0)
        assert metrics.counters.closed == {CloseReason.PEER_CLOSED: 1}
        assert metrics.counters.handler_errors == 0


async def test_one_who_says_nothing_holds_no_place(plain: Place) -> None:
    clock = Clock()
    async with serving(plain) as (_, metrics):
        async with await Peer.connect(metrics.addresses[0]) as peer:
            await eventually(lambda: len(metrics) == 1)
            clock.advance(5 + TICK)
            assert await peer.is_reset()
            assert metrics.counters.closed == {CloseReason.FIRST_BYTE_TIMEOUT: 1}


async def test_one_who_drips_holds_no_place(plain: Place) -> None:
    """Each piece is a message to the framing: it is the lifetime that ends it."""
    clock = Clock()
    async with serving(plain) as (_, metrics):
        async with await Peer.connect(metrics.addresses[0]) as peer:
            for count in range(1, 4):
                await peer.send(b"G")
                while [each.bytes_received for each in metrics.connections] != [count]:
                    await asyncio.sleep(0)
                clock.advance(3)
            clock.advance(1 + TICK)
            assert await peer.receive_all() == b""
            await peer.end()
            await eventually(lambda: len(metrics) == 0)
            assert metrics.counters.closed == {CloseReason.LIFETIME: 1}
