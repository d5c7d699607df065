"""Relays of the field beside the guard, each in front of one port, as people set them up."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from guard.services import NGINX_STREAM, free_port, served
from many.guard_proofs.programs import guard

__all__ = ["RELAYS", "Relay", "find"]

#: Where `make bench` leaves Envoy.
_BENCHMARKS = Path(__file__).parents[2] / "benchmarks/build"

#: A relay: the folder it may use, what is behind it; the port where it listens.
Relay = Callable[[Path, int], AbstractContextManager[int]]


def find(name: str) -> str | None:
    """A program, wherever Debian or the benchmarks keep it."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:{_BENCHMARKS}")


def version(name: str, option: str) -> str:
    """What it says that it is."""
    program = find(name)
    assert program is not None
    done = subprocess.run((program, option), capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "?"


@contextlib.contextmanager
def none(folder: Path, behind: int) -> Iterator[int]:
    """No relay at all."""
    yield behind


#: No connections but those of the sessions.
_UNCHECKED = {"check_interval": None}


@contextlib.contextmanager
def guard_on_asyncio(folder: Path, behind: int) -> Iterator[int]:
    with guard(f"127.0.0.1:{behind}", settings=_UNCHECKED) as it:
        yield it.port


@contextlib.contextmanager
def guard_on_uvloop(folder: Path, behind: int) -> Iterator[int]:
    with guard(f"127.0.0.1:{behind}", settings=_UNCHECKED, loop="uvloop") as it:
        yield it.port


@contextlib.contextmanager
def haproxy(folder: Path, behind: int) -> Iterator[int]:
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(
        "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n"
        f"  timeout server 1m\nlisten front\n  bind 127.0.0.1:{port}\n"
        f"  server one 127.0.0.1:{behind}\n"
    )
    with served(port, "haproxy", "-f", str(config), "-db"):
        yield port


@contextlib.contextmanager
def nginx(folder: Path, behind: int) -> Iterator[int]:
    port = free_port()
    config = folder / "nginx.conf"
    load = f"load_module {NGINX_STREAM};\n" if NGINX_STREAM.exists() else ""
    config.write_text(
        f"{load}daemon off;\nmaster_process off;\npid {folder / 'nginx.pid'};\n"
        "error_log stderr;\nevents { }\nstream { server {\n"
        f"listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{behind}; }} }}\n"
    )
    with served(port, "nginx", "-p", str(folder), "-c", str(config), "-e", "stderr"):
        yield port


@contextlib.contextmanager
def envoy(folder: Path, behind: int) -> Iterator[int]:
    port = free_port()
    config = folder / "envoy.json"

    def address(port: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "front",
        "cluster": "behind",
    }
    chain = {"filters": [{"name": "tcp_proxy", "typed_config": proxy}]}
    ends = [{"lb_endpoints": [{"endpoint": {"address": address(behind)}}]}]
    assignment = {"cluster_name": "behind", "endpoints": ends}
    cluster = {"name": "behind", "type": "STATIC", "load_assignment": assignment}
    listener = {"address": address(port), "filter_chains": [chain]}
    config.write_text(
        json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    )
    found = find("envoy")
    assert found is not None
    with served(
        port, found, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"
    ):
        yield port


#: Each with the program that it needs, and how that tells its version.
RELAYS: dict[str, tuple[Relay, str | None, str]] = {
    "no relay": (none, None, ""),
    "tieline guard": (guard_on_asyncio, None, ""),
    "tieline guard, uvloop": (guard_on_uvloop, None, ""),
    "HAProxy": (haproxy, "haproxy", "-v"),
    "nginx stream": (nginx, "nginx", "-v"),
    "Envoy": (envoy, "envoy", "--version"),
}
