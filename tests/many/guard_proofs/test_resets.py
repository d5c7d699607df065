"""The reset matrix: what each side of a relay sees when the other has cut the connection off.

20 times each: the server sends 50,000 bytes and cuts off; the client cuts off after an exchange;
the server answers and closes while the client still sends, so that its kernel cuts off. Beside the
guard, and only to be printed: the relays of the field that are installed.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
import termios
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from many.guard_proofs.programs import note
from many.guard_proofs.relays import RELAYS, find, version

_TRIES = 20
_LINGER_ZERO = struct.pack("ii", 1, 0)
_BULK = os.urandom(50_000)
_REPLY = b"the last reply"

RESET, END = "reset", "end"


def cut_off(end: socket.socket) -> None:
    """Reset it, once the next kernel has everything: as much is lost without a relay."""
    queued = array.array("i", [1])
    while queued[0]:
        fcntl.ioctl(end, termios.TIOCOUTQ, queued)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    end.close()


def read_to_end(end: socket.socket) -> tuple[bytes, str]:
    got = b""
    while True:
        try:
            data = end.recv(65_536)
        except (ConnectionResetError, BrokenPipeError):
            return got, RESET
        if not data:
            return got, END
        got += data


def exchange(client: socket.socket, server: socket.socket) -> None:
    client.sendall(b"ask")
    assert server.recv(100) == b"ask"
    server.sendall(b"answer")
    assert client.recv(100) == b"answer"


def a_server_that_cuts_off(client: socket.socket, server: socket.socket) -> str:
    """What the client sees of it."""
    exchange(client, server)
    server.sendall(_BULK)
    cut_off(server)
    got, end = read_to_end(client)
    assert _BULK.startswith(got)
    return end if len(got) == len(_BULK) else f"{end}, short"


def a_client_that_cuts_off(client: socket.socket, server: socket.socket) -> str:
    """What the server sees of it."""
    exchange(client, server)
    client.sendall(b"last words")
    cut_off(client)
    got, end = read_to_end(server)
    return end if got == b"last words" else f"{end}, short"


def a_last_reply(client: socket.socket, server: socket.socket) -> str:
    """Whether the client has it. (It sees a reset then, or an end: sending may have told it.)"""
    exchange(client, server)
    client.sendall(b"x" * 20_000)
    until_unread(server, 20_000)
    server.sendall(_REPLY)
    server.close()
    with contextlib.suppress(ConnectionError):
        for _ in range(3):
            client.sendall(b"y" * 1_000)
    got, _ = read_to_end(client)
    return "delivered" if got == _REPLY else "lost"


def until_unread(end: socket.socket, size: int) -> None:
    """Until so many bytes wait to be read."""
    waiting = array.array("i", [0])
    while waiting[0] < size:
        fcntl.ioctl(end, termios.FIONREAD, waiting)
        time.sleep(0.001)


COLUMNS: dict[str, tuple[Callable[[socket.socket, socket.socket], str], str]] = {
    "server cuts off: the client sees": (a_server_that_cuts_off, RESET),
    "client cuts off: the server sees": (a_client_that_cuts_off, RESET),
    "last reply of a server that closes with unread input": (a_last_reply, "delivered"),
}


def row(port: int, listening: socket.socket) -> list[Counter[str]]:
    """What was seen, column by column."""
    seen = []
    for attempt, _ in COLUMNS.values():
        outcomes: Counter[str] = Counter()
        for _ in range(_TRIES):
            with socket.create_connection(("127.0.0.1", port), timeout=20.0) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server, _address = listening.accept()
                with server:
                    server.settimeout(20.0)
                    outcomes[attempt(client, server)] += 1
        seen.append(outcomes)
    return seen


def shown(outcomes: Counter[str]) -> str:
    return "; ".join(f"{what} {times}/{_TRIES}" for what, times in outcomes.most_common())


@pytest.mark.parametrize("name", RELAYS)
def test_the_reset_matrix(name: str, tmp_path: Path) -> None:
    relay, needed, option = RELAYS[name]
    if needed is not None and find(needed) is None:
        pytest.skip(f"not installed: {needed}")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20.0)
        with relay(tmp_path, listening.getsockname()[1]) as port:
            if needed is not None:
                # What waits for it to listen may have come as a connection of its own.
                listening.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    listening.accept()[0].close()
                listening.settimeout(20.0)
            seen = row(port, listening)
    title = name if needed is None else f"{name} {version(needed, option)}"
    note(f"| {title} | {' | '.join(map(shown, seen))} |")
    if needed is None:
        for (_, wanted), outcomes in zip(COLUMNS.values(), seen, strict=True):
            assert outcomes == {wanted: _TRIES}
