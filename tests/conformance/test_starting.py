"""How a server starts, and with what its handlers begin."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any, cast

import pytest

import tieline
from support.hooks import Watch, eventually
from support.peers import Peer
from support.transports import Place
from tieline import CloseReason, Connection, Gap, Limits, Line, UsageError
from tieline.reactor import Reactor

VOICE = contextvars.ContextVar("VOICE", default="nobody")


def echo(connection: Connection, message: bytes) -> bytes:
    return message


async def test_a_server_that_is_closed_while_it_starts_does_not_listen(plain: Place) -> None:
    server = tieline.serve(echo, "localhost:0")
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(0)
    server.close_listeners()
    with pytest.raises(UsageError, match="closed while it was starting"):
        await starting
    assert server.addresses == []
    assert Reactor._of == {}


async def test_handlers_begin_in_the_context_their_server_was_started_in(plain: Place) -> None:
    async def tell(connection: Connection) -> None:
        async for _ in connection:
            await connection.send(VOICE.get().encode())

    async def start(voice: str) -> tieline.Server:
        VOICE.set(voice)
        return await tieline.serve(tell, "127.0.0.1:0", framing=Line())

    servers = [await asyncio.create_task(start(voice)) for voice in ("first", "second")]
    heard = [await tieline.ask(one.addresses[0], b"?", framing=Line()) for one in servers]
    for one in servers:
        await one.close()
    assert heard == [b"first", b"second"]


async def test_a_handler_that_cannot_even_be_called_costs_its_connection(
    plain: Place, error_log: Any
) -> None:
    async def takes_nothing() -> None: ...

    watch = Watch()
    async with plain.serve(cast(Any, takes_nothing), **watch.hooks) as server:
        async with await plain.peer(server) as peer:
            assert await peer.receive_all() == b""
        assert await watch.next_close() is CloseReason.HANDLER_ERROR
        assert server.counters.handler_errors == 1
    assert len(error_log.take()) == 1


async def test_messages_that_silence_ends_pause_reading_too(plain: Place) -> None:
    """A handler that is behind holds at most the high-water mark of them."""
    limits = Limits(high_water=1000, low_water=100)
    watch = Watch()
    done = asyncio.Event()

    async def be_slow(connection: Connection) -> None:
        await done.wait()

    async with plain.serve(be_slow, framing=Gap(0.001), limits=limits, **watch.hooks) as server:
        async with await Peer.connect(server.addresses[0]) as peer:
            connection = await watch.next_open()
            for number in range(3):
                await peer.send(b"x" * 600)
                if number < 2:
                    await eventually(lambda: connection.messages_received == number + 1)  # noqa: B023
            assert not connection._reading
            assert connection.messages_received == 2
            done.set()
