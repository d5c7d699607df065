"""Connecting to an upstream: to one of its addresses after the other, until one answers."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

from ..reactor import WRITABLE, Reactor
from ..resolve import UNIX_RETRY, Candidate

__all__ = ["Connecting", "MakeSocket"]

#: Makes a socket of a family and a type.
MakeSocket: TypeAlias = Callable[[int, int], Any]

_LINGER_ZERO = struct.pack("ii", 1, 0)

#: Still on its way, and nothing wrong.
_UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EINTR})
_DONE = frozenset({0, errno.EISCONN})

#: Ports from here on may be those of clients (net.ipv4.ip_local_port_range).
_EPHEMERAL = 16_384


class Connecting:
    """Connects without waiting; how long it may take is the caller's affair.

    Args:
        reactor: tells when there is an answer.
        make_socket: the one place where tests put their faults in.
        addresses: where to, in this order.
        connected: called with the connected socket and its address, once; perhaps before `begin`
            returns.
        failed: called with the last failure, when no address has answered.
    """

    __slots__ = (
        "_addresses", "_connected", "_failed", "_make_socket", "_name", "_reactor", "_retry",
        "_socket",
    )  # fmt: skip

    def __init__(
        self,
        reactor: Reactor,
        make_socket: MakeSocket,
        addresses: list[Candidate],
        connected: Callable[[Any, Any], object],
        failed: Callable[[OSError | None], object],
    ) -> None:
        self._reactor = reactor
        self._make_socket = make_socket
        self._addresses = addresses
        self._connected = connected
        self._failed = failed
        self._socket: Any = None
        self._name: Any = None
        self._retry: asyncio.TimerHandle | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether an answer is awaited."""
        return self._socket is not None or self._retry is not None

    def begin(self, failure: OSError | None = None) -> None:
        """Try the addresses that are left."""
        while self._addresses:
            family, name = self._addresses.pop(0)
            try:
                if self._try(family, name):
                    return
            except OSError as error:
                # Without its traceback, whose frame holds it: a cycle otherwise.
                failure = error.with_traceback(None)
        self._failed(failure)

    def _try(self, family: int, name: Any) -> bool:
        """Whether the rest need not be tried now."""
        connecting = self._make_socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            if family != socket.AF_UNIX:
                connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = connecting.connect_ex(name)
            if code == errno.EINPROGRESS:
                # Within a machine it is done by now; asking is cheaper than being told.
                code = connecting.connect_ex(name)
            if code in _UNDER_WAY:
                self._reactor.register(connecting.fileno(), self, WRITABLE)
                self._socket, self._name = connecting, name
                return True
            if code == errno.EAGAIN and family == socket.AF_UNIX:
                # Its backlog is full: there is no event for there being room again.
                connecting.close()
                self._addresses.insert(0, (family, name))
                self._retry = self._reactor.loop.call_later(UNIX_RETRY, self._try_again)
                return True
            if code not in _DONE:
                raise OSError(code, os.strerror(code))
            _check_other(connecting, name)
        except OSError:
            connecting.close()
            raise
        self._connected(connecting, name)
        return True

    def _try_again(self) -> None:
        self._retry = None
        self.begin()

    def on_ready(self, mask: int) -> None:
        """The reactor's call: there may be an answer."""
        connecting = self._socket
        if connecting is None:
            return
        # Events are hints: this says what it is.
        code = connecting.connect_ex(self._name)
        if code in _UNDER_WAY:
            return
        self._socket = None
        self._reactor.unregister(connecting.fileno())
        try:
            if code not in _DONE:
                raise OSError(code, os.strerror(code))
            _check_other(connecting, self._name)
        except OSError as error:
            connecting.close()
            self.begin(error.with_traceback(None))
        else:
            self._connected(connecting, self._name)

    def cancel(self) -> None:
        """Give up, and call nobody. Idempotent.

        An upstream that has answered meanwhile sees a reset: to an end it might say something.
        """
        self._addresses.clear()
        connecting, self._socket = self._socket, None
        if connecting is not None:
            self._reactor.unregister(connecting.fileno())
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            connecting.close()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None


def _check_other(connected: Any, name: Any) -> None:
    """See that it is connected to somebody else. Where nobody listens at a port that the kernel
    may also give to those who connect, it may give that very port, and TCP connects the socket with
    itself (simultaneous open, RFC 9293, 3.5)."""
    if isinstance(name, tuple) and name[1] >= _EPHEMERAL and connected.getsockname() == name:
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
