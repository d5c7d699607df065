"""Where lines go: a file or descriptor that may be stuck, full, or put aside."""

from __future__ import annotations

import os
import select

from ..errors import SettingError

__all__ = ["Sink"]

#: A pipe that says it is writable takes this much without blocking (PIPE_BUF, pipe(7)).
_PIECE = 4_096

#: Milliseconds after which whoever waits for a stuck sink looks whether it was given up.
_PATIENCE = 100


class Sink:
    """Takes whole lines. It has no buffer, and no lock that the end of a program waits for.

    Args:
        target: a file's path, appended to; or an open descriptor, which stays open.

    Raises:
        SettingError: the file cannot be opened.
    """

    def __init__(self, target: str | os.PathLike[str] | int) -> None:
        self._path = None if isinstance(target, int) else os.fspath(target)
        self._descriptor = target if isinstance(target, int) else self._open()
        # A line was cut off in the middle: the next one must not continue it.
        self._torn = False
        #: Nobody waits for it any more. One thread sets it, another looks.
        self.given_up = False

    def give_up(self) -> None:
        """What it does not take soon is not waited for any more."""
        self.given_up = True

    def write(self, line: str) -> None:
        """Write a line, or raise `OSError` or `SettingError`. Waits as long as it must."""
        if self._path is not None and self._was_moved():
            old, self._descriptor = self._descriptor, self._open()
            os.close(old)
            self._torn = False
        data = memoryview(f"\n{line}\n".encode() if self._torn else f"{line}\n".encode())
        whole = len(data)
        try:
            while data:
                self._wait()
                data = data[os.write(self._descriptor, data[:_PIECE]) :]
        except OSError:
            self._torn = self._torn or len(data) < whole
            raise
        self._torn = False

    def close(self) -> None:
        """Close the file. A descriptor that was given is the giver's."""
        if self._path is not None:
            os.close(self._descriptor)

    def _open(self) -> int:
        assert self._path is not None
        # A named pipe that nobody reads must not stop us here.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            return os.open(self._path, flags, 0o640)
        except OSError as error:
            raise SettingError(
                "the log {path} cannot be opened: {detail}",
                path=self._path,
                detail=error.strerror or str(error),
            ) from error

    def _was_moved(self) -> bool:
        """Whether another program has put the file aside, as those that rotate logs do."""
        assert self._path is not None
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return True

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while not poll.poll(_PATIENCE):
            if self.given_up:
                raise TimeoutError("nobody reads it")
