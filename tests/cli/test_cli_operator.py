"""A server under attack, and the operator who sees it, acts, and undoes it: the real commands."""

from __future__ import annotations

import contextlib
import json
import selectors
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cli.command_process import Running, Tieline

POLITE, GREEDY, DRIPPING = "127.0.1.1", "127.0.2.2", "127.0.3.3"


class Crowd(threading.Thread):
    """Attackers: one machine that takes every connection it gets and comes back for more, and one
    that drips a message that never ends. They go on until they are told to stop."""

    def __init__(self, port: int) -> None:
        super().__init__(name="crowd")
        self._port = port
        self._over = threading.Event()

    def run(self) -> None:
        with contextlib.ExitStack() as held, selectors.DefaultSelector() as waiting:
            dripping = [self._open(DRIPPING, held) for _ in range(3)]
            while not self._over.is_set():
                for each in dripping:
                    with contextlib.suppress(OSError):
                        each.send(b"x")
                try:
                    came = self._open(GREEDY, held)
                    waiting.register(came, selectors.EVENT_READ)
                except OSError:
                    self._over.wait(0.01)  # refused within `connect`, or the server has ended
                for key, _ in waiting.select(0.01):
                    waiting.unregister(key.fileobj)
                    assert isinstance(key.fileobj, socket.socket)
                    key.fileobj.close()

    def _open(self, host: str, held: contextlib.ExitStack) -> socket.socket:
        made = socket.create_connection(
            ("127.0.0.1", self._port), timeout=10, source_address=(host, 0)
        )
        held.enter_context(made)
        made.setblocking(False)
        return made

    def stop(self) -> None:
        self._over.set()
        self.join()


@pytest.fixture
def attacked(tieline: Tieline) -> Iterator[tuple[Running, Crowd]]:
    settings = tieline.folder / "tieline.toml"
    settings.write_text(
        "[serve]\nframing = 'line'\necho = true\ncontrol = 'c.sock'\n"
        "per-client = 20\ntotal = 60\nmin-receive-rate = 10000\nrate-grace = '1s'\n"
    )
    server = tieline.serve("--config", str(settings))
    crowd = Crowd(server.port)
    crowd.start()
    yield server, crowd
    crowd.stop()


def test_as_an_operator_would(tieline: Tieline, attacked: tuple[Running, Crowd]) -> None:
    server, _crowd = attacked

    def ctl(*arguments: str) -> list[dict[str, Any]]:
        running = tieline.run("ctl", "--control", "c.sock", *arguments, "--json")
        assert running.code == 0, running.err
        return [json.loads(line) for line in running.out.splitlines()]

    def is_served() -> bool:
        with socket.create_connection(
            ("127.0.0.1", server.port), timeout=20, source_address=(POLITE, 0)
        ) as polite:
            polite.sendall(b"anybody there?\n")
            return polite.recv(100) == b"anybody there?\n"

    def held_by(client: str) -> int:
        return sum(row["connections"] for row in ctl("clients") if row["client"] == client)

    # What happens: refusals of one machine, and peers that send too slowly.
    watch = tieline.start("ctl", "--control", "c.sock", "watch", "--json")
    refused = json.loads(watch.line('"client_limit"'))
    assert (refused["event"], refused["client"]) == ("connection_refused", GREEDY)
    slow = json.loads(watch.line('"slow_sender"'))
    assert (slow["event"], slow["client"]) == ("connection_closed", DRIPPING)
    assert is_served()

    # Who it is.
    assert ctl("clients")[0]["client"] == GREEDY
    assert held_by(GREEDY) == 20

    # Banned, it is gone and stays away; the others do not notice.
    tieline.run("ctl", "--control", "c.sock", "ban", GREEDY, "--for", "10m", "--why", "greedy")
    watch.line('"banned"')
    assert held_by(GREEDY) == 0
    assert [ban["network"] for ban in ctl("bans") if "network" in ban] == [GREEDY]
    assert is_served()

    # Unbanned, it is back, up to its cap; which is raised live, and holds at the new place.
    tieline.run("ctl", "--control", "c.sock", "unban", GREEDY)
    watch.line('"client_unbanned"')
    tieline.run("ctl", "--control", "c.sock", "limits", "per-client=25")
    watch.line('"limits_changed"')
    watch.line('"client_limit"')
    assert held_by(GREEDY) == 25
    assert is_served()

    # The settings of the file again, down to which the idle are evicted.
    server.send_signal(signal.SIGHUP)
    server.error_line("per-client 25 → 20")
    tieline.run("ctl", "--control", "c.sock", "limits", "per-client=10", "--evict")
    watch.line('"evicted"')
    assert held_by(GREEDY) == 10
    assert is_served()

    # And the end of it, in good order.
    drained = tieline.run("ctl", "--control", "c.sock", "drain")
    assert drained.code == 0, drained.err
    assert server.wait() == 0
    watch.wait()
