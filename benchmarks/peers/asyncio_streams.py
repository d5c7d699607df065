"""asyncio streams as the manual shows them: readline, write, drain.

With `--timeout timeout`, each readline is under `asyncio.timeout(--idle)`, which is how an idle
limit is written with streams.
"""

from __future__ import annotations

import asyncio

from peer_tools import BACKLOG, HOST, loop_parser, run, serve_until_told


async def answer_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line with itself."""
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


async def answer_lines_in_time(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: float
) -> None:
    """Answer each line with itself, as long as the next comes within `idle` seconds."""
    while True:
        async with asyncio.timeout(idle):
            line = await reader.readline()
        if not line:
            return
        writer.write(line)
        await writer.drain()


async def serve(port: int, idle: float | None, stalls: bool) -> None:
    """Serve until terminated."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if idle is None:
                await answer_lines(reader, writer)
            else:
                await answer_lines_in_time(reader, writer, idle)
        except (ConnectionError, TimeoutError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(handle, HOST, port, backlog=BACKLOG):
        await serve_until_told(stalls)


if __name__ == "__main__":
    parser = loop_parser()
    parser.add_argument("--timeout", choices=["none", "timeout"], default="none")
    parser.add_argument("--idle", type=float, default=60.0)
    options = parser.parse_args()
    limit = options.idle if options.timeout == "timeout" else None
    run(serve(options.port, limit, options.stalls), options.loop)
