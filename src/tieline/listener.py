"""One listening socket: accepting never spins and never dies.

Every outcome of `accept` has its branch. Connections that are open do not notice any of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import socket
import stat
from collections.abc import Callable
from typing import Any, Protocol, cast

from .address import Address
from .errors import translate_os_error
from .reactor import READABLE, Reactor
from .resolve import lookup_name, not_resolved

__all__ = ["Acceptor", "Listener", "close_listening", "open_listening_sockets"]

#: Connections accepted in one go, before others of the turn get theirs.
_ACCEPTS_PER_TURN = 64

#: Seconds of rest when the machine is out of descriptors or memory. Ranch and Go rest 100 ms
#: to 1 s too: without it, a waiting client makes the loop spin.
_REST = 0.5

#: The client is gone already, or the network said something about it: accept(2) tells to treat
#: these as "try the next".
_CLIENT_ERRORS = frozenset({
    errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EPERM, errno.ENETDOWN,
    errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP,
    errno.ENETUNREACH,
})  # fmt: skip

_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_OUT_OF_MEMORY = frozenset({errno.ENOBUFS, errno.ENOMEM})

#: The listening socket itself is broken: there is nothing to try again.
_BROKEN = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})

_log = logging.getLogger("tieline")


class Acceptor(Protocol):
    """Who takes the accepted sockets: the server."""

    def can_accept(self, listener: Listener) -> bool | None:
        """Whether there is room. While there is not, the kernel's backlog is the queue. `None`:
        nobody waits."""

    def accepted(self, connected: socket.socket, name: Any, listener: Listener) -> None:
        """Take over a connected socket, which blocks until it is told not to."""

    def accept_failed(self, error: OSError, refused: bool, rests: bool) -> None:
        """A client could not be accepted. `refused`: it has been told so. `rests`: accepting
        pauses for a moment."""

    def accepts_again(self) -> None:
        """That moment is over."""

    def listener_broke(self, listener: Listener) -> None:
        """It has closed itself: its socket is broken."""


class Listener:
    """Accepts on one listening socket until it is closed.

    Args:
        unlink: whether the file of a Unix socket is removed when it closes.

    Attributes:
        address: where it listens, with the port that the system chose.
    """

    __slots__ = (
        "_accept",
        "_acceptor",
        "_reactor",
        "_reserve",
        "_rest",
        "_socket",
        "_unlink",
        "_watched",
        "address",
        "family",
    )

    def __init__(
        self,
        acceptor: Acceptor,
        reactor: Reactor,
        listening: socket.socket,
        *,
        unlink: bool = True,
    ) -> None:
        self._acceptor = acceptor
        self._reactor = reactor
        self._socket: socket.socket | None = listening
        self._accept = _accepting(listening)
        self.family = listening.family
        self.address = Address.from_socket_name(listening.family, listening.getsockname())
        self._rest: asyncio.TimerHandle | None = None
        self._unlink = _inode_of(self.address) if unlink else None
        self._watched = READABLE
        reactor.register(listening.fileno(), self)
        # Given back when the machine is out of descriptors, so that a waiting client can be
        # accepted and told no, instead of hanging in the backlog.
        self._reserve: int | None = None
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            reactor.unregister(listening.fileno())
            raise

    def on_ready(self, mask: int) -> None:
        """The reactor's call: clients are waiting."""
        for _ in range(_ACCEPTS_PER_TURN):
            if self._socket is None or self._rest is not None:
                return
            can_accept = self._acceptor.can_accept(self)
            if not can_accept:
                if can_accept is False:
                    self._watch(select.EPOLLONESHOT)
                return
            try:
                connected, name = self._accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._on_error(error)
                continue
            self._acceptor.accepted(connected, name, self)

    def _on_error(self, error: OSError) -> None:
        code = error.errno
        if code in _CLIENT_ERRORS:
            self._acceptor.accept_failed(error, refused=False, rests=False)
        elif code in _OUT_OF_DESCRIPTORS:
            self._pause(error, refused=self._refuse_one())
        elif code in _OUT_OF_MEMORY:
            self._pause(error, refused=False)
        elif code in _BROKEN:
            _log.error("%s is broken and accepts no more: %s", self.address, error)
            self.close()
            self._acceptor.listener_broke(self)
        else:
            # Unknown to accept(2); resting keeps it from becoming a spin.
            self._pause(error, refused=False)

    def _refuse_one(self) -> bool:
        """Out of descriptors: use the reserve to tell one waiting client so."""
        if self._reserve is None:
            return False
        os.close(self._reserve)
        self._reserve = None
        try:
            refused, _ = self._accept()
        except OSError:
            return False
        else:
            refused.close()
            return True
        finally:
            # Another thread may have taken the descriptor; then the next rest tries again.
            with contextlib.suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _pause(self, error: OSError, refused: bool) -> None:
        _log.warning("%s stops accepting for %.1f s: %s", self.address, _REST, error)
        self._acceptor.accept_failed(error, refused, rests=True)
        self._watch(select.EPOLLONESHOT)
        self._rest = self._reactor.loop.call_later(_REST, self._end_of_rest)

    def _end_of_rest(self) -> None:
        self._rest = None
        if self._reserve is None:
            with contextlib.suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._acceptor.accepts_again()
        self.resume()

    def resume(self) -> None:
        """There may be room again: go on accepting."""
        if self._rest is None and self._watched != READABLE:
            self._watch(READABLE)

    def somebody_waits(self) -> bool:
        """Whether there is anybody to accept. A system call: for when it matters to know first."""
        if self._socket is None:
            return False
        waiting = select.poll()
        waiting.register(self._socket.fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def _watch(self, mask: int) -> None:
        if self._socket is not None:
            self._watched = mask
            self._reactor.modify(self._socket.fileno(), mask)

    def close(self) -> None:
        """Stop listening: newcomers are refused by the kernel; those connected go on.

        Idempotent. A Unix socket's file is removed, unless another program has replaced it.
        """
        if self._socket is None:
            return
        listening, self._socket = self._socket, None
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._reactor.unregister(listening.fileno())
        listening.close()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
        if self._unlink is not None and self._unlink == _inode_of(self.address):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address.path)


def _accepting(listening: socket.socket) -> Callable[[], tuple[Any, Any]]:
    """What accepts on this socket.

    `socket.accept` turns numbers into enumerations and back, and makes a socket with a Python
    face: half of what a connection costs at the door. The bare `socket.SocketType` has all
    that the engine uses.
    """
    if type(listening) is not socket.socket:
        return listening.accept
    accept, make = cast(Any, listening)._accept, socket.SocketType
    family, kind, protocol = int(listening.family), int(listening.type), listening.proto

    def accept_bare() -> tuple[Any, Any]:
        descriptor, name = accept()
        return make(family, kind, protocol, descriptor), name

    return accept_bare


def _inode_of(address: Address) -> tuple[int, int] | None:
    """What identifies a Unix socket's file; `None` where there is none."""
    if not address.is_unix or address.path.startswith("\0"):
        return None
    try:
        found = os.stat(address.path)
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino)


async def open_listening_sockets(
    addresses: list[Address],
    backlog: int,
    make: Callable[[int, int], socket.socket] = socket.socket,
    unix_mode: int | None = None,
) -> list[socket.socket]:
    """Listen on all the addresses, or on none.

    Args:
        addresses: an empty host is every address of the machine, IPv4 and IPv6.
        backlog: how many clients the kernel may hold before they are accepted.
        make: makes the sockets; tests put their faults in here.
        unix_mode: the permission bits of a Unix socket's file; `None`: as the umask says.

    Raises:
        BindError: one of the addresses cannot be had.
        ResolveError: a name has no address.
    """
    opened: list[socket.socket] = []
    try:
        for address in addresses:
            if address.is_unix:
                opened.append(_listen_unix(address, backlog, make, unix_mode))
            elif address.host in ("", "*"):
                opened.extend(_listen_everywhere(address, backlog, make))
            else:
                for family, name in await _resolve(address):
                    opened.append(_listen(family, name, address, backlog, make))
    except BaseException:
        for listening in opened:
            close_listening(listening)
        raise
    return opened


def close_listening(listening: socket.socket) -> None:
    """Close a listening socket that nobody serves; a Unix socket leaves no file. Idempotent."""
    if listening.fileno() >= 0 and listening.family == socket.AF_UNIX:
        path = listening.getsockname()
        if isinstance(path, str) and path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    listening.close()


async def _resolve(address: Address) -> list[tuple[int, Any]]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            lookup_name(address), address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise not_resolved(error, address) from error
    # A name such as localhost may be listed twice for one address.
    return list(dict.fromkeys((family, name) for family, _, _, _, name in found))


def _listen_everywhere(
    address: Address, backlog: int, make: Callable[[int, int], socket.socket]
) -> list[socket.socket]:
    """Every address of the machine: one socket for each family, so that an IPv4 client looks
    like one. On port 0 both get the same port, or as good as: IPv6 follows IPv4."""
    first = _listen(socket.AF_INET, ("0.0.0.0", address.port), address, backlog, make)
    if not socket.has_ipv6:
        return [first]
    port = first.getsockname()[1]
    try:
        second = _listen(socket.AF_INET6, ("::", port), address, backlog, make)
    except Exception as error:
        cause = error.__cause__
        unsupported = isinstance(cause, OSError) and cause.errno in (
            errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL,
        )  # fmt: skip
        if unsupported:
            return [first]
        first.close()
        raise
    return [first, second]


def _listen(
    family: int,
    name: Any,
    address: Address,
    backlog: int,
    make: Callable[[int, int], socket.socket],
    mode: int | None = None,
) -> socket.socket:
    listening = None
    try:
        listening = make(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if family != socket.AF_UNIX:
            # Linux hands this on to accepted sockets, which saves a call for each of them.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setblocking(False)
        if mode is not None:
            # Before it has a name: the file gets these bits, and never has others.
            os.fchmod(listening.fileno(), mode)
        listening.bind(name)
        listening.listen(backlog)
    except OSError as error:
        if listening is not None:
            close_listening(listening)
        raise translate_os_error(error, "bind", address) from error
    return listening


def _listen_unix(
    address: Address,
    backlog: int,
    make: Callable[[int, int], socket.socket],
    mode: int | None,
) -> socket.socket:
    if not address.path.startswith("\0"):
        _remove_stale_socket(address.path)
    return _listen(socket.AF_UNIX, address.path, address, backlog, make, mode)


def _remove_stale_socket(path: str) -> None:
    """Remove what a server that died left behind: a socket nobody answers. Nothing else."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return
