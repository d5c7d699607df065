"""A service behind `tieline guard`, and clients before it."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading

from cli.command_process import PATIENCE, Running, Tieline

__all__ = [
    "Service", "address_of", "ask", "connect", "free_port", "port_of", "read_to_end",
    "start_guard", "written",
]  # fmt: skip


class Service:
    """A service behind the guard: says its name, then everything back.

    Attributes:
        address: where it listens.
    """

    def __init__(self, name: str = "a", context: ssl.SSLContext | None = None) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                    talking = self.request
                    if context is not None:
                        talking = context.wrap_socket(talking, server_side=True)
                        stack.enter_context(talking)
                    talking.sendall(name.encode())
                    while data := talking.recv(65_536):
                        talking.sendall(data)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)


def port_of(line: str) -> int:
    assert "listening on" in line
    return int(line.rpartition(":")[2])


def start_guard(tieline: Tieline, *arguments: str, **environment: str) -> Running:
    """Start a guard on a port of its own, and wait until it listens."""
    running = tieline.start("guard", "127.0.0.1:0", *arguments, **environment)
    running.port = port_of(running.error_line("listening on"))
    return running


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def ask(port: int, message: bytes = b"!") -> bytes:
    """What comes back, with the name of the service in front."""
    with connect(port) as client:
        client.sendall(message)
        client.shutdown(socket.SHUT_WR)
        return read_to_end(client)


def read_to_end(client: socket.socket) -> bytes:
    received = b""
    while data := client.recv(65_536):
        received += data
    return received


def address_of(opened: socket.socket) -> str:
    host, port = opened.getsockname()
    return f"{host}:{port}"


def free_port() -> int:
    """A port on which nothing listens, for as long as nobody else asks for one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def written(tieline: Tieline, content: str, name: str = "g.toml") -> str:
    (tieline.folder / name).write_text(content, "utf-8")
    return name
