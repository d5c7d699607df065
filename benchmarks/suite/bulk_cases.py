"""The experiment P2: bulk through proxies."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial

from .cases import Plan
from .measure import Fleet, Metrics, Row
from .peers import PROXIES, Peer
from .processes import RunError, Server, generate
from .proxy_cases import proxy_plan

P2 = "P2"
FLOWS = (1, 8)
WAYS = {"up": "to the server", "down": "from the server", "both": "both ways"}

_SECONDS = 60.0
_BACKLOG = 4096


def bulk_case(flows: int, way: str) -> str:
    """The name of a case."""
    return f"{flows} flow{'s' * (flows > 1)}, {WAYS[way]}"


def bulk(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """P2: flows that send as fast as they can. The generator is both ends of them.

    Its listening socket is kept here, so that there is always a server behind the proxies.
    """
    plan = proxy_plan(plan)
    rows: list[Row] = []
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
        port = listener.getsockname()[1]
        with Fleet([peer.in_front_of(port) for peer in peers if peer.name in PROXIES]) as fleet:
            for flows in FLOWS:
                for way in WAYS:
                    window = partial(_window, plan, listener, flows, way)
                    among = partial(_takes, flows)
                    rows += fleet.measure(P2, bulk_case(flows, way), plan.rounds, window, among)
    return rows


def _takes(flows: int, peer: Peer) -> bool:
    """Whether it is asked for so many flows: not for several, if each is a process."""
    return flows == 1 or not peer.forks


def _window(plan: Plan, listener: socket.socket, flows: int, way: str, server: Server) -> Metrics:
    result = generate(
        "bulk", server, _SECONDS, (listener.fileno(),),
        listener=listener.fileno(), flows=flows, up=int(way != "down"), down=int(way != "up"),
        ramp=plan.ramp, seconds=plan.seconds,
    )  # fmt: skip
    size, seconds, cpu = result["bytes"] / 1e9, result["seconds"], result["cpu_seconds"]
    if cpu <= 0:
        raise RunError("the proxy used no processor time")
    return {
        "gb_per_cpu_second": size / cpu,
        "gb_per_second": size / seconds,
        "busy_percent": cpu / seconds * 100,
    }
