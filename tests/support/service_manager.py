"""Systemd, as far as a service sees it: sockets handed over, and a socket to send notices to."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

__all__ = ["NoticeSocket", "start_service"]

PATIENCE = 20.0

#: What stands between the fork and the service: descriptors where they belong, and whose they are.
_LAUNCHER = """
import fcntl, os, sys
given = [int(each) for each in sys.argv[1].split(",") if each]
# Out of the way first: one may stand where another belongs.
high = [fcntl.fcntl(each, fcntl.F_DUPFD, 100) for each in given]
for each in given:
    os.close(each)
for place, each in enumerate(high, 3):
    os.dup2(each, place)
    os.close(each)
for name in ("LISTEN_PID", "WATCHDOG_PID"):
    if os.environ.get(name) == "own":
        os.environ[name] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def start_service(
    *arguments: str,
    sockets: Sequence[socket.socket] = (),
    names: str = "",
    environment: dict[str, str],
    at: Path,
) -> subprocess.Popen[str]:
    """Start Python with these arguments, sockets from descriptor 3 on, and what says so."""
    said = {"LISTEN_PID": "own", "LISTEN_FDS": str(len(sockets))} if sockets else {}
    if names:
        said["LISTEN_FDNAMES"] = names
    descriptors = [each.fileno() for each in sockets]
    return subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, ",".join(map(str, descriptors)), *arguments],
        pass_fds=descriptors, env={**said, **environment}, cwd=at,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        encoding="utf-8",
    )  # fmt: skip


class NoticeSocket:
    """Where notices arrive.

    Attributes:
        environment: what the service must be told.
    """

    def __init__(self, path: str) -> None:
        self.environment = {"NOTIFY_SOCKET": path}
        self._path = path
        self.socket = self._open()

    def _open(self) -> socket.socket:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        opened.bind("\0" + self._path[1:] if self._path.startswith("@") else self._path)
        opened.settimeout(PATIENCE)
        return opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def replace(self) -> None:
        """Be another socket in the same place, as after a restart."""
        self.socket.close()
        os.unlink(self._path)
        self.socket = self._open()

    def next(self) -> dict[str, str]:
        """Wait for the next notice, and block."""
        return _read(self.socket.recv(65_536))

    def wait_for(self, name: str) -> dict[str, str]:
        """Wait for the next notice with this in it, and block."""
        while name not in (notice := self.next()):
            pass
        return notice

    async def notice(self) -> dict[str, str]:
        """Wait for the next notice, and let the loop run."""
        self.socket.setblocking(False)
        return _read(await asyncio.get_running_loop().sock_recv(self.socket, 65_536))

    def waiting(self) -> list[dict[str, str]]:
        """All that have come."""
        self.socket.setblocking(False)
        found = []
        while True:
            try:
                found.append(_read(self.socket.recv(65_536)))
            except BlockingIOError:
                return found


def _read(datagram: bytes) -> dict[str, str]:
    lines = datagram.decode("utf-8").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
