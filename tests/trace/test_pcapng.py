"""The file for other tools, read back by hand and by tshark."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tieline.trace import Packet, Trace, trace, write_pcapng

from .hosts import Host, ask_and_answer, needs_capture


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """What a pcapng file is made of."""
    found = []
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert size % 4 == 0
        assert struct.unpack_from("<I", data, at + size - 4) == (size,)
        found.append((kind, data[at + 8 : at + size - 4]))
        at += size
    return found


def written(seen: Trace) -> bytes:
    file = io.BytesIO()
    write_pcapng(seen, file)
    return file.getvalue()


def test_a_file_of_packets() -> None:
    with Host(ask_and_answer) as server:
        seen = trace(server.address, b"ping", captured=False)
    times = [1_700_000_000_123_456_789, 1_700_000_000_123_456_790]
    packets = (Packet(times[0], b"abcde", True), Packet(times[1], b"", None))
    section, interface, *rest = blocks(written(_with(seen, packets)))
    assert section[0] == 0x0A0D0D0A
    assert struct.unpack_from("<IHH", section[1]) == (0x1A2B3C4D, 1, 0)
    assert interface[0] == 1
    assert struct.unpack_from("<H", interface[1]) == (101,)
    for (kind, body), packet in zip(rest, packets, strict=True):
        number, high, low, kept, size = struct.unpack_from("<5I", body)
        assert (kind, number) == (6, 0)
        assert high << 32 | low == packet.at_ns
        assert kept == size == len(packet.data)
        assert body[20 : 20 + size] == packet.data


def _with(seen: Trace, packets: tuple[Packet, ...]) -> Trace:
    return replace(seen, packets=packets)


def test_a_trace_without_packets() -> None:
    with Host(ask_and_answer) as server:
        seen = trace(server.address, b"ping", captured=False)
    assert [kind for kind, _ in blocks(written(seen))] == [0x0A0D0D0A, 1]


_FIELDS = (
    "frame.time_epoch", "tcp.srcport", "tcp.flags", "tcp.seq", "tcp.ack", "tcp.len", "tcp.payload",
)  # fmt: skip

_BITS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16}


@needs_capture
@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark here")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tshark_reads_the_same(host: str, tmp_path: Path) -> None:
    with Host(ask_and_answer, host) as server:
        seen = trace(server.address, b"ping")
    file = tmp_path / "short.pcapng"
    with file.open("wb") as opened:
        write_pcapng(seen, opened)
    wanted = [f"-e{field}" for field in _FIELDS]
    run = subprocess.run(
        ["tshark", "-r", str(file), "-Tjson", *wanted], capture_output=True, check=True
    )
    read: list[Any] = [packet["_source"]["layers"] for packet in json.loads(run.stdout)]
    assert len(read) == len(seen.steps)
    first = seen.packets[0].at_ns
    for layers, step, packet in zip(read, seen.steps, seen.packets, strict=True):
        [epoch], [port], [flags], [sequence], [acknowledgement], [size] = (
            layers[field] for field in _FIELDS[:6]
        )
        whole, _, fraction = epoch.partition(".")
        assert int(whole) * 10**9 + int(fraction.ljust(9, "0")) == packet.at_ns
        assert step.at == (packet.at_ns - first) / 1e9
        assert int(port) == (seen.client if step.side == "client" else seen.server).port
        assert int(flags, 16) == sum(_BITS[name] for name in step.flags.split())
        assert int(sequence) == step.sequence
        assert int(acknowledgement) == (step.acknowledgement or 0)
        assert int(size) == step.size
        payload = layers.get("tcp.payload", [""])[0]
        assert bytes.fromhex(payload.replace(":", "")) == step.payload
