"""HAProxy, nginx, Envoy or socat as a proxy: one core's worth of it, in the foreground. And Redis.

    foreground.py --program PATH [--module PATH] [--splice] [--per-client N] [--backend PORT] PORT

Writes its configuration, says "ready" once it listens, and becomes it. Each is set up as its manual
has it, with timeouts, and logs nothing. `--per-client` is the cap of HAProxy and nginx for each
client; `--log-refusals` has nginx log what it refuses, to be counted.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peer_tools import BACKLOG, HOST, raise_descriptor_limit, say_ready

FOLDER = Path(__file__).resolve().parent.parent / "build" / "guards"
PATIENCE = 20.0  # for them to start, in seconds
PROBE = "127.0.0.3"  # comes from an address that nobody else uses
MOST = 9500  # sessions, two descriptors each
MOST_WITH_PIPES = 4000  # HAProxy sets descriptors for pipes aside

HAPROXY = """
global
    nbthread 1
    maxconn {most}
    stats socket abns@tieline-benchmark-{port} level user
defaults
    mode tcp
    timeout connect 5s
    timeout client 5m
    timeout server 5m
    {splice}
frontend guard
    bind {host}:{port} backlog {backlog}
    maxconn {most}
    {rule}
    default_backend behind
backend behind
    server one {host}:{backend}
"""

#: Not "splice-auto", whose heuristics were not seen to choose a splice under this load at all.
HAPROXY_SPLICE = """
    option splice-request
    option splice-response
"""

HAPROXY_RULE = """
    stick-table type ip size 1m expire 1h store conn_cur
    tcp-request connection reject if {{ src_conn_cur ge {per_client} }}
    tcp-request connection track-sc0 src
"""

NGINX = """
load_module {module};
daemon off;
master_process off;
pid {folder}/nginx-{port}.pid;
error_log stderr {level};
events {{ worker_connections {descriptors}; }}
stream {{
    limit_conn_zone $binary_remote_addr zone=clients:10m;
    limit_conn_log_level info;
    server {{
        listen {host}:{port} backlog={backlog};
        {rule}
        proxy_timeout 5m;
        proxy_connect_timeout 5s;
        proxy_pass {host}:{backend};
    }}
}}
"""

NGINX_RULE = "limit_conn clients {per_client};"


def haproxy(options: argparse.Namespace) -> list[str]:
    """Its command; the configuration is written."""
    rule = HAPROXY_RULE.format(per_client=options.per_client) if options.per_client else ""
    file = _write(
        "haproxy", options,
        HAPROXY.format(
            host=HOST, port=options.port, backlog=BACKLOG, backend=options.backend, rule=rule,
            most=MOST_WITH_PIPES if options.splice else MOST,
            splice=HAPROXY_SPLICE if options.splice else "",
        ),
    )  # fmt: skip
    return ["-db", "-q", "-f", file]


def nginx(options: argparse.Namespace) -> list[str]:
    """Its command; the configuration is written."""
    rule = NGINX_RULE.format(per_client=options.per_client) if options.per_client else ""
    file = _write(
        "nginx", options,
        NGINX.format(
            host=HOST, port=options.port, backlog=BACKLOG, backend=options.backend, rule=rule,
            module=options.module, folder=FOLDER, descriptors=2 * MOST,
            level="info" if options.log_refusals else "error",
        ),
    )  # fmt: skip
    return ["-e", "stderr", "-p", str(FOLDER), "-c", file]


def envoy(options: argparse.Namespace) -> list[str]:
    """Its command; the configuration is written. Its own limit of 1,024 sessions is raised."""

    def at(port: int) -> dict[str, Any]:
        return {"socket_address": {"address": HOST, "port_value": port}}

    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "guard",
        "cluster": "behind",
        "idle_timeout": "300s",
    }
    listener = {
        "address": at(options.port),
        "tcp_backlog_size": BACKLOG,
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [{"name": "tcp_proxy", "typed_config": proxy}]}],
    }
    cluster = {
        "name": "behind",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {
            "thresholds": [{"max_connections": MOST, "max_pending_requests": MOST}]
        },
        "load_assignment": {
            "cluster_name": "behind",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(options.backend)}}]}],
        },
    }
    resources = {"listeners": [listener], "clusters": [cluster]}
    file = _write("envoy", options, json.dumps({"static_resources": resources}, indent=1))
    return ["-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


def socat(options: argparse.Namespace) -> list[str]:
    """Its command: a process a session."""
    listen = f"TCP-LISTEN:{options.port},bind={HOST},reuseaddr,backlog={BACKLOG},nodelay,fork"
    return ["-T", "300", listen, f"TCP:{HOST}:{options.backend},nodelay,connect-timeout=5"]


def redis(options: argparse.Namespace) -> list[str]:
    """Its command: nothing is kept on a disk."""
    settings = {
        "port": options.port, "bind": HOST, "protected-mode": "no", "save": "", "appendonly": "no",
        "tcp-backlog": BACKLOG, "maxclients": 2 * MOST, "logfile": "/dev/null", "dir": FOLDER,
    }  # fmt: skip
    FOLDER.mkdir(parents=True, exist_ok=True)
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


COMMANDS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "haproxy": haproxy,
    "nginx": nginx,
    "envoy": envoy,
    "socat": socat,
    "redis-server": redis,
}


def _write(name: str, options: argparse.Namespace, text: str) -> str:
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{name}-{options.port}.conf"
    file.write_text(text, encoding="utf-8")
    return str(file)


def say_when_ready(port: int) -> None:
    """In a process of its own, which nobody has to wait for: wait until the port is listened on."""
    if (child := os.fork()) > 0:
        os.waitpid(child, 0)
        return
    if os.fork() > 0:
        os._exit(0)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with socket.socket() as probe:
            probe.bind((PROBE, 0))
            if probe.connect_ex((HOST, port)) == 0:
                say_ready()
                break
        time.sleep(0.02)
    os._exit(0)


def main() -> None:
    """Become the program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", type=Path, required=True, help="one of those named above")
    parser.add_argument("--module", default="", help="nginx's stream module")
    parser.add_argument("--splice", action="store_true", help="HAProxy: splice, both ways")
    parser.add_argument("--per-client", type=int, default=0, help="0: no cap")
    parser.add_argument("--backend", type=int, default=0, help="of a proxy")
    parser.add_argument("--log-refusals", action="store_true")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    raise_descriptor_limit()
    program = str(options.program)
    command = [program, *COMMANDS[options.program.name](options)]
    say_when_ready(options.port)
    os.execv(program, command)


if __name__ == "__main__":
    main()
