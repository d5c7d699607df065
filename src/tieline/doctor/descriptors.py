"""The open files that a process of tieline has beside its connections."""

from __future__ import annotations

__all__ = ["OF_A_GUARD", "OF_A_LISTENER", "OF_A_PROCESS", "OF_A_SERVER"]

#: stdin, stdout and stderr; asyncio's epoll and the two ends of the socket with which it wakes
#: itself; tieline's epoll. (uvloop has six more.)
OF_A_PROCESS = 7

#: The listening socket, and the descriptor kept in reserve, with which one client can be told no
#: when there are none left.
OF_A_LISTENER = 2

#: Of a `tieline serve --port`, which listens on IPv4 and IPv6.
OF_A_SERVER = OF_A_PROCESS + 2 * OF_A_LISTENER

#: Of a guard with one listener: pipes for bulk, at most; and its sockets, its control socket and
#: those who use it, checks of its upstreams, the log.
OF_A_GUARD = 128 + 32
