"""The event log of a guard: its sessions and its upstreams are in it as any server's events are."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

import tieline
import tieline.guard
from support.hooks import echo, eventually
from support.peers import Peer
from tieline import Line
from tieline.event_log import EventLog
from tieline.guard import GuardSettings


async def test_sessions_and_upstreams_are_in_the_log(tmp_path: Path) -> None:
    settings = GuardSettings(check_interval=None, passive_failures=1, tries=1)
    file, plain = tmp_path / "events.json", tmp_path / "events.log"
    async with tieline.serve(echo("responder"), "127.0.0.1:0", framing=Line()) as server:
        db1 = f"{server.addresses[0]},name=db1"
        guard = tieline.guard.serve("127.0.0.1:0", upstreams=[db1], settings=settings)
        with socket.socket() as nobody, EventLog(guard.events, json=True, sink=str(file)):
            nobody.bind(("127.0.0.1", 0))
            with EventLog(guard.events, sink=str(plain)):
                async with guard:
                    async with await Peer.connect(guard.addresses[0]) as peer:
                        await peer.send(b"hello\n")
                        await peer.receive_line()
                    await eventually(lambda: not len(guard))
                    guard.pool.drain("db1")
                    guard.pool.add(
                        tieline.guard.parse_upstream(
                            f"127.0.0.1:{nobody.getsockname()[1]},name=gone"
                        )
                    )
                    # It may be reset before it knows that it was connected.
                    with contextlib.suppress(ConnectionResetError):
                        async with await Peer.connect(guard.addresses[0]) as peer:
                            await peer.receive_all()
                    await eventually(lambda: not len(guard))
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    by_name = {line["event.name"]: line for line in lines}
    relayed, down = by_name["session_relayed"], by_name["upstream_down"]
    assert relayed["tieline.upstream"] == "db1"
    assert relayed["tieline.address"] == str(server.addresses[0])
    assert by_name["upstream_draining"]["tieline.upstream"] == "db1"
    assert (down["level"], down["tieline.upstream"]) == ("warning", "gone")
    assert "refused" in down["tieline.why"]
    first, last = [line for line in lines if line["event.name"] == "connection_closed"]
    assert first["tieline.upstream"] == "db1"
    assert "tieline.upstream" not in last
    assert (last["error.type"], last["tieline.reason"]) == ("no_upstream", "no_upstream")
    text = plain.read_text("utf-8")
    assert f" INFO session_relayed id={relayed['tieline.connection']} " in text
    assert " WARNING upstream_down upstream=gone why=" in text
