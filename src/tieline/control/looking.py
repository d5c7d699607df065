"""Verbs that look at the server and leave it as it is."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections import Counter
from dataclasses import asdict, fields
from itertools import islice
from typing import Any, cast

from .._version import __version__
from ..address import UNKNOWN_CLIENT
from ..errors import UsageError
from ..guard import ClientLeg, Guard, UpstreamState
from ..listening import Listening
from ..metrics import exposition
from ..states import State
from ..stream import Stream
from .columns import AnyConnection, connection_row
from .listing import list_clients, list_connections
from .protocol import ControlError
from .results import (
    BansResult,
    ClientsResult,
    ClockRow,
    ConnectionDetails,
    ConnectionsResult,
    GuardFacts,
    InfoResult,
    MetricsResult,
    UpstreamSide,
)
from .session import Session

__all__ = [
    "Given", "bans", "client_key", "clients", "connection", "connections", "find", "info",
    "metrics",
]  # fmt: skip

#: A verb's arguments, checked.
Given = dict[str, Any]


async def info(session: Session, given: Given) -> InfoResult:
    """The server: what it is, since when, and what it has counted."""
    server = session.server
    counters: dict[str, Any] = {}
    for field in fields(server.counters):
        value = getattr(server.counters, field.name)
        counters[field.name] = (
            {str(word): count for word, count in value.items()}
            if isinstance(value, Counter)
            else value
        )
    loop = type(asyncio.get_running_loop())
    return {
        "tieline": __version__,
        "python": platform.python_version(),
        "pid": os.getpid(),
        "uid": os.getuid(),
        "loop": f"{loop.__module__}.{loop.__qualname__}",
        "started_at": server.started_at,
        "uptime": round(time.time() - server.started_at, 3) if server.started_at else 0.0,
        "addresses": [str(address) for address in server.addresses],
        "draining": server.is_draining,
        "connections": len(server),
        "clients": len(server.admission.clients),
        "known_clients": server.admission.known,
        "dry_run": list(server.limits.dry_run),
        "guard": _guard_facts(server),
        "counters": counters,
    }


def _guard_facts(server: Listening) -> GuardFacts | None:
    """A guard in short; `None` of any other server."""
    if not isinstance(server, Guard):
        return None
    states = [upstream.state for upstream in server.pool.upstreams]
    return {
        "upstreams": len(states) - states.count(UpstreamState.REMOVED),
        "up": states.count(UpstreamState.UP),
        "waiting": server.pool.waiting,
    }


async def connections(session: Session, given: Given) -> ConnectionsResult:
    """One page of the open connections."""
    if given["client"] is not None:
        given["client"] = client_key(session, given["client"])
    return await list_connections(list(session.server.connections), given)


async def clients(session: Session, given: Given) -> ClientsResult:
    """One page of the client machines that hold connections."""
    return await list_clients(list(session.server.admission.clients.values()), given)


def client_key(session: Session, text: str) -> str:
    """The key of a client that holds connections, given itself or as an address."""
    admission = session.server.admission
    if text not in admission.clients:
        key = admission.key_of(text)
        if key != UNKNOWN_CLIENT and key in admission.clients:
            return key
    return text


async def connection(session: Session, given: Given) -> ConnectionDetails:
    """All there is to know of one connection."""
    connection = find(session, given["id"])
    row = connection_row(connection)
    details = {
        **row,
        "opened_at": round(time.time() - connection.age, 3),
        "received_idle": row["receive_idle"],
        "sent_idle": row["send_idle"],
        "is_idle": connection.is_idle,
        "is_receiving": connection.is_receiving,
        "handler": _whereabouts(connection),
        "clocks": _clocks(connection),
        "user": connection.peer_user,
        "tls": _tls(connection),
        "tcp": _tcp(connection),
        "upstream_side": _upstream_side(connection),
    }
    return cast(ConnectionDetails, details)


def _upstream_side(connection: AnyConnection) -> UpstreamSide | None:
    """What a session is towards its upstream; `None` of anything else."""
    leg = connection.upstream_leg if isinstance(connection, ClientLeg) else None
    if leg is None:
        return None
    now = leg.opened_at + leg.age
    return {
        "local": str(leg.local),
        "peer": str(leg.peer),
        "state": leg.state.value,
        "receive_idle": round(now - leg.last_received, 3),
        "send_idle": round(now - leg.last_sent, 3),
        "bytes_received": leg.bytes_received,
        "bytes_sent": leg.bytes_sent,
        "owed": leg.owed,
        "clocks": _clocks(leg),
        "tls": _tls(leg),
        "tcp": _tcp(leg),
    }


def _clocks(stream: Stream) -> list[ClockRow]:
    return [{"reason": str(reason), "left": round(left, 3)} for left, reason in stream.clocks()]


def _tls(stream: Stream) -> dict[str, Any] | None:
    tls = stream.ssl_object
    if tls is None:
        return None
    return {"version": tls.version(), "cipher": (tls.cipher() or [None])[0]}


def _tcp(stream: Stream) -> dict[str, Any] | None:
    try:
        return asdict(stream.tcp_info())
    except UsageError:
        return None  # a Unix socket


def find(session: Session, id: int) -> AnyConnection:
    connection = session.server.connection(id)
    if connection is None or connection.state is State.CLOSED:
        raise ControlError(
            "no open connection has the number {value}", code="not_found", name="id", value=id
        )
    return cast(AnyConnection, connection)


def _whereabouts(connection: AnyConnection) -> str | None:
    """Where its conversation waits: the innermost place in the application's own code."""
    task = connection.task
    if task is None:
        return None
    stack = task.get_stack(limit=1)
    if not stack:
        return None
    code = stack[-1].f_code
    return f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{stack[-1].f_lineno})"


async def bans(session: Session, given: Given) -> BansResult:
    """Who is banned, and who owes penalties."""
    admission = session.server.admission
    most: int = given["limit"]
    bans = list(islice(admission.bans(), most + 1))
    penalties = list(islice(admission.penalties(), most + 1))
    return {
        "bans": [
            {
                "network": ban.network, "why": ban.why,
                "left": None if ban.left is None else round(ban.left, 3),
                "refusals": ban.refusals,
            }
            for ban in bans[:most]
        ],
        "penalties": [
            {
                "client": penalty.key, "owed": round(penalty.owed, 3),
                "refused": penalty.refused, "refusals": penalty.refusals, "why": penalty.why,
            }
            for penalty in penalties[:most]
        ],
        "more": max(len(bans), len(penalties)) > most,
    }  # fmt: skip


async def metrics(session: Session, given: Given) -> MetricsResult:
    """Everything as Prometheus reads it."""
    return {
        "content_type": "text/plain; version=0.0.4; charset=utf-8",
        "text": exposition(session.server),
    }
