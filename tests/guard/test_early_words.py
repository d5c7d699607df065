"""Defects found while services were put behind a guard; each has its test here."""

from __future__ import annotations

import asyncio

import pytest

import tieline
from guard.relayed import accept, dial, listen, reset
from support.hooks import echo
from support.transports import Secrets
from tieline import CloseReason
from tieline.guard import GuardSettings

UNCHECKED = GuardSettings(check_interval=None)


async def test_what_a_client_says_while_tls_with_its_upstream_is_agreed_on(
    secrets: Secrets,
) -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0", tls=secrets.server) as server:
        async with tieline.guard.serve(
            "127.0.0.1:0",
            upstreams=[server.addresses[0]],
            upstream_tls=secrets.client,
            settings=UNCHECKED,
        ) as guard:
            for _ in range(5):
                async with asyncio.timeout(5), tieline.connect(guard.addresses[0]) as client:
                    await client.send(b"the first words")
                    assert await client.receive() == b"the first words"


async def test_an_upstream_that_never_answers_in_tls(secrets: Secrets) -> None:
    closed: list[CloseReason] = []
    with listen() as listening:
        async with tieline.guard.serve(
            "127.0.0.1:0",
            upstreams=[f"127.0.0.1:{listening.getsockname()[1]}"],
            upstream_tls=secrets.client,
            settings=UNCHECKED.replace(connect_timeout=0.3, tries=1),
            on_close=lambda leg, reason: closed.append(reason),
        ) as guard:
            with await dial(guard.addresses[0]) as client, await accept(listening):
                async with asyncio.timeout(5):
                    with pytest.raises(ConnectionResetError):
                        await asyncio.get_running_loop().sock_recv(client, 1)
            assert closed in ([CloseReason.NO_UPSTREAM], [CloseReason.UPSTREAM_TLS])
            assert guard.pool.upstreams[0].sessions == 0


async def test_a_client_that_goes_while_tls_with_its_upstream_is_agreed_on(
    secrets: Secrets,
) -> None:
    with listen() as listening:
        async with tieline.guard.serve(
            "127.0.0.1:0",
            upstreams=[f"127.0.0.1:{listening.getsockname()[1]}"],
            upstream_tls=secrets.client,
            settings=UNCHECKED,
        ) as guard:
            client = await dial(guard.addresses[0])
            with await accept(listening) as server:
                assert await asyncio.get_running_loop().sock_recv(server, 1) == b"\x16"
                reset(client)
                async with asyncio.timeout(3):
                    while guard.pool.upstreams[0].sessions or len(guard):
                        await asyncio.sleep(0.005)
