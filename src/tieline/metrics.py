"""A server's numbers for Prometheus: text to scrape, and the smallest server that hands it out.

Nothing is kept for it: the page is made of the counters when it is asked for. Reasons are
labels, and the names of a guard's upstreams; addresses of peers never are: there may be too many
of them.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterable

from ._version import __version__
from .address import Address
from .connection import Connection
from .guard import Guard
from .guard.figures import figures
from .limits import LIMIT_OF_REASON, RULES, Limits
from .listening import Listening
from .reasons import CloseReason
from .server import Server, serve
from .states import State

__all__ = ["CONTENT_TYPE", "exposition", "serve_metrics"]

#: What an exposition is, for whoever sends it over HTTP.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: A request's head is no longer than this, in bytes; there is little that it could say.
_LONGEST_HEAD = 8_192

#: With these, at least, a client is refused at the door: so that each has a number from the start.
_AT_THE_DOOR = (
    CloseReason.CLIENT_LIMIT,
    CloseReason.NETWORK_LIMIT,
    CloseReason.TOTAL_LIMIT,
    CloseReason.CLIENT_RATE,
    CloseReason.PENALIZED,
    CloseReason.BANNED,
    CloseReason.TABLE_FULL,
    CloseReason.NO_DESCRIPTORS,
)

#: Why accepting pauses.
_PAUSES = ("full", "rate", "system")

_SHORT_CONNECTIONS = Limits(
    total=64, per_client=16, first_byte=5.0, idle=10.0, lifetime=10.0, lifetime_jitter=0.0
)


class _Page:
    """An exposition being written: format 0.0.4."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def one(self, name: str, kind: str, help: str, value: float) -> None:
        """A number."""
        self._head(name, kind, help)
        self._lines.append(f"{name} {value}")

    def each(
        self, name: str, kind: str, help: str, label: str, values: Iterable[tuple[str, float]]
    ) -> None:
        """Several of one name, told apart by a label."""
        self._head(name, kind, help)
        self._lines += [f'{name}{{{label}="{_escaped(key)}"}} {value}' for key, value in values]

    def _head(self, name: str, kind: str, help: str) -> None:
        self._lines += (f"# HELP {name} {help}", f"# TYPE {name} {kind}")

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"


def _escaped(value: str) -> str:
    """A label's value as it is written. The path of a Unix socket need not be text."""
    value = value.encode("utf-8", "backslashreplace").decode()
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def exposition(server: Listening) -> str:
    """The server's numbers now, in Prometheus' text format 0.0.4.

    It looks at each open connection once, which takes less than a microsecond.
    """
    page = _Page()
    _tell_connections(page, server)
    _tell_traffic(page, server)
    _tell_policy(page, server)
    if isinstance(server, Guard):
        _tell_upstreams(page, server)
    _tell_process(page, server)
    return str(page)


def _tell_connections(page: _Page, server: Listening) -> None:
    counters = server.counters
    page.one(
        "tieline_connections_accepted_total", "counter", "Connections let in.", counters.accepted
    )
    refused = dict.fromkeys(_AT_THE_DOOR, 0) | counters.refused
    page.each(
        "tieline_connections_refused_total", "counter",
        "Clients told no at the door, by reason.", "reason", refused.items(),
    )  # fmt: skip
    page.each(
        "tieline_connections_closed_total", "counter", "Connections that ended, by reason.",
        "reason", ((reason, counters.closed[reason]) for reason in CloseReason),
    )  # fmt: skip
    states = Counter(connection.state for connection in server.connections)
    page.each(
        "tieline_connections", "gauge", "Connections that are open now, by state.",
        "state", ((state.value, states[state]) for state in State if state is not State.CLOSED),
    )  # fmt: skip
    page.each(
        "tieline_accept_pauses_total", "counter", "Times that accepting paused, by what for.",
        "why", ((why, counters.accept_pauses[why]) for why in _PAUSES),
    )  # fmt: skip
    page.one(
        "tieline_accept_errors_total", "counter",
        "Times that accepting failed, other than by refusing.", counters.accept_errors,
    )  # fmt: skip
    page.one(
        "tieline_handler_errors_total", "counter", "Handlers that raised.", counters.handler_errors
    )


def _tell_traffic(page: _Page, server: Listening) -> None:
    counters = server.counters
    received, sent = counters.bytes_received, counters.bytes_sent
    came, went = counters.messages_received, counters.messages_sent
    owed = 0
    # Together, and without a pause: what ended in between would be counted twice, or not at all.
    for connection in server.connections:
        received += connection.bytes_received
        sent += connection.bytes_sent
        came += connection.messages_received
        went += connection.messages_sent
        owed += connection.owed
    page.one(
        "tieline_received_bytes_total", "counter", "Bytes received, without TLS's own.", received
    )
    page.one("tieline_sent_bytes_total", "counter", "Bytes sent, without TLS's own.", sent)
    page.one("tieline_received_messages_total", "counter", "Whole messages received.", came)
    page.one("tieline_sent_messages_total", "counter", "Whole messages sent.", went)
    page.one("tieline_owed_bytes", "gauge", "Bytes sent that the kernel has not taken yet.", owed)


def _tell_policy(page: _Page, server: Listening) -> None:
    counters, admission, limits = server.counters, server.admission, server.limits
    page.one(
        "tieline_clients", "gauge", "Client machines that hold a connection now.",
        len(admission.clients),
    )  # fmt: skip
    page.one(
        "tieline_clients_known", "gauge",
        "Client machines remembered: those, and the ones with a rate or penalty to work off.",
        admission.known,
    )  # fmt: skip
    page.one("tieline_bans", "gauge", "Bans in force.", sum(1 for _ in admission.bans()))
    page.one(
        "tieline_table_overflows_total", "counter",
        "Newcomers that found the table of clients full.", counters.table_overflows,
    )  # fmt: skip
    page.one(
        "tieline_penalties_total", "counter",
        "Times that a client's account was charged.",
        counters.penalties,
    )  # fmt: skip
    page.each(
        "tieline_spared_total", "counter",
        "What a limit on trial would have refused or closed, by limit.", "limit",
        ((limit, counters.spared[limit]) for limit in LIMIT_OF_REASON.values()),
    )  # fmt: skip
    values = ((name, getattr(limits, name)) for name in RULES)
    page.each(
        "tieline_limit", "gauge",
        "What is allowed: seconds, bytes, connections..., as each limit says; none while off.",
        "limit", ((name, value) for name, value in values if isinstance(value, (int, float))),
    )  # fmt: skip
    page.one(
        "tieline_events_lost_total", "counter", "Events that subscribers were too slow for.",
        server.events.lost,
    )  # fmt: skip
    page.one(
        "tieline_subscriber_errors_total", "counter", "Times that a subscriber to events raised.",
        server.events.failures,
    )  # fmt: skip


def _tell_upstreams(page: _Page, guard: Guard) -> None:
    for name, kind, help, values in figures(guard):
        if isinstance(values, (int, float)):
            page.one(name, kind, help, values)
        else:
            page.each(name, kind, help, "upstream", values)


def _tell_process(page: _Page, server: Listening) -> None:
    page.one(
        "tieline_draining", "gauge", "Whether it is draining: 1, or 0.", int(server.is_draining)
    )
    page.each(
        "tieline_info", "gauge", "Always 1; the label is the version.",
        "version", [(__version__, 1)],
    )  # fmt: skip
    page.one(
        "tieline_start_time_seconds", "gauge", "When it began to listen, since 1970.",
        server.started_at,
    )  # fmt: skip
    page.one(
        "process_cpu_seconds_total", "counter", "CPU time of the process, user and system.",
        round(time.process_time(), 3),
    )  # fmt: skip
    page.one("process_open_fds", "gauge", "Open file descriptors.", _open_descriptors())
    page.one(
        "process_max_fds", "gauge", "How many file descriptors may be open.",
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )  # fmt: skip


def _open_descriptors() -> int:
    # Linux 6.2 and later say how many as a size. Before, they must be listed.
    return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))


# ---- Over HTTP


def serve_metrics(server: Listening, *addresses: str | Address) -> Server:
    """Make a server that answers `GET /metrics` with the exposition of another::

        async with server, serve_metrics(server, "127.0.0.1:9100"):
            await server.wait_closed()

    It is a server of tieline's own, in the same loop, one request a connection. It asks nobody
    who they are, so give it an address that only those who may know can reach.

    Args:
        server: whose numbers.
        addresses: where to listen, as for `tieline.serve`.

    Raises:
        AddressError, UsageError: the addresses make no sense.
    """

    async def answer(connection: Connection) -> None:
        head = b""
        async for piece in connection:
            head += piece
            if len(head) > _LONGEST_HEAD:
                await connection.send(_response("431 Request Header Fields Too Large"))
                return
            if b"\r\n\r\n" in head or b"\n\n" in head:
                await connection.send(_answer(server, head))
                return

    return serve(answer, *addresses, limits=_SHORT_CONNECTIONS)


def _answer(server: Listening, head: bytes) -> bytes:
    words = head.partition(b"\n")[0].rstrip(b"\r").split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return _response("400 Bad Request")
    method, target, _ = words
    if target.partition(b"?")[0] != b"/metrics":
        return _response("404 Not Found")
    if method != b"GET":
        return _response("405 Method Not Allowed", more="Allow: GET\r\n")
    return _response("200 OK", exposition(server).encode(), f"Content-Type: {CONTENT_TYPE}\r\n")


def _response(status: str, body: bytes = b"", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
