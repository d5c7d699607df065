"""Bulk between two sockets without a copy: `splice` through a bounded number of pipes.

A pipe is held only while bytes are inside it. The kernel's budget is 16,384 pages of pipes for a
user without rights (`fs.pipe-user-pages-soft`, pipe(7)); past it pipes cannot be enlarged. Where
there is no pipe, bytes are copied.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os

__all__ = ["MOST_PIPES", "NO_SPLICE", "SPLICE_FROM", "VIEWED", "Pipe", "Pipes"]

#: What `splice` says where there is none: in some sandboxes, for some kinds of sockets.
NO_SPLICE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP})

#: Reads as large as this, in bytes, are taken for bulk.
SPLICE_FROM = 65_536

#: Reads smaller than this, in bytes, have a view that is made already.
VIEWED = 1_025

#: Bytes that a pipe is made for. A pipe counts pages and not bytes, and each segment takes one.
_PIPE_SIZE = 262_144

#: Pipes of one guard: 64 of 256 KiB are a quarter of a user's budget.
MOST_PIPES = 64

#: Pipes kept while nobody needs them.
_SPARE = 4

# linux/splice.h; in Python's os module from 3.10 on as SPLICE_F_*.
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pipe:
    """A pipe, and how many bytes are in it.

    Attributes:
        held: bytes in it.
    """

    __slots__ = ("_read_end", "_size", "_write_end", "held")

    def __init__(self, size: int = _PIPE_SIZE) -> None:
        """
        Raises:
            OSError: there are no descriptors for it.
        """
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._size = size
        self.held = 0
        # Over the user's budget it stays as small as it is, and serves all the same.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._write_end, fcntl.F_SETPIPE_SZ, size)

    def fill(self, descriptor: int) -> int:
        """Move bytes from a socket into the empty pipe. How many; 0: the peer has ended.

        Raises:
            BlockingIOError: the socket has none.
            OSError: the socket failed.
        """
        self.held = os.splice(descriptor, self._write_end, self._size, flags=_FLAGS)
        return self.held

    def empty(self, descriptor: int) -> int:
        """Move what is inside to a socket. How many bytes went; the rest is still inside.

        Raises:
            BlockingIOError: the socket takes none.
            OSError: the socket failed.
        """
        sent = os.splice(self._read_end, descriptor, self.held, flags=_FLAGS)
        self.held -= sent
        return sent

    def read(self) -> bytes:
        """What is inside, as an object: for a socket into which it cannot be moved."""
        pieces = []
        while self.held:
            pieces.append(os.read(self._read_end, self.held))
            self.held -= len(pieces[-1])
        return b"".join(pieces)

    def close(self) -> None:
        """Give its descriptors back, and what is inside up."""
        os.close(self._read_end)
        os.close(self._write_end)


class Pipes:
    """What the sessions of one guard share: its pipes, and the buffer for what is copied.

    Of one guard, and so of one thread: bytes are in the buffer for the length of a call, during
    which other threads run.

    Args:
        most: how many pipes there may be at once.

    Attributes:
        buffer: for one read.
        view: all of it.
        views: its beginnings, of the sizes that most messages have: to make one costs as much as
            all the rest of passing a small message on that is not the kernel's.
        count: how many there are, in use or spare.
        short: times that a pipe was wanted and there was none to be had.
    """

    __slots__ = ("_most", "_spare", "buffer", "count", "short", "view", "views")

    def __init__(self, most: int = MOST_PIPES) -> None:
        self._most = most
        self._spare: list[Pipe] = []
        self.buffer = bytearray(SPLICE_FROM)
        self.view = memoryview(self.buffer)
        self.views = [self.view[:size] for size in range(VIEWED)]
        self.count = 0
        self.short = 0

    def take(self) -> Pipe | None:
        """An empty pipe; `None` if there is none to be had."""
        if self._spare:
            return self._spare.pop()
        if not self._most:
            return None
        if self.count < self._most:
            try:
                pipe = Pipe()
            except OSError:
                # Out of descriptors: copying needs none.
                self.short += 1
                return None
            self.count += 1
            return pipe
        self.short += 1
        return None

    def give_back(self, pipe: Pipe) -> None:
        """An empty pipe is needed no more."""
        if len(self._spare) < _SPARE and self._most:
            self._spare.append(pipe)
        else:
            self.drop(pipe)

    def drop(self, pipe: Pipe) -> None:
        """A pipe whose content nobody wants any more: it must never reach another session."""
        self.count -= 1
        pipe.close()

    def give_up(self) -> None:
        """There is no splicing here: copy from now on."""
        self._most = 0
        self.close()

    def close(self) -> None:
        """Let go of the spare ones. Those in use are dropped by their sessions."""
        while self._spare:
            self.drop(self._spare.pop())
