"""What the kernel knows of a server's connections, whoever has forgotten them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import tieline
from support.hooks import eventually
from support.peers import Peer

__all__ = ["come_to_rest", "kernel_state"]

#: The numbers of /proc/net/tcp.
_STATES = (
    "", "established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait", "close",
    "close_wait", "last_ack", "listen", "closing",
)  # fmt: skip

#: Rounds of the loop after which what could happen without the peer has happened.
_ROUNDS = 50


def kernel_state(server: tieline.Server, peer: Peer) -> str:
    """The server's end of this peer's connection; empty when the kernel has none any more.

    The peer's socket must be open.
    """
    ends = f":{server.addresses[0].port:04X}", f":{peer.socket.getsockname()[1]:04X}"
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if (local[-5:], remote[-5:]) == ends:
                return _STATES[int(state, 16)]
    return ""


async def come_to_rest(connection: tieline.Connection) -> None:
    """Wait until no byte moves any more, nor a word of the peer's kernel about those that did:
    it takes a moment for that, which a clock moved by hand is ahead of."""
    before = -1
    while before < (before := connection.bytes_sent + connection.bytes_received):
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
    if not connection.peer.is_unix:
        await eventually(lambda: not connection.tcp_info().unacknowledged)
