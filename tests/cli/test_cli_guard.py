"""`tieline guard`: the command with real sessions through it, and every way to misuse it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from cli.command_process import PATIENCE, Tieline
from cli.guarded import (
    Service,
    address_of,
    ask,
    connect,
    free_port,
    port_of,
    read_to_end,
    start_guard,
    written,
)

# ---- What it does


def test_it_relays_and_says_what_it_does(tieline: Tieline, service: Service) -> None:
    running = tieline.start(
        "guard", "127.0.0.1:0", f"{service.address},name=db", "127.0.0.1:9,backup",
        "--control", "g.sock",
    )  # fmt: skip
    port = port_of(running.error_line("listening on"))
    goes_on = f"  goes on to db ({service.address}), 127.0.0.1:9 as a backup"
    assert running.error_line("goes on") == goes_on
    looks = running.error_line("look into it with")
    assert "ctl --control g.sock info" in looks
    assert ask(port, b"hello") == b"ahello"
    line = running.line("→ db")
    assert "#1 127.0.0.1:" in line
    assert "closed: peer_closed (5 bytes in, 6 bytes out, " in running.line("closed")
    assert tieline.run("ctl", "--control", "g.sock", "upstreams").code == 0
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 143
    assert "SIGTERM: stopping" in running.err


def test_quiet_shows_nothing(tieline: Tieline, service: Service) -> None:
    port = free_port()
    running = tieline.start("-q", "guard", f"127.0.0.1:{port}", service.address, "--control=g.sock")
    while not (tieline.folder / "g.sock").exists():
        assert running.code is None
    while True:
        # It listens in the same moment, perhaps not yet.
        with contextlib.suppress(ConnectionRefusedError):
            assert ask(port) == b"a!"
            break
    running.send_signal(signal.SIGINT)
    assert running.wait() == 130
    assert running.out == running.err == ""


def test_json(tieline: Tieline, service: Service) -> None:
    running = start_guard(tieline, f"{service.address},name=db", "--json", "--per-client", "1")
    event = json.loads(running.line("listening"))
    assert event["addresses"] == [running.address]
    assert event["upstreams"] == [f"{service.address},name=db"]
    with connect(running.port) as client:
        client.sendall(b"hello")
        relayed = json.loads(running.line("relayed"))
        assert {name: relayed[name] for name in ("id", "peer", "listener", "upstream")} == {
            "id": 1, "peer": address_of(client), "listener": None,
            "upstream": "db",
        }  # fmt: skip
        assert relayed["address"] == service.address
        assert relayed["waited"] >= 0
        assert client.recv(1) == b"a"
        for _ in range(3):
            with contextlib.suppress(ConnectionResetError), connect(running.port) as refused:
                assert refused.recv(1) == b""
        event = json.loads(running.line("refused"))
        assert (event["reason"], event["unshown"]) == ("client_limit", 0)
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
    closed = json.loads(running.line("close"))
    assert closed["id"] == 1
    assert closed["reason"] == "peer_closed"
    assert (closed["bytes_received"], closed["bytes_sent"]) == (5, 6)
    assert closed["upstream"] == "db"
    assert 0 <= closed["duration"] < PATIENCE
    running.send_signal(signal.SIGTERM)
    assert json.loads(running.line("draining"))["connections"] == 0
    assert running.wait() == 143
    # Once a second at most.
    assert running.out.count('"refused"') == 1


def test_upstreams_go_down_and_up(tieline: Tieline) -> None:
    port = free_port()
    running = start_guard(
        tieline, f"127.0.0.1:{port},name=db", "--json", "--check-interval", "20ms", "--fall", "1",
        "--rise", "1", "--recover", "none",
    )  # fmt: skip
    down = json.loads(running.line("upstream_down"))
    assert down["upstream"] == "db"
    assert "nothing listens on" in down["why"]
    assert f"upstream db is down: nothing listens on 127.0.0.1:{port}" in running.error_line("down")
    with pytest.raises(ConnectionResetError), connect(running.port) as client:
        client.recv(1)
    closed = json.loads(running.line('"close"'))
    assert (closed["reason"], closed["upstream"]) == ("no_upstream", None)
    with socket.create_server(("127.0.0.1", port)):
        assert json.loads(running.line("upstream_up"))["upstream"] == "db"
        assert running.error_line("up again") == "upstream db is up again"


def test_flags_of_limits_and_settings_reach_the_guard(tieline: Tieline, service: Service) -> None:
    arguments = ("--idle", "7s", "--tries", "2", "--check-send", "PING\\r\\n", "--balance", "hash")
    running = start_guard(tieline, service.address, *arguments, "--control", "g.sock")
    shown = tieline.run("ctl", "--control", "g.sock", "limits", "--changed", "--json")
    assert {line["limit"] for line in map(json.loads, shown.out.splitlines())} == {"idle"}
    shown = tieline.run("ctl", "--control", "g.sock", "settings", "--changed", "--json")
    names = {line["setting"] for line in map(json.loads, shown.out.splitlines())}
    assert names == {"tries", "check_send", "balance"}
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 143


def test_metrics_and_a_log_beside_it(tieline: Tieline, service: Service) -> None:
    running = start_guard(
        tieline, service.address, "--metrics", "127.0.0.1:0", "--log", "g.log", "--log-json"
    )
    url = running.error_line("metrics: ")
    port = int(url.rpartition(":")[2].partition("/")[0])
    assert ask(running.port) == b"a!"
    running.line("closed")
    with connect(port) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"tieline_upstream_up" in read_to_end(client)
    running.send_signal(signal.SIGTERM)
    running.wait()
    log = [json.loads(line) for line in (tieline.folder / "g.log").read_text().splitlines()]
    names = [line["event.name"] for line in log]
    assert {"server_started", "session_relayed", "connection_closed"} <= set(names)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_drain_lets_sessions_finish(tieline: Tieline, service: Service, loop: str) -> None:
    pytest.importorskip(loop)
    running = start_guard(tieline, service.address, "--drain", "1h", "--loop", loop)
    with connect(running.port) as client:
        # It is between two exchanges, as far as anybody can tell.
        assert client.recv(1) == b"a"
        running.line("→")
        running.send_signal(signal.SIGTERM)
        assert "1 connection has 1h to finish" in running.error_line("SIGTERM")
        assert client.recv(1) == b""
    assert "closed: shutdown" in running.line("closed")
    assert running.wait() == 143


def test_the_second_signal_leaves_at_once(tieline: Tieline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        upstream = address_of(silent)
        running = start_guard(tieline, upstream, "--drain", "1h", "--check-interval", "none")
        with connect(running.port) as client:
            client.sendall(b"a question")
            accepted, _ = silent.accept()
            with accepted:
                assert accepted.recv(100) == b"a question"
                running.send_signal(signal.SIGTERM)
                running.error_line("SIGTERM: no newcomers")
                running.send_signal(signal.SIGTERM)
                running.error_line("leaving now")
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
                assert running.wait() == 143


def test_tls_is_ended_and_begun(tieline: Tieline) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tieline.folder / "ca.pem"))
    pem = tieline.folder / "own.pem"
    authority.issue_cert("front.test").private_key_and_cert_chain_pem.write_to_path(str(pem))
    behind = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("behind.test").configure_cert(behind)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with Service("tls", behind) as service:
        running = start_guard(
            tieline, service.address, "--tls-cert", "own.pem", "--upstream-ca", "ca.pem",
            "--upstream-name", "behind.test",
        )  # fmt: skip
        with connect(running.port) as plain:
            with trust.wrap_socket(plain, server_hostname="front.test") as client:
                assert client.recv(3) == b"tls"
                client.sendall(b"x")
                assert client.recv(1) == b"x"


# ---- Several listeners

_TWO = """
[guard]
idle = "7s"
control = "g.sock"

[guard.listener.web]
listen = "127.0.0.1:0"
upstream = "{web},name=w"

[guard.listener.db]
listen = "127.0.0.1:0"
upstream = ["{db},name=d"]
per-client = 1
control = "own.sock"
"""


def limits_changed(tieline: Tieline, path: str) -> dict[str, Any]:
    shown = tieline.run("ctl", "--control", path, "limits", "--changed", "--json")
    return {line["limit"]: line["value"] for line in map(json.loads, shown.out.splitlines())}


def test_several_listeners(tieline: Tieline) -> None:
    with Service("w") as web, Service("d") as db:
        file = written(tieline, _TWO.format(web=web.address, db=db.address))
        running = tieline.start("guard", "--config", file, "--total", "500")
        first = running.error_line("listening on")
        assert first.startswith("web: listening on 127.0.0.1:")
        running.error_line("ctl --control g-web.sock info")
        second = running.error_line("listening on")
        assert second.startswith("db: listening on 127.0.0.1:")
        running.error_line("ctl --control own.sock info")
        assert ask(port_of(first)) == b"w!"
        assert "web → w" in running.line("→")
        assert "web closed: " in running.line("closed")
        with connect(port_of(second)) as client:
            assert client.recv(1) == b"d"
            with contextlib.suppress(ConnectionResetError), connect(port_of(second)) as refused:
                assert refused.recv(1) == b""
            assert running.error_line("refused").startswith("db: refused 127.0.0.1:")
        # A flag beats the file for all of them; their own values are theirs only.
        assert limits_changed(tieline, "g-web.sock") == {"idle": 7.0, "total": 500}
        assert limits_changed(tieline, "own.sock") == {"idle": 7.0, "total": 500, "per_client": 1}
        running.send_signal(signal.SIGTERM)
        assert running.wait() == 143
    assert not list(tieline.folder.glob("*.sock"))


def test_default_paths_of_control_sockets(tieline: Tieline, service: Service) -> None:
    file = written(
        tieline,
        f"[guard]\nlisten = '127.0.0.1:0'\nupstream = '{service.address}'\ncontrol = true\n"
        "[guard.listener.a]\nlisten = '127.0.0.1:0'\n"
        "[guard.listener.b]\nlisten = '127.0.0.1:0'\ncontrol = false\n",
    )
    running = tieline.start("guard", "--config", file, XDG_RUNTIME_DIR=str(tieline.folder))
    for _ in range(3):
        running.error_line("goes on to")
    found = {path.name for path in tieline.folder.glob("*.sock")}
    assert found == {"tieline.sock", "tieline-a.sock"}
    shown = tieline.run("ctl", "info", XDG_RUNTIME_DIR=str(tieline.folder))
    assert shown.code == 0


def test_one_listener_that_ctl_ends_leaves_the_others(tieline: Tieline, service: Service) -> None:
    file = written(tieline, _TWO.format(web=service.address, db=service.address))
    running = tieline.start("guard", "--config", file)
    web, db = (port_of(running.error_line("listening on")) for _ in range(2))
    running.error_line("own.sock")
    assert tieline.run("ctl", "--control", "own.sock", "drain").code == 0
    with pytest.raises(ConnectionRefusedError):
        connect(db)
    assert ask(web) == b"a!"
    assert tieline.run("ctl", "--control", "g-web.sock", "drain").code == 0
    # The last of them ends the command.
    assert running.wait() == 0


def test_the_commands_own_listener_and_those_of_a_file(tieline: Tieline, service: Service) -> None:
    file = written(
        tieline,
        f"[guard]\nupstream = '{service.address}'\n[guard.listener.more]\nlisten = '127.0.0.1:0'\n",
    )
    running = tieline.start("guard", "127.0.0.1:0", "--config", file)
    own, more = running.error_line("listening on"), running.error_line("listening on")
    assert own.startswith("listening on")
    assert more.startswith("more: listening on")
    # The upstreams of [guard] are for all that have none of their own.
    assert [ask(port_of(each)) for each in (own, more)] == [b"a!", b"a!"]


# ---- Mistakes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say where to listen (for example: tieline guard :5432 127.0.0.1:5433)"),
        ([":0"], "say where to go on to (for example"),
        ([":70000", "127.0.0.1:1"], "'70000' is not a port"),
        (["5432", "127.0.0.1:1"], "'5432' names no port"),
        ([":0", "127.0.0.1"], "'127.0.0.1' names no port"),
        ([":0", "127.0.0.1:0"], "'127.0.0.1:0' has no port that can be connected to"),
        ([":0", "127.0.0.1:1,wieght=2"], "no 'wieght' of an upstream"),
        ([":0", "127.0.0.1:1,name=x", "127.0.0.1:2,name=x"], "two upstreams are called 'x'"),
        ([":0", "127.0.0.1:1,sni=a.example"], "is for a name that nobody looks at"),
        ([":0", "127.0.0.1:1", "--idle", "x"], "'x' is not a duration"),
        ([":0", "127.0.0.1:1", "--balance", "best"], "balance must be one of round-robin,"),
        ([":0", "127.0.0.1:1", "--drain-spread", "1h"], "--drain-spread must not be longer"),
        ([":0", "127.0.0.1:1", "--low-water", "1MiB"], "low_water (1048576) must be below"),
        ([":0", "127.0.0.1:1", "--tls-key", "k"], "TLS needs a certificate"),
        ([":0", "127.0.0.1:1", "--tls-cert", "no.pem"], "--tls-cert: no.pem cannot be read"),
        ([":0", "127.0.0.1:1", "--upstream-ca", "no.pem"], "--upstream-ca: no.pem cannot be read"),
        ([":0", "127.0.0.1:1", "--max-message", "1"], "No such option"),
        (["127.0.0.1:5432", "127.0.0.1:5432"], "leads back to where it comes from: a circle"),
        ([":5432", "127.0.0.1:1", "[::1]:5432"], "leads back to where it comes from: a circle"),
    ],
)
def test_wrong_usage(tieline: Tieline, arguments: list[str], says: str) -> None:
    running = tieline.run("guard", *arguments)
    assert running.code == 2
    assert says in running.err
    assert running.err.count("\n") == 1


def test_an_address_that_is_taken(tieline: Tieline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = address_of(taken)
        running = tieline.run("guard", address, "127.0.0.1:9")
    assert running.code == 8
    assert f"{address} is in use by another program" in running.err
    assert "Traceback" not in running.err


def test_one_listener_that_cannot_be_is_the_end_of_all(tieline: Tieline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = written(
            tieline,
            "[guard]\nupstream = '127.0.0.1:9'\ncontrol = 'g.sock'\n"
            "[guard.listener.a]\nlisten = 'unix:a.sock'\n"
            f"[guard.listener.b]\nlisten = '{address_of(taken)}'\n",
        )
        running = tieline.run("guard", "--config", file, "--total", "9")
    assert running.code == 8
    assert running.err.count("\n") == 1
    assert "is in use by another program" in running.err
    assert not list(tieline.folder.glob("*.sock"))


def gone_after(pipeline: subprocess.Popen[str], port: int) -> tuple[str, str]:
    """What was printed until nobody watched any more.

    `head` may have taken both lines of the first session at once and left only then, so
    there are sessions until the line of one has nowhere to go.
    """
    for _ in range(100):
        with contextlib.suppress(OSError):  # it may be gone by now, or go meanwhile
            ask(port)
        try:
            return pipeline.communicate(timeout=PATIENCE / 100)
        except subprocess.TimeoutExpired:
            continue
    pipeline.kill()
    raise AssertionError("it is still there, and nobody watches it")


def test_whoever_reads_stdout_may_leave(tieline: Tieline, service: Service) -> None:
    shell = f'{sys.executable} -m tieline guard 127.0.0.1:0 "$0" | head -n 1'
    with subprocess.Popen(
        ["sh", "-c", shell, service.address], cwd=tieline.folder, text=True,
        env=tieline.environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as pipeline:  # fmt: skip
        assert pipeline.stderr is not None
        while "listening on" not in (line := pipeline.stderr.readline()):
            assert line
        assert ask(port_of(line)) == b"a!"
        out, err = gone_after(pipeline, port_of(line))
    assert "→" in out
    assert "Traceback" not in err


def test_addresses_from_the_environment(tieline: Tieline, service: Service) -> None:
    running = tieline.start(
        "guard", TIELINE_GUARD_LISTEN="127.0.0.1:0",
        TIELINE_GUARD_UPSTREAM=f"{service.address},name=one 127.0.0.1:9,name=two,backup",
    )  # fmt: skip
    running.port = port_of(running.error_line("listening on"))
    assert "one" in running.error_line("goes on to")
    assert ask(running.port) == b"a!"


def test_a_control_socket_that_cannot_be(tieline: Tieline) -> None:
    running = tieline.run("guard", "127.0.0.1:0", "127.0.0.1:9", "--control", "no/such/x.sock")
    assert running.code == 8
    assert "the folder of unix:no/such/x.sock does not exist" in running.err


def test_a_variable_that_is_no_setting(tieline: Tieline) -> None:
    running = tieline.run("guard", ":0", "127.0.0.1:9", TIELINE_GUARD_CHEK_INTERVAL="1s")
    assert running.code == 2
    assert "did you mean 'TIELINE_GUARD_CHECK_INTERVAL'?" in running.err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            "[guard]\nidel = 1\n",
            "g.toml:2: there is no setting 'guard.idel' (did you mean 'idle'?)",
        ),
        ("[guard]\nmax-message = 1\n", "g.toml:2: there is no setting 'guard.max-message'"),
        (
            "[guard.listner.a]\nidle = 1\n",
            "g.toml:1: there is no setting 'guard.listner' (did you mean 'listener'?)",
        ),
        (
            "[guard.listener.a]\nupstraem = 'a:1'\n",
            "g.toml:2: there is no setting 'guard.listener.a.upstraem' (did you mean 'upstream'?)",
        ),
        (
            "[guard.listener.a]\nloop = 'uvloop'\n",
            "g.toml:2: there is no setting 'guard.listener.a.loop'",
        ),
        (
            "[guard.listener]\nlisten = ':1'\n",
            "g.toml:2: 'listen' stands in no table that has a name (write it below "
            "[guard.listener.NAME])",
        ),
        (
            "[guard.listener.'a b']\nlisten = ':1'\n",
            "g.toml:1: 'a b' cannot be the name of a listener (up to 32 letters",
        ),
        (
            "[guard.listener.a]\nlisten = ':1'\nupstream = 'a:1,max=x'\n",
            "g.toml:3: upstream: max must be a whole number of at least 1 or None, not 'x'",
        ),
        (
            "[guard.listener.a]\nlisten = '127.0.0.1:1'\n[guard]\nupstream='127.0.0.1:1'\n",
            "g.toml:4: upstream 127.0.0.1:1 leads back to where it comes from",
        ),
        (
            "[guard]\nidle = '1s'\n[guard.listener.a]\nlisten = ':0'\nupstream = 'a:1'\n"
            "idle-when-full = '2s'\n",
            "g.toml:6: idle_when_full (2.0) must not be above idle (1.0)",
        ),
        (
            "[guard.listener.a]\nlisten = ':0'\nupstream = 'a:1'\ntls-cert = 'no.pem'\n",
            "g.toml:4: --tls-cert: no.pem cannot be read",
        ),
        (
            "[guard.listener.a]\nlisten = ':0'\nupstream = ['a:1', 'a:1']\n",
            "g.toml:3: two upstreams are called 'a:1'",
        ),
        ("[guard.listener.a]\nlisten = ':0'\n", "g.toml:1: say where to go on to"),
        (
            "[guard.listener.a]\nlisten = ':7'\nupstream = 'a:1'\n"
            "[guard.listener.b]\nlisten = '127.0.0.1:7'\nupstream = 'a:1'\n",
            "g.toml:5: listener a listens on 127.0.0.1:7 already",
        ),
        (
            "[guard.listener.a]\nlisten = '127.0.0.1:7'\nupstream = '127.0.0.1:8'\n"
            "[guard.listener.b]\nlisten = '127.0.0.1:8'\nupstream = '127.0.0.1:7'\n",
            "g.toml:3: listeners lead to each other in a circle: a -> b -> a",
        ),
        (
            "[guard]\nmetrics = '127.0.0.1:9'\nupstream = 'a:1'\n"
            "[guard.listener.a]\nlisten = ':7'\n[guard.listener.b]\nlisten = ':8'\n",
            "listener a serves its metrics on 127.0.0.1:9 already",
        ),
    ],
)
def test_mistakes_in_a_file_are_said_with_their_line(
    tieline: Tieline, content: str, says: str
) -> None:
    file = written(tieline, content)
    for arguments in (["guard", "--config", file], ["guard", "--config", file, "--check"]):
        running = tieline.run(*arguments)
        assert (running.code, says in running.err) == (2, True), running.err
        assert running.err.count("\n") == 1, running.err
    running = tieline.run("config", "check", file)
    assert (running.code, says in running.err) == (2, True), running.err


def test_a_listener_without_an_address_needs_systemd(tieline: Tieline) -> None:
    file = written(tieline, "[guard.listener.a]\nupstream = '127.0.0.1:9'\n")
    running = tieline.run("guard", "--config", file)
    assert running.code == 2
    assert "g.toml:1: say where to listen" in running.err
    assert tieline.run("config", "check", file).code == 0
    running = tieline.run("guard", "--config", file, "--check")
    assert running.code == 0
    assert "a: it does not say where to listen: right only if systemd" in running.err


# ---- Languages


def test_in_chinese(tieline: Tieline, service: Service) -> None:
    running = tieline.start(
        "guard", "127.0.0.1:0", f"{service.address},name=db", LANG="zh_CN.UTF-8"
    )
    running.port = int(running.error_line("正在监听").rpartition(":")[2])
    assert f"转发到 db（{service.address}）" in running.error_line("转发到")
    assert ask(running.port) == b"a!"
    running.line("→ db")
    assert "已关闭：peer_closed（" in running.line("已关闭")
    running = tieline.run("guard", LANG="zh_CN.UTF-8")
    assert running.code == 2
    assert "请指定监听地址" in running.err


def test_help_names_every_setting(tieline: Tieline) -> None:
    from tieline.guard import SETTINGS
    from tieline.limits import RULES

    out = tieline.run("guard", "--help-all").out
    absent = {"message", "max_message", "min_receive_rate"}
    for name in {*RULES, *SETTINGS}:
        flag = f"  --{name.replace('_', '-')} "
        assert (flag in out) is (name not in absent), name


def test_settings_are_shown_with_where_they_were_said(tieline: Tieline) -> None:
    file = written(tieline, "[guard]\nlisten = ':1'\nupstream = 'db.example:5432,max=9'\n")
    running = tieline.run("config", "show", "--config", file, "--changed", "guard", "--tries", "1")
    rows = [line.split() for line in running.out.splitlines()[2:]]
    assert sorted(rows) == [
        ["listen", ":1", "g.toml:2"],
        ["tries", "1", "flag"],
        ["upstream", "db.example:5432,max=9", "g.toml:3"],
    ]


def test_the_settings_of_listeners_are_shown_too(tieline: Tieline) -> None:
    file = written(
        tieline,
        "[guard]\nidle = '7s'\n[guard.listener.db]\nlisten = [':1', ':2']\n"
        "upstream = 'db.example:1'\n",
    )
    running = tieline.run("config", "show", "--config", file, "--changed", "guard")
    assert [line.split() for line in running.out.splitlines()] == [
        ["[guard]"],
        ["setting", "value", "from"],
        ["idle", "7s", "g.toml:2"],
        ["[guard.listener.db]"],
        ["setting", "value", "from"],
        ["listen", ":1,", ":2", "g.toml:4"],
        ["upstream", "db.example:1", "g.toml:5"],
    ]


def test_the_path_of_a_listeners_control_socket(tmp_path: Path) -> None:
    from tieline.cli.control_path import control_path_of

    assert control_path_of("/run/tieline.sock", "db") == "/run/tieline-db.sock"
    assert control_path_of(os.path.join(tmp_path, "x"), "db") == f"{tmp_path}/x-db"
