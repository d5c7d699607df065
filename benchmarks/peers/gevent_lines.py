# mypy: disable-error-code="import-not-found,import-untyped"
"""gevent: a greenlet per connection, lines read through a file object."""

from __future__ import annotations

import socket

from gevent.server import StreamServer
from peer_tools import BACKLOG, HOST, parser, raise_descriptor_limit, say_ready


def answer_lines(connection: socket.socket, _address: object) -> None:
    """Answer each line with itself."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        with connection.makefile("rb") as lines:
            for line in lines:
                connection.sendall(line)
    except ConnectionError:
        pass


if __name__ == "__main__":
    options = parser().parse_args()
    raise_descriptor_limit()
    server = StreamServer((HOST, options.port), answer_lines, backlog=BACKLOG)
    server.start()
    say_ready()
    server.serve_forever()
