"""The watch for leaks finds what is left, and nothing else."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

import tieline
from tieline.reactor import READABLE, Reactor
from tieline.testing import no_leaks


def test_a_descriptor_is_found() -> None:
    with pytest.raises(AssertionError, match=r"left behind: descriptors.*socket:"):
        with no_leaks():
            left = socket.socket()
    left.close()


def test_what_was_open_before_may_be_closed_inside() -> None:
    before = socket.socket()
    with no_leaks():
        before.close()


def test_an_error_is_not_hidden() -> None:
    left: list[int] = []
    with pytest.raises(ZeroDivisionError):
        with no_leaks():
            left.append(os.open(os.devnull, os.O_RDONLY))
            raise ZeroDivisionError
    os.close(left[0])


async def test_a_task_is_found() -> None:
    before = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    with pytest.raises(AssertionError, match=r"left behind: tasks.*forgotten"):
        async with no_leaks():
            left = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    for task in (before, left):
        task.cancel()
    await asyncio.wait([before, left])


async def test_what_is_ending_may_end() -> None:
    async with no_leaks():

        async def end() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        task = asyncio.create_task(end())
    assert task.done()


async def test_a_server_that_is_closed_leaves_nothing_and_one_that_is_not_does() -> None:
    def echo(_: tieline.Connection, data: bytes) -> bytes:
        return data

    async with no_leaks():
        async with tieline.serve(echo, "127.0.0.1:0") as server:
            assert await tieline.ask(server.addresses[0], b"hello") == b"hello"
    server = tieline.serve(echo, "127.0.0.1:0")
    with pytest.raises(AssertionError, match=r"registrations.*Listener.*descriptors.*eventpoll"):
        async with no_leaks():
            await server.start()
    await server.close()


async def test_a_registration_of_a_descriptor_that_is_closed_is_found() -> None:
    class Nobody:
        def on_ready(self, mask: int) -> None:
            pass

    reactor = Reactor.of(asyncio.get_running_loop())
    one, other = socket.socketpair()
    reactor.register(one.fileno(), Nobody(), READABLE)
    with pytest.raises(AssertionError, match=r"left behind: registrations.*Nobody"):
        async with no_leaks():
            reactor.register(other.fileno(), Nobody(), READABLE)
    reactor.unregister(one.fileno())
    reactor.unregister(other.fileno())
    one.close()
    other.close()
