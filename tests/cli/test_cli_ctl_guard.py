"""`tieline ctl` on a guard: its sessions, its upstreams and its settings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tieline as library
import tieline.guard
from cli.command_process import Running, Tieline
from support.hooks import echo
from tieline import Line, control
from tieline.cli.setting_values import (
    default_of_setting,
    format_setting,
    parse_setting,
    setting_name,
)
from tieline.cli.visible import width
from tieline.errors import SettingError
from tieline.guard import SETTINGS, Guard, GuardSettings


class Guarded:
    """A guard with a control socket, in a thread, before a server that sends back what it gets."""

    def __init__(self, tieline: Tieline, *upstreams: str, **options: Any) -> None:
        self.path = str(tieline.folder / "guard.sock")
        self.tieline = tieline
        self.guard: Guard
        #: Where the server behind it listens.
        self.behind = ""
        self._upstreams = upstreams or ("name=db1",)
        self._options = options
        self._clients = contextlib.ExitStack()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert self._ready.wait(20)

    def _serve(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with library.serve(echo("responder"), "127.0.0.1:0", framing=Line()) as server:
            self.behind = str(server.addresses[0])
            specs = [f"{self.behind},{each}" for each in self._upstreams]
            self._options.setdefault("settings", GuardSettings(check_interval=None))
            async with library.guard.serve(
                "127.0.0.1:0", upstreams=specs, **self._options
            ) as self.guard:
                async with control.serve(self.guard, self.path):
                    self._ready.set()
                    await self._stop.wait()

    def ctl(self, *arguments: str, **environment: Any) -> Running:
        return self.tieline.run("ctl", "--control", self.path, *arguments, **environment)

    def start(self, *arguments: str) -> Running:
        return self.tieline.start("ctl", "--control", self.path, *arguments)

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """What a verb tells programs."""
        running = self.ctl(*arguments, "--json")
        assert running.code == 0, running.err
        return [json.loads(line) for line in running.out.splitlines()]

    def client(self, host: str = "127.0.0.1") -> socket.socket:
        """A client of the guard."""
        where = ("127.0.0.1", self.guard.addresses[0].port)
        made = socket.create_connection(where, timeout=20, source_address=(host, 0))
        return self._clients.enter_context(made)

    def wait_for(self, true: Callable[[], object]) -> None:
        """Wait in the guard's loop until something is true."""

        async def wait() -> None:
            async with asyncio.timeout(20):
                while not true():
                    await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(wait(), self._loop).result(30)

    def close(self) -> None:
        self._clients.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)


@pytest.fixture
def guarded(tieline: Tieline) -> Iterator[Callable[..., Guarded]]:
    """Makes a guard."""
    with contextlib.ExitStack() as stack:

        def make(*upstreams: str, **options: Any) -> Guarded:
            made = Guarded(tieline, *upstreams, **options)
            stack.callback(made.close)
            return made

        yield make


def talk(client: socket.socket, line: bytes = b"hello\n") -> None:
    client.sendall(line)
    received = b""
    while len(received) < len(line):
        received += client.recv(100)
    assert received == line


def name_of(client: socket.socket) -> str:
    host, port = client.getsockname()
    return f"{host}:{port}"


def pairs(text: str) -> list[tuple[str, str]]:
    """The lines of what shows a name and a value in each."""
    found = [re.split(r"  +", line, maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, value) for name, value in found]


# ---- Sessions


def test_sessions_are_a_table_with_their_upstreams(guarded: Callable[..., Guarded]) -> None:
    guard = guarded("name=db1", "name=db2,max=1")
    first, second = guard.client("127.0.0.2"), guard.client("127.0.0.3")
    talk(first)
    talk(second, b"longer\n")
    lines = guard.ctl("connections").out.splitlines()
    assert re.split(r"  +", lines[0].strip()) == [
        "id", "client", "→ upstream", "age", "in", "ago", "out", "ago", "next",
    ]  # fmt: skip
    rows = [line.split() for line in lines[1:]]
    assert [row[1:4] for row in rows] == [
        [name_of(first), "→", "db1"], [name_of(second), "→", "db2"],
    ]  # fmt: skip
    assert [(row[5], row[7]) for row in rows] == [("6", "6"), ("7", "7")]
    assert all(row[9] == "idle_timeout" for row in rows)
    assert [row["upstream"] for row in guard.rows("connections", "--upstream", "db2")] == ["db2"]
    both = guard.rows("connections", "--upstream", "db2", "--upstream", "db1", "--sort", "upstream")
    assert [row["upstream"] for row in both] == ["db1", "db2"]
    assert "->" in guard.ctl("connections", PYTHONIOENCODING="ascii").out
    chinese = guard.ctl("connections", LANG="zh_CN.UTF-8").out
    assert re.search("客户端 +→ 上游 ", chinese)


def test_what_a_client_is_owed_is_shown_where_it_is(guarded: Callable[..., Guarded]) -> None:
    guard = guarded()
    client = guard.client()
    talk(client)
    [leg] = guard.guard.connections
    client.setblocking(False)
    deadline = time.monotonic() + 20
    # It asks, and does not read.
    while not leg.owed and time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            client.send((b"x" * 999 + b"\n") * 60)
    lines = guard.ctl("connections").out.splitlines()
    assert lines[0].split()[-2:] == ["owed", "next"]
    assert re.search(r" [\d.]+[KM] +\S*\w+ ", lines[1])


def test_one_session_shows_both_sides(guarded: Callable[..., Guarded]) -> None:
    guard = guarded()
    client = guard.client()
    talk(client)
    (row,) = guard.rows("connections")
    (details,) = guard.rows("connection", str(row["id"]))
    side = details["upstream_side"]
    assert (details["peer"], side["peer"]) == (name_of(client), guard.behind)
    running = guard.ctl("connection", str(row["id"]))
    client_side, upstream_side = running.out.split("\n\n")
    shown = dict(pairs(client_side))
    assert shown["peer"] == name_of(client)
    assert shown["local"] == str(guard.guard.addresses[0])
    assert shown["bytes"] == "in 6, out 6"
    assert shown["TCP"].startswith("established")
    assert "messages" not in shown
    shown = dict(pairs(upstream_side))
    assert shown["upstream"] == "db1"
    assert (shown["local"], shown["address"]) == (side["local"], guard.behind)
    assert (shown["bytes"], shown["owed"]) == ("in 6, out 6", "0")
    assert re.fullmatch(r"in \d+\.\ds, out \d+\.\ds", shown["idle"])
    assert shown["TCP"].startswith("established")


def test_a_session_that_waits(guarded: Callable[..., Guarded]) -> None:
    guard = guarded("name=db1,max=1")
    talk(guard.client())
    waiting = guard.client()
    guard.wait_for(lambda: guard.guard.pool.waiting)
    lines = guard.ctl("connections").out.splitlines()
    [line] = [line for line in lines if name_of(waiting) in line]
    assert re.search(rf"{name_of(waiting)} +→ - ", line)
    assert "queue_timeout" in line
    assert dict(pairs(guard.ctl("info").out))["upstreams"] == "1 of 1 up; 1 sessions wait"
    running = guard.ctl("upstreams")
    assert running.out.splitlines()[1].split()[4] == "1/1"
    assert running.err == "1 session waits for an upstream\n"


def test_info(guarded: Callable[..., Guarded]) -> None:
    guard = guarded("name=db1", "name=db2")
    (result,) = guard.rows("info")
    assert result["guard"] == {"upstreams": 2, "up": 2, "waiting": 0}
    assert dict(pairs(guard.ctl("info").out))["upstreams"] == "2 of 2 up; 0 sessions wait"


# ---- Upstreams


def test_upstreams_are_a_table(guarded: Callable[..., Guarded]) -> None:
    guard = guarded("name=db1,weight=3,max=50", "name=db2,backup", "name=db3")
    guard.ctl("upstream", "drain", "db3")
    talk(guard.client())
    lines = guard.ctl("upstreams").out.splitlines()
    assert lines[0].split() == [
        "upstream", "address", "state", "since", "sessions", "failed", "in", "out", "weight",
    ]  # fmt: skip
    rows = [re.split(r"  +", line) for line in lines[1:]]
    assert [row[:2] for row in rows] == [[f"db{n}", guard.behind] for n in (1, 2, 3)]
    assert rows[1][2] == "up, backup"
    assert (rows[0][2], rows[0][4:]) == ("up", ["1/50", "0", "6", "6", "3"])
    assert rows[2][2] == "draining"
    found = guard.rows("upstreams")
    assert [row["name"] for row in found] == ["db1", "db2", "db3"]
    assert (found[0]["max"], found[0]["bytes_received"], found[0]["v"]) == (50, 6, 1)


def test_names_are_shown_where_there_are_any(guarded: Callable[..., Guarded]) -> None:
    settings = GuardSettings(check_interval=None, sni="on")
    guard = guarded("name=db1,sni=a.example,sni=*.b.example", "name=db2", settings=settings)
    lines = guard.ctl("upstreams").out.splitlines()
    assert lines[0].split()[2] == "names"
    assert re.split(r"  +", lines[1])[2] == "a.example, *.b.example"


def test_an_upstream_that_is_down_says_why(guarded: Callable[..., Guarded]) -> None:
    settings = GuardSettings(check_interval=None, passive_failures=1, tries=1)
    guard = guarded(settings=settings)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        running = guard.ctl("upstream", "add", address)
        assert running.out == f"{address} is an upstream now, and up\n"
        guard.ctl("upstream", "drain", "db1")
        with contextlib.suppress(ConnectionResetError):
            guard.client().recv(1)
        guard.wait_for(lambda: guard.guard.pool.upstreams[1].failed)
        running = guard.ctl("upstreams")
        assert " down " in running.out.splitlines()[2]
        assert running.err == (
            f"{address} is down: nothing listens on {address}: the connection was refused\n"
        )
        assert "\x1b[31m" in guard.ctl("upstreams", FORCE_COLOR="1").out


def test_upstreams_are_added_drained_enabled_and_removed(guarded: Callable[..., Guarded]) -> None:
    guard = guarded()
    client = guard.client()
    talk(client)
    running = guard.ctl("upstream", "add", f"{guard.behind},name=db2,weight=2")
    assert (running.code, running.out) == (0, "db2 is an upstream now, and up\n")
    running = guard.ctl("upstream", "drain", "db1")
    assert running.out == "db1 gets no new sessions; 1 session goes on\n"
    talk(guard.client())
    assert [row["sessions"] for row in guard.rows("upstreams")] == [1, 1]
    running = guard.ctl("upstream", "enable", "db1")
    assert running.out == "db1 is an upstream now, and up\n"
    (row,) = guard.rows("upstream", "remove", "db1")
    assert (row["v"], row["name"], row["state"], row["sessions"]) == (1, "db1", "removed", 1)
    talk(client)
    running = guard.ctl("upstream", "remove", "db2", LANG="zh_CN.UTF-8")
    assert running.out == "db2 不再是上游；1 个会话继续\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["drain", "db2"], 1, "there is no upstream 'db2' (did you mean 'db1'?)"),
        (["remove", "x"], 1, "there is no upstream 'x' (the verb upstreams lists them)"),
        (["add", "127.0.0.1:1,wieght=2"], 2, "there is no 'wieght' of an upstream"),
        (["add", "127.0.0.1:1,name=db1"], 2, "two upstreams are called 'db1'"),
        (["add", "127.0.0.1"], 2, "'127.0.0.1"),
        (["stop", "db1"], 2, "Invalid value for 'add|drain|enable|remove': 'stop'"),
        (["drain"], 2, "Missing argument"),
    ],
)
def test_a_mistake_about_an_upstream(
    guarded: Callable[..., Guarded], arguments: list[str], code: int, says: str
) -> None:
    guard = guarded()
    running = guard.ctl("upstream", *arguments)
    assert running.code == code
    assert running.err.startswith(says) or says in running.err
    assert [row["state"] for row in guard.rows("upstreams")] == ["up"]


@pytest.mark.parametrize(
    "arguments",
    [["upstreams"], ["upstream", "drain", "db1"], ["settings"], ["settings", "tries=1"]],
)
def test_a_server_is_no_guard(tieline: Tieline, arguments: list[str]) -> None:
    path = str(tieline.folder / "c.sock")
    tieline.serve("--control", path)
    running = tieline.run("ctl", "--control", path, *arguments)
    assert (running.code, running.out) == (1, "")
    assert running.err == (
        "this server has no upstreams: it is no guard (is this the control socket of the guard?)\n"
    )
    chinese = tieline.run("ctl", "--control", path, *arguments, LANG="zh_CN.UTF-8")
    assert chinese.err == "这个服务器没有上游：它不是 guard（这是 guard 的控制套接字吗？）\n"


# ---- Settings


def test_settings_are_changed_at_once(guarded: Callable[..., Guarded]) -> None:
    guard = guarded()
    running = guard.ctl(
        "settings", "balance=least", "queue_timeout=5s", "queue=10k", r"check-send=PING\r\n\xff",
        "recover=none", "accept-proxy=127.0.0.0/8,::1",
    )  # fmt: skip
    assert running.out.splitlines() == [
        "balance: round-robin → least", "queue-timeout: 10s → 5s", "queue: 1k → 10k",
        r"check-send: none → PING\r\n\xff", "recover: 30s → none",
        "accept-proxy: none → 127.0.0.0/8, ::1",
    ]  # fmt: skip
    assert guard.guard.settings.check_send == b"PING\r\n\xff"
    lines = guard.ctl("settings", "--changed").out.splitlines()
    assert lines[0].split() == ["setting", "value", "default"]
    assert [re.split(r"  +", line) for line in lines[1:]] == [
        ["* balance", "least", "round-robin"], ["* queue", "10k", "1k"],
        ["* queue-timeout", "5s", "10s"], ["* check-interval", "none", "2s"],
        ["* check-send", r"PING\r\n\xff", "none"], ["* recover", "none", "30s"],
        ["* accept-proxy", "127.0.0.0/8, ::1", "none"],
    ]  # fmt: skip
    assert len(guard.ctl("settings").out.splitlines()) == len(SETTINGS) + 1
    assert guard.rows("settings", "tries=2") == [{"v": 1, "setting": "tries", "old": 3, "new": 2}]
    (row,) = guard.rows("settings", "check-send")
    assert (row["setting"], row["value"]) == ("check_send", "PING\r\n\udcff")
    running = guard.ctl("settings", "tries=2")
    assert (running.out, running.err) == ("", "nothing has changed: that is how it was\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["balnce=least"], "there is no setting 'balnce' (did you mean 'balance'?)"),
        (["balance=rand"], "balance must be one of round-robin, least, hash, not 'rand'"),
        (["queue-timeout=x"], "queue-timeout: 'x' is not a duration"),
        (["tries=0"], "tries must be a whole number of at least 1, not 0"),
        ([r"check-send=\q"], r"check-send: \q is no escape"),
        (["tries=3", "queue"], "queue has no value (write it as queue=VALUE)"),
    ],
)
def test_a_mistake_about_a_setting_changes_nothing(
    guarded: Callable[..., Guarded], arguments: list[str], says: str
) -> None:
    guard = guarded()
    before = guard.guard.settings
    running = guard.ctl("settings", "queue=7", *arguments)
    assert running.code == 2
    assert running.err.startswith(says)
    assert running.err.count("\n") == 1
    assert guard.guard.settings is before


@pytest.mark.parametrize("name", SETTINGS)
def test_every_default_is_read_as_it_is_written(name: str) -> None:
    assert parse_setting(name, default_of_setting(name)) == getattr(GuardSettings(), name)
    assert setting_name(name.replace("_", "-").upper()) == name


@pytest.mark.parametrize("data", [b"PING\r\n", b"\x00\xff\x85", "é\u0085\\n".encode(), b"a b\t"])
def test_bytes_are_read_as_they_are_written(data: bytes) -> None:
    written = format_setting("check_send", data)
    assert written.isprintable()
    assert parse_setting("check_send", written) == data
    # As the control socket has them.
    assert format_setting("check_send", data.decode("utf-8", "surrogateescape")) == written


def test_what_is_no_setting_is_said() -> None:
    with pytest.raises(SettingError, match="there is no setting 'chek-send'") as raised:
        setting_name("chek-send")
    assert raised.value.fields["like"] == "check-send"


# ---- Following


def test_upstreams_and_sessions_are_followed(guarded: Callable[..., Guarded]) -> None:
    guard = guarded()
    events = ["session_relayed", "connection_closed"]
    events += [f"upstream_{name}" for name in ("added", "up", "down", "draining", "removed")]
    arguments = [part for name in events for part in ("--events", name)]
    watching, as_json = guard.start("watch", *arguments), guard.start("watch", "--json")
    # The first statistics say that it is there.
    assert watching.line(" open ").endswith(" 0 wait")
    assert json.loads(as_json.line('"stats"'))["waiting"] == 0
    client = guard.client()
    talk(client)
    assert watching.line("relayed").endswith(f"127.0.0.1  relayed to db1 ({guard.behind})")
    client.close()
    assert " closed: peer_closed (at db1, 6 in, 6 out, 0." in watching.line("closed")
    guard.ctl("upstream", "drain", "db1")
    assert watching.line("db1").endswith("upstream db1  draining")
    guard.ctl("upstream", "enable", "db1")
    assert watching.line("db1").endswith("upstream db1  up")
    guard.ctl("upstream", "add", "127.0.0.1:1,name=db2")
    assert watching.line("db2").endswith("upstream db2  added")
    guard.ctl("upstream", "remove", "db2")
    assert watching.line("db2").endswith("upstream db2  removed")
    assert json.loads(as_json.line('"session_relayed"'))["upstream"] == "db1"
    assert json.loads(as_json.line('"connection_closed"'))["upstream"] == "db1"


def test_what_happens_to_upstreams_is_said_in_words(english: Callable[[str], None]) -> None:
    from tieline.cli.ctl.saying import say, say_statistics

    down = {"event": "upstream_down", "upstream": "db1", "why": "no answer"}
    closed = {
        "event": "connection_closed", "id": 7, "peer": "10.0.0.7:1", "reason": "upstream_closed",
        "bytes_received": 10, "bytes_sent": 2048, "duration": 3.0, "upstream": "db1",
    }  # fmt: skip
    statistics = {
        "connections": 50_000, "accepted": 999, "closed": 999, "refused": 9999, "waiting": 1000,
        "messages_received": 0, "bytes_received": 10**9, "bytes_sent": 10**9,
    }  # fmt: skip
    assert say(down) == "upstream db1  down: no answer"
    assert say(closed) == "#7 10.0.0.7:1  closed: upstream_closed (at db1, 10 in, 2.0K out, 3.0s)"
    assert say(closed | {"upstream": None}).endswith("upstream_closed (10 in, 2.0K out, 3.0s)")
    assert say_statistics(statistics).endswith("1,000 wait")
    assert width(f"16:10:01 {say_statistics(statistics)}") <= 80
    english("zh_CN")
    assert say(down) == "上游 db1  不可用：no answer"
    assert width(f"16:10:01 {say_statistics(statistics)}") <= 80


def test_a_session_is_tapped(guarded: Callable[..., Guarded]) -> None:
    guard = guarded()
    client = guard.client()
    talk(client)
    (row,) = guard.rows("connections")
    tapping = guard.start("tap", str(row["id"]), "--most", "2")
    [leg] = guard.guard.connections
    guard.wait_for(lambda: leg._looks)
    talk(client, "你\x1b[31m\n".encode())
    assert tapping.wait() == 0
    lines = tapping.out.splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == [r"← 你\x1b[31m\n", r"→ 你\x1b[31m\n"]
    assert all(name_of(client) in line for line in lines)
