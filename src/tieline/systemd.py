"""What a service has to do with systemd: sockets that it hands over, and what it wants to hear.

Both are plain: descriptors from number 3 on with environment variables that say so
(sd_listen_fds(3)), and datagrams of `NAME=VALUE` lines to a Unix socket (sd_notify(3)). Whatever
speaks the same, such as a supervisor in a container, is served too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping
from typing import Protocol

from .address import Address
from .errors import SettingError

__all__ = ["Notifier", "Served", "listening_sockets", "notifying"]

#: The first descriptor that is handed over (SD_LISTEN_FDS_START).
_FIRST = 3

#: What says that descriptors are, in every version of systemd.
_HANDED_OVER = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

#: Seconds until a message is sent again that found the service manager's queue full.
_RETRY = 0.1

#: Messages that may wait for that. Only the last ones say how things stand.
_MOST_WAITING = 16

#: Bytes of a status. The service manager reads no more than 4,096 of a whole message.
_LONGEST_STATUS = 1_024

#: Seconds between two looks at whether the status has changed.
_STATUS_EVERY = 3.0

_ALIVE = "WATCHDOG=1"

_log = logging.getLogger("tieline")


# ---- Sockets


def listening_sockets(
    environment: MutableMapping[str, str] = os.environ,
) -> list[tuple[str, socket.socket]]:
    """Take over the listening sockets that a service manager hands to this process.

    They can be given to `tieline.serve(..., sockets=...)`. The variables are removed, so that no
    child of this process believes that they are meant for it, and a second call finds nothing.

    Args:
        environment: where the variables are (default: those of this process).

    Returns:
        Each socket with its name (`FileDescriptorName=` of the unit; "unknown" without one), in
        the unit's order; they are closed when this process runs another program. Nothing, if
        nothing is handed over, or to another process.

    Raises:
        SettingError: the variables make no sense, or a descriptor is no stream socket that
            listens. The sockets before it are closed, which closes none of the service manager's.
    """
    said = {name: environment.pop(name, "") for name in _HANDED_OVER}
    if not said["LISTEN_PID"] or not said["LISTEN_FDS"]:
        return []
    if _number("LISTEN_PID", said["LISTEN_PID"]) != os.getpid():
        return []
    count = _number("LISTEN_FDS", said["LISTEN_FDS"])
    names = said["LISTEN_FDNAMES"].split(":") if said["LISTEN_FDNAMES"] else None
    if names is not None and len(names) != count:
        raise SettingError(
            "LISTEN_FDNAMES names {named} descriptors, and LISTEN_FDS says {count}",
            named=len(names),
            count=count,
        )
    taken: list[tuple[str, socket.socket]] = []
    try:
        for index in range(count):
            name = names[index] if names else "unknown"
            taken.append((name, _take_over(_FIRST + index, name)))
    except BaseException:
        for _, listening in taken:
            listening.close()
        raise
    return taken


def _number(variable: str, text: str) -> int:
    # The length first: Python refuses to read numbers of thousands of digits.
    if len(text) <= 10 and text.isascii() and text.isdigit():
        return int(text)
    raise SettingError("{variable} is no number: {text!r}", variable=variable, text=text)


def _take_over(descriptor: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
    except OSError as error:
        raise SettingError(
            "descriptor {descriptor} ({name!r}), which was handed over, is no socket: {detail}",
            descriptor=descriptor,
            name=name,
            detail=os.strerror(error.errno or 0),
        ) from error
    if (
        taken.family in _FAMILIES
        and taken.type == socket.SOCK_STREAM
        and taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        address = Address.from_socket_name(taken.family, taken.getsockname())
        _log.info("systemd has handed over %s (%s)", address, name)
        return taken
    # It is not ours, and whoever made it may know what it is for.
    taken.detach()
    raise SettingError(
        "descriptor {descriptor} ({name!r}), which was handed over, is no socket that listens for "
        "connections",
        hint="in the .socket unit: ListenStream=, and not Accept=yes",
        descriptor=descriptor,
        name=name,
    )


# ---- Notifications


class Notifier:
    """Tells the service manager how this process is doing; for a unit with `Type=notify`.

    Where nobody wants to know (there is no NOTIFY_SOCKET), all of it does nothing. What goes
    wrong with that socket is logged once as a warning, and never raised. Nothing waits for the
    service manager: what it has no room for is sent again a little later by the running loop.

    Args:
        environment: where the variables are (default: those of this process). They are left,
            since a handler may want to tell the service manager something too.

    Attributes:
        wanted: whether anybody is told.
        watchdog: seconds after which the service manager gives up on a process that is silent
            (`WatchdogSec=` of the unit); `None`: never. From `ready` on, a timer of the running
            loop gives a sign of life twice in that time. A loop that hangs gives none.
        is_ready: whether `ready` was called, and `stopping` was not.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.is_ready = False
        self._failed = False
        self._stopping = False
        self._waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self._retry: asyncio.TimerHandle | None = None
        self._pings: asyncio.TimerHandle | None = None
        self._address = b""
        self._socket = self._open(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog = self._read_watchdog(environment) if self.wanted else None

    @property
    def wanted(self) -> bool:
        """Whether anybody is told."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """Say that it serves: once it listens, and after each `reloading`.

        Args:
            status: as for `status`, told with it; empty (default): as it was.
        """
        if self._stopping:
            return
        self.is_ready = True
        self._tell(f"READY=1\nSTATUS={_line(status)}" if status else "READY=1")
        if self.watchdog is not None and self._pings is None:
            _log.info("systemd gets a sign of life every %.1f s", self.watchdog / 2)
            self._ping()

    def reloading(self) -> None:
        """Say that it reads its settings again; `ready` must follow."""
        if not self._stopping:
            # The service manager compares it with when it asked for this.
            self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    @contextlib.contextmanager
    def reload(self) -> Iterator[None]:
        """What is done in this context is a reload, however it ends."""
        self.reloading()
        try:
            yield
        finally:
            self.ready()

    def stopping(self) -> None:
        """Say that it is about to end. Signs of life go on until `close`. Idempotent."""
        if not self._stopping:
            self._stopping = True
            self.is_ready = False
            self._tell("STOPPING=1")

    def status(self, text: str) -> bool:
        """Say in a few words how it is doing, for `systemctl status`.

        Args:
            text: one line; more become one, and it is cut off after 1,024 bytes.

        Returns:
            Whether there is no use in saying it again. `False`: the service manager had no room
            for it just now.
        """
        return self._send(f"STATUS={_line(text)}")

    def close(self) -> None:
        """Tell nothing more, and give up the socket. Idempotent."""
        self._flush()
        self._waiting.clear()
        for timer in (self._pings, self._retry):
            if timer is not None:
                timer.cancel()
        self._pings = self._retry = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # ---- How

    def _open(self, where: str) -> socket.socket | None:
        if not where:
            return None
        if not where.startswith(("/", "@")):
            self._warn(f"NOTIFY_SOCKET={where!r}")
            return None
        try:
            self._address = os.fsencode("\0" + where[1:] if where[0] == "@" else where)
            # Kept, so that a process that is out of descriptors can still say that it lives.
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except (OSError, ValueError) as error:
            self._warn(error)
            return None
        opened.setblocking(False)
        return opened

    def _read_watchdog(self, environment: Mapping[str, str]) -> float | None:
        every, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        if not every or (pid and pid != str(os.getpid())):
            return None
        try:
            microseconds = _number("WATCHDOG_USEC", every)
        except SettingError as error:
            self._warn(error)
            return None
        return microseconds / 1e6 or None

    def _tell(self, message: str) -> None:
        """Tell what must arrive, in its order."""
        if self._socket is None:
            return
        _log.info("systemd is told: %s", message.replace("\n", " "))
        self._waiting.append(message)
        if self._retry is None:
            self._flush()

    def _flush(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        while self._waiting:
            if not self._send(self._waiting[0]):
                self._retry = _call_later(_RETRY, self._flush)
                return
            self._waiting.popleft()

    def _ping(self) -> None:
        assert self.watchdog is not None
        half = self.watchdog / 2
        self._pings = _call_later(half if self._send(_ALIVE) else min(_RETRY, half), self._ping)

    def _send(self, message: str) -> bool:
        """Whether there is no use in trying again: it was sent, or never can be."""
        if self._socket is None:
            return True
        try:
            # To the name, each time: the socket may be another by now.
            self._socket.sendto(message.encode("utf-8", "replace"), self._address)
        except BlockingIOError:
            return False
        except OSError as error:
            self._warn(error)
        return True

    def _warn(self, what: object) -> None:
        if not self._failed:
            self._failed = True
            _log.warning("systemd cannot be told how this service is doing: %s", what)


def _line(text: str) -> str:
    """The text as one line of at most so many bytes, no character of which is cut in two."""
    line = " ".join(text.split())
    return line.encode("utf-8", "replace")[:_LONGEST_STATUS].decode("utf-8", "ignore")


def _call_later(seconds: float, call: Callable[[], object]) -> asyncio.TimerHandle | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop.call_later(seconds, call)


# ---- A server's notifications


class Served(Protocol):
    """What is told of a server."""

    @property
    def is_draining(self) -> bool:
        """Whether it is about to end."""

    def __len__(self) -> int:
        """How many connections are open."""


@contextlib.asynccontextmanager
async def notifying(
    server: Served,
    *,
    status: Callable[[], str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> AsyncIterator[Notifier]:
    """Tell the service manager of a server until the context is left::

        async with server, systemd.notifying(server) as notifier:
            notifier.ready()
            await server.serve_forever()

    Call `ready` once the server listens, and do in `with notifier.reload():` what a SIGHUP asks
    for. The status follows, looked at every 3 seconds. That it is stopping is said by whoever
    knows first, when it is seen to drain, or at the end of the context.

    Args:
        server: which; it need not have been started.
        status: makes the status (default: how many connections are open).
        environment: as for `Notifier`.
    """

    def count() -> str:
        number = len(server)
        return "1 connection" if number == 1 else f"{number} connections"

    notifier = Notifier(environment)
    following = _Following(server, notifier, status or count)
    following.look()
    try:
        yield notifier
    finally:
        following.end()
        if notifier.is_ready:
            notifier.stopping()
        notifier.close()


class _Following:
    """Tells the status as it changes, once every few seconds at most."""

    def __init__(self, server: Served, notifier: Notifier, status: Callable[[], str]) -> None:
        self._server = server
        self._notifier = notifier
        self._status = status
        self._told = ""
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Look at how it is doing now, and again in a moment."""
        notifier = self._notifier
        if not notifier.wanted:
            return
        self._timer = _call_later(_STATUS_EVERY, self.look)
        if notifier.is_ready and self._server.is_draining:
            notifier.stopping()
        if not notifier.is_ready and not self._server.is_draining:
            return
        text = self._status()
        if text != self._told and notifier.status(text):
            self._told = text

    def end(self) -> None:
        """Look no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
