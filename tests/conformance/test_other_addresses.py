"""Addresses that a server gets, and leaves, while it runs."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

import tieline
import tieline.guard
from support.hooks import echo
from support.transports import Place
from tieline import Address, BindError, ConnectError, Line, ResolveError, UsageError, parse_address
from tieline.reactor import Reactor


async def answers(address: Address) -> bool:
    try:
        return bool(await tieline.ask(address, b"x", framing=Line()) == b"x")
    except ConnectError:
        return False


async def test_one_more_and_one_less(place: Place, kind: str, tmp_path: Path) -> None:
    more = f"unix:{tmp_path}/more.sock"
    server = place.serve(echo(kind), framing=Line())
    async with server:
        (first,) = server.addresses
        async with await place.connect(server, framing=Line()) as connection:
            await server.add_addresses(more)
            assert server.addresses == [first, parse_address(more)]
            assert await place.ask(server, b"x", framing=Line()) == b"x"
            server.remove_addresses(place.listen)
            assert server.addresses == [parse_address(more)]
            with pytest.raises(ConnectError):
                await tieline.connect(first)
            # Who has come there is still served.
            await connection.send(b"still here")
            assert await connection.receive() == b"still here"
    assert not Path(tmp_path, "more.sock").exists()


async def test_what_is_there_already_stays_as_it_is() -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0", framing=Line()) as server:
        listened = server.addresses
        await server.add_addresses("127.0.0.1:0")
        assert server.addresses == listened
        server.remove_addresses("127.0.0.1:1", ":1")
        assert server.addresses == listened
        await server.add_addresses("[::1]:0", "[::1]:0")
        assert len(server.addresses) == 2
        assert all([await answers(address) for address in server.addresses])


async def test_all_of_them_or_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with tieline.serve(echo("responder"), "127.0.0.1:0", framing=Line()) as server:
            listened = server.addresses
            with pytest.raises(BindError, match="in use"):
                await server.add_addresses("[::1]:0", f"127.0.0.1:{taken.getsockname()[1]}")
            with pytest.raises(ResolveError):
                await server.add_addresses("[::1]:0", "nobody.invalid:1")
            assert server.addresses == listened
            assert await answers(listened[0])


async def test_the_last_one_that_is_left_ends_it() -> None:
    server = tieline.serve(echo("responder"), "127.0.0.1:0", framing=Line())
    async with server:
        async with await tieline.connect(server.addresses[0], framing=Line()) as connection:
            await connection.send(b"x")
            assert await connection.receive() == b"x"
            server.remove_addresses("127.0.0.1:0")
            ending = asyncio.create_task(server.wait_closed())
            await connection.send(b"y")
            assert await connection.receive() == b"y"
            assert not ending.done()
        await ending
        with pytest.raises(UsageError, match="does not listen"):
            await server.add_addresses("127.0.0.1:0")
    assert Reactor._of == {}


async def test_not_before_it_has_started_nor_while_it_ends() -> None:
    server = tieline.serve(echo("responder"), "127.0.0.1:0")
    with pytest.raises(UsageError, match="does not listen"):
        await server.add_addresses("127.0.0.1:0")
    async with server:
        adding = asyncio.create_task(server.add_addresses("localhost:0"))
        await asyncio.sleep(0)
        server.close_listeners()
        with pytest.raises(UsageError, match="does not listen"):
            await adding


async def test_a_guard_knows_that_an_upstream_leads_to_a_new_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        later = f"127.0.0.1:{free.getsockname()[1]}"
    async with tieline.guard.serve("127.0.0.1:0", upstreams=[later]) as guard:
        await guard.add_addresses(later)
        (upstream,) = guard.pool.upstreams
        assert upstream.is_own
        guard.remove_addresses(later)
        assert not upstream.is_own
