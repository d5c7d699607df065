"""`tieline doctor`: what it says, to people and to programs, and its exit code."""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.command_process import Running, Tieline
from tieline.cli.doctor_at_start import shortage_of
from tieline.cli.doctor_telling import tell
from tieline.cli.doctor_words import count, size
from tieline.cli.log import Log
from tieline.cli.running import raise_descriptor_limit
from tieline.cli.visible import width
from tieline.doctor import Load, Machine, PortRange, Role, examine, judge, short_rate
from tieline.doctor.groups import GroupMemory
from tieline.doctor.remedies import Kind


def lines_of(running: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.out.splitlines()]


def test_what_it_says_to_people(tieline: Tieline) -> None:
    running = tieline.run("doctor")
    assert (running.code, running.err) == (0, "")
    first = running.out.splitlines()[0]
    assert re.fullmatch(
        r"As a server a process can hold [\d,]+ connections. What ends first: [a-z ]+\.", first
    )
    assert "As a client a process can hold " in running.out
    assert "As a guard" not in running.out
    assert "net.ipv4.ip_local_port_range" in running.out


def test_one_role_at_a_time(tieline: Tieline) -> None:
    running = tieline.run("doctor", "--server")
    assert "As a server" in running.out
    assert "As a client" not in running.out
    assert "Short connections" not in running.out
    running = tieline.run("doctor", "--guard", "--client")
    assert "As a server" not in running.out
    assert running.out.index("As a client") < running.out.index("As a guard")


def test_what_it_says_to_programs(tieline: Tieline) -> None:
    machine, server, client, short = lines_of(tieline.run("doctor", "--json"))
    assert {line["v"] for line in (machine, server, client, short)} == {1}
    assert [line["kind"] for line in (machine, server, client, short)] == [
        "machine", "verdict", "verdict", "short",
    ]  # fmt: skip
    assert (server["role"], client["role"]) == ("server", "client")
    assert machine["hard_descriptors"] == server["ceilings"][0]["parts"]["allowed"]
    assert set(server) == {
        "v", "kind", "role", "connections", "ends_first", "aim", "met", "per_connection",
        "sources", "ceilings",
    }  # fmt: skip
    assert set(server["ceilings"][0]) == {"what", "connections", "setting", "parts", "remedies"}
    assert server["connections"] == server["ceilings"][0]["connections"]
    assert (server["aim"], server["met"]) == (None, None)
    assert set(short) == {"v", "kind", "ports", "elsewhere", "loopback"}
    # Ports are no matter of a server's.
    assert len(lines_of(tieline.run("doctor", "--json", "--server"))) == 2


def test_an_aim_that_can_be_met(tieline: Tieline) -> None:
    running = tieline.run("doctor", "--for", "10")
    assert (running.code, running.err) == (0, "")
    assert running.out.count("10: yes. Idle, they take 74.5 KiB of memory.") == 2
    (verdict,) = lines_of(tieline.run("doctor", "--for", "10", "--server", "--json"))[1:]
    assert (verdict["aim"], verdict["met"]) == (10, True)


def test_an_aim_that_cannot(tieline: Tieline) -> None:
    running = tieline.run("doctor", "--for", "1G", "--server")
    assert (running.code, running.err) == (1, "")
    assert "1,000,000,000: no." in running.out
    assert "    now, as root: ulimit -Hn 1000000011\n" in running.out
    assert "    for a service: LimitNOFILE=1000000011 in its unit\n" in running.out
    running = tieline.run("doctor", "--for", "1G", "--client", "--json")
    assert running.code == 1
    verdict = lines_of(running)[1]
    assert verdict["met"] is False
    ports = next(each for each in verdict["ceilings"] if each["what"] == "ports")
    assert ports["remedies"][-1]["setting"] == "--sources"
    running = tieline.run("doctor", "--for", "3G", "--server")
    assert "  descriptors: no setting allows one process so many\n" in running.out


def test_one_of_two_aims_is_enough_to_fail(tieline: Tieline) -> None:
    assert tieline.run("doctor", "--for", "64513", "--client", "--guard").code == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--for", "0"], "'0' is not above zero"),
        (["--for", "many"], "'many' is not a count"),
        (["--for", "-3"], "'-3' is not a count"),
        (["--sources", "0"], "at least one source is needed, and not 0"),
        (["--per-connection", "much"], "'much' is not a size"),
        (["everything"], "unexpected extra argument"),
    ],
)
def test_what_makes_no_sense(tieline: Tieline, arguments: list[str], says: str) -> None:
    running = tieline.run("doctor", *arguments)
    assert (running.code, running.out) == (2, "")
    assert says in running.err
    assert "Traceback" not in running.err


def test_settings_of_a_file_and_of_the_environment(tieline: Tieline) -> None:
    (tieline.folder / "t.toml").write_text(
        "[doctor]\nfor = '1G'\nserver = true\nper-connection = '4KiB'\n"
    )
    running = tieline.run("--config", "t.toml", "doctor", "--json")
    assert running.code == 1
    (verdict,) = lines_of(running)[1:]
    assert (verdict["aim"], verdict["per_connection"]) == (1_000_000_000, 4096)
    running = tieline.run("doctor", "--json", "--client", TIELINE_DOCTOR_SOURCES="5")
    assert lines_of(running)[1]["sources"] == 5


def test_the_soft_limit_is_spoken_of(tieline: Tieline) -> None:
    command = [sys.executable, "-m", "tieline", "doctor", "--server"]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -Sn 200; ulimit -Hn 400; exec "$@"', "sh", *command],
        env=tieline.environment({}), capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert "can hold 389 connections. What ends first: descriptors." in done.stdout
    assert "The soft limit of open files is 200. Tieline raises it to the hard one, 400" in (
        done.stdout
    )


def test_nobody_reads_on(tieline: Tieline) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m tieline doctor --for 1G | head -c 1"],
        env=tieline.environment({}), capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("A", "")


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_sentence_is_wider_than_the_terminal(tieline: Tieline, columns: int) -> None:
    """Commands are: they are there to be copied."""
    command = f"{sys.executable} -m tieline doctor --for 60k --guard --client"
    done = subprocess.run(
        ["script", "-qec", f"stty cols {columns}; {command}", "/dev/null"],
        env=tieline.environment({"NO_COLOR": "1"}), capture_output=True, text=True, timeout=20,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    lines = done.stdout.replace("\r", "").splitlines()
    assert done.returncode == 1
    wide = [line for line in lines if width(line) > columns]
    assert all(line.startswith(("    now, as root: ", "    now: ")) for line in wide), wide


def test_what_is_not_known_is_said(tmp_path: Path, english: Any) -> None:
    """Of a machine of which nothing can be read, nothing is promised."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        machine = examine(tmp_path)
        verdicts = [judge(machine, role, aim=5) for role in Role]
        tell(Log(), machine, Load(), verdicts, short_rate(machine, Load()))
    text = said.getvalue()
    for role in ("server", "client", "guard"):
        assert f"As a {role}: nothing is known that bounds it." in text
    assert "Not known here, and left out: kernel, soft_descriptors, " in text


def test_every_ceiling_and_every_remedy_has_its_words(english: Any) -> None:
    group = GroupMemory(limit=10_000, used=5_000, file="/sys/fs/cgroup/memory.max")
    machine = Machine(
        soft_descriptors=10, hard_descriptors=20, most_descriptors=30, files_open=10,
        files_most=20, is_above_files_most=False, raises_limits=False,
        ports=PortRange(40_000, 40_009, reserved=2), memory_available=9_000, memory_group=group,
        tracked_now=1, tracked_most=10, buffers_most=1 << 30, backlog_most=128, processors=1.0,
        time_wait_reuse=2, time_wait_now=3,
    )  # fmt: skip
    for language in ("en", "zh_CN"):
        english(language)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            load = Load(sources=2)
            verdicts = [judge(machine, role, aim=50, load=load) for role in Role]
            tell(Log(), machine, load, verdicts, short_rate(machine, load))
        text = said.getvalue()
        assert "{" not in text
        for shown in (
            "fs.nr_open", "fs.file-max", "nf_conntrack_max", "memory.max", "20 - 11", "20 - 10",
            "10 - 1", "(40000-40009 - 2) x 2", "MemoryMax=", "LimitNOFILE=61", "4.9 KiB / 7.4 KiB",
        ):  # fmt: skip
            assert shown in text
    assert set(Kind) == {
        *(each.kind for verdict in verdicts for one in verdict.remedies.values() for each in one)
    }


# ---- What a server says when it starts


def started_with(tieline: Tieline, allowed: int, *arguments: str) -> str:
    """What a command says before SIGTERM ends it, with so many open files allowed."""
    command = [sys.executable, "-m", "tieline", *arguments]
    script = f'ulimit -n {allowed}; exec "$@"'
    with subprocess.Popen(
        ["sh", "-c", script, "sh", *command], env=tieline.environment({}),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        lines: list[str] = []
        while not any(word in "".join(lines) for word in ("telnet", "goes on to")):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        process.terminate()
        rest, _ = process.communicate(timeout=20)
    return "".join(lines) + rest


def test_a_server_says_that_its_total_cannot_be_reached(tieline: Tieline) -> None:
    said = started_with(tieline, 300, "serve", "--port", "0")
    assert (
        "this machine allows 300 open files, 11 of which the server needs itself: there is room "
        "for 289 connections, not for 10000 (tieline doctor --for 10000 says what to change)\n"
    ) in said
    said = started_with(tieline, 300, "serve", "--port", "0", "--total", "290", "--metrics", ":0")
    assert "there is room for 285 connections, not for 290" in said


def test_a_server_says_nothing_of_a_total_that_can_be_reached(tieline: Tieline) -> None:
    for more in (["--total", "289"], ["--total", "none"], ["--once"]):
        said = started_with(tieline, 300, "serve", "--port", "0", *more)
        assert "this machine allows" not in said


def test_without_proc_a_server_is_taken_for_one_that_is_usual(
    monkeypatch: pytest.MonkeyPatch, english: Any
) -> None:
    def absent(_path: str) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr("os.listdir", absent)
    monkeypatch.setattr("tieline.cli.doctor_at_start.descriptors_allowed", lambda: 300)
    assert shortage_of(289, 0) == ""
    assert "11 of which the server needs itself: there is room for 289" in shortage_of(290, 0)
    # Infinite.
    monkeypatch.setattr("tieline.cli.doctor_at_start.descriptors_allowed", lambda: -1)
    assert shortage_of(10**9, 0) == ""


def test_a_guard_says_so_too(tieline: Tieline) -> None:
    said = started_with(tieline, 300, "guard", "127.0.0.1:0", "127.0.0.1:9", "--total", "71")
    assert (
        "this machine allows 300 open files, and 71 sessions need 302: there is room for 70 "
        "(tieline doctor --guard --for 71 says what to change)\n"
    ) in said
    said = started_with(tieline, 300, "guard", "127.0.0.1:0", "127.0.0.1:9", "--total", "70")
    assert "this machine allows" not in said


# ---- Numbers


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (7624, "7.4 KiB"),
        (1024**2 - 1, "1.0 MiB"), (1 << 40, "1.0 TiB"), (5000 << 40, "5,000.0 TiB"),
    ],
)  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


def test_counts() -> None:
    assert [count(each) for each in (0, 999, 1000, 28_232)] == ["0", "999", "1,000", "28,232"]


def test_a_limit_that_the_system_does_not_allow_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (100, 2_000_000_000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_descriptor_limit() == 100
