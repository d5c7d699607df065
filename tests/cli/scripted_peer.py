"""A peer that does as it is told: plain sockets, to stand at the other end of the command."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

Script = Callable[[socket.socket], object]


@contextlib.contextmanager
def scripted_peer(script: Script, path: Path | None = None) -> Iterator[str]:
    """A server for one connection, which `script` handles, at this path if one is given.

    Gives its address.
    """
    family = socket.AF_INET if path is None else socket.AF_UNIX
    with socket.socket(family) as listening:
        listening.bind(("127.0.0.1", 0) if path is None else str(path))
        listening.listen()
        failures: list[BaseException] = []

        def serve() -> None:
            try:
                connected, _address = listening.accept()
                with connected:
                    connected.settimeout(20)
                    script(connected)
            except OSError as error:
                failures.append(error)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}" if path is None else f"unix:{path}"
        # Nobody may have come: let `accept` go.
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        thread.join(20)


def reset(connected: socket.socket) -> None:
    """Cut the connection off."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connected.close()


def wait_for_end(connected: socket.socket) -> bytes:
    """Read until the other end has ended its stream."""
    received = b""
    while data := connected.recv(65_536):
        received += data
    return received
