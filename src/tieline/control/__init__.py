"""Control a server that runs: look at it, change it, watch it, over a Unix socket.

::

    async with tieline.serve(thank, "127.0.0.1:7788") as server:
        async with tieline.control.serve(server, "/run/thank.sock"):
            await server.wait_closed()

    async with tieline.control.connect("/run/thank.sock") as control:
        print((await control.info())["connections"])

Whoever may connect may do everything: the socket is its owner's and root's alone. The protocol is
in docs/control.md; `tieline.control.blocking` is the client for programs without asyncio.
"""

from __future__ import annotations

from . import blocking
from .client import Control, Events, connect
from .protocol import VERSION, ControlError
from .server import ControlServer, serve

__all__ = [
    "VERSION",
    "Control",
    "ControlError",
    "ControlServer",
    "Events",
    "blocking",
    "connect",
    "serve",
]
