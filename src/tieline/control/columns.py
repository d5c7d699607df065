"""What there is to see of connections and clients at a glance, column by column."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

from ..address import Address
from ..connection import Connection
from ..guard import ClientLeg
from .results import ConnectionRow
from .selection import Key

if TYPE_CHECKING:
    from ..admission import Client

__all__ = [
    "CLIENT_COLUMNS",
    "CONNECTION_COLUMNS",
    "AnyConnection",
    "Column",
    "connection_row",
    "idle",
    "next_clock",
    "unmapped",
]

#: What a server has, and what a guard has.
AnyConnection: TypeAlias = Connection | ClientLeg

_Item = TypeVar("_Item")

#: Sorts behind every number of seconds.
_NEVER = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Column(Generic[_Item]):
    """One column.

    Attributes:
        name: its key in a row.
        help: what it says.
        value: what a row shows.
        key: what it is sorted by, where that is not the value: what does not change while time
            passes, so that a later page begins where the one before ended.
        unit: of a number.
        descending_key: whether `key` runs against the value, as the time of opening against age.
    """

    name: str
    help: str
    value: Callable[[_Item], Any]
    key: Callable[[_Item], Key] | None = None
    unit: str = ""
    descending_key: bool = False


def idle(connection: AnyConnection) -> float:
    """Seconds since a byte moved on it, either way."""
    return _since(connection, connection.last_active)


def _since(connection: AnyConnection, moment: float) -> float:
    return connection.opened_at + connection.age - moment


def next_clock(connection: AnyConnection) -> str | None:
    """The close reason that its next clock stands for."""
    clocks = connection.clocks()
    return str(clocks[0][1]) if clocks else None


def _left(connection: AnyConnection) -> float | None:
    clocks = connection.clocks()
    return round(clocks[0][0], 3) if clocks else None


def _address_key(address: Address) -> str:
    """Sorts as addresses do, and not as their texts: 10.0.0.9 before 10.0.0.10."""
    host = unmapped(address.host)
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(family, host)
        except OSError:
            continue
        return f"{len(packed):02}{packed.hex()}{address.port:05}"
    return str(address)


def unmapped(host: str) -> str:
    """A host as IPv4, if it is: such a client of a socket for both looks like IPv6."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def _columns(*columns: Column[_Item]) -> dict[str, Column[_Item]]:
    return {column.name: column for column in columns}


#: What a row of `connections` holds.
CONNECTION_COLUMNS: dict[str, Column[AnyConnection]] = _columns(
    Column("id", "the connection's number", lambda each: each.id),
    Column("client", "the key its client is counted under", lambda each: each.client.key),
    Column(
        "peer", "the other end", lambda each: str(each.peer), lambda each: _address_key(each.peer)
    ),
    Column(
        "local", "this end", lambda each: str(each.local), lambda each: _address_key(each.local)
    ),
    Column(
        "upstream", "where a guard relays it to", lambda each: each.upstream,
        lambda each: each.upstream or "",
    ),
    Column("state", "where it is in its life", lambda each: each.state.value),
    Column(
        "age", "since it was opened", lambda each: round(each.age, 3),
        lambda each: each.opened_at, "seconds", descending_key=True,
    ),
    Column(
        "idle", "since a byte moved", lambda each: round(idle(each), 3),
        lambda each: each.last_active, "seconds", descending_key=True,
    ),
    Column(
        "receive_idle", "since a byte came from the client",
        lambda each: round(_since(each, each.last_received), 3),
        lambda each: each.last_received, "seconds", descending_key=True,
    ),
    Column(
        "send_idle", "since a byte went to the client",
        lambda each: round(_since(each, each.last_sent), 3),
        lambda each: each.last_sent, "seconds", descending_key=True,
    ),
    Column("bytes_received", "came in", lambda each: each.bytes_received, unit="bytes"),
    Column("bytes_sent", "went out", lambda each: each.bytes_sent, unit="bytes"),
    Column("messages_received", "whole ones", lambda each: each.messages_received),
    Column("messages_sent", "whole ones", lambda each: each.messages_sent),
    Column("owed", "that the kernel has not taken yet", lambda each: each.owed, unit="bytes"),
    Column("waiting", "messages not received yet", lambda each: each.waiting_messages),
    Column(
        "encoding", "the charset it is written to in", lambda each: each.encoding,
        lambda each: each.encoding or "",
    ),
    Column(
        "clock", "the reason its next clock stands for", next_clock,
        lambda each: next_clock(each) or "",
    ),
    Column(
        "left", "until that clock strikes", _left,
        lambda each: _NEVER if (left := _left(each)) is None else left, "seconds",
    ),
)  # fmt: skip

#: What a row of `clients` holds.
CLIENT_COLUMNS: dict[str, Column[Client]] = _columns(
    Column("client", "the key it is counted under", lambda each: each.key),
    Column("host", "its address when it first came", lambda each: each.host),
    Column("connections", "that it holds", lambda each: each.connections),
    Column("refused", "times it was told no, while it held some", lambda each: each.refused),
    Column("exempt", "whether no limit of clients applies to it", lambda each: each.exempt),
    Column(
        "network", "the key of its wider network, where those are counted",
        lambda each: None if each.network is None else each.network.key,
        lambda each: "" if each.network is None else each.network.key,
    ),
)  # fmt: skip


def connection_row(connection: AnyConnection) -> ConnectionRow:
    """What there is to see of a connection at a glance."""
    row = {name: column.value(connection) for name, column in CONNECTION_COLUMNS.items()}
    return cast(ConnectionRow, row)
