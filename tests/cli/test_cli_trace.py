"""`tieline trace`: real connections, seen by a capture where it is allowed, and by their socket."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from babel.messages.pofile import read_po

from cli.command_process import Running, Tieline
from cli.scripted_peer import reset, scripted_peer, wait_for_end
from tieline import blocking

SERVER = Path(__file__).parents[1] / "seed_scripts" / "server.py"


def _may_capture() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).close()
    except PermissionError:
        return False
    return True


captures = pytest.mark.skipif(not _may_capture(), reason="a capture needs root or CAP_NET_RAW")


def echo_once(connected: socket.socket) -> None:
    connected.sendall(connected.recv(1024))
    wait_for_end(connected)


@contextmanager
def seed_server() -> Iterator[str]:
    """The first server that anybody writes."""
    with subprocess.Popen(
        [sys.executable, str(SERVER), "0"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ) as server:  # fmt: skip
        assert server.stdout is not None
        port = server.stdout.readline().rpartition(" ")[2].strip()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.kill()


def records(running: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.out.splitlines()]


@captures
class TestCapture:
    def test_the_first_server_that_anybody_writes(self, tieline: Tieline) -> None:
        with seed_server() as address:
            traced = tieline.run(
                "trace",
                address,
                "你好",
                "--encoding",
                "gbk",
                "--svg",
                "a.svg",
                "--pcap",
                "a.pcapng",
            )
        assert (traced.code, traced.err) == (0, "")
        for each in ("SYN seq=0", "SYN ACK", '"你好"', '"thank you !"', "FIN-WAIT-1", "TIME-WAIT"):
            assert each in traced.out
        # Both close as soon as they can: who is first differs.
        assert re.search("closed first|both closed", traced.out)
        assert "SYN-RECEIVED" in (tieline.folder / "a.svg").read_text("utf-8")
        assert (tieline.folder / "a.pcapng").read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"

    def test_json(self, tieline: Tieline) -> None:
        with scripted_peer(echo_once) as address:
            traced = tieline.run("trace", address, "0102", "--hex", "--json", "--explain")
        about, *steps = records(traced)
        assert (about["server"], about["outcome"], about["failure"]) == (address, "closed", None)
        assert about["steps"] == len(steps)
        assert [step["number"] for step in steps] == [*range(1, len(steps) + 1)]
        assert [step["hex"] for step in steps if step["hex"]] == ["0102", "0102"]
        assert steps[0]["client_state"] == "SYN-SENT"
        assert steps[-1]["meaning"]

    def test_refused_is_drawn_all_the_same(self, tieline: Tieline) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            traced = tieline.run("trace", f"127.0.0.1:{bound.getsockname()[1]}", "x", "--explain")
        assert traced.code == 3
        assert "refused: nothing listens there" in traced.out
        assert "The machine is there" in traced.out
        assert "the connection was refused" in traced.err

    def test_a_half_close(self, tieline: Tieline) -> None:
        def answer_after_the_end(peer: socket.socket) -> None:
            peer.sendall(b"got " + wait_for_end(peer))

        with scripted_peer(answer_after_the_end) as address:
            traced = tieline.run("trace", address, "all", "--half-close")
        assert traced.code == 0
        assert "half-close: reads on" in traced.out
        assert '"got all"' in traced.out

    @pytest.mark.parametrize(("close", "says"), [("client", "client closed"), ("reset", "reset:")])
    def test_who_closes(self, tieline: Tieline, close: str, says: str) -> None:
        def read(peer: socket.socket) -> None:
            try:
                echo_once(peer)
            except ConnectionResetError:
                assert close == "reset"

        with scripted_peer(read) as address:
            traced = tieline.run("trace", address, "x", "--close", close)
        assert traced.code == 0
        assert says in traced.out

    def test_watching_a_port(self, tieline: Tieline) -> None:
        server = tieline.serve("--reply", "thank you !")
        watching = tieline.start("trace", "--listen", str(server.port), "--within", "20s")
        watching.error_line("waiting for a connection to port")
        seen = threading.Event()

        def ask() -> None:
            # It says so before it watches: ask until it has seen one.
            while not seen.is_set():
                assert blocking.ask(server.address, b"hello") == b"thank you !"

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            assert watching.wait() == 0
        finally:
            seen.set()
            asking.join()
        assert '"hello"' in watching.out
        assert '"thank you !"' in watching.out

    def test_nobody_comes(self, tieline: Tieline) -> None:
        server = tieline.serve()
        watching = tieline.run("trace", "--listen", str(server.port), "--within", "50ms")
        assert (watching.code, watching.out) == (4, "")
        assert "nobody has connected to port" in watching.err


class TestSocketAlone:
    """What anybody may see."""

    def test_it_says_so(self, tieline: Tieline) -> None:
        with scripted_peer(echo_once) as address:
            traced = tieline.run("trace", address, "x", "--no-capture")
        assert (traced.code, traced.err) == (0, "")
        lines = traced.out.splitlines()
        assert lines[0] == "from this side's socket alone, without a capture (not asked for)"
        assert [line for line in lines if "├┄ send: 1 byte ┄" in line]
        assert [line for line in lines if "(not seen)" in line]

    def test_no_packets_are_no_file(self, tieline: Tieline) -> None:
        with scripted_peer(echo_once) as address:
            traced = tieline.run("trace", address, "x", "--no-capture", "--pcap", "a.pcapng")
        assert traced.code == 1
        assert traced.err == "a.pcapng was not written: no packets were captured\n"
        assert not (tieline.folder / "a.pcapng").exists()

    @pytest.mark.parametrize("capture", [[], ["--no-capture"]])
    def test_no_reply_in_time(self, tieline: Tieline, capture: list[str]) -> None:
        with scripted_peer(wait_for_end) as address:
            traced = tieline.run("trace", address, "x", "--timeout", "200ms", *capture)
        assert traced.code == 4
        assert "● no answer" in traced.out
        assert "took longer than 0.2 s" in traced.err

    @pytest.mark.parametrize("capture", [[], ["--no-capture"]])
    def test_the_peer_ends_early(self, tieline: Tieline, capture: list[str]) -> None:
        with scripted_peer(lambda peer: peer.recv(100)) as address:
            traced = tieline.run("trace", address, "x", *capture)
        assert traced.code == 5
        assert traced.err == "the peer ended its stream before its reply was whole\n"

    @pytest.mark.parametrize("capture", [[], ["--no-capture"]])
    def test_a_reset(self, tieline: Tieline, capture: list[str]) -> None:
        def cut_off(peer: socket.socket) -> None:
            peer.recv(100)
            reset(peer)

        with scripted_peer(cut_off) as address:
            traced = tieline.run("trace", address, "x", *capture)
        assert traced.code == 5
        assert "reset: cut off" in traced.out
        assert "reset the connection" in traced.err

    @pytest.mark.parametrize("capture", [[], ["--no-capture"]])
    @pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
    def test_an_interruption_draws_what_was_seen(
        self, tieline: Tieline, name: str, code: int, capture: list[str]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(20)
            address = f"127.0.0.1:{listening.getsockname()[1]}"
            tracing = tieline.start("trace", address, "hello", *capture)
            peer, _address = listening.accept()
            with peer:
                assert peer.recv(100) == b"hello"
                tracing.send_signal(signal.Signals[name])
                assert tracing.wait() == code
        # It may not have noticed yet that its message is sent.
        assert "SYN-SENT" in tracing.out
        assert "still open after" in tracing.out
        assert tracing.err == f"interrupted by {name}\n"

    def test_the_framing_says_when_the_reply_is_whole(self, tieline: Tieline) -> None:
        def in_pieces(peer: socket.socket) -> None:
            assert peer.recv(100) == b"x\n"
            for piece in (b"one", b" line\n"):
                peer.sendall(piece)
            wait_for_end(peer)

        with scripted_peer(in_pieces) as address:
            traced = tieline.run("trace", address, "x", "--framing", "line", "--no-capture")
        assert traced.code == 0
        assert "9 bytes back" in traced.out

    def test_without_a_message(self, tieline: Tieline) -> None:
        with scripted_peer(wait_for_end) as address:
            traced = tieline.run("trace", address)
        assert traced.code == 0
        assert "0 bytes to the server, 0 bytes back" in traced.out

    def test_a_terminal_without_lines_gets_ascii(self, tieline: Tieline) -> None:
        with scripted_peer(echo_once) as address:
            traced = tieline.run("trace", address, "你", "--explain", PYTHONIOENCODING="ascii")
        assert traced.code == 0
        assert traced.out_bytes.isascii()
        assert "SYN-SENT |" in traced.out
        assert "\\u4f60" in traced.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "there is no address to connect to"),
        (["127.0.0.1:1", "--listen", "5"], "give an address to connect to, or --listen, not both"),
        (["--listen", "5", "--half-close"], "--half-close has no meaning"),
        (["--listen", "5", "--no-reply"], "--no-reply has no meaning"),
        (["--listen", "0"], "port 0 is no port"),
        (["--listen", "x"], "'x' is not a port"),
        (["127.0.0.1:1", "--within", "5s"], "--within is for --listen"),
        (["127.0.0.1:1", "--half-close", "--close", "reset"], "--close reset none"),
        (["127.0.0.1:1", "--close", "never"], "never"),
        (["unix:/tmp/x", "x"], "a Unix socket sends no packets"),
        (["127.0.0.1:1", "0x", "--hex", "--encoding", "klingon"], "no encoding 'klingon'"),
        (["127.0.0.1:1", "zz", "--hex"], "'zz' is not hexadecimal"),
        (["127.0.0.1:1", "\\q"], "is no escape"),
    ],
)
def test_misuse(tieline: Tieline, arguments: list[str], says: str) -> None:
    traced = tieline.run("trace", *arguments)
    assert traced.code == 2
    assert says in traced.err
    assert traced.out == ""
    assert "Traceback" not in traced.err


def test_a_file_that_cannot_be_written(tieline: Tieline) -> None:
    with scripted_peer(echo_once) as address:
        traced = tieline.run("trace", address, "x", "--svg", "none/a.svg")
    assert traced.code == 2
    assert traced.err == "none/a.svg cannot be written: No such file or directory\n"


def test_no_such_name(tieline: Tieline) -> None:
    traced = tieline.run("trace", "nobody.invalid:1", "x")
    assert (traced.code, traced.out) == (3, "")
    assert "no address is known" in traced.err


def test_settings_from_a_file(tieline: Tieline) -> None:
    (tieline.folder / "t.toml").write_text("[trace]\nno-capture = true\nexplain = true\n")
    with scripted_peer(echo_once) as address:
        traced = tieline.run("--config", "t.toml", "trace", address, "x")
    assert "without a capture" in traced.out
    assert "`connect` returns" in traced.out


def test_the_chinese_explanations_name_the_states_as_they_are() -> None:
    """States and flags are not words of a language."""
    from cli.catalogue import CATALOGUE
    from tieline.cli.trace.wording import Moment

    with CATALOGUE.open("rb") as file:
        catalogue = read_po(file, locale="zh_CN")
    for moment in Moment:
        message = catalogue.get(moment.value)
        assert message is not None, moment.value
        names = set(re.findall(r"`\w+`|\b[A-Z]+(?:-[A-Z0-9]+)+\b", moment.value))
        assert [name for name in names if name not in str(message.string)] == []
