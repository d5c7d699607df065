"""SIGHUP to a guard: what changes while sessions go on, and what leaves all as it was."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl

import pytest
import trustme

from cli.command_process import Tieline
from cli.guarded import Service, ask, connect, free_port, port_of, start_guard, written

# ---- SIGHUP


class Reloaded:
    """A guard with a settings file that is changed while it runs."""

    def __init__(self, tieline: Tieline, content: str, *arguments: str) -> None:
        self._tieline = tieline
        written(tieline, content)
        self.running = tieline.start("guard", "--config", "g.toml", *arguments)

    def port(self) -> int:
        """The port of the next listener that says so."""
        return port_of(self.running.error_line("listening on"))

    def hang_up(self, content: str) -> str:
        """Change the file, tell the guard, and wait for what it says about it."""
        written(self._tieline, content)
        self.running.send_signal(signal.SIGHUP)
        return self.running.error_line("SIGHUP")


def test_a_reload_keeps_sessions(tieline: Tieline) -> None:
    with Service("a") as old, Service("b") as new:
        good = f"[guard]\nlisten = '127.0.0.1:0'\nupstream = '{old.address}'\n"
        reloaded = Reloaded(tieline, good)
        port = reloaded.port()
        with connect(port) as client:
            assert client.recv(1) == b"a"
            said = reloaded.hang_up(
                f"[guard]\nlisten = '127.0.0.1:0'\nupstream = '{new.address},weight=2'\n"
                "idle = '7s'\ntries = 1\ndrain = '1m'\nloop = 'uvloop'\nmetrics = ':1'\n"
            )
            assert said == (
                "SIGHUP: g.toml read again: idle 5m → 7s, tries 3 → 1, "
                f"upstream {old.address} → {new.address},weight=2, drain 10s → 1m"
            )
            later = reloaded.running.error_line("restart")
            assert later == "  needs a restart to take effect: metrics, loop"
            assert ask(port) == b"b!"
            client.sendall(b"still there")
            assert client.recv(100) == b"still there"
        assert reloaded.hang_up(good + "idle = '7s'\n").endswith(
            f"tries 1 → 3, upstream {new.address},weight=2 → {old.address}, drain 1m → 10s"
        )


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("idle = 'x'\n", "g.toml:5: idle: 'x' is not a duration"),
        ("tries = 0\n", "g.toml:5: tries must be a whole number of at least 1"),
        ("upsteram = 'a:1'\n", "g.toml:5: there is no setting 'guard.upsteram'"),
        ("tls-cert = 'no.pem'\n", "g.toml:5: --tls-cert: no.pem cannot be read"),
        ("[guard.listener.x]\nlisten = ':0'\nupstream = '?'\n", "g.toml:7: upstream: "),
        ("[guard.listener.x]\nlisten = '127.0.0.1:{taken}'\n", "is in use by another program"),
        ("[guard.listener.x]\nlisten = 'nobody.invalid:1'\n", "no address is known for"),
        ("[guard.listener.x]\nlisten = ':0'\ncontrol = 'no/x'\n", "the folder of unix:no/x"),
    ],
)
def test_a_bad_file_changes_nothing(
    tieline: Tieline, service: Service, bad: str, says: str
) -> None:
    good = f"[guard]\nlisten = '127.0.0.1:0'\nupstream = '{service.address}'\n"
    reloaded = Reloaded(tieline, good + "per-client = 1\n")
    port = reloaded.port()
    with socket.create_server(("127.0.0.1", 0)) as taken, connect(port) as client:
        assert client.recv(1) == b"a"
        bad = bad.format(taken=taken.getsockname()[1])
        said = reloaded.hang_up(good + "per-client = 2\n" + bad)
        assert said.startswith("SIGHUP: nothing has changed, since the settings cannot be used: ")
        assert says in said
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        # The old limit holds.
        with contextlib.suppress(ConnectionResetError), connect(port) as refused:
            assert refused.recv(1) == b""
        reloaded.running.error_line("client_limit")


def test_listeners_come_go_move_and_change_their_names(tieline: Tieline, service: Service) -> None:
    head = f"[guard]\nupstream = '{service.address},name=s'\ndrain = '1h'\n"
    kept, moved, gone = (free_port() for _ in range(3))
    before = "".join(
        f"[guard.listener.{name}]\nlisten = '127.0.0.1:{port}'\n"
        for name, port in (("kept", kept), ("moved", moved), ("gone", gone))
    )
    reloaded = Reloaded(tieline, head + before)
    running = reloaded.running
    assert [reloaded.port() for _ in range(3)] == [kept, moved, gone]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for port in (kept, moved, gone)]
        assert [client.recv(1) for client in clients] == [b"a"] * 3
        # An answer is awaited on it, so that it has to be waited for.
        to, new = free_port(), free_port()
        said = reloaded.hang_up(
            head
            + f"[guard.listener.called]\nlisten = '127.0.0.1:{kept}'\n"
            + f"[guard.listener.moved]\nlisten = '127.0.0.1:{to}'\n"
            + f"[guard.listener.new]\nlisten = '127.0.0.1:{new}'\n"
        )
        assert said == (
            f"SIGHUP: g.toml read again: moved.listen 127.0.0.1:{moved} → 127.0.0.1:{to}"
        )
        assert running.error_line("gone") == "  gone: no longer listening; 1 session finishes"
        assert running.error_line("listening") == f"new: listening on 127.0.0.1:{new}"
        assert running.error_line("listening") == f"moved: listening on 127.0.0.1:{to}"
        for port in (kept, to, new):
            assert ask(port) == b"a!"
        for port in (moved, gone):
            with pytest.raises(ConnectionRefusedError):
                connect(port)
        # Idle between two exchanges: that of the removed one is over soon, the others go on.
        assert clients[2].recv(1) == b""
        for client in clients[:2]:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
    assert "called closed" in running.line("called closed")
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 143


def test_an_address_inside_the_old_one_takes_a_restart(tieline: Tieline, service: Service) -> None:
    port = free_port()
    content = "[guard]\nlisten = '{}'\nupstream = '" + service.address + "'\n"
    reloaded = Reloaded(tieline, content.format(f"127.0.0.1:{port}"))
    reloaded.port()
    said = reloaded.hang_up(content.format(f":{port}"))
    assert f"*:{port} cannot be had while 127.0.0.1:{port} is listened on" in said
    assert ask(port) == b"a!"


def test_what_ctl_has_changed_is_put_back(tieline: Tieline, service: Service) -> None:
    content = f"[guard]\nlisten = '127.0.0.1:0'\nupstream = '{service.address},name=s'\n"
    reloaded = Reloaded(tieline, content, "--control", "g.sock", "--json")
    reloaded.port()
    reloaded.running.error_line("look into")
    ctl = ("ctl", "--control", "g.sock")
    assert tieline.run(*ctl, "settings", "tries=9").code == 0
    assert tieline.run(*ctl, "upstream", "add", "127.0.0.1:9,name=more").code == 0
    assert json.loads(reloaded.running.line("upstream_added"))["upstream"] == "more"
    reloaded.hang_up(content)
    event = json.loads(reloaded.running.line("reloaded"))
    assert event["changes"]["tries"] == {"old": "9", "new": "3"}
    assert event["changes"]["upstream"]["new"] == f"{service.address},name=s"
    assert event["removed"] == []
    assert json.loads(reloaded.running.line("upstream_removed"))["upstream"] == "more"


def test_a_renewed_certificate_is_shown_to_newcomers(tieline: Tieline, service: Service) -> None:
    authority = trustme.CA()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    pem = tieline.folder / "own.pem"

    def renew(name: str) -> None:
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(pem))

    renew("old.test")
    content = (
        f"[guard]\nlisten = '127.0.0.1:0'\nupstream = '{service.address}'\ntls-cert = 'own.pem'\n"
    )
    reloaded = Reloaded(tieline, content)
    port = reloaded.port()

    def shows(name: str) -> bool:
        with connect(port) as plain:
            try:
                with trust.wrap_socket(plain, server_hostname=name):
                    return True
            except ssl.SSLCertVerificationError:
                return False

    assert shows("old.test")
    renew("new.test")
    reloaded.hang_up(content)
    assert shows("new.test")
    assert not shows("old.test")


def test_without_a_file_a_hangup_is_the_end(tieline: Tieline, service: Service) -> None:
    running = start_guard(tieline, service.address)
    running.send_signal(signal.SIGHUP)
    assert running.wait() == -signal.SIGHUP


def test_totals_that_cannot_be_reached_are_told(tieline: Tieline, service: Service) -> None:
    good = f"[guard]\nlisten = '127.0.0.1:0'\nupstream = '{service.address}'\n"
    reloaded = Reloaded(tieline, good + "total = 7\n")
    reloaded.port()
    said = reloaded.hang_up(good + "total = 2000000000\n")
    assert said == "SIGHUP: g.toml read again: total 7 → 2000M"
    told = reloaded.running.error_line("room for")
    assert "2000000000 sessions need 4000000160" in told
