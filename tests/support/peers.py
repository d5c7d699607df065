"""A foreign peer: a bare socket, with nothing of tieline in it, that can also misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import Self

from tieline import Address

__all__ = ["LINGER_ZERO", "Peer"]

#: With this, closing a socket resets the connection.
LINGER_ZERO = struct.pack("ii", 1, 0)


class Peer:
    """One end of a connection, plain or TLS, driven by hand."""

    def __init__(self, connected: socket.socket, tls: ssl.SSLObject | None = None) -> None:
        self.socket = connected
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ahead = bytearray()

    @classmethod
    async def connect(
        cls,
        address: Address,
        tls: ssl.SSLContext | None = None,
        *,
        source: str = "",
        receive_buffer: int = 0,
    ) -> Self:
        """Connect; `source` is the address to come from, as another machine would."""
        if address.is_unix:
            plain = socket.socket(socket.AF_UNIX)
        else:
            plain = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
        try:
            plain.setblocking(False)
            if receive_buffer:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source:
                plain.bind((source, 0))
            where = address.path if address.is_unix else (address.host, address.port)
            await asyncio.get_running_loop().sock_connect(plain, where)
            peer = cls(plain)
            if tls is not None:
                await peer.secure(tls)
        except BaseException:
            plain.close()
            raise
        return peer

    @classmethod
    async def accept(cls, listening: socket.socket) -> Self:
        """The next client of a listening, non-blocking socket."""
        connected, _ = await asyncio.get_running_loop().sock_accept(listening)
        connected.setblocking(False)
        return cls(connected)

    async def secure(self, tls: ssl.SSLContext, server_side: bool = False) -> None:
        """Agree on TLS."""
        name = None if server_side else "localhost"
        self._tls = tls.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=name
        )
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._push()
                await self._pull()
        await self._push()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # ---- Good manners

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        if self._tls is None:
            await self._loop.sock_sendall(self.socket, data)
            return
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
            await self._push()

    async def receive_some(self) -> bytes:
        """Whatever comes next; b"" at the end of the stream."""
        if self._tls is None:
            return await self._loop.sock_recv(self.socket, 65_536)
        while True:
            try:
                return self._tls.read(65_536)
            except ssl.SSLWantReadError:
                await self._pull()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def receive(self, size: int) -> bytes:
        """So many bytes, or fewer when the stream ends before."""
        received = bytearray()
        while len(received) < size:
            data = await self.receive_some()
            if not data:
                break
            received += data
        return bytes(received)

    async def receive_exactly(self, size: int) -> bytes:
        """So many bytes, and what comes behind them stays for the next call."""
        while len(self._ahead) < size:
            data = await self.receive_some()
            if not data:
                raise EOFError(f"the stream ended {size - len(self._ahead)} bytes early")
            self._ahead += data
        received = bytes(self._ahead[:size])
        del self._ahead[:size]
        return received

    async def receive_line(self) -> bytes:
        """Up to a newline. Nothing may come behind it."""
        received = bytearray()
        while not received.endswith(b"\n"):
            data = await self.receive_some()
            if not data:
                break
            received += data
        return bytes(received)

    async def receive_all(self) -> bytes:
        """Everything up to the end of the stream."""
        received = bytearray()
        while data := await self.receive_some():
            received += data
        return bytes(received)

    async def is_reset(self) -> bool:
        """Wait for the end: whether it is a reset. What comes before it is dropped."""
        try:
            await self.receive_all()
        except ConnectionResetError:
            return True
        return False

    async def end(self) -> None:
        """End this side's stream; the other may go on."""
        if self._tls is not None:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
            await self._push()
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    # ---- Bad manners

    def reset(self) -> None:
        """Cut the connection off."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        self.socket.close()

    async def send_raw(self, data: bytes) -> None:
        """Send these bytes as they are, past TLS."""
        await self._loop.sock_sendall(self.socket, data)

    # ---- TLS

    async def _push(self) -> None:
        while data := self._outgoing.read():
            await self._loop.sock_sendall(self.socket, data)

    async def _pull(self) -> None:
        data = await self._loop.sock_recv(self.socket, 65_536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
