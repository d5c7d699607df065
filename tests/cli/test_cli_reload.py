"""SIGHUP: what changes at once, what is only named, and what leaves everything as it was."""

from __future__ import annotations

import json
import signal
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from cli.command_process import Running, Tieline


class Reloaded:
    """A server with a settings file that is changed while it runs."""

    def __init__(self, tieline: Tieline, content: str, *arguments: str) -> None:
        self.file = tieline.folder / "t.toml"
        self.write(content)
        self.server: Running = tieline.serve("--config", "t.toml", *arguments)

    def write(self, content: str) -> None:
        self.file.write_text(content, "utf-8")

    def hang_up(self, content: str) -> str:
        """Change the file, tell the server, and wait for what it says about it."""
        self.write(content)
        self.server.send_signal(signal.SIGHUP)
        return self.server.error_line("SIGHUP")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=20)


def test_limits_change_while_connections_are_open(tieline: Tieline) -> None:
    reloaded = Reloaded(tieline, "[serve]\nper-client = 1\nidle = '1h'\necho = true\n")
    with reloaded.connect() as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        # It may be reset before it is known to be connected.
        with pytest.raises(ConnectionResetError), reloaded.connect() as refused:
            refused.recv(1)
        said = reloaded.hang_up("[serve]\nper-client = 2\nidle = '1h'\necho = true\n")
        assert said == "SIGHUP: t.toml read again: per-client 1 → 2"
        with reloaded.connect() as second:
            second.sendall(b"y")
            assert second.recv(1) == b"y"
        # The clocks of those that are there follow too.
        reloaded.hang_up("[serve]\nidle = '50ms'\necho = true\n")
        assert first.recv(1) == b""
    assert "closed: idle_timeout" in reloaded.server.line("idle_timeout")


def test_a_file_that_cannot_be_used_changes_nothing(tieline: Tieline) -> None:
    good = "[serve]\nper-client = 1\necho = true\n"
    reloaded = Reloaded(tieline, good)
    for bad, says in (
        ("[serve]\nper-client = 2\nidle = 'x'\n", "t.toml:3: idle: 'x' is not a duration"),
        ("[serve]\nper-client = 2\nidel = 1\n", "t.toml:3: there is no setting 'serve.idel'"),
        ("[serve]\nper-client = 2\nlow-water = '1MiB'\n", "low_water (1048576) must be below"),
        ("[serve]\nper-client = 2\ndrain-spread = '1h'\n", "--drain-spread must not be longer"),
        ("[serve\n", "t.toml:1: this is not TOML"),
    ):
        said = reloaded.hang_up(bad)
        assert said.startswith("SIGHUP: nothing has changed, since the settings cannot be used: ")
        assert says in said
    reloaded.file.unlink()
    reloaded.server.send_signal(signal.SIGHUP)
    assert "t.toml cannot be read" in reloaded.server.error_line("SIGHUP")
    with reloaded.connect() as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        with pytest.raises(ConnectionResetError), reloaded.connect() as second:
            second.recv(1)
    assert reloaded.hang_up(good) == "SIGHUP: t.toml read again: nothing has changed"


def test_what_cannot_change_is_named(tieline: Tieline) -> None:
    reloaded = Reloaded(tieline, "[serve]\n")
    said = reloaded.hang_up("[serve]\nframing = 'line'\necho = true\ndrain = '1m'\nidle = '1m'\n")
    assert said == "SIGHUP: t.toml read again: idle 5m → 1m, drain 10s → 1m"
    line = reloaded.server.error_line("restart")
    assert line == "  needs a restart to take effect: echo, framing"


def test_flags_and_variables_go_on_beating_the_file(tieline: Tieline) -> None:
    (tieline.folder / "t.toml").write_text("[serve]\nidle = '1m'\nmessage = '1m'\n")
    server = tieline.serve("--config", "t.toml", "--idle", "2m", TIELINE_SERVE_MESSAGE="3m")
    (tieline.folder / "t.toml").write_text("[serve]\nidle = '7m'\nmessage = '7m'\ntotal = 7\n")
    server.send_signal(signal.SIGHUP)
    assert server.error_line("SIGHUP") == "SIGHUP: t.toml read again: total 10k → 7"


def test_a_file_given_to_the_whole_command(tieline: Tieline) -> None:
    (tieline.folder / "t.toml").write_text("[serve]\nlisten = '127.0.0.1:0'\nidle = '1m'\n")
    server = tieline.start("--config", "t.toml", "serve")
    server.error_line("telnet")
    (tieline.folder / "t.toml").write_text("[serve]\nlisten = '127.0.0.1:0'\nidle = '2m'\n")
    server.send_signal(signal.SIGHUP)
    assert server.error_line("SIGHUP") == "SIGHUP: t.toml read again: idle 1m → 2m"


def test_the_new_drain_is_the_one_that_holds(tieline: Tieline) -> None:
    (tieline.folder / "slow.py").write_text(
        "import asyncio\n"
        "async def talk(conn):\n"
        "    async for text in conn:\n"
        "        await asyncio.sleep(60)\n"
    )
    reloaded = Reloaded(tieline, "[serve]\ndrain = '1h'\n", "--handler", "slow:talk")
    with reloaded.connect() as client:
        client.sendall(b"x")
        reloaded.server.line("←")
        reloaded.hang_up("[serve]\ndrain = '100ms'\n")
        reloaded.server.send_signal(signal.SIGTERM)
        assert "1 connection has 100ms to finish" in reloaded.server.error_line("SIGTERM")
        assert reloaded.server.wait() == 143


def test_json_lines(tieline: Tieline) -> None:
    reloaded = Reloaded(tieline, "[serve]\njson = true\n")
    reloaded.hang_up("[serve]\njson = true\nidle = '1m'\necho = true\n")
    event = json.loads(reloaded.server.line("reloaded"))
    assert event["file"] == "t.toml"
    assert event["changes"] == {"idle": {"old": "5m", "new": "1m"}}
    assert event["needs_restart"] == ["echo"]
    reloaded.hang_up("[serve]\njson = true\nidle = 'x'\n")
    event = json.loads(reloaded.server.line("reload_failed"))
    assert event["file"] == "t.toml"
    assert event["detail"].startswith("t.toml:3: idle: 'x'")


def test_without_a_file_a_hangup_is_the_end(tieline: Tieline) -> None:
    server = tieline.serve()
    server.send_signal(signal.SIGHUP)
    assert server.wait() == -signal.SIGHUP


def certificate(path: Path, authority: trustme.CA, name: str) -> None:
    authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(path))


def test_a_renewed_certificate_is_shown_to_newcomers(tieline: Tieline) -> None:
    authority = trustme.CA()
    path = tieline.folder / "server.pem"
    certificate(path, authority, "old.test")
    content = f"[serve]\ntls-cert = '{path}'\n"
    reloaded = Reloaded(tieline, content)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)

    def shows(name: str) -> bool:
        with reloaded.connect() as plain:
            try:
                with trust.wrap_socket(plain, server_hostname=name):
                    return True
            except ssl.SSLCertVerificationError:
                return False

    assert shows("old.test")
    path.write_text("half a certificate")
    assert "does not hold what is needed" in reloaded.hang_up(content)
    assert shows("old.test")
    certificate(path, authority, "new.test")
    reloaded.hang_up(content)
    assert shows("new.test")
    assert not shows("old.test")


def test_a_total_that_cannot_be_reached_is_told(tieline: Tieline) -> None:
    reloaded = Reloaded(tieline, "[serve]\ntotal = 7\n")
    said = reloaded.hang_up("[serve]\ntotal = 2000000000\n")
    assert said == "SIGHUP: t.toml read again: total 7 → 2000M"
    told = reloaded.server.error_line("room for")
    assert "connections, not for 2000000000 (tieline doctor --for 2000000000 says" in told
