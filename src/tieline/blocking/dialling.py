"""From a name to a connected socket, without a loop: Happy Eyeballs (RFC 8305) on poll(2)."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time

from ..address import Address
from ..errors import ConnectError
from ..resolve import (
    ATTEMPT_DELAY,
    UNIX_RETRY,
    Candidate,
    all_failed,
    interleave,
    lookup_name,
    not_resolved,
)
from .deadline import Deadline

__all__ = ["dial"]


def dial(address: Address, deadline: Deadline) -> tuple[socket.socket, Address]:
    """Connect to an address. The caller owns the socket, which does not block.

    Returns:
        The socket, and the address that answered.

    Raises:
        ResolveError: the name has no address.
        ConnectError: none of its addresses answered; `attempts` says what each of them did.
        DeadlineError: not in time. The system's resolver cannot be interrupted: what it takes
            over the limit is taken.
    """
    if address.is_unix:
        return _dial_unix(address, deadline), address
    try:
        found = socket.getaddrinfo(lookup_name(address), address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise not_resolved(error, address) from error
    with _Race(interleave(found)) as race:
        connected, (family, name) = race.run(address, deadline)
    return connected, Address.from_socket_name(family, name)


def _dial_unix(address: Address, deadline: Deadline) -> socket.socket:
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        while True:
            try:
                connecting.connect(address.path)
                return connecting
            except BlockingIOError:
                # The listener's backlog is full, and nothing tells when it no longer is.
                if not deadline.left:
                    raise deadline.error() from None
                time.sleep(min(UNIX_RETRY, deadline.left))
            except OSError as error:
                raise all_failed(address, [((socket.AF_UNIX, address.path), error)]) from error
    except BaseException:
        connecting.close()
        raise


class _Race:
    """Attempts side by side. As a context: leaving it closes all of them but the winner."""

    def __init__(self, candidates: list[Candidate]) -> None:
        self._waiting = candidates
        self._attempts: dict[socket.socket, Candidate] = {}
        self._failures: list[tuple[Candidate, OSError]] = []
        # poll(2), unlike epoll, needs no descriptor of its own.
        self._selector = selectors.PollSelector()

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._selector.close()
        for losing in self._attempts:
            losing.close()

    def run(self, address: Address, deadline: Deadline) -> tuple[socket.socket, Candidate]:
        """Try one after the other, and beside each other, until one has answered."""
        next_start = time.monotonic()
        while self._waiting or self._attempts:
            if not deadline.left:
                raise deadline.error()
            failures = len(self._failures)
            if self._waiting and time.monotonic() >= next_start:
                self._start(self._waiting.pop(0))
                next_start = time.monotonic() + ATTEMPT_DELAY
            until = deadline
            if self._waiting:
                until = deadline.sooner(max(0.0, next_start - time.monotonic()))
            # An attempt may have failed at once, and there be nothing to wait for.
            if len(self._failures) == failures and (winner := self._wait(until)):
                return winner
            if len(self._failures) > failures:
                next_start = time.monotonic()
        if not self._failures:
            raise ConnectError(address=str(address))
        raise all_failed(address, self._failures)

    def _start(self, candidate: Candidate) -> None:
        family, name = candidate
        try:
            connecting = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            # This machine has no such family, or no descriptor left.
            self._failures.append((candidate, error))
            return
        self._attempts[connecting] = candidate
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            code = connecting.connect_ex(name)
        except OSError as error:
            self._failed(connecting, error)
            return
        if code in (0, errno.EINPROGRESS, errno.EINTR):
            self._selector.register(connecting, selectors.EVENT_WRITE)
        else:
            self._failed(connecting, OSError(code, os.strerror(code)))

    def _wait(self, until: Deadline) -> tuple[socket.socket, Candidate] | None:
        for key, _ in self._selector.select(until.milliseconds / 1000):
            connecting = key.fileobj
            assert isinstance(connecting, socket.socket)
            self._selector.unregister(connecting)
            code = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                return connecting, self._attempts.pop(connecting)
            self._failed(connecting, OSError(code, os.strerror(code)))
        return None

    def _failed(self, connecting: socket.socket, error: OSError) -> None:
        self._failures.append((self._attempts.pop(connecting), error))
        connecting.close()
