"""Services as people run them, each in a process and a folder of its own, on loopback; and the
guard in front of them, started as the documentation says.

A test that uses them leaves no process behind, and no connection in the guard.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

__all__ = [
    "FULL_SIZE", "NGINX_STREAM", "Guarded", "free_port", "guarded", "haproxy", "iperf3",
    "mosquitto", "needs", "nginx", "nginx_stream", "note", "postgres", "program", "redis", "relay",
    "run", "served", "size", "sshd", "until", "written_command",
]  # fmt: skip

#: Whether the real sizes are wanted, and not only a glance: `make test-services`.
FULL_SIZE = bool(os.environ.get("FULL_SIZE"))

#: Longest that anything is waited for, in seconds.
_PATIENCE = 120.0 if FULL_SIZE else 20.0

_RECIPES = Path(__file__).parent.parent.parent / "docs/guard.md"

#: What is not on everybody's path.
_ELSEWHERE = ("/usr/sbin", "/sbin", *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True))


#: Where Debian keeps nginx's module for relaying.
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def size(glance: int, full: int) -> int:
    """How much: for a glance, or in full."""
    return full if FULL_SIZE else glance


def _found(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_ELSEWHERE))


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip where one of these programs is not installed."""
    missing = [name for name in programs if _found(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


# ---- Processes


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TIELINE", "LANG", "LC_", "PG"))
    }
    return {**kept, "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}


@dataclass
class Process:
    """A program that runs, and what it has printed."""

    popen: subprocess.Popen[bytes]
    output: IO[bytes]

    def said(self) -> str:
        """Everything so far."""
        return os.pread(self.output.fileno(), 1 << 24, 0).decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. (`Popen`'s own way waits for it if it is over.)"""
        os.kill(self.popen.pid, number)

    def is_over(self) -> bool:
        """Whether it has ended; it stays to be waited for, and so keeps its number."""
        found = os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return found is not None


@contextmanager
def program(*command: str, end_by: signal.Signals = signal.SIGTERM) -> Iterator[Process]:
    """A program, until the end of the block: then it is gone, with all that it has started."""
    name = _found(command[0])
    assert name is not None, command[0]
    with tempfile.TemporaryFile() as output:
        popen = subprocess.Popen(
            (name, *command[1:]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(),
            start_new_session=True,
        )
        process = Process(popen, output)
        try:
            yield process
        except BaseException:
            print(process.said()[-4000:])
            raise
        finally:
            with contextlib.suppress(TimeoutError):
                process.signal(end_by)
                until(process.is_over)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()


def run(*command: str, stdin: bytes = b"") -> str:
    """Run a program to its end; what it has printed."""
    name = _found(command[0])
    assert name is not None, command[0]
    done = subprocess.run(
        (name, *command[1:]),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
        timeout=_PATIENCE,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output
    return output


def until(what: Callable[[], object]) -> None:
    """Wait for it: programs do not say when they are ready."""
    end = time.monotonic() + _PATIENCE
    while not what():
        if time.monotonic() > end:
            raise TimeoutError("it did not come to that")
        time.sleep(0.01)


def free_port() -> int:
    """A port that nobody listens on, for programs that cannot choose one and say so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_listened_on(port: int) -> bool:
    """Asked of the kernel: to connect would be a visit that some services count."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows[1:])


@contextmanager
def served(port: int, *command: str, end_by: signal.Signals = signal.SIGTERM) -> Iterator[Process]:
    """A program that listens on a port, as soon as it does."""
    with program(*command, end_by=end_by) as process:
        until(lambda: _is_listened_on(port) or process.is_over())
        assert not process.is_over(), process.said()
        yield process


# ---- The guard


@dataclass
class Guarded:
    """A guard that runs in front of a service."""

    port: int
    process: Process

    @property
    def cpu(self) -> float:
        """Processor seconds that it has used, user and system."""
        text = Path(f"/proc/{self.process.popen.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def sockets(self) -> int:
        """How many it has open."""
        found = 0
        for descriptor in Path(f"/proc/{self.process.popen.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found += os.readlink(descriptor).startswith("socket:")
        return found


def _section(recipe: str) -> str:
    text = _RECIPES.read_text("utf-8")
    return text.partition(f"\n### {recipe}\n")[2].partition("\n### ")[0]


def written_command(recipe: str, name: str = "guard") -> list[str]:
    """The command line of a recipe, as it is written."""
    found = re.search(rf"^\$ tieline {name} (.*)$", _section(recipe), re.M)
    assert found is not None, recipe
    return shlex.split(found[1])


def _written_file(recipe: str) -> str:
    found = re.search(r"^```toml\n(.*?)^```$", _section(recipe), re.M | re.S)
    assert found is not None, recipe
    return found[1]


@contextmanager
def guarded(recipe: str, port: int, form: str, folder: Path) -> Iterator[Guarded]:
    """A recipe's guard, in front of this port.

    Args:
        form: `command`, on asyncio's loop; or `file`, on uvloop.
    """
    listen, upstream, *flags = written_command(recipe)
    address = upstream.partition(",")[0]
    behind = upstream.replace(address, f"127.0.0.1:{port}")
    if form == "command":
        arguments = ["127.0.0.1:0", behind, *flags, "--loop", "asyncio"]
    else:
        # What else is in the file is the service's.
        text = "[guard]" + _written_file(recipe).partition("[guard]")[2]
        for written, meant in ((listen, "127.0.0.1:0"), (upstream, behind)):
            assert text.count(f'"{written}"') == 1, text
            text = text.replace(f'"{written}"', f'"{meant}"')
        (folder / "guard.toml").write_text(text, "utf-8")
        arguments = ["--config", str(folder / "guard.toml"), "--loop", "uvloop"]
    with relay(*arguments) as guard:
        yield guard


@contextmanager
def relay(*arguments: str) -> Iterator[Guarded]:
    """`tieline guard` with these arguments; nothing of its sessions may be left at the end."""
    with program(sys.executable, "-m", "tieline", "guard", *arguments) as process:
        listening = re.compile(r"listening on 127\.0\.0\.1:(\d+)\s")
        until(lambda: listening.search(process.said()) or process.is_over())
        found = listening.search(process.said())
        assert found is not None, process.said()
        guard = Guarded(int(found[1]), process)
        # Checks come and go.
        before = min(guard.sockets for _ in range(50))
        yield guard
        assert not process.is_over(), process.said()
        until(lambda: guard.sockets <= before)
        assert "Traceback" not in process.said(), process.said()


# ---- Services


@contextmanager
def redis() -> Iterator[int]:
    """Redis, without a disk."""
    port = free_port()
    with served(
        port, "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
        "--appendonly", "no",
    ):  # fmt: skip
        yield port


@contextmanager
def sshd(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """OpenSSH for the present user. Its port, and the options with which he gets in."""
    port = free_port()
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    host_key = (folder / "host.pub").read_text().split()
    (folder / "known").write_text(f"recipe {host_key[0]} {host_key[1]}\n")
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "StrictModes": "no",  # the folder is in one that everybody may write to
        "PidFile": "none",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": "sftp internal-sftp",
    }
    config = folder / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    options = [
        "-F", "none", "-i", str(folder / "user"), "-o", "IdentitiesOnly=yes",
        "-o", f"UserKnownHostsFile={folder / 'known'}", "-o", "HostKeyAlias=recipe",
        "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
    ]  # fmt: skip
    with _folder_of_root(Path("/run/sshd")):
        with served(port, "sshd", "-D", "-e", "-f", str(config)):
            yield port, options


@contextmanager
def _folder_of_root(path: Path) -> Iterator[None]:
    """sshd wants one to lock itself up in, where it is root's."""
    missing = os.geteuid() == 0 and not path.exists()
    if missing:
        path.mkdir(mode=0o755, exist_ok=True)
    try:
        yield
    finally:
        if missing:
            # Somebody else's sshd may have begun to use it.
            with contextlib.suppress(OSError):
                path.rmdir()


@contextmanager
def mosquitto(folder: Path) -> Iterator[tuple[int, Process]]:
    """Mosquitto, that lets everybody in; and its log."""
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        "log_dest stderr\nlog_type all\nmax_queued_messages 0\n"
    )
    with served(port, "mosquitto", "-c", str(config)) as process:
        yield port, process


@contextmanager
def postgres() -> Iterator[int]:
    """PostgreSQL with an empty cluster of its own, and a superuser `me`. It will not run as root:
    then it is `postgres`', or `nobody`'s."""
    port = free_port()
    as_whom: tuple[str, ...] = ()
    # Not in a folder of the test's, into which only its own user can look.
    with tempfile.TemporaryDirectory(prefix="tieline-postgres-") as folder:
        if os.geteuid() == 0:
            user = _somebody_else("postgres", "nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}")
            as_whom = ("setpriv", *ids, "--clear-groups")
        initdb, server = _found("initdb"), _found("postgres")
        assert initdb is not None
        assert server is not None
        run(*as_whom, initdb, "-D", folder, "-A", "trust", "-N", "-U", "me")
        settings = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "",
            "fsync": "off",
        }  # fmt: skip
        options = [word for pair in settings.items() for word in ("-c", f"{pair[0]}={pair[1]}")]
        # An interrupt ends sessions and all; waiting for them would be SIGTERM.
        with served(
            port, *as_whom, server, "-D", folder, *options, end_by=signal.SIGINT
        ) as process:
            until(lambda: "ready to accept connections" in process.said())
            yield port


def _somebody_else(*names: str) -> pwd.struct_passwd:
    for name in names:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise LookupError(names)


@contextmanager
def iperf3() -> Iterator[int]:
    """What measures a line. It serves one client at a time."""
    port = free_port()
    with served(port, "iperf3", "-s", "-B", "127.0.0.1", "-p", str(port)):
        yield port


@contextmanager
def nginx(folder: Path) -> Iterator[int]:
    """nginx that wants a PROXY header, and answers with what is in it."""
    port = free_port()
    config = folder / "nginx.conf"
    paths = "".join(
        f"{each}_temp_path {folder / each};\n"
        for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    answer = "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port"
    config.write_text(
        f"daemon off;\nmaster_process off;\npid {folder / 'nginx.pid'};\n"
        f"error_log stderr;\nevents {{ }}\nhttp {{ access_log off;\n{paths}"
        f"server {{ listen 127.0.0.1:{port} proxy_protocol;\n"
        f'location / {{ return 200 "{answer}"; }} }} }}\n'
    )
    with served(port, "nginx", "-p", str(folder), "-c", str(config), "-e", "stderr"):
        yield port


@contextmanager
def nginx_stream(folder: Path, behind: int) -> Iterator[int]:
    """nginx as a relay that sends a header of version 1 to what is behind it."""
    port = free_port()
    config = folder / "stream.conf"
    load = f"load_module {NGINX_STREAM};\n" if NGINX_STREAM.exists() else ""
    config.write_text(
        f"{load}daemon off;\nmaster_process off;\npid {folder / 'stream.pid'};\n"
        "error_log stderr;\nevents { }\nstream { server {\n"
        f"listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{behind}; proxy_protocol on; }} }}\n"
    )
    with served(port, "nginx", "-p", str(folder), "-c", str(config), "-e", "stderr"):
        yield port


@contextmanager
def haproxy(folder: Path, behind: int) -> Iterator[int]:
    """HAProxy that sends a header of version 2 to what is behind it."""
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(
        "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 9s\n"
        f"  timeout server 9s\nlisten front\n  bind 127.0.0.1:{port}\n"
        f"  server guard 127.0.0.1:{behind} send-proxy-v2\n"
    )
    with served(port, "haproxy", "-f", str(config), "-db"):
        yield port


# ---- Figures


def note(what: str, direct: float, through: float, unit: str) -> None:
    """Tell of a measurement."""
    print(f"{what}: {direct:,.2f} {unit} directly, {through:,.2f} through the guard")
