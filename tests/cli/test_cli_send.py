"""`tieline send`: what it sends, and when it has its reply."""

from __future__ import annotations

import json
import socket
import threading

import pytest
import trustme

from cli.command_process import Tieline
from cli.scripted_peer import scripted_peer, wait_for_end


class Received:
    """A peer that answers, and remembers what it was sent."""

    def __init__(self, *answers: bytes, until_end: bool = False) -> None:
        self._answers = answers
        self._until_end = until_end
        self.data = b""

    def __call__(self, peer: socket.socket) -> None:
        self.data = wait_for_end(peer) if self._until_end else peer.recv(65_536)
        for answer in self._answers:
            peer.sendall(answer)


@pytest.mark.parametrize(
    ("arguments", "stdin", "sent"),
    [
        (["a\\x00\\n\\u4f60\\\\"], b"", b"a\x00\n" + "你".encode() + b"\\"),
        (["你好", "--encoding", "gbk"], b"", "你好".encode("gbk")),
        (["0x01,0x3 0405", "--hex"], b"", b"\x01\x03\x04\x05"),
        (["x", "--framing", "crlf"], b"", b"x\r\n"),
        (["abc", "--framing", "length:2"], b"", b"\x00\x03abc"),
        (["--", "--dashed"], b"", b"--dashed"),
        ([], b"from\\n stdin\n", b"from\\n stdin\n"),
        (["-"], b"from stdin", b"from stdin"),
        (["--hex"], b"01 02\n03", b"\x01\x02\x03"),
        (["--hex", "--file", "-"], b"01 02", b"01 02"),
        (["--file", "data.bin"], b"", b"\x00\xff"),
    ],
)
def test_what_is_sent(tieline: Tieline, arguments: list[str], stdin: bytes, sent: bytes) -> None:
    (tieline.folder / "data.bin").write_bytes(b"\x00\xff")
    peer = Received()
    with scripted_peer(peer) as address:
        before = [argument for argument in arguments if argument != "--dashed"]
        rest = ["--dashed"] if "--dashed" in arguments else []
        options = ["--no-reply", *before] if rest else [*before, "--no-reply"]
        assert tieline.run("send", address, *options, *rest, stdin=stdin).code == 0
    assert peer.data == sent


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (["--until-close"], "one\\ntw\no\\nthree\n"),
        (["--until-close", "--framing", "line", "--max-message", "10"], "one\ntwo\n"),
        (["--until-delimiter", "o\\nt"], "one\\ntw\no\\nthree\n"),
        (["--until-reply"], "one\\ntw\n"),
        (["--framing", "line"], "one\n"),
        (["--hex"], "6f 6e 65 0a 74 77\n"),
    ],
)
def test_where_a_reply_ends(tieline: Tieline, arguments: list[str], out: str) -> None:
    go_on = threading.Event()

    def script(peer: socket.socket) -> None:
        peer.recv(10)
        peer.sendall(b"one\ntw")
        go_on.wait(0.2)
        peer.sendall(b"o\n" if "line" in arguments else b"o\nthree")

    with scripted_peer(script) as address:
        message = "78" if "--hex" in arguments else "x"
        running = tieline.run("send", address, message, *arguments)
    assert (running.code, running.out, running.err) == (0, out, "")


def test_until_quiet(tieline: Tieline) -> None:
    def script(peer: socket.socket) -> None:
        peer.recv(10)
        peer.sendall(b"all there is")
        wait_for_end(peer)

    with scripted_peer(script) as address:
        running = tieline.run("send", address, "x", "--until-quiet", "100ms")
    assert (running.code, running.out) == (0, "all there is\n")


def test_half_close(tieline: Tieline) -> None:
    peer = Received(b"got it", until_end=True)
    with scripted_peer(peer) as address:
        running = tieline.run("send", address, "question", "--half-close")
    assert (running.code, running.out, peer.data) == (0, "got it\n", b"question")


@pytest.mark.parametrize(
    "expected",
    [["--expect", "好"], ["--expect", "\\xc4\\xe3"], ["--expect-regex", "^你.$"]],
)
def test_expectations_speak_the_peers_charset(tieline: Tieline, expected: list[str]) -> None:
    with scripted_peer(Received("你好".encode("gbk"))) as address:
        running = tieline.run("send", address, "x", *expected)
    assert (running.code, running.out) == (0, "你好\n")


def test_raw_reply(tieline: Tieline) -> None:
    with scripted_peer(Received(b"\x00\x1b\xff")) as address:
        running = tieline.run("send", address, "x", "--raw")
    assert (running.code, running.out_bytes) == (0, b"\x00\x1b\xff")


def test_json(tieline: Tieline) -> None:
    with scripted_peer(Received(b"\xff\xfeyes")) as address:
        running = tieline.run("send", address, "no", "--json")
    events = [json.loads(line) for line in running.out.splitlines()]
    assert [event["event"] for event in events] == ["open", "message", "message", "close"]
    assert events[1]["text"] == "no"
    assert (events[2]["text"], events[2]["hex"]) == (None, b"\xff\xfeyes".hex())
    assert events[3]["reason"] in ("closed", "peer_closed")


def test_unencodable_message(tieline: Tieline) -> None:
    with scripted_peer(Received()) as address:
        running = tieline.run("send", address, "\N{GRINNING FACE}", "--encoding", "gbk")
    assert running.code == 2
    assert "cannot be written in gbk" in running.err
    assert "Traceback" not in running.err


def test_tls_with_both_sides_certified(tieline: Tieline) -> None:
    authority = trustme.CA()
    paths = {}
    for name in ("localhost", "client.example"):
        paths[name] = str(tieline.folder / f"{name}.pem")
        made = authority.issue_cert(name)
        made.private_key_and_cert_chain_pem.write_to_path(paths[name])
    ca = str(tieline.folder / "ca.pem")
    authority.cert_pem.write_to_path(ca)
    server = tieline.serve("--tls-cert", paths["localhost"], "--tls-ca", ca, "--echo")
    address = f"127.0.0.1:{server.port}"
    own = ["--tls-cert", paths["client.example"]]
    named = tieline.run("send", address, "hi", "--tls-ca", ca, "--tls-name", "localhost", *own)
    assert (named.code, named.out, named.err) == (0, "hi\n", "")
    wrong = tieline.run("send", address, "hi", "--tls-ca", ca, *own)
    assert wrong.code == 6
    insecure = tieline.run("send", address, "hi", "--tls-insecure", *own)
    assert (insecure.code, insecure.out) == (0, "hi\n")
    stranger = tieline.run("send", address, "hi", "--tls-insecure")
    assert stranger.code == 6, stranger.err
