"""The packets of one TCP connection, as the kernel of this machine sees them (packet(7)).

The socket takes packets from every interface at once, each from its IP header on: what the link
is does not matter, and neither does which way the connection is routed. A filter in the kernel
lets only the wanted ports through.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator

from ..errors import NetworkError, TielineError
from .model import Dropped, Packet
from .packets import EXTENSION_HEADERS, Segment, read_segment, says_tcp

__all__ = ["Capture", "Seen"]

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE, _SO_ATTACH_FILTER, _SO_TIMESTAMPNS = 33, 26, 35
_PACKET_HOST, _PACKET_OUTGOING = 0, 4
_ARPHRD_LOOPBACK = 772
_TIMESPEC = struct.Struct("@ll")
_STATISTICS = struct.Struct("@II")

#: Bytes that the kernel may hold until they are read.
_BUFFER = 8 << 20

#: The largest IP packet there is.
_LARGEST_PACKET = 1 << 16

#: Seconds for which the kernel's noting of times is waited for, and between two looks.
_PATIENCE, _MOMENT = 0.1, 0.0005

#: Packets read in one go, so that the connection beside gets its turn.
_AT_ONCE = 256


_NOT_ALLOWED_WHY = "not allowed for this user"


class Seen:
    """A segment, and by which way it came past.

    Attributes:
        segment: what was in the packet.
        way: the interface and the direction. A packet passes several on its way through this
            machine: the loopback out and in, a bridge and what hangs on it.
        arrives: whether it is meant for this machine: what came in from elsewhere, or is on the
            loopback.
    """

    __slots__ = ("arrives", "segment", "way")

    def __init__(self, segment: Segment, way: tuple[str, int], arrives: bool) -> None:
        self.segment = segment
        self.way = way
        self.arrives = arrives


class Capture:
    """A socket that sees the packets from or to a port. As a context: leaving it closes it.

    Args:
        port: the port that one side of the connection has.
        other_port: the port of the other side; `None` for any.
        packets: how many packets are taken, and `size` how many bytes of them; what comes after
            is counted and left out.

    Raises:
        NetworkError: capturing is not allowed here, or not possible. Field `why` is a phrase.
    """

    def __init__(
        self,
        port: int,
        other_port: int | None = None,
        *,
        packets: int = 20_000,
        size: int = 32 << 20,
    ) -> None:
        self._left = packets
        self._bytes_left = size
        self._by_kernel = 0
        self._malformed = 0
        self._over_limit = 0
        try:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)
            )
        except OSError as error:
            raise _not_possible(error) from error
        try:
            self._socket.setblocking(False)
            self._enlarge()
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self.narrow(port, other_port)
            _await_timestamps()
            self._forget_all()
        except OSError as error:
            self._socket.close()
            raise _not_possible(error) from error

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()

    def fileno(self) -> int:
        """For poll(2): readable when there are packets."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop. Packets that were not read are gone."""
        if self._socket.fileno() >= 0:
            self._count_drops()
            self._socket.close()

    def narrow(self, port: int, other_port: int | None = None) -> None:
        """From now on, only packets between these ports."""
        program = _filter(port, other_port)
        # A program is a count and a pointer; the kernel copies it before setsockopt returns.
        instructions = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)

    def read(self) -> Iterator[Seen]:
        """What has come, at most a few hundred packets; nothing when nothing is there.

        One at a time, so that who is interrupted has those that were read before.

        Raises:
            NetworkError: the capture failed. Field `why` is a phrase.
        """
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _, origin = self._socket.recvmsg(_LARGEST_PACKET, 64)
            except BlockingIOError:
                return
            except OSError as error:
                # An interface went down: said once, and the others go on.
                if error.errno in (errno.ENETDOWN, errno.EINTR):
                    continue
                raise _not_possible(error) from error
            if (seen := self._take(data, ancillary, origin)) is not None:
                yield seen

    @property
    def dropped(self) -> Dropped:
        """What was not seen so far."""
        self._count_drops()
        return Dropped(self._by_kernel, self._malformed, self._over_limit)

    def _take(
        self, data: bytes, ancillary: Iterable[tuple[int, int, bytes]], origin: tuple[str, ...]
    ) -> Seen | None:
        interface, _, kind, hardware = origin[:4]
        outgoing = int(kind) == _PACKET_OUTGOING
        loopback = int(hardware) == _ARPHRD_LOOPBACK
        if loopback and not outgoing:
            # It was seen on its way out.
            return None
        if self._left <= 0 or self._bytes_left < len(data):
            self._over_limit += 1
            return None
        segment = read_segment(Packet(_timestamp(ancillary), data, outgoing))
        if segment is None:
            self._malformed += says_tcp(data)
            return None
        self._left -= 1
        self._bytes_left -= len(data)
        arrives = loopback or int(kind) == _PACKET_HOST
        return Seen(segment, (str(interface), int(kind)), arrives)

    def _forget_all(self) -> None:
        """Drop what came in before the filter was there."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1)
        self._count_drops()
        self._by_kernel = 0

    def _enlarge(self) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:
            # Allowed to capture but not to administrate: as large as the system lets anybody.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)

    def _count_drops(self) -> None:
        if self._socket.fileno() < 0:
            return
        # Asking sets the kernel's count back to zero. A socket that has failed has none.
        with contextlib.suppress(OSError):
            raw = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
            self._by_kernel += _STATISTICS.unpack(raw)[1]


def _await_timestamps() -> None:
    """Wait until the kernel notes when packets pass.

    It begins a moment after the first socket asks for that: it has to change its own code, and
    nothing tells when it is done. Until then a packet's time would be that of its being read.
    """
    until = time.monotonic() + _PATIENCE
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
        # Where there is no loopback nothing can be learned.
        probe.setblocking(False)
        probe.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        probe.bind(("127.0.0.1", 0))
        probe.connect(probe.getsockname())
        while time.monotonic() < until:
            probe.send(b"")
            time.sleep(_MOMENT)
            read_at = time.time_ns()
            if _timestamp(probe.recvmsg(1, 64)[1]) < read_at:
                return


def _timestamp(ancillary: Iterable[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return time.time_ns()


def _not_possible(error: OSError) -> TielineError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return NetworkError(
            "packets cannot be captured: {why}",
            hint="it takes root, or the capability CAP_NET_RAW",
            why=_NOT_ALLOWED_WHY,
            errno=error.errno,
        )
    return NetworkError(
        "packets cannot be captured: {why}", why=os.strerror(error.errno or 0), errno=error.errno
    )


# Classic BPF (linux/filter.h, bpf_common.h): operation, jump if true, jump if false, operand.
_LOAD_BYTE = 0x30
_LOAD_HALF = 0x28
_LOAD_HALF_AT_INDEX = 0x48
_INDEX_IPV4_HEADER = 0xB1
_INDEX_IS = 0x01
_AND = 0x54
_EQUAL = 0x15
_RETURN = 0x06
_WHOLE = 0x40000


def _filter(port: int, other_port: int | None) -> bytes:
    """The program that passes TCP packets between two ports, whichever way they go.

    IPv6 packets with extension headers pass whatever they are: a program without loops cannot find
    their ports, and there are few.
    """
    ports = _ports(port, other_port)
    # Where IPv4 goes on, behind the five instructions that find out which version it is; and
    # where a packet is refused, behind everything.
    ipv4 = [
        (_LOAD_BYTE, 0, 0, 9),
        (_EQUAL, 1, 0, socket.IPPROTO_TCP),
        (_RETURN, 0, 0, 0),
        (_LOAD_HALF, 0, 0, 6),
        (_AND, 0, 0, 0x1FFF),
        (_EQUAL, 1, 0, 0),
        (_RETURN, 0, 0, 0),
        (_INDEX_IPV4_HEADER, 0, 0, 0),
        *ports,
    ]
    ipv6 = [
        (_LOAD_BYTE, 0, 0, 6),
        (_EQUAL, 2 + len(EXTENSION_HEADERS), 0, socket.IPPROTO_TCP),
        *(
            (_EQUAL, left, 0, header)
            for left, header in zip(
                range(len(EXTENSION_HEADERS), 0, -1), EXTENSION_HEADERS, strict=True
            )
        ),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, _WHOLE),
        (_INDEX_IS, 0, 0, 40),
        *ports,
    ]
    program = [
        (_LOAD_BYTE, 0, 0, 0),
        (_AND, 0, 0, 0xF0),
        (_EQUAL, 2, 0, 0x40),
        (_EQUAL, 1 + len(ipv4), 0, 0x60),
        (_RETURN, 0, 0, 0),
        *ipv4,
        *ipv6,
    ]
    return b"".join(struct.pack("@HBBI", *instruction) for instruction in program)


def _ports(port: int, other_port: int | None) -> list[tuple[int, int, int, int]]:
    """Whether the ports fit, given in the index register where the TCP header begins."""
    source, destination = (_LOAD_HALF_AT_INDEX, 0, 0, 0), (_LOAD_HALF_AT_INDEX, 0, 0, 2)
    passed, refused = (_RETURN, 0, 0, _WHOLE), (_RETURN, 0, 0, 0)
    if other_port is None:
        return [source, (_EQUAL, 2, 0, port), destination, (_EQUAL, 0, 1, port), passed, refused]
    return [
        source,
        (_EQUAL, 0, 3, port),
        destination,
        (_EQUAL, 5, 0, other_port),
        source,
        (_EQUAL, 0, 2, other_port),
        destination,
        (_EQUAL, 1, 0, port),
        refused,
        passed,
    ]
