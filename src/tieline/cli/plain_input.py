"""Lines from stdin where there is no editor: a pipe, a file, or a terminal without one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator

__all__ = ["PlainInput"]

_CHUNK = 65_536


class PlainInput:
    """Reads a descriptor, line by line or as it comes.

    Not through `sys.stdin`: a thread that waits inside of it would hold up the program's end.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._buffer = b""

    def read_line(self) -> bytes | None:
        """The next line, without its end; `None` when there is none. Blocks."""
        while b"\n" not in self._buffer:
            data = os.read(self._descriptor, _CHUNK)
            if not data:
                line, self._buffer = self._buffer, b""
                return line or None
            self._buffer += data
        line, _newline, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r")

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines, without their ends. The last one need not have an end."""
        async for chunk in self.chunks():
            *whole, self._buffer = (self._buffer + chunk).split(b"\n")
            for line in whole:
                yield line.removesuffix(b"\r")
        if self._buffer:
            yield self._buffer

    async def chunks(self) -> AsyncIterator[bytes]:
        """What comes, as it comes."""
        if self._buffer and b"\n" in self._buffer:
            # `read_line` has read ahead.
            chunk, self._buffer = self._buffer, b""
            yield chunk
        while chunk := await self._read():
            yield chunk

    async def _read(self) -> bytes:
        # A thread of its own, and a daemon: nothing can end a read of a terminal or a pipe, and
        # the program's end must not wait for it. Files, which epoll refuses, are read too.
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()

        def read() -> None:
            data = os.read(self._descriptor, _CHUNK)
            # The loop may have been closed in the meantime: then nobody wants it any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, data)

        def finish(data: bytes) -> None:
            if not future.done():
                future.set_result(data)

        threading.Thread(target=read, daemon=True).start()
        return await future
