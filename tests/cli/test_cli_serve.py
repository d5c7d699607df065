"""`tieline serve`: what it shows, what it answers, how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
from pathlib import Path

import pytest

from cli.command_process import Running, Tieline

TIME = r"\d\d:\d\d:\d\d\.\d{3}"


def connected(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def test_it_says_where_it_listens_and_how_to_talk_to_it(tieline: Tieline) -> None:
    server = tieline.start("serve", "--port", "0")
    line = server.error_line("listening on")
    port = line.rpartition(":")[2]
    assert server.error_line("tieline connect") == (
        f"  talk to it with: tieline connect 127.0.0.1:{port}"
    )
    assert server.error_line("ncat") == f"  or: ncat 127.0.0.1 {port}"
    assert server.error_line("telnet") == f"  or: telnet 127.0.0.1 {port}"


def test_the_seeds_server(tieline: Tieline) -> None:
    server = tieline.serve("--encoding", "gbk", "--reply", "thank you !")
    with connected(server) as client:
        client.sendall("你好".encode("gbk"))
        assert client.recv(100) == b"thank you !"
        name = f"127.0.0.1:{client.getsockname()[1]}"
    lines = [server.line(word) for word in ("opened", "←", "→", "closed")]
    assert re.fullmatch(rf"{TIME}  #1 {name}  opened", lines[0])
    assert re.fullmatch(rf"{TIME}  #1 {name}  ← 你好", lines[1])
    assert re.fullmatch(rf"{TIME}  #1 {name}  → thank you !", lines[2])
    assert lines[3].endswith("closed: peer_closed (4 bytes in, 11 bytes out)")


def test_auto_answers_each_peer_in_what_it_speaks(tieline: Tieline) -> None:
    server = tieline.serve("--reply", "谢谢")
    for encoding in ("utf-8", "gbk"):
        with connected(server) as client:
            client.sendall("你好".encode(encoding))
            assert server.line("←").endswith("← 你好")
            assert client.recv(100) == "谢谢".encode(encoding)


def test_what_a_peer_sends_cannot_reach_the_terminal(tieline: Tieline) -> None:
    server = tieline.serve("--color", "always")
    with connected(server) as client:
        client.sendall("a\x1b]0;title\x07\r\n\t\x7f\x85\u202eb\u200b".encode())
        line = server.line("title")
    shown = line.rpartition("\x1b[0m ")[2]
    assert shown == r"a\x1b]0;title\x07\r\n\t\x7f\u0085\u202eb\u200b"


def test_undecodable_bytes_are_shown_and_cost_nothing(tieline: Tieline) -> None:
    server = tieline.serve("--encoding", "utf-8", "--echo", "--framing", "line")
    with connected(server) as client:
        client.sendall(b"a\xff\xfeb\n")
        assert server.line("←").endswith(r"← a\xff\xfeb")
        assert client.recv(100) == b"a\xff\xfeb\n"


def test_strict_errors_close_with_their_reason(tieline: Tieline) -> None:
    server = tieline.serve("--encoding", "utf-8", "--errors", "strict")
    with connected(server) as client:
        client.sendall(b"\xff")
        assert "closed: undecodable" in server.line("closed")


def test_hex(tieline: Tieline) -> None:
    server = tieline.serve("--hex", "--framing", "length:2,little,adjust=-2", "--echo")
    with connected(server) as client:
        client.sendall(struct.pack("<H", 5) + b"\x01\x03\xff")
        assert server.line("←").endswith("← 01 03 ff")
        assert client.recv(100) == struct.pack("<H", 5) + b"\x01\x03\xff"


def test_a_text_delimiter_is_never_found_inside_a_character(tieline: Tieline) -> None:
    # The second byte of 亅 in GBK is 0x7C, the bar.
    text = "亅|"
    assert text.encode("gbk").count(b"|") == 2
    server = tieline.serve("--framing", "delimiter:|", "--encoding", "gbk", "--json")
    with connected(server) as client:
        client.sendall(text.encode("gbk") + b"end|")
        events = [json.loads(server.line('"message"')) for _ in range(2)]
    assert [event["text"] for event in events] == ["亅", "end"]
    assert [event["hex"] for event in events] == ["81 7c".replace(" ", ""), b"end".hex()]


def test_json_lines(tieline: Tieline) -> None:
    server = tieline.serve("--json", "--reply", "ok")
    with connected(server) as client:
        client.sendall(b"\xff\x00")
        client.recv(10)
        peer = f"127.0.0.1:{client.getsockname()[1]}"
    server.line('"close"')
    server.send_signal(signal.SIGTERM)
    server.wait()
    events = [json.loads(line) for line in server.out.splitlines()]
    assert [event["event"] for event in events] == [
        "listening", "open", "message", "message", "close", "draining",
    ]  # fmt: skip
    assert all(event["v"] == 1 for event in events)
    assert all(re.fullmatch(r"[\d-]{10}T[\d:.]{12}Z", event["time"]) for event in events)
    came, went = events[2:4]
    assert (came["direction"], came["text"], came["hex"]) == ("in", None, "ff00")
    assert (went["direction"], went["text"], went["hex"]) == ("out", "ok", "6f6b")
    assert {event["peer"] for event in events[1:5]} == {peer}
    assert {event["id"] for event in events[1:5]} == {1}
    assert events[4]["reason"] == "peer_closed"


def test_json_keys_and_reasons_are_never_translated(tieline: Tieline) -> None:
    server = tieline.start("serve", "--listen", "127.0.0.1:0", "--json", LANG="zh_CN.UTF-8")
    address = json.loads(server.line("listening"))["addresses"][0]
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))):
        pass
    assert json.loads(server.line('"close"'))["reason"] == "peer_closed"
    assert "正在监听" in server.error_line("监听")


def test_raw_is_the_bytes_and_nothing_else(tieline: Tieline) -> None:
    server = tieline.serve("--raw", "--once", "--reply", "x")
    with connected(server) as client:
        client.sendall(b"\x1b[31m\xff\n")
        client.recv(1)
    assert server.wait() == 0
    assert server.out_bytes == b"\x1b[31m\xff\n"


def test_once_serves_one_and_ends_with_zero(tieline: Tieline) -> None:
    server = tieline.serve("--once", "--echo")
    with connected(server) as client:
        client.sendall(b"only")
        assert client.recv(10) == b"only"
        with pytest.raises(ConnectionRefusedError):
            connected(server)
    assert server.wait() == 0
    assert server.out.count("opened") == 1


def test_the_first_signal_drains_and_the_second_leaves(tieline: Tieline) -> None:
    (tieline.folder / "slow.py").write_text(
        "import asyncio\n"
        "async def talk(conn):\n"
        "    async for text in conn:\n"
        "        await asyncio.sleep(60)\n"
    )
    server = tieline.serve("--handler", "slow:talk", "--drain", "50s")
    with connected(server) as client:
        client.sendall(b"x")
        server.line("←")
        server.send_signal(signal.SIGINT)
        assert "1 connection has 50s to finish" in server.error_line("SIGINT")
        server.send_signal(signal.SIGINT)
        assert server.wait() == 130
    assert server.err.endswith("SIGINT: leaving now\n")


def test_limits_are_heeded_and_their_reasons_shown(tieline: Tieline) -> None:
    server = tieline.serve("--idle", "150ms", "--per-client", "1", "--first-byte", "none")
    with connected(server) as client:
        server.line("opened")
        with pytest.raises(ConnectionResetError), connected(server) as refused:
            refused.recv(1)
        assert client.recv(1) == b""
    assert "closed: idle_timeout" in server.line("closed")


class TestHandlers:
    """`--handler module:function`."""

    def test_a_responder(self, tieline: Tieline) -> None:
        (tieline.folder / "app.py").write_text(
            "def shout(conn, text):\n    return text.upper() if text else None\n"
        )
        server = tieline.serve("--handler", "app:shout", "--framing", "line", "--encoding", "gbk")
        with connected(server) as client:
            client.sendall("abc 你好\n".encode("gbk"))
            assert client.recv(100) == "ABC 你好\n".encode("gbk")
            assert server.line("→").endswith("→ ABC 你好")

    def test_a_conversation(self, tieline: Tieline) -> None:
        (tieline.folder / "app.py").write_text(
            "async def talk(conn):\n"
            "    conn.data = await conn.receive()\n"
            "    async for message in conn:\n"
            "        await conn.send(conn.data + message)\n"
            "        assert conn.messages_received == 2 and isinstance(message, bytes)\n"
            "        return\n"
        )
        server = tieline.serve(
            "--handler", "app:talk", "--framing", "fixed:2", "--encoding", "none"
        )
        with connected(server) as client:
            client.sendall(b"\x01\x02\x03\x04")
            # A message of 4 bytes is none of the fixed 2: the handler fails, and it is said.
            assert client.recv(100) == b""
        line = server.error_line("failed")
        assert "the handler of connection 1 (127.0.0.1:" in line
        assert "UnframableError: a message of 4 bytes is not of the fixed 2" in line
        assert "Traceback" not in server.err

    def test_the_traceback_on_request(self, tieline: Tieline) -> None:
        (tieline.folder / "app.py").write_text("def fail(conn, text):\n    return 1 / 0\n")
        server = tieline.serve("-v", "--handler", "app:fail")
        with connected(server) as client:
            client.sendall(b"x")
            client.recv(1)
        assert "app.py:2" in server.error_line("ZeroDivisionError")
        server.error_line("Traceback")

    @pytest.mark.parametrize(
        ("source", "name", "says"),
        [
            ("", "app", "'app' names no handler (write it as module:function)"),
            ("", "nowhere:talk", "there is no module 'nowhere' (it is looked for in the current"),
            ("", "app.inner:talk", "there is no module 'app.inner'"),
            ("def talk(c): ...", "app:walk", "'walk' in 'app:walk' (did you mean 'talk'?)"),
            ("talk = 3", "app:talk", "'app:talk' is not a function"),
            ("1 / 0", "app:talk", "when it is imported: ZeroDivisionError: division by zero ("),
            ("import missing_thing", "app:talk", "ModuleNotFoundError: No module named"),
            ("def (", "app:talk", "SyntaxError"),
            ("raise SystemExit(0)", "app:talk", "fails when it is imported: SystemExit"),
        ],
    )  # fmt: skip
    def test_mistakes(self, tieline: Tieline, source: str, name: str, says: str) -> None:
        (tieline.folder / "app.py").write_text(source)
        running = tieline.run("serve", "--port", "0", "--handler", name)
        assert running.code == 2
        assert says in running.err
        assert "Traceback" not in running.err


class TestOtherMachines:
    """Terminals that cannot show everything."""

    @pytest.mark.parametrize(
        ("encoding", "shown"),
        [("gbk", "← 你好"), ("ascii", r"<- \u4f60\u597d"), ("utf-8", "← 你好")],
    )
    def test_charsets(self, tieline: Tieline, encoding: str, shown: str) -> None:
        server = tieline.serve("--once", PYTHONIOENCODING=encoding)
        with connected(server) as client:
            client.sendall("你好 \N{GRINNING FACE}".encode())
        assert server.wait() == 0
        assert shown in server.out_bytes.decode(encoding)

    def test_the_c_locale(self, tieline: Tieline) -> None:
        server = tieline.serve("--once", LANG="C", PYTHONCOERCECLOCALE="0")
        with connected(server) as client:
            client.sendall("你好".encode())
        assert server.wait() == 0
        assert r"\u4f60\u597d" in server.out


def test_unix_socket(tieline: Tieline) -> None:
    path = tieline.folder / "x.sock"
    server = tieline.start("serve", "--listen", f"unix:{path}", "--echo")
    server.error_line("socat")
    sent = tieline.run("send", f"unix:{path}", "hello")
    assert (sent.code, sent.out) == (0, "hello\n")
    assert Path(path).exists()


def test_uvloop(tieline: Tieline) -> None:
    pytest.importorskip("uvloop")
    server = tieline.serve("--loop", "uvloop", "--echo", PYTHONWARNINGS="default")
    with connected(server) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 143


def test_who_is_refused_is_said_with_the_reason(tieline: Tieline) -> None:
    server = tieline.serve("--per-client", "1", "--reply", "hi")
    with connected(server) as first, connected(server) as second:
        first.sendall(b"hello")
        assert first.recv(100) == b"hi"
        with pytest.raises(ConnectionResetError):
            second.recv(100)
        name = f"127.0.0.1:{second.getsockname()[1]}"
        assert server.error_line("refused") == f"refused {name}: client_limit"
