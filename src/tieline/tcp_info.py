"""What the kernel knows of a TCP connection (`TCP_INFO`, tcp(7) and linux/tcp.h)."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Protocol

__all__ = ["TcpInfo", "read_tcp_info"]

# struct tcp_info: eight bytes of small fields, then these as 32-bit numbers, then 64-bit ones.
_HEAD = struct.Struct("=8B24I")
_TAIL = struct.Struct("=4Q2I")

_STATES = (
    "unknown", "established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait",
    "close", "close_wait", "last_ack", "listen", "closing", "new_syn_recv",
)  # fmt: skip


class HasSocketOptions(Protocol):
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """A snapshot. Times are seconds, sizes bytes.

    Attributes:
        state: the kernel's word for the connection's state.
        round_trip: smoothed round-trip time, and `round_trip_variation` its variation.
        retransmitted: segments sent again, in the connection's whole life.
        lost: segments thought lost now.
        unacknowledged: segments sent and not acknowledged now.
        congestion_window: segments that may be under way at once.
        segment_size: the largest segment that is sent.
        bytes_acknowledged: bytes that the peer's kernel has confirmed.
        bytes_received: bytes that have come in.
        last_sent: seconds since data was sent, and `last_received` since some came.
    """

    state: str
    round_trip: float
    round_trip_variation: float
    retransmitted: int
    lost: int
    unacknowledged: int
    congestion_window: int
    segment_size: int
    bytes_acknowledged: int
    bytes_received: int
    last_sent: float
    last_received: float


def read_tcp_info(connected: HasSocketOptions) -> TcpInfo:
    """Ask the kernel about a connected TCP socket.

    Raises:
        OSError: the socket is closed, or is not TCP.
    """
    raw = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    head = _HEAD.unpack_from(raw)
    # The 64-bit part has grown with the kernel; bytes_acked came with Linux 4.1.
    tail = _TAIL.unpack_from(raw, _HEAD.size) if len(raw) >= _HEAD.size + _TAIL.size else (0,) * 6
    words = head[8:]
    return TcpInfo(
        state=_STATES[head[0]] if head[0] < len(_STATES) else "unknown",
        segment_size=words[2],
        unacknowledged=words[4],
        lost=words[6],
        last_sent=words[9] / 1e3,
        last_received=words[11] / 1e3,
        round_trip=words[15] / 1e6,
        round_trip_variation=words[16] / 1e6,
        congestion_window=words[18],
        retransmitted=words[23],
        bytes_acknowledged=tail[2],
        bytes_received=tail[3],
    )
