"""Sockets whose calls fail when told to: put in through `Server.make_socket`."""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from typing import Any

__all__ = ["AtMost", "Faults"]


class AtMost(int):
    """An outcome of `send` or `recv`: so many bytes, not more."""


#: An error number to fail with, a bound on the bytes, or `None`: as it really is.
Outcome = int | AtMost | None


class Faults:
    """The outcomes of the next calls, and a count of all calls.

    Attributes:
        accept, recv, send: outcomes for the calls to come, first to last; when there are none,
            calls do what they do.
        calls: how often each was called.
        injected: how often an outcome was used: a fault that never happened proves nothing.
    """

    def __init__(
        self, accept: list[Outcome] | None = None, recv: list[Outcome] | None = None,
        send: list[Outcome] | None = None,
    ) -> None:  # fmt: skip
        self.accept = deque(accept or [])
        self.recv = deque(recv or [])
        self.send = deque(send or [])
        self.calls: Counter[str] = Counter()
        self.injected = 0

    def make_socket(self, family: int, kind: int) -> socket.socket:
        """For `Server.make_socket`."""
        return _FaultySocket(self, family, kind)

    def outcome(self, call: str) -> Outcome:
        """Count a call, and say how it ends. Raises when it is to fail."""
        self.calls[call] += 1
        outcomes: deque[Outcome] = getattr(self, call)
        if not outcomes:
            return None
        self.injected += 1
        outcome = outcomes.popleft()
        if outcome is not None and not isinstance(outcome, AtMost):
            raise OSError(outcome, os.strerror(outcome))
        return outcome


class _FaultySocket(socket.socket):
    def __init__(
        self, faults: Faults, family: int = -1, kind: int = -1, fileno: Any = None
    ) -> None:
        super().__init__(family, kind, fileno=fileno)
        self.faults = faults

    def accept(self) -> tuple[socket.socket, Any]:
        self.faults.outcome("accept")
        connected, name = super().accept()
        return _FaultySocket(self.faults, fileno=connected.detach()), name

    def recv(self, size: int, flags: int = 0) -> bytes:
        outcome = self.faults.outcome("recv")
        return super().recv(size if outcome is None else min(size, outcome), flags)

    def send(self, data: Any, flags: int = 0) -> int:
        outcome = self.faults.outcome("send")
        return super().send(data if outcome is None else memoryview(data)[:outcome], flags)
