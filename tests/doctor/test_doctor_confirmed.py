"""The doctor's numbers, confirmed by opening so many connections under the same limits."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli import catalogue
from cli.command_process import PATIENCE, Tieline

catalogue.compile_catalogue()

#: Open files of a process in these tests.
ALLOWED = 300

#: Makes connections and holds them until there can be no more; says how many, and why no more.
CLIENT = """
import asyncio, sys, tieline

async def main():
    held = []
    try:
        while True:
            held.append(await tieline.connect(sys.argv[1], timeout=10).__aenter__())
    except tieline.TielineError as error:
        print(len(held), error.fields["errno"])
    finally:
        for each in held:
            each.abort()

asyncio.run(main())
"""


def lowered(command: Sequence[str]) -> list[str]:
    """The command, with fewer open files than this process may have."""
    return ["sh", "-c", f'ulimit -n {ALLOWED}; exec "$@"', "sh", *command]


def doctor(tieline: Tieline, *arguments: str) -> dict[str, Any]:
    """What `tieline doctor` says of one role, with lowered limits."""
    command = [sys.executable, "-m", "tieline", "doctor", "--json", *arguments]
    done = subprocess.run(
        lowered(command), env=tieline.environment({}), cwd=tieline.folder,
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (verdict,) = [line for line in lines if line["kind"] == "verdict"]
    return dict(verdict)


@contextmanager
def serving(tieline: Tieline, *arguments: str, fewer: bool) -> Iterator[int]:
    """A server on a port of its own, which gives back each line; perhaps with lowered limits."""
    command = [sys.executable, "-m", "tieline", *arguments, "--per-client", "none"]
    with subprocess.Popen(
        lowered(command) if fewer else command, env=tieline.environment({}), cwd=tieline.folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            said = ""
            while "listening on" not in said:
                said = process.stderr.readline()
                assert said, "it has ended"
            yield int(said.rpartition(":")[2])
        finally:
            process.kill()


def is_answered(client: socket.socket) -> bool:
    try:
        client.sendall(b"?\n")
        return client.recv(100) == b"?\n"
    except ConnectionError:
        return False


@pytest.fixture
def tieline(tmp_path: Path) -> Iterator[Tieline]:
    made = Tieline(tmp_path)
    yield made
    made.stop()


def test_a_server_holds_exactly_so_many(tieline: Tieline) -> None:
    verdict = doctor(tieline, "--server")
    assert verdict["ends_first"] == "descriptors"
    count = verdict["connections"]
    with ExitStack() as held:
        serve = ["serve", "--port", "0", "--framing", "line", "--echo"]
        port = held.enter_context(serving(tieline, *serve, fewer=True))

        def come() -> socket.socket:
            return held.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))

        clients = []
        for _ in range(count):
            clients.append(come())
            assert is_answered(clients[-1])
        # One more is told no; those that are in do not notice.
        assert not is_answered(come())
        assert all(map(is_answered, clients))


def test_a_client_holds_exactly_so_many(tieline: Tieline) -> None:
    verdict = doctor(tieline, "--client")
    assert verdict["ends_first"] == "descriptors"
    with serving(tieline, "serve", "--port", "0", fewer=False) as port:
        done = subprocess.run(
            lowered([sys.executable, "-c", CLIENT, f"127.0.0.1:{port}"]),
            env=tieline.environment({}), capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
    assert done.stderr == ""
    count, error = done.stdout.split()
    assert os.strerror(int(error)) == "Too many open files"
    assert int(count) == verdict["connections"]


def test_a_guard_holds_so_many_at_least(tieline: Tieline) -> None:
    verdict = doctor(tieline, "--guard")
    assert verdict["ends_first"] == "descriptors"
    with ExitStack() as held:
        serve = ["serve", "--port", "0", "--framing", "line", "--echo"]
        port = held.enter_context(serving(tieline, *serve, fewer=False))
        guard = ["guard", "127.0.0.1:0", f"127.0.0.1:{port}"]
        port = held.enter_context(serving(tieline, *guard, fewer=True))
        clients = [
            held.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            for _ in range(verdict["connections"])
        ]
        assert all(map(is_answered, clients))


def test_its_answer_is_the_one_that_a_guard_gives_when_it_starts(tieline: Tieline) -> None:
    verdict = doctor(tieline, "--guard")
    done = subprocess.run(
        lowered([sys.executable, "-m", "tieline", "guard", ":0", "127.0.0.1:9", "--check"]),
        env=tieline.environment({}), capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert f"there is room for {verdict['connections']} (" in done.stderr


# ---- Ports, in a network of its own


def _has_networks() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0


#: Has few ports, and counts the connections that can be made with them: those that are held from
#: two addresses, and short ones from a third, each closed from this end first.
PORTS = """
import errno, socket
from pathlib import Path

ipv4 = Path("/proc/sys/net/ipv4")
(ipv4 / "ip_local_port_range").write_text("40000 40099")
(ipv4 / "ip_local_reserved_ports").write_text("40007,40010-40019")
(ipv4 / "tcp_tw_reuse").write_text("0")

from tieline.doctor import Load, Role, examine, judge, short_rate

NO_MORE = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
machine = examine()
said = judge(machine, Role.CLIENT, load=Load(sources=2)).connections
rate = short_rate(machine, Load())

def made_until_none_is_left(listening, source, keep):
    count = 0
    while True:
        try:
            client = socket.create_connection(listening.getsockname(), 10, (source, 0))
        except OSError as error:
            assert error.errno in NO_MORE, error
            return count
        server, _ = listening.accept()
        if keep is None:
            client.close()
            assert server.recv(1) == b""
            server.close()
        else:
            keep += client, server
        count += 1

with socket.create_server(("127.0.0.1", 5000)) as listening:
    kept = []
    held = sum(made_until_none_is_left(listening, f"127.0.0.{n}", kept) for n in (1, 2))
    short = made_until_none_is_left(listening, "127.0.0.3", None)
    for each in kept:
        each.close()
print(said, held, rate.ports, short, examine().time_wait_now)
"""


@pytest.mark.skipif(not _has_networks(), reason="needs a network of its own: root, unshare, ip")
def test_so_many_ports_there_are(tieline: Tieline) -> None:
    inside = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    done = subprocess.run(
        [*inside, sys.executable, "-c", PORTS], env=tieline.environment({}),
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    said, held, ports, short, resting = map(int, done.stdout.split())
    assert said == held == 2 * (100 - 11)
    assert ports == short == 100 - 11
    assert resting >= short


def test_what_a_server_needs_itself_is_what_it_has_open(tieline: Tieline) -> None:
    """Without a connection: so that the number of them is no accident."""
    verdict = doctor(tieline, "--server")
    (descriptors,) = [each for each in verdict["ceilings"] if each["what"] == "descriptors"]
    running = tieline.start("serve", "--port", "0", "--total", "100M")
    said = running.error_line("of which the server needs itself")
    found = re.search(r"(\d+) of which the server needs itself", said)
    assert found is not None
    assert int(found[1]) == descriptors["parts"]["own"]
