"""The experiment E10: looking at a server with very many connections through its control socket."""

from __future__ import annotations

import json
import signal
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .cases import Plan
from .measure import Metrics, Row, error_row, not_run, row_of, say
from .peers import Peer
from .processes import RunError, Server, holding, running

E10 = "E10"

_HOLD_SECONDS = 180.0
_PATIENCE = 30.0

#: What each case asks for, and in words.
_PAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "idlest": ("the 50 idlest", {"sort": "idle", "descending": True, "limit": 50}),
    "clock": (
        "50 of a network, by what is left on their clocks",
        {"sort": "left", "peer": "127.0.0.0/8", "min_age": 0.001, "limit": 50},
    ),
    "long": ("1,000 by bytes", {"sort": "bytes_received", "descending": True, "limit": 1000}),
}
PAGE_CASES = {name: words for name, (words, _) in _PAGES.items()}


def page_case(plan: Plan, name: str) -> str:
    """The name of a case."""
    return f"{plan.control_connections:,} connections: {PAGE_CASES[name]}"


def control_socket(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E10: pages of connections, sorted and filtered; and how long the loop is held for them."""
    rows: list[Row] = []
    for peer in [peer for peer in peers if peer.name.startswith("tieline_responder")]:
        say(f"{E10}: {peer.name}")
        error = not_run(peer)
        try:
            found = {} if error else _pages(plan, peer)
        except RunError as failure:
            error = str(failure)
        for name in _PAGES:
            case = page_case(plan, name)
            if error:
                rows.append(error_row(E10, case, peer, error))
            else:
                rows.append(row_of(E10, case, peer, [found[name]]))
    return rows


def _pages(plan: Plan, peer: Peer) -> dict[str, Metrics]:
    """All the cases, on one server with all its connections."""
    with tempfile.TemporaryDirectory(prefix="tieline-benchmark-") as folder:
        path = str(Path(folder, "control.sock"))
        total = plan.control_connections + 100
        watched = peer.with_options("--stalls", "--control", path, "--total", str(total))
        with (
            running(watched) as server,
            holding(server, plan.control_connections, _HOLD_SECONDS) as holder,
        ):
            found = {name: _page(plan, server, path, name) for name in _PAGES}
            if holder.release()["closed"] != 0:
                raise RunError("the server closed connections meanwhile")
    return found


def _page(plan: Plan, server: Server, path: str, name: str) -> Metrics:
    """One case, several times over, on one control connection."""
    request = {"verb": "connections", "args": _PAGES[name][1]}
    try:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(_PATIENCE)
            control.connect(path)
            with control.makefile("rb") as lines:
                _next(lines)  # the greeting
                server.signal(signal.SIGUSR1)
                times = [
                    _time(control, lines, request, plan.control_connections)
                    for _ in range(plan.control_requests)
                ]
    except OSError as error:
        raise RunError(f"the control socket does not answer: {error}") from error
    return {
        "first_page_ms": statistics.median(times) * 1000,
        "first_page_longest_ms": max(times) * 1000,
        "longest_stall_ms": server.ask()["longest_stall_ms"],
    }


def _time(
    control: socket.socket, lines: BinaryIO, request: dict[str, Any], connections: int
) -> float:
    """Seconds from a request to the page that answers it."""
    begin = time.perf_counter()
    control.sendall(json.dumps(request).encode() + b"\n")
    reply = _next(lines)
    seconds = time.perf_counter() - begin
    result = reply.get("result")
    if not isinstance(result, dict):
        raise RunError(f"the control socket refused: {reply}")
    wanted = min(request["args"]["limit"], connections)
    if len(result["connections"]) != wanted or result["matched"] != connections:
        raise RunError(f"a page of {len(result['connections'])} of {result['matched']} connections")
    return seconds


def _next(lines: BinaryIO) -> dict[str, Any]:
    line = lines.readline()
    if not line:
        raise RunError("the control socket was closed")
    found: dict[str, Any] = json.loads(line)
    return found
