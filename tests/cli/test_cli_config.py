"""`tieline config`: what is wrong in a settings file, what holds, and where that was said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.command_process import Tieline


def write(tieline: Tieline, content: str) -> None:
    (tieline.folder / "t.toml").write_text(content, "utf-8")


# ---- check


def test_a_file_that_is_right(tieline: Tieline) -> None:
    write(tieline, 'lang = "en"\n[serve]\nport = 1\nidle = "5m"\n[send]\nencoding = "gbk"\n')
    running = tieline.run("config", "check", "t.toml")
    assert (running.code, running.out) == (0, "")
    assert running.err == "t.toml: 4 settings, all right\n"
    assert tieline.run("config", "check", "-q", "t.toml").err == ""


def test_everything_that_is_wrong_is_said_line_by_line(tieline: Tieline) -> None:
    write(
        tieline,
        "quite = true\n[serve]\nidel = 3\nport = 77777\n\nexempt-networks = [\n  'x',\n]\n"
        "total-full = 'wiat'\nper_client = 1\nper-client = 2\n[send]\nencoding = 'klingon'\n"
        "[srve]\nidle = 1\n",
    )
    running = tieline.run("config", "check", "t.toml")
    assert (running.code, running.out) == (2, "")
    assert running.err.splitlines() == [
        "t.toml:1: there is no setting 'quite' (did you mean 'quiet'?)",
        "t.toml:3: there is no setting 'serve.idel' (did you mean 'idle'?)",
        "t.toml:4: port: '77777' is not a port (a port is a number from 0 to 65535)",
        "t.toml:6: exempt-networks must be networks, such as 10.0.0.0/8 or 2001:db8::/32, "
        "not 'x' ('x' does not appear to be an IPv4 or IPv6 network)",
        "t.toml:9: total-full must be one of wait, evict, not 'wiat' (did you mean 'wait'?)",
        "t.toml:11: 'serve.per-client' is set twice",
        "t.toml:13: there is no encoding 'klingon' (common ones are utf-8, gbk, gb18030, big5, "
        "latin-1)",
        "t.toml:14: there is no setting 'srve' (did you mean 'serve'?)",
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[serve]\nidle = \n", "t.toml:2: this is not TOML: Invalid value"),
        ("[serve]\nx = '''\n\n", "t.toml:2: this is not TOML: "),
        ("[serve]\nlow-water = '1MiB'\n", "t.toml:2: low_water (1048576) must be below high_water"),
        ("[serve]\nidle = 1\nidle-when-full = 2\n", "t.toml:2: idle_when_full (2.0) must not be"),
        ("[serve]\n\necho = true\nreply = 'x'\n", "t.toml:3: --reply, --echo and --handler"),
        ("[serve]\ndrain-spread = '1m'\n", "t.toml:2: --drain-spread must not be longer than"),
        ("[serve]\nreserved = 5\n", "t.toml:2: reserved (5) needs reserved_networks"),
        ("[serve]\ntls-cert = 'no.pem'\n", "t.toml:2: --tls-cert: no.pem cannot be read"),
        ("[serve]\nunix-mode = '999'\n", "t.toml:2: unix-mode: '999' is not a file's mode"),
        ("[serve]\nconfig = 'y.toml'\n", "t.toml:2: there is no setting 'serve.config'"),
        ("[serve]\nidle = { a = 1 }\n", "t.toml:2: the setting 'serve.idle' has a value of the"),
        ("[completion]\nshell = 'bash'\n", "t.toml:1: there is no setting 'completion'"),
        ("[connect]\ntimeout = 'x'\n", "t.toml:2: timeout: 'x' is not a duration"),
        ("[ctl]\ncontorl = 'x'\n", "t.toml:2: there is no setting 'ctl.contorl'"),
    ],
)
def test_mistakes_have_their_line(tieline: Tieline, content: str, says: str) -> None:
    write(tieline, content)
    running = tieline.run("config", "check", "t.toml")
    assert running.code == 2
    assert running.err.startswith(says)
    assert running.err.count("\n") == 1


def test_several_files_and_one_that_is_not_there(tieline: Tieline) -> None:
    write(tieline, "quiet = true\n")
    running = tieline.run("config", "check", "missing.toml", "t.toml")
    assert running.code == 2
    assert running.err.splitlines() == [
        "the settings file missing.toml cannot be read: No such file or directory",
        "t.toml: 1 setting, all right",
    ]


def test_bytes_that_are_no_text(tieline: Tieline) -> None:
    (tieline.folder / "t.toml").write_bytes(b"a = 1\nb = '\xff'\n")
    running = tieline.run("config", "check", "t.toml")
    assert running.err == "t.toml:2: this is not TOML: not UTF-8 (byte 11)\n"


def test_the_same_is_said_in_chinese(tieline: Tieline) -> None:
    write(tieline, "[serve]\nidel = 3\nidle = 0\n")
    running = tieline.run("--lang", "zh_CN", "config", "check", "t.toml")
    assert running.err.splitlines() == [
        "t.toml:2：没有 'serve.idel' 这项设置（是不是想写 'idle'？）",
        "t.toml:3：idle 必须是大于零的秒数或 None，而不是 0.0",
    ]


def test_what_is_empty_is_not_set(tieline: Tieline) -> None:
    write(tieline, "lang = ''\n[serve]\nport = ''\ntls-cert = ''\nidle = ''\n")
    assert tieline.run("config", "check", "t.toml").err == "t.toml: 0 settings, all right\n"
    running = tieline.run("serve", "--config", "t.toml")
    assert running.err.startswith("say where to listen")


# ---- show


def shown(tieline: Tieline, *arguments: str, **environment: Any) -> dict[str, Any]:
    running = tieline.run("config", "show", "--json", *arguments, **environment)
    assert running.code == 0, running.err
    return {line["name"]: line for line in map(json.loads, running.out.splitlines())}


def test_where_each_value_is_from(tieline: Tieline) -> None:
    write(tieline, "[serve]\nidle = '1m'\nport = 7788\nmessage = '1s'\n")
    found = shown(
        tieline, "--config", "t.toml", "serve", "--idle", "3m", "--echo",
        TIELINE_SERVE_PORT="7789", TIELINE_SERVE_IDLE="2m",
    )  # fmt: skip
    assert found["idle"] == {
        "v": 1, "command": "serve", "name": "idle", "value": "3m", "source": "flag", "place": None,
    }  # fmt: skip
    assert (found["port"]["value"], found["port"]["place"]) == ("7789", "TIELINE_SERVE_PORT")
    assert (found["message"]["source"], found["message"]["place"]) == ("file", "t.toml:4")
    assert (found["echo"]["value"], found["echo"]["source"]) == (True, "flag")
    assert (found["total"]["value"], found["total"]["source"]) == ("10k", "default")
    assert found["reply"]["value"] is None


def test_only_what_was_changed(tieline: Tieline) -> None:
    write(tieline, "quiet = true\n[serve]\nidle = '1m'\n")
    found = shown(tieline, "--changed", "--config", "t.toml")
    assert {name: line["place"] for name, line in found.items()} == {
        "quiet": "t.toml:1", "idle": "t.toml:3",
    }  # fmt: skip


def test_tables_for_people(tieline: Tieline) -> None:
    write(tieline, "[serve]\nidle = '1m'\nlisten = ['127.0.0.1:1', '[::1]:1']\n")
    running = tieline.run("config", "show", "--config", "t.toml", "--changed", "serve")
    assert running.out.splitlines() == [
        "[serve]",
        "setting  value                 from",
        "listen   127.0.0.1:1, [::1]:1  t.toml:3",
        "idle     1m                    t.toml:2",
    ]


def test_every_command_with_settings_is_shown(tieline: Tieline) -> None:
    running = tieline.run("config", "show")
    heads = [line for line in running.out.splitlines() if line.startswith("[")]
    assert heads == [
        "[serve]", "[guard]", "[connect]", "[send]", "[bench]", "[trace]", "[ctl]", "[doctor]",
    ]  # fmt: skip


def test_what_cannot_be_is_not_shown(tieline: Tieline) -> None:
    running = tieline.run("config", "show", "serve", "--idle", "x")
    assert running.code == 2
    assert "'x' is not a duration" in running.err
    running = tieline.run("config", "show", "completion")
    assert running.code == 2
    assert running.err == (
        "'completion' has no settings to show "
        "(there are serve, guard, connect, send, bench, trace, ctl, doctor)\n"
    )


def test_the_file_of_a_variable(tieline: Tieline) -> None:
    write(tieline, "[serve]\nidle = '1m'\n")
    for variable in ("TIELINE_CONFIG", "TIELINE_SERVE_CONFIG"):
        found = shown(tieline, "serve", **{variable: "t.toml"})
        assert found["idle"]["place"] == "t.toml:2", variable
