"""`tieline bench`: what it does, says and writes, and its exit codes."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from bench import made_up
from cli.command_process import Running, Tieline
from cli.scripted_peer import scripted_peer
from tieline.bench import Comparison, Histogram, Result
from tieline.cli.app import run
from tieline.cli.bench.files import write_result

LINES = ("--framing", "line")


class Echo(socketserver.ThreadingTCPServer):
    """A server that gives back what it is sent."""

    request_queue_size = 512
    daemon_threads = True

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while data := self.request.recv(65_536):
                    self.request.sendall(data)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.address = f"127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Here:
    """The command in this process: for what needs no server."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.code = 0
        self.out = self.err = ""

    def run(self, *arguments: str) -> Here:
        """Run it to its end."""
        self.code = run(["bench", *arguments])
        self.out, self.err = self._capsys.readouterr()
        return self


@pytest.fixture
def here(
    english: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(capsys)


def result_of(running: Running | Here) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(running.out)
    return found


def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_what_it_says_to_people(tieline: Tieline, echo: Echo) -> None:
    running = tieline.run(
        "bench", echo.address, "hello", *LINES, "--count", "200", "-c", "4", "--expect-echo"
    )
    assert (running.code, running.err) == (0, "")
    lines = running.out.splitlines()
    assert re.match(r"[\d,.]+ exchanges a second over 4 long connections at once: half ", lines[0])
    head = next(line.split() for line in lines if line.strip().startswith("connect "))
    assert head == ["connect", "first", "byte", "exchange"]
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("p", "count"))}
    assert rows["count"] == ["4", "200", "200"]
    assert [name for name in rows if name[0] == "p"][:6] == [
        "p50", "p75", "p90", "p99", "p99.9", "p99.99",
    ]  # fmt: skip
    assert "how exchanges are spread" in lines
    assert any("█" in line and line.strip().startswith("up to") for line in lines)
    assert ["answered", "200"] in [line.split() for line in lines]


def test_what_it_says_to_programs(tieline: Tieline, echo: Echo) -> None:
    running = tieline.run(
        "bench", echo.address, "hello", *LINES, "--count", "50", "--mode", "short", "--json",
        "--close", "reset",
    )  # fmt: skip
    assert running.code == 0
    found = result_of(running)
    assert (found["v"], found["type"], found["mode"]) == (1, "bench", "short")
    assert (found["exchanges"], found["failures"], found["message_size"]) == (50, {}, 6)
    times = found["summary"]["times"]
    assert set(times) == {"connecting", "first_byte", "exchange", "whole"}
    exchange = times["exchange"]
    assert exchange["count"] == 50
    assert exchange["least"] <= exchange["p50"] <= exchange["p99.99"] <= exchange["most"]


def test_quiet_leaves_the_sentences_and_why_something_failed(tieline: Tieline, echo: Echo) -> None:
    running = tieline.run("bench", echo.address, *LINES, "--count", "20", "-q", "--expect", "pong")
    lines = running.out.splitlines()
    assert lines[:2] == [
        "Not one exchange was answered.",
        "! 20 of 20 came to nothing (100%); no time counts them.",
    ]
    # On a busy machine there is a word about that between them.
    assert lines[-1] == "  wrong answer 20: an answer came, but not the expected one"
    assert len(lines) <= 4
    assert running.code == 7


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["hel\\nlo"], b"hel\nlo"),
        (["a\\xff"], b"a\xff"),
        (["--hex", "01 ff"], b"\x01\xff"),
        (["你好", "--encoding", "gbk"], "你好".encode("gbk")),
        (["你好"], "你好".encode()),
        (["--template", "m{n:3}"], b"m001"),
        (["--template", "--hex", "0a {n:2}"], b"\x0a\x00\x01"),
        (["--file", "message"], b"\x00\xff\r\n"),
        (["--file", "-"], b"from stdin"),
        (["--lines", "lines"], b"first"),
        (["--lines", "digits", "--hex"], b"\x0a\x0b"),
        (["--template", "--file", "template"], b"c1\n"),
        ([], b"ping"),
    ],
)
def test_what_is_sent(tieline: Tieline, arguments: list[str], sent: bytes) -> None:
    (tieline.folder / "message").write_bytes(b"\x00\xff\r\n")
    (tieline.folder / "lines").write_bytes(b"first\r\nsecond\n")
    (tieline.folder / "digits").write_bytes(b"0a 0b\n")
    (tieline.folder / "template").write_bytes(b"c{c}\n")
    received: list[bytes] = []

    def answer(connected: socket.socket) -> None:
        received.append(connected.recv(100))
        connected.sendall(received[0])
        connected.recv(100)

    with scripted_peer(answer) as address:
        running = tieline.run(
            "bench", address, *arguments, "--count", "1", "-c", "1", "-q", "--expect-echo",
            stdin=b"from stdin",
        )  # fmt: skip
    assert (received, running.code) == ([sent], 0), running.err


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--expect", "hello"], 0),
        (["--expect", "HELLO"], 7),
        (["--expect-regex", "^h.*o$"], 0),
        (["--expect-regex", "é"], 7),
        (["--expect-echo"], 0),
        (["--encoding", "utf-8", "--expect", "hello"], 0),
        (["--encoding", "utf-8", "--expect-regex", "l{2}"], 0),
    ],
)
def test_what_is_expected(
    tieline: Tieline, echo: Echo, arguments: list[str], exit_code: int
) -> None:
    running = tieline.run("bench", echo.address, "hello", *LINES, "--count", "10", "-q", *arguments)
    assert running.code == exit_code, running.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--compare", "--rate", "5"], "--compare and --rate exclude each other"),
        (["--compare", "--mode", "hold"], "--compare and --mode hold exclude each other"),
        (["--compare", "--think", "1s"], "--compare and --think exclude each other"),
        (["--mode", "hold", "hello"], "--mode hold sends a message only with --heartbeat"),
        (["--mode", "hold", "--warmup", "1s"], "--warmup means nothing in the mode hold"),
        (["--mode", "short", "--pipeline", "2"], "--pipeline means nothing in the mode short"),
        (["--short-share", "10%"], "--short-share means nothing in the mode long"),
        (["--mode", "mixed", "--short-share", "2"], "--short-share is between 0 and 1, not 2.0"),
        (["--processes", "4", "-c", "2"], "4 processes need at least as many connections"),
        (["--rate", "0"], "'0' is not above zero"),
        (["--hex", "x"], "'x' is not hexadecimal"),
        (["--hex", "01", "--encoding", "gbk"], "--hex is for bytes"),
        (["\\xff", "--encoding", "gbk"], "\\xNN is a byte"),
        (["x", "--lines", "y"], "give the message, --file or --lines"),
        (["--lines", "missing"], "missing cannot be read: No such file"),
        (["--lines", "empty"], "empty has no lines"),
        (["--file", "bytes", "--encoding", "utf-8"], "bytes is not utf-8 text (byte 0)"),
        (["--template", "--lines", "empty"], "--template and --lines exclude each other"),
        (["--template", "{nn}"], "{nn} is no field of a template"),
        (["--seed", "1"], "--seed is for --template"),
        (["--expect", "a", "--expect-echo"], "exclude each other"),
        (["--expect-regex", "("], "'(' is not a regular expression"),
        (["--encoding", "ut"], "there is no encoding 'ut'"),
        (["--source", "192.0.2.1"], "192.0.2.1 is no address of this machine"),
        (["--fail-if", "p99"], "'p99' is no threshold"),
        (["--html", "no/where.html"], "no/where.html cannot be written: there is no such folder"),
        (["--save", "."], ". cannot be written: it is a folder"),
        (["-c", "9M"], "9000000 connections"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    here: Here, tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "bytes").write_bytes(b"\xff")
    running = here.run("127.0.0.1:1", *arguments)
    assert running.code == 2
    assert says in running.err
    assert running.err.count("\n") == 1
    assert running.out == ""


def test_nobody_there(tieline: Tieline) -> None:
    running = tieline.run("bench", nobody(), "-c", "3")
    assert (running.code, running.out) == (3, "")
    assert running.err.startswith("nothing listens on 127.0.0.1:")
    assert running.err.count("\n") == 1


def test_no_such_host(tieline: Tieline) -> None:
    running = tieline.run("bench", "nobody.invalid:1")
    assert running.code == 3
    assert running.err.startswith("no address is known for nobody.invalid")


def test_a_server_that_says_nothing(tieline: Tieline) -> None:
    with scripted_peer(lambda connected: connected.recv(100) and connected.recv(100)) as address:
        running = tieline.run("bench", address, "-c", "1", "--count", "1", "--timeout", "100ms")
    assert running.code == 4
    assert "no answer in time" in running.out
    assert running.err == (
        "if the server waits for the end of a message, --framing says what ends one\n"
    )


def test_the_hold_of_a_connection_needs_no_message(tieline: Tieline, echo: Echo) -> None:
    running = tieline.run(
        "bench", echo.address, "--mode", "hold", "-c", "30", "--duration", "200ms", "--json"
    )
    found = result_of(running)
    assert (running.code, found["held_most"], found["exchanges"]) == (0, 30, 0)


def test_a_storm(tieline: Tieline, echo: Echo) -> None:
    running = tieline.run("bench", echo.address, "--mode", "storm", "-c", "30", "--json")
    assert (running.code, result_of(running)["opened"]) == (0, 30)


def test_several_sources_and_processes(tieline: Tieline, echo: Echo) -> None:
    running = tieline.run(
        "bench", echo.address, *LINES, "-c", "4", "--processes", "2", "--count", "40", "--json",
        "--source", "127.0.0.2-127.0.0.3", "--source", "127.0.0.9",
    )  # fmt: skip
    assert (running.code, running.err) == (0, "")
    found = result_of(running)
    assert (found["exchanges"], found["processes"]) == (40, 2)


# ---- Short against long


def test_compare(tieline: Tieline, echo: Echo) -> None:
    running = tieline.run(
        "bench", echo.address, *LINES, "--compare", "--count", "300", "-c", "2",
        "--save", "both.json", "--html", "both.html",
    )  # fmt: skip
    assert running.code == 0
    assert "short / long" in running.out
    assert "short: how exchanges are spread" in running.out
    found = json.loads((tieline.folder / "both.json").read_text())
    assert found["type"] == "bench_comparison"
    assert (found["short"]["opened"] > 299, found["long"]["opened"]) == (True, 2)
    assert "per_second" in found["short"]["summary"]
    page = (tieline.folder / "both.html").read_text("utf-8")
    assert page.lower().startswith("<!doctype html>")


# ---- Thresholds


def test_thresholds(tieline: Tieline, echo: Echo) -> None:
    arguments = ("bench", echo.address, *LINES, "--count", "20", "-q")
    crossed = tieline.run(*arguments, "--fail-if", "p99<1m", "--fail-if", "failures>0")
    assert crossed.code == 99
    assert re.fullmatch(r"crossed: p99<1m: it was [0-9.]+ [µm]s\n", crossed.err)
    kept = tieline.run(*arguments, "--fail-if", "failures>0", "--fail-if", "p99>1m")
    assert (kept.code, kept.err) == (0, "")


def test_thresholds_from_a_file_and_of_both_kinds(tieline: Tieline, echo: Echo) -> None:
    (tieline.folder / "t.toml").write_text(
        '[bench]\nframing = "line"\nconnections = 2\ncount = 20\nfail-if = ["rate>0"]\n'
    )
    running = tieline.run("bench", echo.address, "--config", "t.toml", "--compare", "-q")
    assert running.code == 99
    one = r"crossed: rate>0: it was [0-9.,]+\n"
    assert re.fullmatch(f"short: {one}long: {one}", running.err)
    assert tieline.run("config", "check", "t.toml").code == 0


# ---- The end in the middle


@pytest.mark.parametrize("kind", [[], ["--compare"]])
def test_ctrl_c_gives_a_report_of_what_was_measured(
    tieline: Tieline, echo: Echo, kind: list[str]
) -> None:
    terminal = on_a_terminal(
        tieline, echo.address, *LINES, "--duration", "60s", *kind, "--save", "cut.json"
    )
    terminal.expect(r"measuring .* p99 ")
    terminal.sendintr()
    terminal.expect("Cut short: this is what was measured in ")
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 130
    assert "Traceback" not in str(terminal.before)
    found = json.loads((tieline.folder / "cut.json").read_text())
    first = found["short"] if kind else found
    assert first["cut_short"]
    assert first["exchanges"] > 0


def test_sigterm_gives_a_report_too(tieline: Tieline, echo: Echo) -> None:
    with scripted_peer(lambda connected: connected.recv(100) and connected.recv(100)) as address:
        running = tieline.start(
            "bench", address, "-c", "1", "--duration", "60s", "--timeout", "60s"
        )
        # It has connected, and waits.
        wait_for_connection(running, address)
        running.send_signal(signal.SIGTERM)
        assert running.wait() == 143
    assert "Cut short" in running.out


def wait_for_connection(running: Running, address: str) -> None:
    port = f"{int(address.rpartition(':')[2]):04X}"
    while not re.search(
        rf": [0-9A-F]+:[0-9A-F]+ 0100007F:{port} 01 ", Path("/proc/net/tcp").read_text()
    ):
        assert running.code is None


def on_a_terminal(tieline: Tieline, *arguments: str, lang: str = "C", columns: int = 80) -> Any:
    return pexpect.spawn(
        sys.executable, ["-m", "tieline", "bench", *arguments],
        env=tieline.environment({"LANG": f"{lang}.UTF-8"}), cwd=str(tieline.folder), timeout=20,
        encoding="utf-8", dimensions=(50, columns),
    )  # fmt: skip


# ---- diff


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with results: `a.json` and `b.json` are alike, `c.json` is of other messages,
    `both.json` a comparison."""
    results: dict[str, Result | Comparison] = {
        "a": made_up.result(), "b": made_up.result(seconds=31.0),
        "c": made_up.result(message_size=7, failures=Counter(wrong_answer=1_000)),
        "both": made_up.comparison(),
    }  # fmt: skip
    for name, each in results.items():
        write_result(each, tmp_path / f"{name}.json")
    return tmp_path


def test_diff(here: Here, kept: Path) -> None:
    running = here.run("diff", "a.json", "b.json")
    assert (running.code, running.err) == (0, "")
    assert running.out.startswith("before 20")
    rows = [re.split("  +", line) for line in running.out.splitlines()]
    assert ["exchanges a second", "41,536", "40,196", "-3.2%", "may be chance"] in rows
    assert ["exchange, p99", "1.03 ms", "1.03 ms", "+0.0%", "may be chance"] in rows
    assert running.out.endswith("\nNo difference that is more than chance.\n")


def test_diff_of_what_was_not_done_alike(here: Here, kept: Path) -> None:
    out = here.run("diff", "a.json", "c.json").out
    assert "! The two were not done alike: bytes of a message 64 before, 7 after." in out
    assert re.search(r"^wrong answer +0 +1,000$", out, re.MULTILINE)
    assert "So the figures say nothing about the service alone." in out


def test_diff_for_programs(here: Here, kept: Path) -> None:
    found = result_of(here.run("diff", "a.json", "c.json", "--json"))
    assert (found["v"], found["type"]) == (1, "bench_diff")
    assert found["plans"] == {"message_size": [64, 7]}
    assert found["failures"] == {"wrong_answer": [0, 1_000]}
    assert found["figures"][0]["name"] == "rate"
    both = result_of(here.run("diff", "both.json", "both.json", "--json"))
    figures = both["short"]["figures"] + both["long"]["figures"]
    assert all(figure["ratio"] == 1 for figure in figures)


def test_a_diff_can_fail(here: Here, kept: Path) -> None:
    slow = made_up.result(exchange=Histogram(made_up.times(30_000, 0.002)))
    for interval in slow.intervals:
        interval.p99 *= 3
    write_result(slow, kept / "slow.json")
    running = here.run("diff", "a.json", "slow.json", "--fail-if-worse")
    assert (running.code, "\nWorse: exchange, p99.\n" in running.out) == (99, True)
    running = here.run("diff", "slow.json", "a.json", "--fail-if-worse")
    assert (running.code, "\nBetter: exchange, p99.\n" in running.out) == (0, True)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ("both.json", "one of the two is a single run, and the other one a comparison"),
        ("missing.json", "missing.json cannot be read: No such file or directory"),
        ("text", "text is no result of a bench"),
        ("list", "list: this is no result of a bench"),
        ("later", "later: this result is of version 2; 1 is what is known here"),
        ("half", "half: this is no result of a bench"),
    ],
)
def test_a_diff_of_something_else(here: Here, kept: Path, other: str, says: str) -> None:
    (kept / "text").write_bytes(b"\xff text")
    (kept / "list").write_text("[1]")
    (kept / "later").write_text('{"type": "bench", "v": 2}')
    (kept / "half").write_text('{"type": "bench_comparison", "short": 1, "long": 2}')
    running = here.run("diff", "a.json", other)
    assert (running.code, running.err) == (2, says + "\n")


def test_a_variable_of_bench_is_none_of_diff(
    here: Here, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIELINE_BENCH_RATE", "5")
    monkeypatch.setenv("TIELINE_BENCH_DIFF_JSON", "1")
    assert result_of(here.run("diff", "a.json", "b.json"))["type"] == "bench_diff"
