"""Where a server shows things, so that nobody who does not read them keeps it from serving.

A terminal that was stopped with Ctrl-S, a pager, a collector of logs that hangs: a plain write to
one of them waits until it is read again, and all connections with it. Here lines wait instead, in
memory that has an end; beyond it they are counted, and the count is shown once there is room.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

__all__ = ["Outlet"]

#: Bytes that wait at most, but for the last line.
_MOST = 1 << 20

#: Where a stream is ready, so many are taken without waiting (pipe(7)).
_CHUNK = select.PIPE_BUF


class Outlet:
    """A stream that is written to as far as it is read.

    Args:
        loop: tells when there is room again.
        stream: what is written to; what it has been given before must have been flushed.
        unread: says that so many lines are not shown.
        broken: called when whoever read it has gone. What is written then goes nowhere.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stream: TextIO,
        unread: Callable[[int], str],
        broken: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._descriptor = stream.fileno()
        self._encoding, self._errors = stream.encoding, stream.errors or "strict"
        self._unread = unread
        self._broken = broken
        self._is_open = True
        self._waiting: deque[bytes] = deque()
        self._size = 0
        # While any are, all that follow are too: the count stands where they would have stood.
        self._left_out = 0
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    @staticmethod
    def suits(stream: TextIO) -> bool:
        """Whether somebody may have to read it: a file takes everything at once."""
        try:
            mode = os.fstat(stream.fileno()).st_mode
        except (OSError, ValueError):
            return False
        return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stream.isatty()

    def write(self, text: str) -> None:
        """Show this, now or later."""
        if self._left_out or self._size > _MOST:
            self._left_out += 1
            return
        data = text.encode(self._encoding, self._errors)
        if not self._waiting:
            data = self._write(data)
            if not data:
                return
            self._loop.add_writer(self._descriptor, self._go_on)
        self._waiting.append(data)
        self._size += len(data)

    def _write(self, data: bytes) -> bytes:
        """Write what can be written without waiting. Returns the rest."""
        while data and self._is_open and self._poll.poll(0):
            try:
                data = data[os.write(self._descriptor, data[:_CHUNK]) :]
            except BrokenPipeError:
                self._is_open = False
                self._broken()
        return data if self._is_open else b""

    def _go_on(self) -> None:
        """It has room."""
        while self._waiting:
            data = self._waiting.popleft()
            rest = self._write(data)
            self._size -= len(data) - len(rest)
            if rest:
                self._waiting.appendleft(rest)
                return
        self._loop.remove_writer(self._descriptor)
        if self._left_out:
            count, self._left_out = self._left_out, 0
            self.write(self._unread(count))

    def close(self, seconds: float = 1.0) -> None:
        """Give whoever reads it this long for what is left, and no longer."""
        end = time.monotonic() + seconds
        while self._waiting and (left := end - time.monotonic()) > 0:
            self._poll.poll(left * 1000)
            self._go_on()
        if self._waiting:
            self._loop.remove_writer(self._descriptor)
            self._waiting.clear()
