"""`tieline serve` under systemd: sockets that it is handed, and what it tells."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.command_process import PATIENCE, Tieline
from support.service_manager import NoticeSocket, start_service


class Service:
    """A service, and what it says while it runs.

    Attributes:
        out, err: what it wrote, once it has ended.
    """

    def __init__(self, process: subprocess.Popen[str], notices: NoticeSocket) -> None:
        self._process = process
        self.notices = notices
        self.out = self.err = ""

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, number: signal.Signals | None = None) -> int:
        """End it with this signal, or wait for its own end."""
        if number is not None:
            self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        self.out, self.err = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self.wait()


class Manager:
    """Starts `tieline` as systemd does."""

    def __init__(self, tieline: Tieline) -> None:
        self._tieline = tieline
        self._stack = contextlib.ExitStack()
        self._count = 0

    def start(
        self, *arguments: str, sockets: tuple[socket.socket, ...] = (), names: str = "",
        **environment: str,
    ) -> Service:  # fmt: skip
        self._count += 1
        folder = self._tieline.folder
        notices = self._stack.enter_context(NoticeSocket(str(folder / f"notify{self._count}")))
        process = start_service(
            "-m", "tieline", *arguments, sockets=sockets, names=names,
            environment=self._tieline.environment({**notices.environment, **environment}),
            at=folder,
        )  # fmt: skip
        service = Service(process, notices)
        self._stack.callback(service.kill)
        return service

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture
def systemd(tieline: Tieline) -> Iterator[Manager]:
    manager = Manager(tieline)
    yield manager
    manager.stop()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def ask(listening: socket.socket, message: bytes) -> bytes:
    with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as client:
        client.sendall(message)
        return client.recv(100)


def test_a_whole_life(systemd: Manager, listening: socket.socket) -> None:
    service = systemd.start("serve", "--echo", sockets=(listening,), WATCHDOG_USEC="400000")
    assert service.notices.next() == {"READY": "1", "STATUS": "0 connections"}
    assert ask(listening, b"hello") == b"hello"
    for _ in range(3):
        assert service.notices.wait_for("WATCHDOG") == {"WATCHDOG": "1"}
    service.send_signal(signal.SIGTERM)
    assert service.notices.wait_for("STOPPING") == {"STOPPING": "1"}
    assert service.wait() == 143
    host, port = listening.getsockname()
    assert f"listening on {host}:{port}" in service.err


def test_the_socket_is_there_for_the_next_start(systemd: Manager, listening: socket.socket) -> None:
    first = systemd.start("serve", "--reply", "first", sockets=(listening,))
    first.notices.wait_for("READY")
    assert ask(listening, b"x") == b"first"
    first.end(signal.SIGTERM)
    # Whoever comes in between waits, and is not refused.
    with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as waiting:
        waiting.sendall(b"x")
        second = systemd.start("serve", "--reply", "second", sockets=(listening,))
        assert waiting.recv(100) == b"second"
    second.end(signal.SIGTERM)


def test_a_unix_sockets_file_stays(systemd: Manager, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        service = systemd.start("serve", "--echo", sockets=(listening,))
        service.notices.wait_for("READY")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(path)
            client.sendall(b"x")
            assert client.recv(10) == b"x"
        service.end(signal.SIGTERM)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_sockets_and_addresses_go_together(systemd: Manager, listening: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        service = systemd.start(
            "serve", "--listen", "127.0.0.1:0", "--echo", sockets=(listening, other), names="a:b"
        )
        service.notices.wait_for("READY")
        assert [ask(each, b"x") for each in (listening, other)] == [b"x", b"x"]
        service.end(signal.SIGTERM)
    line = next(line for line in service.err.splitlines() if line.startswith("listening on"))
    assert line.count("127.0.0.1:") == 3


def test_verbose_says_what_is_handed_over_and_told(
    systemd: Manager, listening: socket.socket
) -> None:
    arguments = ("serve", "--echo", "--verbose")
    service = systemd.start(*arguments, sockets=(listening,), names="web", WATCHDOG_USEC="30000000")
    service.notices.wait_for("READY")
    service.end(signal.SIGTERM)
    port = listening.getsockname()[1]
    assert service.err.splitlines()[0] == f"systemd has handed over 127.0.0.1:{port} (web)"
    told = [line for line in service.err.splitlines() if line.startswith("systemd")][1:]
    assert told == [
        "systemd is told: READY=1 STATUS=0 connections",
        "systemd gets a sign of life every 15.0 s",
        "systemd is told: STOPPING=1",
    ]
    quiet = systemd.start("serve", "--echo", sockets=(listening,))
    quiet.notices.wait_for("READY")
    quiet.end(signal.SIGTERM)
    assert "systemd" not in quiet.err


def test_in_chinese(systemd: Manager, listening: socket.socket) -> None:
    service = systemd.start("-v", "serve", sockets=(listening,), LANG="zh_CN.UTF-8")
    assert service.notices.next()["STATUS"] == "0 个连接"
    service.end(signal.SIGTERM)
    assert f"systemd 交来 127.0.0.1:{listening.getsockname()[1]}" in service.err


def test_a_hangup_is_a_reload(systemd: Manager, tieline: Tieline, listening: socket.socket) -> None:
    file = tieline.folder / "t.toml"
    file.write_text("[serve]\nidle = '1m'\n")
    service = systemd.start("serve", "--config", "t.toml", sockets=(listening,))
    service.notices.wait_for("READY")
    for content in ("[serve]\nidle = '2m'\n", "[serve]\nidle = 'x'\n"):
        # A file that cannot be used ends a reload as well.
        file.write_text(content)
        service.send_signal(signal.SIGHUP)
        assert service.notices.next().keys() == {"RELOADING", "MONOTONIC_USEC"}
        assert service.notices.next() == {"READY": "1"}
    service.end(signal.SIGTERM)
    assert "idle 1m → 2m" in service.err
    assert "nothing has changed" in service.err


def test_a_drain_is_told_at_its_beginning(
    systemd: Manager, tieline: Tieline, listening: socket.socket
) -> None:
    (tieline.folder / "slow.py").write_text(
        "import asyncio\n"
        "async def talk(conn):\n"
        "    async for text in conn:\n"
        "        await conn.send('busy')\n"
        "        await asyncio.sleep(60)\n"
    )
    service = systemd.start("serve", "--handler", "slow:talk", "--drain", "1h",
                            sockets=(listening,), WATCHDOG_USEC="400000")  # fmt: skip
    service.notices.wait_for("READY")
    with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as client:
        client.sendall(b"x")
        assert client.recv(10) == b"busy"
        service.send_signal(signal.SIGTERM)
        service.notices.wait_for("STOPPING")
        # It lives as long as it drains.
        service.notices.wait_for("WATCHDOG")
        assert service.notices.wait_for("STATUS")["STATUS"] == "draining: 1 connection"
        assert service.end(signal.SIGTERM) == 143


def test_the_end_of_once_is_told(systemd: Manager, listening: socket.socket) -> None:
    service = systemd.start("serve", "--once", "--echo", sockets=(listening,))
    service.notices.wait_for("READY")
    assert ask(listening, b"x") == b"x"
    service.notices.wait_for("STOPPING")
    assert service.wait() == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_both_loops(systemd: Manager, listening: socket.socket, loop: str) -> None:
    service = systemd.start("serve", "--echo", "--loop", loop, sockets=(listening,),
                            WATCHDOG_USEC="200000")  # fmt: skip
    service.notices.wait_for("READY")
    assert ask(listening, b"x") == b"x"
    service.notices.wait_for("WATCHDOG")
    assert service.end(signal.SIGTERM) == 143


def test_what_does_not_listen_is_wrong_usage(systemd: Manager) -> None:
    with socket.socket() as idle:
        service = systemd.start("serve", "--echo", sockets=(idle,), names="web")
        assert service.wait() == 2
    assert service.err == (
        "descriptor 3 ('web'), which was handed over, is no socket that listens for connections "
        "(in the .socket unit: ListenStream=, and not Accept=yes)\n"
    )


def test_other_mistakes_leave_no_socket_behind(systemd: Manager, listening: socket.socket) -> None:
    service = systemd.start("serve", "--handler", "no:such", sockets=(listening,))
    assert service.wait() == 2
    assert service.err.count("\n") == 1, service.err


def test_without_sockets_somebody_must_say_where(systemd: Manager) -> None:
    service = systemd.start("serve", "--echo")
    assert service.wait() == 2
    assert "say where to listen" in service.err


def test_a_service_manager_that_is_not_there_costs_nothing(
    systemd: Manager, listening: socket.socket
) -> None:
    service = systemd.start(
        "serve", "--echo", "--once", sockets=(listening,), NOTIFY_SOCKET="/nowhere/notify"
    )
    assert ask(listening, b"x") == b"x"
    assert service.wait() == 0
    assert service.err.count("systemd cannot be told how this service is doing: [Errno 2]") == 1


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="needs systemd-socket-activate"
)
def test_systemds_own_launcher(tieline: Tieline, tmp_path: Path) -> None:
    path = tmp_path / "s"
    launcher = subprocess.Popen(
        [
            "systemd-socket-activate", "--listen", str(path), "--fdname", "web",
            *(f"--setenv={name}={value}" for name, value in tieline.environment({}).items()),
            sys.executable, "-m", "tieline", "serve", "--echo", "--once",
        ],
        cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert launcher.stderr is not None
        assert "Listening on" in launcher.stderr.readline()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            client.sendall(b"hello")
            assert client.recv(10) == b"hello"
        _, err = launcher.communicate(timeout=PATIENCE)
        assert launcher.returncode == 0, err
        assert f"listening on unix:{path}" in err
    finally:
        launcher.kill()
        launcher.communicate()
