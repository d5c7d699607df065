"""`tieline ctl`: a running server looked into and directed, as a person and as a program do it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pexpect
import pytest

from cli.command_process import Running, Tieline
from cli.scripted_peer import wait_for_end
from tieline.cli.visible import width


class Controlled:
    """A server with a control socket, and clients from machines of our choice."""

    def __init__(self, tieline: Tieline, *arguments: str) -> None:
        self.tieline = tieline
        self.path = str(tieline.folder / "c.sock")
        self.server = tieline.serve("--control", self.path, *arguments)
        self._clients = contextlib.ExitStack()

    def ctl(self, *arguments: str, **environment: Any) -> Running:
        return self.tieline.run("ctl", "--control", self.path, *arguments, **environment)

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """What a verb tells programs."""
        running = self.ctl(*arguments, "--json")
        assert running.code == 0, running.err
        return [json.loads(line) for line in running.out.splitlines()]

    def client(self, host: str = "127.0.0.1") -> socket.socket:
        """A connection from this machine, let in."""
        made = socket.create_connection(
            ("127.0.0.1", self.server.port), timeout=20, source_address=(host, 0)
        )
        self.server.line("opened")
        return self._clients.enter_context(made)

    def close(self) -> None:
        self._clients.close()


@pytest.fixture
def controlled(tieline: Tieline) -> Iterator[Controlled]:
    """A server that sends back what it gets."""
    made = Controlled(tieline, "--framing", "line", "--echo")
    yield made
    made.close()


def name_of(client: socket.socket) -> str:
    host, port = client.getsockname()
    return f"{host}:{port}"


# ---- Looking


def test_info(controlled: Controlled) -> None:
    controlled.client()
    (result,) = controlled.rows("info")
    assert (result["v"], result["connections"], result["clients"]) == (1, 1, 1)
    assert result["counters"]["accepted"] == 1
    lines = dict(
        re.split(r"  +", line, maxsplit=1) for line in controlled.ctl("info").out.splitlines()
    )
    assert lines["server"].startswith("tieline 0.")
    assert lines["listening on"] == controlled.server.address
    assert lines["connections"] == "1 open, of 1 clients"
    assert lines["refused"] == "0"


def test_connections_are_a_table(controlled: Controlled) -> None:
    first, second = controlled.client("127.0.0.2"), controlled.client("127.0.0.3")
    second.sendall(b"hello\n")
    assert second.recv(100) == b"hello\n"
    lines = controlled.ctl("connections").out.splitlines()
    assert lines[0].split() == ["id", "peer", "age", "idle", "in", "out", "owed", "next"]
    rows = [line.split() for line in lines[1:]]
    assert [row[1] for row in rows] == [name_of(first), name_of(second)]
    assert [row[4:7] for row in rows] == [["0", "0", "0"], ["6", "6", "0"]]
    assert [row[7] for row in rows] == ["first_byte_timeout", "idle_timeout"]


def test_connections_are_sorted_filtered_and_limited(controlled: Controlled) -> None:
    clients = [controlled.client(f"127.0.0.{number}") for number in (2, 3, 4)]
    for number, client in enumerate(clients):
        client.sendall(b"x" * number + b"\n")
        client.recv(100)

    def peers(*arguments: str) -> list[int]:
        found = [row["peer"] for row in controlled.rows("connections", *arguments)]
        return [[name_of(client) for client in clients].index(peer) for peer in found]

    assert peers() == [0, 1, 2]
    assert peers("--sort", "in") == [2, 1, 0]
    assert peers("--sort", "bytes_sent", "--reverse") == [0, 1, 2]
    assert peers("--sort", "out", "--limit", "1") == [2]
    assert peers("--client", "127.0.0.3") == [1]
    assert peers("--peer", "127.0.0.2/31") == [0, 1]
    assert peers("--min-age", "1h") == []
    assert peers("--state", "open", "--clock", "idle_timeout") == [0, 1, 2]
    assert peers("--state", "closing") == []
    running = controlled.ctl("connections", "--limit", "2")
    assert running.err == "2 of 3; more with --limit\n"
    assert controlled.ctl("connections", "--limit", "none").err == ""


def test_more_rows_than_a_page_holds(controlled: Controlled, monkeypatch: Any) -> None:
    from tieline.cli.ctl import listing

    asked: list[tuple[int, Any]] = []

    def ask(*, limit: int, after: Any) -> dict[str, Any]:
        asked.append((limit, after))
        last = len(asked) * 1000
        return {"rows": [0] * min(limit, 1000), "next": [last, last] if last < 3000 else None}

    assert len(listing.pages(ask, "rows", {}, 2500)[0]) == 2500
    assert asked == [(1000, None), (1000, [1000, 1000]), (500, [2000, 2000])]


def test_one_connection(controlled: Controlled) -> None:
    client = controlled.client()
    (row,) = controlled.rows("connections")
    (details,) = controlled.rows("connection", str(row["id"]))
    assert details["peer"] == name_of(client)
    assert details["tcp"]["state"] == "established"
    shown = controlled.ctl("connection", str(row["id"])).out
    assert re.search(rf"(?m)^peer +{name_of(client)}$", shown)
    assert re.search(r"(?m)^clocks +first_byte_timeout \d+s, idle_timeout 4m\d\ds$", shown)
    missing = controlled.ctl("connection", "123456")
    assert (missing.code, missing.err) == (1, "no open connection has the number 123456\n")


def test_clients(controlled: Controlled) -> None:
    for host in ("127.0.0.2", "127.0.0.3", "127.0.0.3"):
        controlled.client(host)
    lines = controlled.ctl("clients").out.splitlines()
    assert lines[0].split() == ["client", "connections", "refused", "network"]
    assert [line.split() for line in lines[1:]] == [
        ["127.0.0.3", "2", "0", "-"], ["127.0.0.2", "1", "0", "-"],
    ]  # fmt: skip
    (row,) = controlled.rows("clients", "--min-connections", "2")
    assert (row["client"], row["connections"]) == ("127.0.0.3", 2)


def test_metrics(controlled: Controlled) -> None:
    shown = controlled.ctl("metrics").out
    assert shown.startswith("# HELP tieline_")
    assert shown.endswith("\n")
    assert not shown.endswith("\n\n")


# ---- Acting


def test_kick(controlled: Controlled) -> None:
    one, other, third = (controlled.client(f"127.0.0.{number}") for number in (2, 3, 2))
    ids = {row["peer"]: str(row["id"]) for row in controlled.rows("connections")}
    running = controlled.ctl("kick", ids[name_of(one)])
    assert (running.code, running.out) == (0, "1 connection cut off\n")
    with pytest.raises(ConnectionResetError):
        one.recv(1)
    assert "closed: kicked" in controlled.server.line("closed")
    running = controlled.ctl("kick", ids[name_of(one)], ids[name_of(third)])
    assert (running.code, running.out) == (1, "1 connection cut off\n")
    assert running.err == f"no open connection has the number {ids[name_of(one)]}\n"
    assert controlled.rows("kick", "--client", "127.0.0.3")[0]["kicked"] == 1
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    running = controlled.ctl("kick", "--client", "127.0.0.3")
    assert running.code == 1
    assert "no client '127.0.0.3' holds a connection" in running.err


def test_ban_and_unban(controlled: Controlled) -> None:
    banned = controlled.client("127.0.7.7")
    running = controlled.ctl("ban", "127.0.7.0/24", "--for", "10m", "--why", "port\x1bscan")
    assert running.out == "127.0.7.0/24 is banned for 10m; 1 connection cut off\n"
    with pytest.raises(ConnectionResetError):
        banned.recv(1)
    lines = controlled.ctl("bans").out.splitlines()
    assert lines[0].split("  ")[0] == "banned"
    assert re.fullmatch(r"127\.0\.7\.0/24  9m\d\ds +0  port\\x1bscan", lines[1])
    (row,) = controlled.rows("bans")
    assert (row["kind"], row["network"], row["why"]) == ("ban", "127.0.7.0/24", "port\x1bscan")
    assert controlled.ctl("unban", "127.0.7.0/24").out == "127.0.7.0/24 is not banned any more\n"
    controlled.client("127.0.7.7")
    assert controlled.ctl("bans").err == "nobody is banned, and nobody owes penalties\n"
    running = controlled.ctl("ban", "::1")
    assert running.out == "::1 is banned until it is lifted; 0 connections cut off\n"
    assert controlled.ctl("bans").out.splitlines()[1].split() == ["::1", "ever", "0"]


def test_penalties_are_listed(tieline: Tieline) -> None:
    controlled = Controlled(
        tieline, "--per-client", "1", "--penalty-refused", "20s", "--penalty-threshold", "15s"
    )
    controlled.client("127.0.0.2")
    address = ("127.0.0.1", controlled.server.port)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            with socket.create_connection(address, 20, ("127.0.0.2", 0)) as refused:
                refused.recv(1)
    lines = controlled.ctl("bans").out.splitlines()
    assert lines[0].split() == ["client", "owes", "refused", "why"]
    assert lines[1].split()[0] == "127.0.0.2"
    assert controlled.rows("bans")[0]["kind"] == "penalty"
    controlled.close()


def test_drain(controlled: Controlled) -> None:
    client = controlled.client()
    running = controlled.ctl("drain", "--for", "20s")
    assert (running.code, running.out) == (0, "the server has ended; 1 connection has finished\n")
    assert wait_for_end(client) == b""
    assert controlled.server.wait() == 0
    assert not os.path.exists(controlled.path)


def test_a_drain_that_takes_too_long(tieline: Tieline) -> None:
    (tieline.folder / "slow.py").write_text(
        "import asyncio\n"
        "async def talk(conn):\n"
        "    async for text in conn:\n"
        "        await asyncio.sleep(60)\n"
    )
    controlled = Controlled(tieline, "--handler", "slow:talk")
    client = controlled.client()
    client.sendall(b"x")
    controlled.server.line("←")
    running = controlled.ctl("drain", "--for", "100ms")
    assert running.code == 4
    assert "those that took too long were cut off" in running.out
    controlled.close()


def test_who_asked_for_what_is_said_on_request(tieline: Tieline) -> None:
    controlled = Controlled(tieline, "-v")
    controlled.ctl("ban", "10.0.0.0/8")
    assert " asked for ban " in controlled.server.error_line("asked for")


# ---- Limits


def test_limits_are_changed_at_once(controlled: Controlled) -> None:
    client = controlled.client()
    running = controlled.ctl("limits", "idle=30s", "per-client=50", "max_owed=256KiB")
    assert running.out.splitlines() == [
        "idle: 5m → 30s", "per-client: 100 → 50", "max-owed: 1MiB → 256KiB",
    ]  # fmt: skip
    lines = controlled.ctl("limits", "--changed").out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["*", "idle", "30s", "5m"], ["*", "per-client", "50", "100"],
        ["*", "max-owed", "256KiB", "1MiB"],
    ]  # fmt: skip
    assert len(controlled.ctl("limits").out.splitlines()) > 40
    assert controlled.rows("limits", "first-byte=100ms") == [
        {"v": 1, "limit": "first_byte", "old": 60.0, "new": 0.1}
    ]
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    running = controlled.ctl("limits", "idle=30s")
    assert (running.out, running.err) == ("", "nothing has changed: that is how it was\n")


def test_lists_and_none(controlled: Controlled) -> None:
    running = controlled.ctl("limits", "exempt-networks=10.0.0.0/8,::1", "total=none")
    assert running.out.splitlines() == [
        "total: 10k → none", "exempt-networks: none → 10.0.0.0/8, ::1",
    ]  # fmt: skip
    assert controlled.ctl("limits", "exempt-networks").out.splitlines()[1].split() == [
        "*", "exempt-networks", "10.0.0.0/8,", "::1", "none",
    ]  # fmt: skip


def test_lowered_caps_may_evict(controlled: Controlled) -> None:
    clients = [controlled.client() for _ in range(3)]
    assert controlled.ctl("limits", "per-client=1", "--evict").code == 0
    for _ in range(2):
        assert "closed: evicted" in controlled.server.line("closed")
    assert len(controlled.rows("connections")) == 1
    assert len(clients) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["iddle=3"], "there is no limit 'iddle' (did you mean 'idle'?)"),
        (["idle=x"], "idle: 'x' is not a duration (write it as 500ms, 10s, 5m or 2h)"),
        (["idle=0"], "idle must be a number of seconds above zero or None, not 0.0"),
        (["low-water=1MiB"], "low_water (1048576) must be below high_water (65536)"),
        (["idle=3", "total"], "total has no value (write it as total=VALUE)"),
    ],
)
def test_a_mistake_changes_nothing(controlled: Controlled, arguments: list[str], says: str) -> None:
    running = controlled.ctl("limits", "per-client=7", *arguments)
    assert running.code == 2
    assert running.err.startswith(says)
    assert running.err.count("\n") == 1
    assert controlled.ctl("limits", "--changed").out.splitlines()[1:] == []


# ---- Following


def test_watch_as_a_program(controlled: Controlled) -> None:
    watching = controlled.tieline.start("ctl", "--control", controlled.path, "watch", "--json")
    # The first statistics say that it is there.
    stats = json.loads(watching.line('"stats"'))
    assert (stats["v"], stats["connections"]) == (1, 0)
    client = controlled.client()
    opened = json.loads(watching.line('"connection_opened"'))
    assert opened["peer"] == name_of(client)
    client.close()
    assert json.loads(watching.line('"connection_closed"'))["reason"] == "peer_closed"
    controlled.ctl("drain")
    ended = json.loads(watching.line('"stream_ended"'))
    assert ended["v"] == 1
    assert watching.wait() == 0


def test_only_some_events(controlled: Controlled) -> None:
    arguments = ["--events", "connection_closed", "--events", "limits_changed", "--no-stats"]
    watching = controlled.tieline.start("ctl", "--control", controlled.path, "watch", *arguments)
    minutes = 1
    while "limits changed" not in watching.out:  # before, it may not be there yet
        minutes += 1
        assert controlled.ctl("limits", f"idle={minutes}m").code == 0
    controlled.client().close()
    assert "closed: peer_closed (0 in, 0 out, 0." in watching.line("closed")
    assert "opened" not in watching.out
    assert " open  +" not in watching.out


def on_a_terminal(controlled: Controlled, *arguments: str, lang: str = "C") -> Any:
    environment = controlled.tieline.environment({"LANG": f"{lang}.UTF-8"})
    return pexpect.spawn(
        sys.executable, ["-m", "tieline", "ctl", "--control", controlled.path, *arguments],
        env=environment, cwd=str(controlled.tieline.folder), timeout=20, encoding="utf-8",
        dimensions=(24, 80),
    )  # fmt: skip


ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize(("lang", "word"), [("C", " open "), ("zh_CN", " 连接 ")])
def test_watch_on_a_terminal_is_ended_by_ctrl_c(
    controlled: Controlled, lang: str, word: str
) -> None:
    terminal = on_a_terminal(controlled, "watch", lang=lang)
    terminal.expect(word)
    client = controlled.client()
    terminal.expect(re.escape(name_of(client)))
    terminal.expect(word)
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 130
    shown = ESCAPES.sub("", str(terminal.before))
    assert "Traceback" not in shown
    assert "interrupted" not in shown


def test_no_line_of_statistics_is_wider_than_a_terminal() -> None:
    from tieline.cli.ctl.saying import say_statistics
    from tieline.cli.translation import use_language

    most = {
        "connections": 50_000, "accepted": 999, "closed": 999, "refused": 9999,
        "messages_received": 99_999, "bytes_received": 10**9, "bytes_sent": 10**9,
    }  # fmt: skip
    for language in ("zh_CN", "en"):
        use_language(language)
        assert width(f"16:10:01 {say_statistics(most)}") <= 80


@pytest.fixture
def tapped(tieline: Tieline) -> Iterator[Controlled]:
    """A server whose log says when somebody taps."""
    made = Controlled(tieline, "--framing", "line", "--echo", "--log", "-")
    yield made
    made.close()


def tap(controlled: Controlled, *arguments: str) -> Running:
    """Tap the one connection there is."""
    (row,) = controlled.rows("connections")
    running = controlled.tieline.start(
        "ctl", "--control", controlled.path, "tap", str(row["id"]), *arguments
    )
    controlled.server.error_line("tap_begun")
    return running


def test_tap(tapped: Controlled) -> None:
    client = tapped.client()
    tapping = tap(tapped, "--most", "2")
    client.sendall("你\x1b[31m\n".encode())
    assert tapping.wait() == 0
    lines = tapping.out.splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == [r"← 你\x1b[31m", r"→ 你\x1b[31m"]
    assert all(f"{name_of(client)}" in line for line in lines)


def test_a_tap_ends_with_its_connection(tapped: Controlled) -> None:
    client = tapped.client()
    tapping = tap(tapped, "--hex")
    client.sendall(b"\x01\x02\n")
    assert tapping.line("←").endswith("← 01 02")
    assert client.recv(100) == b"\x01\x02\n"
    client.close()
    assert tapping.wait() == 0
    assert tapping.err == "the connection has ended: peer_closed\n"


def test_a_tap_for_programs_and_of_large_messages(tapped: Controlled) -> None:
    client = tapped.client()
    tapping, other = tap(tapped, "--json"), tap(tapped)
    client.sendall(b"x" * 10_000 + b"\n")
    message = json.loads(tapping.line('"in"'))
    assert (message["v"], message["size"], message["cut"]) == (1, 10_000, True)
    assert other.error_line("cut off") == "  (cut off: 9.8K in all)"


def test_a_closed_pipe_ends_it_quietly(controlled: Controlled) -> None:
    shell = f'{sys.executable} -m tieline ctl --control "$0" watch | head -n 1'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell, controlled.path],
        env=controlled.tieline.environment({}), capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b" open " in done.stdout


def test_a_terminal_that_has_no_arrows(controlled: Controlled) -> None:
    running = controlled.ctl("limits", "idle=30s", PYTHONIOENCODING="ascii")
    assert running.out == "idle: 5m -> 30s\n"


# ---- Where the server is


def test_no_server(tieline: Tieline) -> None:
    path = tieline.folder / "none.sock"
    running = tieline.run("ctl", "--control", str(path), "info")
    assert running.code == 3
    assert running.err == (
        f"no server answers at {path}: No such file or directory "
        "(start it with `tieline serve --control`, or say where with --control PATH)\n"
    )


def test_the_default_path(tieline: Tieline) -> None:
    variables: dict[str, Any] = {"XDG_RUNTIME_DIR": str(tieline.folder)}
    server = tieline.start("serve", "--listen", "127.0.0.1:0", "--control", **variables)
    assert server.error_line("look into it") == "  look into it with: tieline ctl info"
    assert (tieline.folder / "tieline.sock").stat().st_mode & 0o777 == 0o600
    assert tieline.run("ctl", "info", **variables).code == 0
    assert (
        tieline.run("ctl", "info", TIELINE_CTL_CONTROL=str(tieline.folder / "tieline.sock")).code
        == 0
    )


def test_a_path_that_another_server_has(controlled: Controlled) -> None:
    running = controlled.tieline.run("serve", "--port", "0", "--control", controlled.path)
    assert running.code == 8
    assert running.err.count("\n") == 1
    assert "is in use by another program" in running.err
    assert controlled.ctl("info").code == 0


def test_the_path_in_a_file(tieline: Tieline) -> None:
    path = tieline.folder / "c.sock"
    (tieline.folder / "t.toml").write_text(
        f"[serve]\nlisten = '127.0.0.1:0'\ncontrol = '{path}'\n[ctl]\ncontrol = '{path}'\n"
    )
    server = tieline.start("serve", "--config", "t.toml")
    assert f"ctl --control {path} info" in server.error_line("look into it")
    for arguments in (
        ["--config", "t.toml", "ctl", "info"], ["ctl", "--config", "t.toml", "info"],
        ["ctl", "info", "--config", "t.toml"],
    ):  # fmt: skip
        assert tieline.run(*arguments).code == 0, arguments


def test_a_socket_of_somebody_else(tieline: Tieline, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a socket that belongs to another user")
    path = tieline.folder / "tieline.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        os.chown(path, 65534, 65534)
        running = tieline.run("ctl", "info", XDG_RUNTIME_DIR=str(tieline.folder))
    assert running.code == 2
    assert "belongs to user 65534" in running.err


def test_another_programs_socket(tieline: Tieline) -> None:
    server = tieline.start("serve", "--listen", f"unix:{tieline.folder}/x.sock", "--reply", "x")
    server.error_line("socat")
    running = tieline.run("ctl", "--control", str(tieline.folder / "x.sock"), "info")
    assert running.code in (1, 4)
    assert "Traceback" not in running.err


# ---- Beside a server


def test_metrics_over_http(tieline: Tieline) -> None:
    server = tieline.serve("--metrics", "127.0.0.1:0")
    url = server.error_line("metrics: ").rpartition(" ")[2]
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert b"tieline_connections" in answer.read()


def test_the_log_of_events(tieline: Tieline) -> None:
    server = tieline.serve("--log", "events.log", "--log-json")
    with socket.create_connection(("127.0.0.1", server.port)):
        server.line("opened")
    server.line("closed")
    server.send_signal(signal.SIGINT)
    server.wait()
    text = (tieline.folder / "events.log").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    names = [line["event.name"] for line in lines]
    assert names == [
        "server_started", "connection_opened", "connection_closed", "drain_begun", "drain_ended",
    ]  # fmt: skip
    running = tieline.run("serve", "--port", "0", "--log", "missing/events.log")
    assert running.code == 2
    assert running.err == (
        "the log missing/events.log cannot be opened: No such file or directory\n"
    )


def test_the_log_on_stderr(tieline: Tieline) -> None:
    server = tieline.serve("--log", "-")
    with socket.create_connection(("127.0.0.1", server.port)):
        assert "id=" in server.error_line("connection_opened")
