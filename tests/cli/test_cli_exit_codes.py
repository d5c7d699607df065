"""One test for each exit code; and each mistake is one clear sentence, never a traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from cli.command_process import SOURCE, Running, Tieline
from cli.scripted_peer import reset, scripted_peer, wait_for_end


def one_sentence(running: Running) -> str:
    """What went wrong, in one line."""
    assert "Traceback" not in running.err
    lines = running.err.strip().splitlines()
    assert len(lines) == 1, running.err
    return lines[0]


def echo_once(connected: socket.socket) -> None:
    connected.sendall(connected.recv(1024))
    wait_for_end(connected)


def test_done(tieline: Tieline) -> None:
    with scripted_peer(echo_once) as address:
        sent = tieline.run("send", address, "hello")
    assert (sent.code, sent.out, sent.err) == (0, "hello\n", "")


def test_failed_because_the_reply_is_no_text(tieline: Tieline) -> None:
    with scripted_peer(lambda peer: peer.sendall(b"\xff\xff")) as address:
        sent = tieline.run("send", address, "x", "--encoding", "utf-8", "--errors", "strict")
    assert sent.code == 1
    assert "is not utf-8 text" in one_sentence(sent)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve"], "say where to listen (for example --port 7788)"),
        (["serve", "--port", "77777"], "'77777' is not a port"),
        (["serve", "--port", "0", "--idle", "5 parsecs"], "--idle"),
        (["serve", "--port", "0", "--max-message", "0"], "--max-message"),
        (["serve", "--port", "0", "--low-water", "1MiB"], "low_water"),
        (["serve", "--port", "0", "--encoding", "klingon"], "no encoding 'klingon'"),
        (["serve", "--port", "0", "--framing", "crate:3"], "'crate:3' is not a framing"),
        (["serve", "--port", "0", "--echo", "--reply", "x"], "exclude each other"),
        (["serve", "--port", "0", "--reply", "\\q"], "is no escape"),
        (
            ["serve", "--port", "0", "--encoding", "gbk", "--reply", "\N{GRINNING FACE}"],
            "cannot be written in gbk",
        ),
        (["serve", "--port", "0", "--tls-cert", "missing.pem"], "--tls-cert: missing.pem"),
        (["serve", "--port", "0", "--tls-key", "missing.pem"], "--tls-cert"),
        (["serve", "--port", "0", "--prot", "1"], "No such option"),
        (["serve", "--port", "0", "--hex", "--json"], "exclude each other"),
        (["serve", "--host", "127.0.0.1"], "--host needs --port"),
        (["send", "127.0.0.1", "x"], "names no port"),
        (["send", "127.0.0.1:1", "x", "--file", "y"], "not both"),
        (["send", "127.0.0.1:1", "--file", "missing"], "missing cannot be read"),
        (["send", "127.0.0.1:1", "zz", "--hex"], "'zz' is not hexadecimal"),
        (["send", "127.0.0.1:1", "x", "--until-close", "--no-reply"], "has one end"),
        (["send", "127.0.0.1:1", "x", "--expect-regex", "("], "not a regular expression"),
        (["connect", "--no-input"], "there is no address"),
        (["connect", "::1:7788"], "several colons"),
        (["srve"], "did you mean 'serve'?"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
        (["serve", "--port", "0", "--drain-spread", "1m"], "--drain-spread must not be longer"),
        (["serve", "--port", "0", "--total-full", "wiat"], "did you mean 'wait'?"),
        (["serve", "--port", "0", "--dry-run", "idel"], "did you mean 'idle'?"),
        (["serve", "--port", "0", "--exempt-networks", "10"], "--exempt-networks"),
        (["serve", "--port", "0", "--unix-mode", "999"], "is not a file's mode"),
        (["serve", "--port", "0", "--control", "/x" * 60], "and a Unix socket's has at most"),
        (["ctl", "kick"], "say which: numbers of connections, or --client KEY"),
        (["ctl", "kick", "1", "--client", "x"], "say which"),
        (["ctl", "connection", "x"], "'x' is not a valid integer"),
        (["ctl", "drain", "--for", "1s", "--spread", "2s"], "--spread must not be longer"),
        (["ctl", "connections", "--sort", "agee"], "'agee' is not one of"),
        (["ctl", "knick"], "did you mean 'kick'?"),
        (["config", "shew"], "did you mean 'show'?"),
    ],
)
def test_usage(tieline: Tieline, arguments: list[str], says: str) -> None:
    running = tieline.run(*arguments)
    assert running.code == 2
    assert says in one_sentence(running)
    assert running.out == ""


def test_missing_rich(tieline: Tieline) -> None:
    (tieline.folder / "rich.py").write_text("raise ModuleNotFoundError(name='rich')")
    running = tieline.run("config", "show", "send", PYTHONPATH=f"{tieline.folder}:{SOURCE}")
    assert running.code == 2
    assert one_sentence(running) == "the command needs rich: pip install 'tieline[cli]'"


@pytest.mark.parametrize("missing", ["click", "prompt_toolkit"])
def test_missing_extra(tieline: Tieline, missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        # The editor is for terminals.
        "sys.stdin.isatty = sys.stdout.isatty = lambda: True\n"
        "from tieline.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "connect", "127.0.0.1:1"],
        env=tieline.environment({}), capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"tieline: the command needs {missing}: pip install 'tieline[cli]'\n"


def test_missing_uvloop(tieline: Tieline) -> None:
    (tieline.folder / "uvloop.py").write_text("raise ModuleNotFoundError(name='uvloop')")
    path = f"{tieline.folder}:{SOURCE}"
    running = tieline.run("serve", "--port", "0", "--loop", "uvloop", PYTHONPATH=path)
    assert running.code == 2
    assert "pip install 'tieline[uvloop]'" in one_sentence(running)


def test_refused(tieline: Tieline, free_port: int) -> None:
    running = tieline.run("send", f"127.0.0.1:{free_port}", "x")
    assert running.code == 3
    assert "the connection was refused" in one_sentence(running)


def test_no_such_host(tieline: Tieline) -> None:
    running = tieline.run("send", "no-such-host.invalid:7788", "x")
    assert running.code == 3
    assert "no address is known for no-such-host.invalid" in one_sentence(running)


def test_no_such_socket(tieline: Tieline) -> None:
    running = tieline.run("connect", f"unix:{tieline.folder}/none.sock")
    assert running.code == 3
    assert "there is no socket at unix:" in one_sentence(running)


def test_no_reply_in_time(tieline: Tieline) -> None:
    with scripted_peer(wait_for_end) as address:
        running = tieline.run("send", address, "x", "--timeout", "200ms")
    assert running.code == 4
    assert one_sentence(running).endswith("took longer than 0.2 s")


def test_closed_early(tieline: Tieline) -> None:
    with scripted_peer(lambda peer: peer.recv(10)) as address:
        running = tieline.run("send", address, "x")
    assert running.code == 5
    assert one_sentence(running) == "the peer ended its stream before its reply was whole"


def test_reset_in_the_middle(tieline: Tieline) -> None:
    def script(peer: socket.socket) -> None:
        peer.recv(10)
        peer.sendall(b"half a li")
        reset(peer)

    with scripted_peer(script) as address:
        running = tieline.run("send", address, "x", "--framing", "line")
    assert running.code == 5
    assert one_sentence(running) == "the peer reset the connection"


def test_untrusted_certificate(tieline: Tieline) -> None:
    certificate = tieline.folder / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        str(certificate)
    )
    server = tieline.serve("--tls-cert", str(certificate))
    running = tieline.run("send", f"localhost:{server.port}", "x", "--tls")
    assert running.code == 6
    assert "cannot be trusted" in one_sentence(running)


def test_tls_to_one_who_has_none(tieline: Tieline) -> None:
    with scripted_peer(echo_once) as address:
        running = tieline.run("send", address, "x", "--tls")
    assert running.code == 6
    assert "TLS with" in one_sentence(running)


@pytest.mark.parametrize("expected", [("--expect", "yes"), ("--expect-regex", "^y.s$")])
def test_expectation_not_met(tieline: Tieline, expected: tuple[str, str]) -> None:
    with scripted_peer(lambda peer: peer.sendall(b"no")) as address:
        running = tieline.run("send", address, "x", *expected)
    assert running.code == 7
    assert running.out == "no\n"
    assert "what was expected" in one_sentence(running)


def test_busy_port(tieline: Tieline) -> None:
    server = tieline.serve()
    running = tieline.run("serve", "--listen", server.address)
    assert running.code == 8
    assert "is in use by another program" in one_sentence(running)


def test_address_of_another_machine(tieline: Tieline) -> None:
    running = tieline.run("serve", "--listen", "192.0.2.1:0")
    assert running.code == 8
    assert "is not an address of this machine" in one_sentence(running)


def test_refused_by_policy(tieline: Tieline) -> None:
    """Only a control socket says that it refuses, and why."""
    refusal = {
        "code": "not_allowed", "message": "", "hint": "use the account that it runs under",
        "template": "user {value} may not control this server", "fields": {"value": 7},
    }  # fmt: skip
    line = json.dumps({"v": 1, "id": None, "ok": False, "error": refusal}).encode() + b"\n"
    path = tieline.folder / "c.sock"
    with scripted_peer(lambda peer: peer.sendall(line), path):
        running = tieline.run("ctl", "--control", str(path), "info")
    assert running.code == 9
    assert one_sentence(running) == (
        "user 7 may not control this server (use the account that it runs under)"
    )


def test_a_client_that_is_refused_at_the_door_sees_a_reset(tieline: Tieline) -> None:
    """Which is all there is to see: no exit code pretends to know more."""
    server = tieline.serve("--per-client", "1", "--echo")
    with socket.create_connection(("127.0.0.1", server.port)):
        server.line("opened")
        running = tieline.run("send", server.address, "x")
        assert "refused 127.0.0.1" in server.error_line("client_limit")
    # The reset may come before the connection is known to be there, or after.
    assert running.code in (3, 5)
    assert "reset the connection" in one_sentence(running)


def test_a_last_word_to_a_client_that_is_refused(tieline: Tieline) -> None:
    server = tieline.serve("--per-client", "1", "--refusal", "busy", "--framing", "line")
    with socket.create_connection(("127.0.0.1", server.port)):
        server.line("opened")
        with socket.create_connection(("127.0.0.1", server.port), 20) as refused:
            assert refused.recv(100) == b"busy\n"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
@pytest.mark.parametrize("command", ["send", "connect", "serve"])
def test_signals(tieline: Tieline, command: str, number: signal.Signals, code: int) -> None:
    if command == "serve":
        running = tieline.serve()
        running.send_signal(number)
        assert running.wait() == code
        assert "Traceback" not in running.err
        return
    reached, leave = os.pipe()

    def script(peer: socket.socket) -> None:
        peer.recv(10)
        os.write(leave, b"x")
        wait_for_end(peer)

    with scripted_peer(script) as address:
        arguments = ["x"] if command == "send" else []
        running = tieline.start(command, address, *arguments)
        if command == "connect":
            running.write(b"x\n")
        os.read(reached, 1)
        running.send_signal(number)
        assert running.wait() == code
    os.close(reached)
    os.close(leave)
    assert one_sentence(running) == f"interrupted by {number.name}"


def test_a_closed_pipe_ends_quietly(tieline: Tieline) -> None:
    shell = f'{sys.executable} -m tieline send "$0" x --until-close | head -c 1'
    with scripted_peer(lambda peer: peer.sendall(b"yes" * 100_000)) as address:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", shell, address],
            env=tieline.environment({}), capture_output=True, timeout=20, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"y", b"")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


def test_every_code_is_documented() -> None:
    from tieline.cli.exits import Exit

    assert [int(code) for code in Exit] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99, 130, 143]


def test_paths_are_safe_to_show(tieline: Tieline) -> None:
    running = tieline.run("send", "127.0.0.1:1", "--file", "a\x1b[31mb\u202ec")
    assert running.code == 2
    assert "a\\x1b[31mb\\u202ec" in one_sentence(running)
    assert Path(tieline.folder).exists()
