"""The relay on a thread of its own, for tests without asyncio."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

import tieline
from support.peers import Peer
from tieline import BindError, SettingError
from tieline.testing import Cut, Delay, Fault, Reset, Slice, Stall, no_leaks
from tieline.testing.blocking import FaultRelay

from .bare import bare_server


def _ends(relay: FaultRelay, listening: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection((relay.address.host, relay.address.port), timeout=10)
    listening.settimeout(10)
    server, _ = listening.accept()
    server.settimeout(10)
    return client, server


def _receive(connected: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer when the stream ends before."""
    received = b""
    while len(received) < size and (data := connected.recv(size - len(received))):
        received += data
    return received


def test_a_test_without_asyncio() -> None:
    listening, address = bare_server()
    with no_leaks(), FaultRelay(address) as relay:
        slices = relay.add(Slice(1), direction="up")
        client, server = _ends(relay, listening)
        with client, server:
            client.sendall(b"hello")
            assert _receive(server, 5) == b"hello"
            relay.assert_happened(slices, 4)
            assert relay.happened == {"slice": 4}
            assert relay.faults == [slices]
            (connection,) = relay.connections
            assert connection.client.port == client.getsockname()[1]
            relay.remove(slices)
            relay.reset(connection)
            with pytest.raises(ConnectionResetError):
                server.recv(1)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert relay.reset_all() == 0
            relay.assert_happened("reset")
    listening.close()


def test_waiting_for_a_fault() -> None:
    listening, address = bare_server()
    with listening, FaultRelay(address) as relay:
        stall = relay.add(Stall())
        client, server = _ends(relay, listening)
        with client, server:
            with pytest.raises(AssertionError):
                relay.assert_happened(stall, within=0.01)
            client.sendall(b"hello")
            relay.assert_happened(stall, within=10)
            relay.remove_all()
            assert server.recv(5) == b"hello"
            with pytest.raises(SettingError):
                relay.assert_happened("stahl", within=10)


def test_faults_from_before_it_opens_and_changes_from_several_threads() -> None:
    listening, address = bare_server()
    relay = FaultRelay(address, seed=5)
    cut = relay.add(Cut(after=3))
    with listening, relay:
        client, server = _ends(relay, listening)
        with client, server:

            def change() -> None:
                for _ in range(50):
                    relay.remove(relay.add(Delay(1)))

            threads = [threading.Thread(target=change) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert relay.faults == [cut]
            client.sendall(b"hello")
            assert _receive(server, 10) == b"hel"
    assert relay.happened["cut"] == 1


def test_newcomers() -> None:
    listening, address = bare_server()
    with listening, FaultRelay(address) as relay:
        where = (relay.address.host, relay.address.port)
        relay.refuse_newcomers()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where)
        relay.ignore_newcomers()
        with socket.create_connection(where) as client:
            client.sendall(b"anybody?")
            relay.accept_newcomers()
            listening.settimeout(10)
            server, _ = listening.accept()
            with server:
                assert server.recv(8) == b"anybody?"


def test_an_upstream_that_moves() -> None:
    nowhere, address = bare_server()
    nowhere.close()
    listening, there = bare_server()
    with listening, FaultRelay(address) as relay:
        assert relay.upstream == address
        with socket.create_connection((relay.address.host, relay.address.port)) as client:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert len(relay.failures) == 1
        relay.upstream = there
        client, server = _ends(relay, listening)
        client.close()
        server.close()


def test_where_it_cannot_listen() -> None:
    listening, address = bare_server()
    with listening, no_leaks():
        relay = FaultRelay("127.0.0.1:1", listen=address)
        for _ in range(2):
            with pytest.raises(BindError):
                relay.open()
        relay.close()


def test_opened_and_closed_twice() -> None:
    relay = FaultRelay("127.0.0.1:1")
    relay.close()
    for _ in range(2):
        relay.open()
        relay.open()
        relay.close()
        relay.close()


@pytest.mark.parametrize("fault", [Delay(3600), Reset(after=3)])
async def test_beside_a_loop(fault: Fault) -> None:
    """A test with asyncio may have it too; the relay does not wait for the test's loop."""

    def echo(_: Any, data: Any) -> Any:
        return data

    async with tieline.serve(echo, "127.0.0.1:0") as server:
        with FaultRelay(server.addresses[0]) as relay:
            assert await tieline.ask(relay.address, b"hello") == b"hello"
            relay.add(fault)
            async with await Peer.connect(relay.address) as peer:
                await peer.send(b"hello")
                relay.assert_happened(fault, within=10)
