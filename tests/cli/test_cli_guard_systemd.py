"""`tieline guard` under systemd: whose the sockets are, and what it tells."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import pytest

from cli.command_process import Tieline
from cli.guarded import Service, ask, connect, written
from cli.test_cli_systemd import Manager


@pytest.fixture
def systemd(tieline: Tieline) -> Iterator[Manager]:
    manager = Manager(tieline)
    yield manager
    manager.stop()


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        yield [one, other]


def port(listening: socket.socket) -> int:
    found: int = listening.getsockname()[1]
    return found


def test_a_whole_life(
    systemd: Manager, tieline: Tieline, service: Service, sockets: list[socket.socket]
) -> None:
    content = f"[guard]\nupstream = '{service.address}'\n"
    written(tieline, content)
    # All are for the only listener, whatever they are called.
    running = systemd.start(
        "guard", "--config", "g.toml", sockets=tuple(sockets), names="guard:guard"
    )
    assert running.notices.next() == {"READY": "1", "STATUS": "0 connections"}
    assert [ask(port(each)) for each in sockets] == [b"a!", b"a!"]
    for idle in ("'7s'", "'x'"):
        # A reload is told to its end, of use or not; and needs no address.
        written(tieline, content + f"idle = {idle}\n")
        running.send_signal(signal.SIGHUP)
        assert running.notices.wait_for("RELOADING").keys() == {"RELOADING", "MONOTONIC_USEC"}
        assert running.notices.wait_for("READY") == {"READY": "1"}
    with connect(port(sockets[0])) as client:
        assert client.recv(1) == b"a"
        running.send_signal(signal.SIGTERM)
        assert running.notices.wait_for("STOPPING") == {"STOPPING": "1"}
        assert client.recv(1) == b""
    assert running.wait() == 143
    assert "idle 5m → 7s" in running.err
    assert "nothing has changed" in running.err


_TWO = "[guard.listener.one]\nupstream = '{}'\n[guard.listener.two]\nupstream = '{}'\n"


@pytest.mark.parametrize(
    ("names", "said"),
    [("two:one", [b"b!", b"a!"]), ("x:y", [b"a!", b"b!"]), ("", [b"a!", b"b!"])],
)
def test_sockets_go_by_name_or_in_order(
    systemd: Manager, tieline: Tieline, sockets: list[socket.socket], names: str, said: list[bytes]
) -> None:
    with Service("a") as one, Service("b") as two:
        written(tieline, _TWO.format(one.address, two.address))
        running = systemd.start("guard", "--config", "g.toml", sockets=tuple(sockets), names=names)
        running.notices.wait_for("READY")
        assert [ask(port(each)) for each in sockets] == said
        assert running.end(signal.SIGTERM) == 143


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("one:tow", "a socket was handed over for 'tow', and no listener is called that (did you "
                    "mean 'two'?)"),
        ("x", "a socket was handed over for 'x', and no listener is called that (in the .socket "
              "unit: FileDescriptorName=one | two)"),
    ],
)  # fmt: skip
def test_sockets_that_are_for_nobody(
    systemd: Manager, tieline: Tieline, sockets: list[socket.socket], names: str, says: str
) -> None:
    written(tieline, _TWO.format("127.0.0.1:9", "127.0.0.1:9"))
    given = tuple(sockets[: names.count(":") + 1])
    running = systemd.start("guard", "--config", "g.toml", sockets=given, names=names)
    assert running.wait() == 2
    assert running.err == says + "\n"


def test_in_chinese(systemd: Manager, service: Service, sockets: list[socket.socket]) -> None:
    running = systemd.start(
        "guard", "--upstream", service.address, sockets=tuple(sockets[:1]), LANG="zh_CN.UTF-8"
    )
    assert running.notices.next()["STATUS"] == "0 个连接"
    assert ask(port(sockets[0])) == b"a!"
    running.end(signal.SIGTERM)
    assert "转发到" in running.err
