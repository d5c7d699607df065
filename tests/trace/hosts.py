"""Servers of bare sockets, and networks that lose what a test has them lose."""

from __future__ import annotations

import ctypes
import signal
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType

import pytest

from tieline import NetworkError
from tieline.trace.capture import Capture

__all__ = ["Host", "ask_and_answer", "deaf_to", "hearing", "interrupt", "needs_capture", "reset"]

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_LOAD_BYTE, _ANY_BIT, _RETURN = 0x30, 0x45, 0x06


def _may_capture() -> bool:
    try:
        Capture(1).close()
    except NetworkError:
        return False
    return True


needs_capture = pytest.mark.skipif(not _may_capture(), reason="packets cannot be captured here")


class Host:
    """A server in a thread, for one client. As a context: leaving it waits for the server's end.

    Args:
        serve: is given the connection; it is closed afterwards.
        host: where it listens.
        deaf: flags of the segments that its connections do not get.
    """

    def __init__(
        self,
        serve: Callable[[socket.socket], object],
        host: str = "127.0.0.1",
        *,
        deaf: int = 0,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listening = socket.create_server((host, 0), family=family)
        if deaf:
            deaf_to(self.listening, deaf)
        self.port: int = self.listening.getsockname()[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self._serve = serve
        #: For a server that waits until a test lets it go on.
        self.waits = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            connected, _ = self.listening.accept()
            with connected:
                self._serve(connected)
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Host:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            # Whoever is not served now never will be.
            self.listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.listening.close()
        if error is None and self._error is not None:
            raise self._error


def ask_and_answer(connected: socket.socket) -> None:
    """What the first server that anybody writes does."""
    assert connected.recv(1024)
    connected.send(b"thank you !")


def reset(connected: socket.socket) -> None:
    """Close with a reset."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connected.close()


def interrupt() -> None:
    """Send SIGUSR1 to the thread that handles signals, whoever calls."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGUSR1)


def deaf_to(listening: socket.socket, flags: int) -> None:
    """Have a TCP socket, and those accepted from it, lose every segment with one of these flags.

    The kernel runs the filter when the segment has arrived, where it drops those with a wrong
    checksum too: on the wire it is there, and for the socket it never was.
    """
    program = [
        (_LOAD_BYTE, 0, 0, 13),
        (_ANY_BIT, 0, 1, flags),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, 0xFFFF),
    ]
    data = b"".join(struct.pack("@HBBI", *instruction) for instruction in program)
    kept = ctypes.create_string_buffer(data, len(data))
    header = struct.pack("@HP", len(program), ctypes.addressof(kept))
    listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)


def hearing(connected: socket.socket) -> None:
    """Have it lose nothing any more."""
    connected.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
