"""Sockets that listen already, and become a server's: `sockets=`, and `adopt`."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tieline
from support.hooks import Watch, echo
from support.pairs import listening
from support.transports import Place, Secrets
from tieline import Address, BindError, ConnectError, Line, SettingError, UsageError
from tieline.reactor import Reactor


@pytest.fixture
def bare(plain: Place) -> Iterator[socket.socket]:
    """A TCP socket that listens."""
    made, _ = listening(plain)
    with made:
        yield made


async def test_no_address_is_needed(place: Place, kind: str) -> None:
    given, address = listening(place)
    server = tieline.serve(echo(kind), sockets=[given], tls=place.server_tls, framing=Line())
    async with server:
        assert server.addresses == [address]
        assert await place.ask(server, b"hello", framing=Line()) == b"hello"
        assert server.counters.accepted == 1
    assert server.addresses == [address]
    assert given.fileno() == -1
    with pytest.raises(ConnectError):
        await place.ask(server, b"hello")


async def test_those_who_came_before_it_started_are_served(bare: socket.socket) -> None:
    with socket.create_connection(bare.getsockname()) as early:
        early.sendall(b"early\n")
        early.setblocking(False)
        async with tieline.serve(echo("responder"), sockets=[bare], framing=Line()):
            got = await asyncio.get_running_loop().sock_recv(early, 100)
    assert got == b"early\n"


async def test_beside_addresses_of_its_own(bare: socket.socket, tmp_path: Path) -> None:
    path = f"unix:{tmp_path}/own.sock"
    server = tieline.serve(echo("responder"), path, sockets=iter([bare]), framing=Line())
    adopted = Address.from_socket_name(bare.family, bare.getsockname())
    async with server:
        assert server.addresses == [adopted, tieline.parse_address(path)]
        for address in server.addresses:
            assert await tieline.ask(address, b"x", framing=Line()) == b"x"
    assert not (tmp_path / "own.sock").exists()


async def test_the_file_of_a_unix_socket_is_left_to_whoever_made_it(unix_place: Place) -> None:
    given, address = listening(unix_place)
    with given.dup() as kept:
        async with tieline.serve(echo("responder"), sockets=[given], framing=Line()):
            assert await tieline.ask(address, b"first", framing=Line()) == b"first"
        assert Path(address.path).is_socket()
        # As systemd does: whoever comes between two servers waits, and is served by the second.
        async with await tieline.connect(address, framing=Line()) as between:
            between.send(b"second")
            async with tieline.serve(echo("responder"), sockets=[kept], framing=Line()):
                assert await between.receive() == b"second"
    assert Path(address.path).is_socket()


async def test_an_abstract_name(plain: Place) -> None:
    with socket.socket(socket.AF_UNIX) as given:
        given.bind("")  # the system chooses one
        given.listen()
        async with tieline.serve(echo("responder"), sockets=[given], framing=Line()) as server:
            [address] = server.addresses
            assert str(address).startswith("unix:@")
            assert await tieline.ask(address, b"x", framing=Line()) == b"x"


async def test_it_is_as_if_the_server_had_opened_it(bare: socket.socket) -> None:
    """No reply waits for an acknowledgement, and accepting does not block the loop."""
    bare.setblocking(True)
    watch = Watch()
    async with (
        tieline.serve(echo("responder"), sockets=[bare], framing=Line(), **watch.hooks) as server,
        await tieline.connect(server.addresses[0], framing=Line()) as client,
    ):
        client.send(b"x")
        assert await client.receive() == b"x"
        accepted: Any = (await watch.next_open())._socket
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not bare.getblocking()


async def test_adopt_before_start_and_not_after(plain: Place, bare: socket.socket) -> None:
    server = plain.serve(echo("responder"), framing=Line())
    server.adopt(bare)
    late, _ = listening(plain)
    with late:
        async with server:
            assert len(server.addresses) == 2
            with pytest.raises(UsageError, match="takes no more sockets"):
                server.adopt(late)
            assert await answer_at(server.addresses[0]) == b"x"
        with pytest.raises(UsageError, match="takes no more sockets"):
            server.adopt(late)
        assert late.fileno() >= 0


async def answer_at(address: Address) -> Any:
    return await tieline.ask(address, b"x", framing=Line())


# ---- What cannot be adopted


def test_a_server_needs_an_address_or_a_socket() -> None:
    with pytest.raises(UsageError, match="needs an address"):
        tieline.serve(echo("responder"))
    with pytest.raises(UsageError, match="needs an address"):
        tieline.serve(echo("responder"), sockets=iter(()))


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_UNIX, socket.SOCK_STREAM),
        (socket.AF_INET, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ],
)
def test_it_must_be_a_stream_socket_that_listens(
    family: int, kind: int, bare: socket.socket, tmp_path: Path
) -> None:
    with socket.socket(family, kind) as wrong:
        if kind == socket.SOCK_SEQPACKET:
            # It listens, but has no streams.
            wrong.bind(str(tmp_path / "packets"))
            wrong.listen()
        with pytest.raises(SettingError) as caught:
            tieline.serve(echo("responder"), sockets=[bare, wrong])
        assert str(caught.value).startswith(f"descriptor {wrong.fileno()} is not a stream socket")
        assert caught.value.hint == "call listen() on it first"
        assert wrong.fileno() >= 0
    # None of them was taken.
    assert bare.fileno() >= 0


def test_a_connected_socket_does_not_listen(bare: socket.socket) -> None:
    with socket.create_connection(bare.getsockname()) as connected:
        with pytest.raises(SettingError, match="is not a stream socket that listens"):
            tieline.serve(echo("responder"), sockets=[connected])
        bare.accept()[0].close()


def test_a_socket_that_is_closed_does_not_listen() -> None:
    closed = socket.socket()
    closed.close()
    with pytest.raises(SettingError, match="descriptor -1 is not a stream socket that listens"):
        tieline.serve(echo("responder"), sockets=[closed])


def test_a_socket_that_is_wrapped_in_tls(secrets: Secrets, bare: socket.socket) -> None:
    """Its handshakes would block everybody."""
    with secrets.server.wrap_socket(bare, server_side=True) as wrapped:
        assert isinstance(wrapped, ssl.SSLSocket)
        with pytest.raises(SettingError, match="is wrapped in TLS") as caught:
            tieline.serve(echo("responder"), sockets=[wrapped])
        assert caught.value.hint == "give the plain socket, and the context as tls"


def test_what_is_wrong_otherwise_leaves_them_to_the_caller(bare: socket.socket) -> None:
    with pytest.raises(SettingError):
        tieline.serve(echo("responder"), sockets=[bare], encoding="no such charset")
    assert bare.fileno() >= 0


# ---- They are closed whatever happens


async def test_a_server_that_never_starts_closes_them(bare: socket.socket) -> None:
    server = tieline.serve(echo("responder"), sockets=[bare])
    await server.close()
    assert bare.fileno() == -1
    with pytest.raises(UsageError):
        await server.start()


async def test_an_address_that_cannot_be_had(unix_place: Place, tmp_path: Path) -> None:
    given, address = listening(unix_place)
    server = tieline.serve(echo("responder"), f"unix:{tmp_path}/none/x.sock", sockets=[given])
    with pytest.raises(BindError):
        await server.start()
    assert given.fileno() == -1
    assert Path(address.path).is_socket()
    assert server.addresses == []
    assert Reactor._of == {}


async def test_a_server_that_is_cancelled_while_it_starts(bare: socket.socket) -> None:
    server = tieline.serve(echo("responder"), "localhost:0", sockets=[bare])
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert bare.fileno() == -1


async def test_a_server_that_is_closed_while_it_starts(bare: socket.socket) -> None:
    server = tieline.serve(echo("responder"), "localhost:0", sockets=[bare])
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(0)
    server.close_listeners()
    with pytest.raises(UsageError, match="closed while it was starting"):
        await starting
    assert bare.fileno() == -1
    assert Reactor._of == {}


async def test_one_that_cannot_be_watched(
    bare: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Reactor, descriptor: int, watched: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Reactor, "register", refuse)
    server = tieline.serve(echo("responder"), sockets=[bare])
    with pytest.raises(BindError, match="the sockets that were handed over"):
        await server.start()
    assert bare.fileno() == -1
    assert Reactor._of == {}
