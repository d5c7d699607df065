"""The machine: cores, clocks and memory of processes, and what a report says about it all."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

SERVER_CORE = 0
GENERATOR_CORE = 1

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

#: Slab caches whose objects exist per socket: the kernel's own memory of a connection.
_SOCKET_CACHES = frozenset(
    {"TCP", "sock_inode_cache", "filp", "eventpoll_epi", "eventpoll_pwq", "ep_head",
     "tcp_bind_bucket", "tcp_bind2_bucket"}
)  # fmt: skip


def child_setup(core: int) -> Callable[[], None]:
    """What a child does before it becomes its program: its core, its limits, its end."""

    def set_up() -> None:
        os.sched_setaffinity(0, {core})
        raise_descriptor_limit()
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return set_up


def raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as it may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_seconds(pid: int) -> float:
    """Processor seconds a process has used so far, all its threads, to the nanosecond.

    This is clock_getcpuclockid(3), whose arithmetic Python does not offer for processes.
    """
    return time.clock_gettime((~pid << 3) | 2)


def private_bytes(pid: int) -> int:
    """Memory that only this process uses."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    kilobytes = re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", text, re.MULTILINE)
    return 1024 * sum(map(int, kilobytes))


def seconds_without_core(pid: int, core: int) -> float:
    """Seconds for which others have had this core so far while a process of it wanted to run:
    other processes, and other machines on the same host, these to a hundredth."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    waited = sum(int(thread.read_text(encoding="ascii").split()[1]) for thread in threads) / 1e9
    text = Path("/proc/stat").read_text(encoding="ascii")
    columns = text.partition(f"cpu{core} ")[2].partition("\n")[0].split()
    return waited + int(columns[7]) / os.sysconf("SC_CLK_TCK")


def written_bytes(pid: int) -> int:
    """Bytes that a process has written so far, to sockets too, by write(2) and the like."""
    text = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    return int(text.partition("wchar: ")[2].partition("\n")[0])


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def kernel_socket_bytes() -> int | None:
    """Bytes in the kernel's caches of socket objects, of the whole machine; None if not readable.

    A lower bound: directory entries and buffers, which others use too, are left out.
    """
    try:
        lines = Path("/proc/slabinfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    rows = (line.split() for line in lines)
    return sum(int(row[1]) * int(row[3]) for row in rows if row[0] in _SOCKET_CACHES)


def listen_drops() -> int:
    """Connections the kernel has dropped so far, for a full backlog or otherwise."""
    return _network_counter("ListenDrops")


def listen_overflows() -> int:
    """How often the kernel has found a backlog full so far."""
    return _network_counter("ListenOverflows")


def _network_counter(name: str) -> int:
    """One of the kernel's counters; zero if it has none of that name."""
    lines = Path("/proc/net/netstat").read_text(encoding="ascii").splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        table = dict(zip(names.split(), values.split(), strict=True))
        if name in table:
            return int(table[name])
    return 0


def find_program(name: str) -> str | None:
    """Where a program is. Those of servers are in folders that are not on every user's path."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    return shutil.which(name, path=path)


def _first_line(
    command: list[str], environment: dict[str, str] | None = None, after: str = ""
) -> str:
    """The first line a program prints, or what follows `after`, up to the end of its line."""
    program = find_program(command[0])
    if program is None:
        return "not installed"
    result = subprocess.run(
        [program, *command[1:]], env=environment, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    if result.returncode != 0:
        return "unknown"
    # nginx tells its version as if that were an error.
    text = result.stdout or result.stderr
    return text[text.find(after) :].partition("\n")[0].strip()


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _cpu_model() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _wrk_version() -> str:
    """It tells its version, and fails."""
    program = find_program("wrk")
    if program is None:
        return "not installed"
    result = subprocess.run(
        [program, "-v"], capture_output=True, text=True, timeout=30, check=False
    )
    return result.stdout.partition("\n")[0].partition(" [")[0]


def describe(python: Path, envoy: Path, environment: dict[str, str]) -> dict[str, str]:
    """The machine and the versions of all that takes part."""
    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": platform.release(),
        "processor": f"{_cpu_model()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "load average at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "congestion control": _sysctl("net.ipv4.tcp_congestion_control"),
        "somaxconn": _sysctl("net.core.somaxconn"),
        "descriptors": str(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        "gcc": _first_line(["gcc", "--version"]),
        "go": _first_line(["go", "version"]),
        "node": _first_line(["node", "--version"]),
        "haproxy": _first_line(["haproxy", "-v"]),
        "nginx": _first_line(["nginx", "-v"]),
        "envoy": _first_line([str(envoy), "--version"], after="version"),
        "socat": _first_line(["socat", "-V"], after="socat version"),
        "redis": _first_line(["redis-server", "--version"]),
        "wrk": _wrk_version(),
        "python": sys.version.partition(" (")[0],
    }
    for package in ("uvloop", "gevent", "twisted", "trio"):
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        facts[package] = _first_line([str(python), "-c", code])
    code = "import tieline; print(tieline.__version__)"
    facts["tieline"] = _first_line([str(python), "-c", code], environment)
    return facts
