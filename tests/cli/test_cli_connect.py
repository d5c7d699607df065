"""`tieline connect`, without a terminal and in one."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pexpect
import pytest

from cli.command_process import Tieline
from cli.scripted_peer import reset, scripted_peer, wait_for_end

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


# ---- Without a terminal


def test_lines_from_stdin_are_sent_as_they_are(tieline: Tieline) -> None:
    server = tieline.serve("--framing", "line", "--echo")
    stdin = b'{"a":"\\n"}\r\n/quit\nlast'
    running = tieline.run("connect", server.address, "--framing", "line", stdin=stdin)
    assert running.code == 0
    shown = [line.split("  ", 1)[1] for line in running.out.splitlines()]
    assert shown[0].startswith(f"connected to {server.address} from 127.0.0.1:")
    messages = ['{"a":"\\n"}', "/quit", "last"]
    assert [line[2:] for line in shown if line.startswith("→ ")] == messages
    assert [line[2:] for line in shown if line.startswith("← ")] == messages
    assert shown[-1].startswith("closed: peer_closed (")
    assert running.err == ""


def test_raw_is_byte_for_byte_both_ways(tieline: Tieline) -> None:
    server = tieline.serve("--echo")
    data = b"\x00\xff\r\n\x1b[0m" * 20_000
    running = tieline.run("connect", server.address, "--raw", stdin=data)
    assert (running.code, running.out_bytes) == (0, data)


def test_hex_lines(tieline: Tieline) -> None:
    server = tieline.serve("--echo")
    running = tieline.run("connect", server.address, "--hex", stdin=b"01 0x02,ff\n")
    assert "→ 01 02 ff" in running.out
    assert "← 01 02 ff" in running.out


def test_a_wrong_hex_line_is_one_sentence(tieline: Tieline) -> None:
    server = tieline.serve()
    running = tieline.run("connect", server.address, "--hex", stdin=b"xyz\n")
    assert running.code == 2
    assert running.err.startswith("'xyz' is not hexadecimal")


def test_after_the_end_of_stdin_the_peer_may_go_on(tieline: Tieline) -> None:
    def script(peer: socket.socket) -> None:
        received = wait_for_end(peer)
        for number in range(3):
            peer.sendall(b"%d %d\n" % (number, len(received)))

    with scripted_peer(script) as address:
        running = tieline.run("connect", address, "--framing", "line", stdin=b"x\n")
    assert running.code == 0
    assert [line[-3:] for line in running.out.splitlines() if "←" in line] == ["0 2", "1 2", "2 2"]


def test_silence_after_the_end_of_stdin_ends_it(tieline: Tieline) -> None:
    seen = threading.Event()

    def script(peer: socket.socket) -> None:
        wait_for_end(peer)
        seen.wait(20)

    with scripted_peer(script) as address:
        running = tieline.start("connect", address, "--linger", "100ms")
        running.write(b"x\n")
        # It has stopped listening before it waits for our end.
        running.finish_input()
        running.line("→")
        threading.Timer(0.5, seen.set).start()
        assert running.wait() == 0
    assert "closed: closed" in running.out


def test_the_peer_ends_before_stdin(tieline: Tieline) -> None:
    with scripted_peer(lambda peer: peer.sendall(b"bye")) as address:
        running = tieline.start("connect", address)
        assert running.wait() == 5
    assert "← bye" in running.out
    assert running.err == "the peer has ended its stream\n"


def test_the_peer_resets(tieline: Tieline) -> None:
    def script(peer: socket.socket) -> None:
        peer.recv(10)
        reset(peer)

    with scripted_peer(script) as address:
        running = tieline.start("connect", address)
        running.write(b"x\n")
        assert running.wait() == 5
    assert running.err == "the peer reset the connection\n"


def test_no_input_only_shows(tieline: Tieline) -> None:
    with scripted_peer(lambda peer: peer.sendall(b"news")) as address:
        running = tieline.run("connect", address, "--no-input", "--json", stdin=b"ignored\n")
    events = [json.loads(line) for line in running.out.splitlines()]
    assert [event["event"] for event in events] == ["open", "message", "close"]
    assert events[1]["text"] == "news"


def test_reconnect(tieline: Tieline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        running = tieline.start("connect", address, "--reconnect")
        for number in range(2):
            peer, _name = listening.accept()
            with peer:
                running.line("connected to")
                running.write(b"line %d\n" % number)
                assert peer.recv(100) == b"line %d" % number
                running.line("→")
            if number == 0:
                running.error_line("connecting again in")
        assert running.finish() == 0


def test_the_questions_without_a_terminal(tieline: Tieline) -> None:
    server = tieline.serve("--once")
    stdin = f"127.0.0.1\n{server.port}\nhello\n".encode()
    running = tieline.run("connect", stdin=stdin, LANG="zh_CN.UTF-8")
    assert running.code == 0
    assert running.err == "请输入服务器ip：请输入服务器port："
    assert server.line("←").endswith("← hello")


def test_a_wrong_answer_without_a_terminal_is_final(tieline: Tieline) -> None:
    running = tieline.run("connect", stdin=b"127.0.0.1\nhttp\n")
    assert running.code == 2
    assert "'http' is not a port" in running.err


# ---- In a terminal


class Terminal:
    """`tieline connect` in a terminal of its own."""

    def __init__(self, tieline: Tieline, *arguments: str, **environment: str) -> None:
        self.child = pexpect.spawn(
            sys.executable, ["-m", "tieline", "connect", *arguments],
            env=tieline.environment(environment), cwd=str(tieline.folder),
            encoding="utf-8", timeout=20, dimensions=(24, 80),
        )  # fmt: skip

    def sees(self, text: str) -> None:
        """Wait until it shows this, whatever colours and movements are around it."""
        self.child.expect(re.escape(text).replace(r"\ ", r"(?:\ |\x1b\[[0-9;?]*[A-Za-z])+"))

    def types(self, text: str) -> None:
        self.child.send(text)

    def ends(self) -> int:
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert "Traceback" not in ESCAPES.sub("", self.child.before or "")
        assert self.child.exitstatus is not None
        return self.child.exitstatus


@pytest.fixture
def terminal(tieline: Tieline) -> Iterator[Any]:
    """Opens terminals, and closes what is still open."""
    made: list[Terminal] = []

    def open_terminal(*arguments: str, **environment: str) -> Terminal:
        made.append(Terminal(tieline, *arguments, **environment))
        return made[-1]

    yield open_terminal
    for each in made:
        each.child.close(force=True)


def test_a_conversation_in_a_terminal(tieline: Tieline, terminal: Any) -> None:
    server = tieline.serve("--reply", "got\\x1b[2J it")
    screen = terminal(server.address)
    screen.sees("type a message and press Enter")
    screen.types("a\\x01b\r")
    screen.sees("a\\x01b")
    screen.sees("got\\x1b[2J it")
    assert server.line("←").endswith("← a\\x01b")
    screen.types("\\q\r")
    screen.sees("is no escape")
    # The wrong line has come back: put it right.
    screen.types("\x7f\x7fok\r")
    assert server.line("←").endswith("← ok")
    screen.types("/hex\r")
    screen.types("0x41 42\r")
    assert server.line("←").endswith("← AB")
    screen.types("/text\r//slash\r")
    assert server.line("←").endswith("← /slash")
    screen.types("/info\r")
    screen.sees("round trip")
    screen.types("/hlp\r")
    screen.sees("did you mean 'help'?")
    screen.types("\x15/close\r")
    screen.sees("our stream has ended")
    assert screen.ends() == 0
    assert "/slash" in (tieline.folder / "state" / "tieline" / "history").read_text()


def test_ctrl_d_leaves(tieline: Tieline, terminal: Any) -> None:
    server = tieline.serve()
    screen = terminal(server.address)
    screen.sees("type a message")
    screen.types("\x04")
    assert screen.ends() == 0
    assert "closed: peer_closed" in server.line("closed")


def test_ctrl_c_leaves(tieline: Tieline, terminal: Any) -> None:
    server = tieline.serve()
    screen = terminal(server.address)
    screen.sees("type a message")
    screen.types("\x03")
    screen.sees("interrupted")
    assert screen.ends() == 130


def test_ctrl_c_at_the_questions(terminal: Any) -> None:
    screen = terminal()
    screen.sees("server IP: ")
    screen.types("\x03")
    assert screen.ends() == 130


def test_the_seeds_questions_in_chinese(tieline: Tieline, terminal: Any) -> None:
    server = tieline.serve("--encoding", "gbk", "--reply", "收到")
    screen = terminal("--encoding", "gbk", LANG="zh_CN.UTF-8")
    screen.sees("请输入服务器ip：")
    screen.types("127.0.0.1\r")
    screen.sees("请输入服务器port：")
    screen.types("x\r")
    screen.sees("不是端口号")
    screen.types(f"{server.port}\r")
    screen.sees("请输入要发送的数据：")
    screen.types("你好\r")
    screen.sees("收到")
    assert server.line("←").endswith("← 你好")
    screen.types("/quit\r")
    assert screen.ends() == 0


def test_raw_is_refused_on_a_terminal(terminal: Any) -> None:
    screen = terminal("127.0.0.1:1", "--raw")
    screen.sees("which a terminal might obey")
    assert screen.ends() == 2


def test_the_peer_leaves(terminal: Any) -> None:
    with scripted_peer(lambda peer: peer.sendall(b"bye\n")) as address:
        screen = terminal(address)
        screen.sees("bye\\n")
        screen.sees("the peer has ended its stream")
        assert screen.ends() == 0
