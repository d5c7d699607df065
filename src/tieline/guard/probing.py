"""One check of one address: connect, say something, see what is answered."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, TypeAlias

from ..address import Address
from ..errors import translate_os_error
from ..resolve import UNIX_RETRY, Candidate
from .settings import GuardSettings
from .upstream import OUR_OWN

__all__ = ["Probe"]

#: Bytes of an answer within which what is expected must be.
_MOST_ANSWER = 65_536

#: Seconds that TLS is given for its goodbye.
_GOODBYE = 1.0

_Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Probe:
    """What a check does.

    Args:
        settings: what it sends and expects, and how long it may take.
        header: what goes before everything else, in the clear.
        tls: a client-side context, if TLS is spoken there.
        server_name: the name that TLS must prove.
    """

    __slots__ = ("_header", "_server_name", "_settings", "_tls")

    def __init__(
        self,
        settings: GuardSettings,
        header: bytes,
        tls: ssl.SSLContext | None,
        server_name: str | None,
    ) -> None:
        self._settings = settings
        self._header = header
        self._tls = tls
        self._server_name = server_name

    async def check(self, candidate: Candidate) -> str | None:
        """Check one address. Nothing stays open, whatever happens; cancelled, it ends at once.

        Returns:
            What is wrong there, as a sentence; empty: nothing. `None`: nobody knows, since this
            machine is out of descriptors, memory or ports.
        """
        address = Address.from_socket_name(*candidate)
        seconds = self._settings.check_timeout
        streams: _Streams | None = None
        try:
            async with asyncio.timeout(seconds):
                streams = await self._reach(*candidate)
                return "" if streams is None else await self._converse(*streams, address)
        except TimeoutError:
            return f"{address} did not answer its check within {seconds:g} s"
        except OSError as error:
            if error.errno in OUR_OWN:
                return None
            return str(translate_os_error(error, "connect", address))
        except ValueError:
            # Of the ssl module, which compares it with the certificate.
            return f"{self._server_name!r} cannot be the name of a TLS server"
        finally:
            if streams is not None:
                await self._close(streams[1])

    async def _reach(self, family: int, name: Any) -> _Streams | None:
        """Connect, and say who is there; `None` if that is all there is to do."""
        loop = asyncio.get_running_loop()
        settings = self._settings
        connecting = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        streams: _Streams | None = None
        try:
            await _connect(loop, connecting, family, name)
            if self._header:
                await loop.sock_sendall(connecting, self._header)
            if settings.check_send is not None or settings.check_expect is not None:
                streams = await self._open(connecting)
            return streams
        finally:
            if streams is None:
                connecting.close()

    async def _open(self, connected: socket.socket) -> _Streams:
        options: dict[str, Any] = {"sock": connected, "limit": _MOST_ANSWER}
        if self._tls is not None:
            # A name that cannot be one is found out before anything has been set up.
            self._tls.wrap_bio(
                ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=self._server_name or None
            )
            options["ssl"] = self._tls
            options["server_hostname"] = self._server_name or ""
            options["ssl_shutdown_timeout"] = _GOODBYE
        if connected.family == socket.AF_UNIX:
            return await asyncio.open_unix_connection(**options)
        return await asyncio.open_connection(**options)

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address
    ) -> str:
        settings = self._settings
        if settings.check_send is not None:
            writer.write(settings.check_send)
            await writer.drain()
        if settings.check_expect is None:
            return ""
        answer = bytearray()
        while len(answer) < _MOST_ANSWER:
            data = await reader.read(_MOST_ANSWER)
            answer += data
            if settings.check_expect in answer:
                return ""
            if not data:
                return f"{address} ended its answer to the check before what is expected"
        return f"{address} did not answer its check as expected"

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        if self._tls is None:
            writer.transport.abort()
        else:
            writer.close()
        try:
            async with asyncio.timeout(_GOODBYE):
                await writer.wait_closed()
        except OSError:
            # A `TimeoutError` is one too.
            writer.transport.abort()


async def _connect(
    loop: asyncio.AbstractEventLoop, connecting: socket.socket, family: int, name: Any
) -> None:
    if family != socket.AF_UNIX:
        await loop.sock_connect(connecting, name)
        return
    # A full backlog refuses a Unix socket at once, and there is no event for there being room.
    while True:
        try:
            connecting.connect(name)
        except BlockingIOError:
            await asyncio.sleep(UNIX_RETRY)
        else:
            return
