"""tieline, the library under test: line framing, with its idle limit and per-client cap on."""

from __future__ import annotations

from peer_tools import BACKLOG, HOST, loop_parser, run, seconds_or_none, serve_until_told

import tieline

TOTAL = 18_000


def respond(conn: tieline.Connection, line: bytes) -> bytes:
    """Answer a line with itself: a plain function, its value is the reply."""
    return line


async def converse(conn: tieline.Connection) -> None:
    """Answer each line with itself: a coroutine, one per connection."""
    async for line in conn:
        await conn.send(line)


async def serve(
    port: int, kind: str, idle: float | None, per_client: int | None, stalls: bool
) -> None:
    """Serve until terminated."""
    async with tieline.serve(
        respond if kind == "responder" else converse,
        f"{HOST}:{port}",
        framing=tieline.Line(),
        backlog=BACKLOG,
        limits=tieline.Limits(idle=idle, per_client=per_client, total=TOTAL),
    ):
        await serve_until_told(stalls)


def count_or_none(text: str) -> int | None:
    """A whole number, or "none"."""
    return None if text == "none" else int(text)


if __name__ == "__main__":
    parser = loop_parser()
    parser.add_argument("--kind", choices=["responder", "conversation"], default="responder")
    parser.add_argument("--idle", type=seconds_or_none, default=60.0, metavar="SECONDS|none")
    parser.add_argument("--per-client", type=count_or_none, default=30_000, metavar="N|none")
    options = parser.parse_args()
    run(
        serve(options.port, options.kind, options.idle, options.per_client, options.stalls),
        options.loop,
    )
