# mypy: disable-error-code="import-not-found,import-untyped"
"""trio: a task per connection, lines split from receive_some."""

from __future__ import annotations

import trio
from peer_tools import BACKLOG, HOST, parser, raise_descriptor_limit, say_ready


async def answer_lines(stream: trio.SocketStream) -> None:
    """Answer each line with itself."""
    rest = b""
    async with stream:
        try:
            while data := await stream.receive_some():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    await stream.send_all(line + b"\n")
        except trio.BrokenResourceError:
            pass


async def serve(port: int) -> None:
    """Serve until terminated."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(port, host=HOST, backlog=BACKLOG)
        nursery.start_soon(trio.serve_listeners, answer_lines, listeners)
        say_ready()


if __name__ == "__main__":
    options = parser().parse_args()
    raise_descriptor_limit()
    trio.run(serve, options.port)
