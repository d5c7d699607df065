"""An end stays an end, a reset a reset, and what came before either arrives first."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys

import pytest

import tieline
from guard.relayed import RESET, accept, dial, listen, read_to_end, reset, session
from tieline import Address, Limits
from tieline.reasons import CloseReason

BULK = os.urandom(3_000_000)


async def test_an_exchange_and_the_client_ends_first() -> None:
    async with session() as it:
        await it.exchange()
        it.client.shutdown(socket.SHUT_WR)
        assert await read_to_end(it.server) == (b"", "end")
        # Its half is still open: the last words arrive.
        await asyncio.get_running_loop().sock_sendall(it.server, b"bye")
        it.server.close()
        assert await read_to_end(it.client) == (b"bye", "end")
        assert await it.over() is CloseReason.PEER_CLOSED


async def test_the_server_ends_first() -> None:
    async with session() as it:
        await it.exchange()
        it.server.shutdown(socket.SHUT_WR)
        assert await read_to_end(it.client) == (b"", "end")
        await asyncio.get_running_loop().sock_sendall(it.client, b"and one more")
        it.client.close()
        assert await read_to_end(it.server) == (b"and one more", "end")
        assert await it.over() is CloseReason.UPSTREAM_CLOSED


@pytest.mark.parametrize("size", [1, 50_000, len(BULK)])
async def test_the_server_sends_and_resets(size: int) -> None:
    """The client has all of it, and then a reset: no half of a file that looks whole."""
    async with session() as it:
        await it.exchange()
        reading = asyncio.ensure_future(read_to_end(it.client))
        await asyncio.get_running_loop().sock_sendall(it.server, BULK[:size])
        # A reset takes what its own kernel still holds with it: once all of it is with the guard.
        while it.leg.bytes_sent < size + len(b"answer"):
            await asyncio.sleep(0.002)
        reset(it.server)
        got, end = await reading
        assert (len(got), end) == (size, RESET)
        assert got == BULK[:size]
        assert await it.over() is CloseReason.UPSTREAM_RESET


async def test_the_client_resets() -> None:
    async with session() as it:
        await it.exchange()
        await asyncio.get_running_loop().sock_sendall(it.client, b"last words")
        while it.leg.bytes_received < len(b"asklast words"):
            await asyncio.sleep(0.002)
        reset(it.client)
        assert await read_to_end(it.server) == (b"last words", RESET)
        assert await it.over() is CloseReason.PEER_RESET


@pytest.mark.parametrize("attempt", range(20))
async def test_the_last_reply_of_a_server_that_closes_with_unread_input(attempt: int) -> None:
    """It answers and closes while the client still sends: its kernel resets. The answer arrives."""
    async with session() as it:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(it.client, b"x" * 20_000)
        while it.leg.bytes_received < 20_000:
            await asyncio.sleep(0.001)
        await loop.sock_sendall(it.server, b"the last reply")
        it.server.close()  # with 20,000 bytes unread
        # Some of it meets the reset on its way.
        for _ in range(3):
            try:
                await loop.sock_sendall(it.client, b"y" * 1000)
            except OSError:
                break
        assert await read_to_end(it.client) == (b"the last reply", RESET)
        assert await it.over() is CloseReason.UPSTREAM_RESET


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_bulk_and_then_an_end(direction: str) -> None:
    async with session() as it:
        sender, receiver = (it.client, it.server) if direction == "up" else (it.server, it.client)
        reading = asyncio.ensure_future(read_to_end(receiver))
        await asyncio.get_running_loop().sock_sendall(sender, BULK)
        sender.shutdown(socket.SHUT_WR)
        got, end = await reading
        assert end == "end"
        assert hashlib.sha256(got).digest() == hashlib.sha256(BULK).digest()


async def test_both_ways_at_once() -> None:
    async with session() as it:
        loop = asyncio.get_running_loop()

        async def send(end: socket.socket) -> None:
            await loop.sock_sendall(end, BULK)
            end.shutdown(socket.SHUT_WR)

        down, up, _, _ = await asyncio.gather(
            read_to_end(it.client), read_to_end(it.server), send(it.client), send(it.server)
        )
        assert down == (BULK, "end")
        assert up == (BULK, "end")
        assert (await it.over()).in_good_order
        assert it.guard.counters.bytes_received == it.guard.counters.bytes_sent == len(BULK)


async def test_a_slow_reader_gets_all_of_it_before_the_end() -> None:
    """Both have ended, and the client has not read yet: no clock of closing cuts it off."""
    async with session(limits=Limits(closing=0.2)) as it:
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(loop.sock_sendall(it.server, BULK * 3))
        it.client.shutdown(socket.SHUT_WR)
        # Until the guard is owed room by the client, and so holds some.
        while not it.leg.owed:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.5)
        got, end = b"", "more"
        while end == "more":
            piece, end = await read_to_end(it.client, 200_000)
            got += piece
            if sending.done() and it.server.fileno() >= 0:
                it.server.close()
        assert (len(got), end) == (len(BULK) * 3, "end")
        await sending


async def test_a_client_that_does_not_read_stops_the_server() -> None:
    async with session() as it:
        loop = asyncio.get_running_loop()
        sent = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                while True:
                    await loop.sock_sendall(it.server, BULK[:100_000])
                    sent += 100_000
        leg = it.leg
        assert leg.owed <= 262_144
        assert leg.upstream_leg is not None
        before = leg.upstream_leg.bytes_received
        await asyncio.sleep(0.1)
        assert leg.upstream_leg.bytes_received == before


async def test_a_reset_behind_bytes_that_the_client_has_not_read() -> None:
    """The server is cut off while the guard still owes the client, which then reads it all."""
    async with session() as it:
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(loop.sock_sendall(it.server, BULK * 5))
        while not it.leg.owed:
            await asyncio.sleep(0.005)
        sending.cancel()
        # What has not left its kernel goes with the reset, as it would without a guard; what the
        # guard's own kernel holds is read all the same.
        reset(it.server)
        got, end = await read_to_end(it.client)
        assert end == RESET
        assert (BULK * 5).startswith(got)
        assert await it.over() is CloseReason.UPSTREAM_RESET
        assert len(got) == it.guard.counters.bytes_sent


_ENDLESS = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    end, _ = listening.accept()
    end.recv(1)
    while True:
        end.sendall(b"x" * 65536)
"""


@pytest.mark.one_loop
@pytest.mark.parametrize("way", ["guarded", "direct"])
async def test_a_server_that_is_killed_in_the_middle_is_a_reset(way: str) -> None:
    """As without a guard: it has not read all that came, so that its kernel resets. Never a short
    clean end."""
    server = subprocess.Popen([sys.executable, "-c", _ENDLESS], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        direct = Address("127.0.0.1", int(server.stdout.readline()))
        async with tieline.guard.serve("127.0.0.1:0", upstreams=[direct]) as guard:
            with await dial(direct if way == "direct" else guard.addresses[0]) as client:
                await asyncio.get_running_loop().sock_sendall(client, b"go, and some more")
                await read_to_end(client, 1_000_000)
                server.kill()
                _, end = await read_to_end(client)
                assert end == RESET
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


async def test_descriptors_given_out_again_carry_nobody_elses_bytes() -> None:
    """Sessions end and begin within one turn, each with bytes of its own."""
    listening = listen()
    port = listening.getsockname()[1]
    async with tieline.guard.serve("127.0.0.1:0", upstreams=[f"127.0.0.1:{port}"]) as guard:
        loop = asyncio.get_running_loop()

        async def echo() -> None:
            while True:
                end = await accept(listening)
                tasks.add(loop.create_task(answer(end)))

        async def answer(end: socket.socket) -> None:
            with end:
                while data := await loop.sock_recv(end, 65_536):
                    await loop.sock_sendall(end, data)

        async def talk(number: int) -> None:
            client = await dial(guard.addresses[0])
            with client:
                own = f"<{number}>".encode() * 50
                await loop.sock_sendall(client, own)
                got = b""
                while len(got) < len(own):
                    got += await loop.sock_recv(client, 65_536)
                assert got == own
                if number % 3 == 0:
                    reset(client)

        tasks = {loop.create_task(echo())}
        for first in range(0, 600, 50):
            await asyncio.gather(*(talk(first + each) for each in range(50)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    listening.close()
