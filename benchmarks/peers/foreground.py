"""HAProxy or nginx as a guard with a cap for each client: one process, in the foreground.

    foreground.py --program PATH [--module PATH] --per-client N --backend PORT PORT

Writes its configuration, says "ready" once it listens, and becomes it. Each is set up as its manual
has it for this rule, and logs nothing; `--log-refusals` has nginx log them, to be counted.
"""

from __future__ import annotations

import argparse
import os
import socket
import time
from pathlib import Path

from peer_tools import BACKLOG, HOST, raise_descriptor_limit, say_ready

FOLDER = Path(__file__).resolve().parent.parent / "build" / "guards"
PATIENCE = 20.0  # for them to start, in seconds
PROBE = "127.0.0.3"  # comes from an address that nobody else uses

HAPROXY = """
global
    nbthread 1
    maxconn 8000
    stats socket abns@tieline-benchmark-{port} level user
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend guard
    bind {host}:{port} backlog {backlog}
    maxconn 8000
    stick-table type ip size 1m expire 1h store conn_cur
    tcp-request connection reject if {{ src_conn_cur ge {per_client} }}
    tcp-request connection track-sc0 src
    default_backend echo
backend echo
    server one {host}:{backend}
"""

NGINX = """
load_module {module};
daemon off;
master_process off;
pid {folder}/nginx-{port}.pid;
error_log stderr {level};
events {{ worker_connections 8000; }}
stream {{
    limit_conn_zone $binary_remote_addr zone=clients:10m;
    limit_conn_log_level info;
    server {{
        listen {host}:{port} backlog={backlog};
        limit_conn clients {per_client};
        proxy_timeout 1h;
        proxy_pass {host}:{backend};
    }}
}}
"""


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
    parser.add_argument("--program", type=Path, required=True, help="haproxy or nginx")
    parser.add_argument("--module", default="", help="nginx's stream module")
    parser.add_argument("--per-client", type=int, required=True)
    parser.add_argument("--backend", type=int, required=True)
    parser.add_argument("--log-refusals", action="store_true")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    raise_descriptor_limit()
    name, program = options.program.name, str(options.program)
    file = FOLDER / f"{name}-{options.port}.conf"
    template, command = HAPROXY, [program, "-db", "-q", "-f", str(file)]
    if name == "nginx":
        template, command = NGINX, [program, "-e", "stderr", "-p", str(FOLDER), "-c", str(file)]
    text = template.format(
        host=HOST, port=options.port, backlog=BACKLOG, per_client=options.per_client,
        backend=options.backend, module=options.module, folder=FOLDER,
        level="info" if options.log_refusals else "error",
    )  # fmt: skip
    file.write_text(text, encoding="utf-8")
    say_when_ready(options.port)
    os.execv(program, command)


if __name__ == "__main__":
    main()
