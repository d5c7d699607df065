"""The capture itself: what gets through its filter, and what is counted."""

from __future__ import annotations

import os
import socket
import time

import pytest

from tieline.trace.capture import Capture, Seen
from tieline.trace.collecting import Collected
from tieline.trace.packets import Flags

from .hosts import needs_capture
from .wire import CLIENT, SERVER, Wire

pytestmark = needs_capture


def connect(listening: socket.socket) -> int:
    """A connection that is opened and reset at once; its port."""
    with socket.create_connection(listening.getsockname()[:2]) as client:
        listening.accept()[0].close()
        port: int = client.getsockname()[1]
    return port


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_only_the_wanted_ports_get_through(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as listening,
        socket.create_server((host, 0), family=family) as other,
    ):
        port = listening.getsockname()[1]
        with Capture(port) as capture:
            connect(other)
            wanted = connect(listening)
            connect(other)
            segments = [seen.segment for seen in capture.read()]
            ports = {end.port for each in segments for end in (each.source, each.destination)}
            assert ports == {port, wanted}
            capture.narrow(port, wanted)
            connect(listening)
            assert list(capture.read()) == []
            assert capture.dropped.total == 0


def test_datagrams_to_the_same_port_do_not() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as receiving:
        receiving.bind(("127.0.0.1", 0))
        with Capture(receiving.getsockname()[1]) as capture:
            receiving.sendto(b"hello", receiving.getsockname())
            assert receiving.recv(9) == b"hello"
            assert list(capture.read()) == []


def test_a_capture_that_is_full() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with Capture(listening.getsockname()[1], packets=2) as capture:
            connect(listening)
            assert len(list(capture.read())) == 2
            assert capture.dropped.over_limit >= 2
        with Capture(listening.getsockname()[1], size=100) as capture:
            connect(listening)
            assert len(list(capture.read())) == 1
            assert capture.dropped.over_limit >= 3


def test_what_cannot_be_read_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline.trace.capture.read_segment", lambda packet: None)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with Capture(listening.getsockname()[1]) as capture:
            connect(listening)
            assert list(capture.read()) == []
            assert capture.dropped.malformed >= 3


def test_what_the_kernel_had_no_room_for_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with Capture(listening.getsockname()[1]) as capture:
            with socket.socket(fileno=os.dup(capture.fileno())) as kernels:
                kernels.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            for _ in range(20):
                connect(listening)
            found = len(list(capture.read()))
            assert capture.dropped.by_kernel > 0
            assert found + capture.dropped.by_kernel >= 20 * 5
        assert capture.dropped.by_kernel > 0


def test_closing_twice_is_nothing() -> None:
    capture = Capture(1)
    capture.close()
    capture.close()


def test_times_never_go_backwards() -> None:
    wire = Wire()
    wire.open()
    collected = Collected(CLIENT, SERVER)
    for segment in (wire.segments[0], wire.segments[2], wire.segments[1]):
        collected.take(Seen(segment, ("eth0", 0), arrives=True))
    times = [segment.packet.at_ns for segment in collected.segments]
    assert times == [wire.segments[at].packet.at_ns for at in (0, 2, 2)]
    assert [segment.flag_names for segment in collected.segments] == ["SYN", "ACK", "SYN ACK"]


def test_times_are_those_of_the_packets_not_of_the_reading() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with Capture(listening.getsockname()[1]) as capture:
            connect(listening)
            before = time.time_ns()
            assert all(seen.segment.packet.at_ns < before for seen in capture.read())


def test_a_packet_that_passes_several_interfaces_is_taken_once() -> None:
    """The client's come in over a bridge, the server's leave by another way."""
    wire = Wire()
    wire.open()
    collected = Collected(CLIENT, SERVER)
    for segment in wire.segments:
        ways = [("eth0", 0), ("br0", 0)] if segment.source == CLIENT else [("br0", 4), ("eth1", 4)]
        for way in ways:
            collected.take(Seen(segment, way, arrives=True))
    assert collected.segments == wire.segments
    assert not collected.is_over
    wire.client("RST", 1)
    collected.take(Seen(wire.segments[-1], ("eth0", 0), arrives=True))
    assert collected.is_over
    assert wire.segments[-1].has(Flags.RST)
