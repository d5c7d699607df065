"""tieline, the library under test: line framing, with its idle limit and per-client cap on."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from peer_tools import BACKLOG, HOST, loop_parser, run, seconds_or_none, serve_until_told

import tieline
from tieline.limits import RULES

TOTAL = 18_000

#: Every limit there is, none of which well-behaved traffic ever meets.
POLICY_ON: dict[str, Any] = {
    "idle": 60.0, "receive_idle": 60.0, "send_idle": 60.0, "idle_when_full": 30.0,
    "first_byte": 60.0, "message": 30.0, "write_stall": 30.0, "half_closed": 60.0,
    "lifetime": 7200.0, "lifetime_jitter": 0.2,
    "min_receive_rate": 100.0, "min_send_rate": 100.0, "rate_grace": 20.0,
    "total": TOTAL, "total_full": "evict", "client_full": "evict", "evict_idle": 10.0,
    "reserved": 100, "reserved_networks": ("10.0.0.0/8", "fd00::/8"),
    "exempt_networks": ("192.168.0.0/16", "2001:db8::/32"),
    "per_client": 17_000, "per_network": 17_500,
    "total_rate": 1e6, "total_burst": 1_000_000,
    "per_client_rate": 1e6, "per_client_burst": 1_000_000,
    "penalty_refused": 1.0, "penalty_slow": 5.0, "penalty_malformed": 5.0, "penalty_tls": 1.0,
    "refusal": "no", "table_size": 100_000,
}  # fmt: skip

#: Every limit off that may be off.
POLICY_OFF: dict[str, Any] = {name: None for name, rule in RULES.items() if rule.off}


def respond(conn: tieline.Connection, line: bytes) -> bytes:
    """Answer a line with itself: a plain function, its value is the reply."""
    return line


async def converse(conn: tieline.Connection) -> None:
    """Answer each line with itself: a coroutine, one per connection."""
    async for line in conn:
        await conn.send(line)


async def serve(
    port: int, kind: str, limits: tieline.Limits, listen_to_events: bool, control: str, stalls: bool
) -> None:
    """Serve until terminated."""
    server = tieline.serve(
        respond if kind == "responder" else converse,
        f"{HOST}:{port}",
        framing=tieline.Line(),
        backlog=BACKLOG,
        limits=limits,
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        if listen_to_events:
            server.events.subscribe(lambda event: None)
        if control:
            from tieline.control import serve as serve_control

            await stack.enter_async_context(serve_control(server, control))
        await serve_until_told(stalls, lambda: count(server))


def count(server: tieline.Server) -> dict[str, int]:
    """What the runner may ask for."""
    return {"refused": server.counters.refused.total(), "open": len(server)}


def count_or_none(text: str) -> int | None:
    """A whole number, or "none"."""
    return None if text == "none" else int(text)


if __name__ == "__main__":
    parser = loop_parser()
    parser.add_argument("--kind", choices=["responder", "conversation"], default="responder")
    parser.add_argument("--idle", type=seconds_or_none, default=60.0, metavar="SECONDS|none")
    parser.add_argument("--per-client", type=count_or_none, default=30_000, metavar="N|none")
    parser.add_argument("--total", type=int, default=TOTAL)
    parser.add_argument("--policy", choices=["usual", "on", "off"], default="usual")
    parser.add_argument("--control", default="", metavar="PATH")
    options = parser.parse_args()
    usual = {"idle": options.idle, "per_client": options.per_client, "total": options.total}
    chosen = {"usual": usual, "on": POLICY_ON, "off": POLICY_OFF}[options.policy]
    run(
        serve(
            options.port, options.kind, tieline.Limits(**chosen), options.policy == "on",
            options.control, options.stalls,
        ),
        options.loop,
    )  # fmt: skip
