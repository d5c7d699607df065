"""Connections and clients as rows: what there is to see, to sort by and to look for."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..address import Address
from ..connection import Connection
from ..states import State
from .pace import Pace, pieces
from .protocol import ControlError, brief
from .results import ClientRow, ClientsResult, ConnectionRow, ConnectionsResult
from .selection import Key, Selection, Wanted, select

if TYPE_CHECKING:
    from ..admission import Client

__all__ = [
    "CLIENT_COLUMNS",
    "CONNECTION_COLUMNS",
    "Column",
    "connection_row",
    "list_clients",
    "list_connections",
]

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


def _idle(connection: Connection) -> float:
    return connection.opened_at + connection.age - connection.last_active


def _next_clock(connection: Connection) -> str | None:
    clocks = connection.clocks()
    return str(clocks[0][1]) if clocks else None


def _left(connection: Connection) -> float | None:
    clocks = connection.clocks()
    return round(clocks[0][0], 3) if clocks else None


def _address_key(address: Address) -> str:
    """Sorts as addresses do, and not as their texts: 10.0.0.9 before 10.0.0.10."""
    host = _unmapped(address.host)
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(family, host)
        except OSError:
            continue
        return f"{len(packed):02}{packed.hex()}{address.port:05}"
    return str(address)


def _unmapped(host: str) -> str:
    """An IPv4 client of a socket for both looks like IPv6."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def _columns(*columns: Column[_Item]) -> dict[str, Column[_Item]]:
    return {column.name: column for column in columns}


#: What a row of `connections` holds.
CONNECTION_COLUMNS: dict[str, Column[Connection]] = _columns(
    Column("id", "the connection's number", lambda each: each.id),
    Column("client", "the key its client is counted under", lambda each: each.client.key),
    Column(
        "peer", "the other end", lambda each: str(each.peer), lambda each: _address_key(each.peer)
    ),
    Column(
        "local", "this end", lambda each: str(each.local), lambda each: _address_key(each.local)
    ),
    Column("state", "where it is in its life", lambda each: each.state.value),
    Column(
        "age", "since it was opened", lambda each: round(each.age, 3),
        lambda each: each.opened_at, "seconds", descending_key=True,
    ),
    Column(
        "idle", "since a byte moved", lambda each: round(_idle(each), 3),
        lambda each: each.last_active, "seconds", descending_key=True,
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
        "clock", "the reason its next clock stands for", _next_clock,
        lambda each: _next_clock(each) or "",
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


def connection_row(connection: Connection) -> ConnectionRow:
    """What there is to see of a connection at a glance."""
    row = {name: column.value(connection) for name, column in CONNECTION_COLUMNS.items()}
    return cast(ConnectionRow, row)


async def list_connections(
    connections: Sequence[Connection], given: Mapping[str, Any]
) -> ConnectionsResult:
    """One page of the connections; those that end meanwhile are left out.

    Args:
        connections: all of them, as they are now.
        given: the arguments of the verb `connections`, checked.

    Raises:
        ControlError: a filter makes no sense.
    """
    tests = [_is_open, *_filters(given)]
    selection = await _select(connections, CONNECTION_COLUMNS, given, lambda each: each.id, tests)
    rows: list[ConnectionRow] = []
    pace = Pace()
    for piece in pieces(selection.items, 16):
        rows += [connection_row(each) for each in piece if _is_open(each)]
        await pace.rest()
    return {
        "connections": rows,
        "total": len(connections),
        "matched": selection.matched,
        "next": _place(selection),
    }


async def list_clients(clients: Sequence[Client], given: Mapping[str, Any]) -> ClientsResult:
    """One page of the client machines that hold connections.

    Args:
        clients: all of them, as they are now.
        given: the arguments of the verb `clients`, checked.
    """
    tests: list[Callable[[Client], bool]] = [_holds]
    if (least := given["min_connections"]) is not None:
        tests.append(lambda each: each.connections >= least)
    selection = await _select(clients, CLIENT_COLUMNS, given, lambda each: each.key, tests)
    rows = [
        cast(ClientRow, {name: column.value(each) for name, column in CLIENT_COLUMNS.items()})
        for each in selection.items
    ]
    return {"clients": rows, "total": len(clients), "next": _place(selection)}


async def _select(
    items: Sequence[_Item],
    columns: dict[str, Column[_Item]],
    given: Mapping[str, Any],
    name: Callable[[_Item], Key],
    tests: Sequence[Callable[[_Item], bool]],
) -> Selection[_Item]:
    column = columns[given["sort"]]
    key = column.key or cast(Callable[[_Item], Key], column.value)
    after = given["after"]
    if after is not None and items:
        # Both of a place are of the types that keys and names have, or cannot be compared.
        for part, example in zip(after, (key(items[0]), name(items[0])), strict=True):
            if isinstance(part, str) != isinstance(example, str):
                raise ControlError(
                    "after must be what an answer with the same sort gave as next, not {value!r}",
                    code="bad_value",
                    name="after",
                    value=brief(after),
                )
    wanted = Wanted(
        key, name, tests, given["limit"], given["descending"] != column.descending_key,
        None if after is None else (after[0], after[1]),
    )  # fmt: skip
    return await select(items, wanted)


def _place(selection: Selection[Any]) -> list[Any] | None:
    return None if selection.next is None else list(selection.next)


# ---- Filters


def _is_open(connection: Connection) -> bool:
    return connection.state is not State.CLOSED


def _holds(client: Client) -> bool:
    return client.connections > 0


def _filters(given: Mapping[str, Any]) -> list[Callable[[Connection], bool]]:
    """What a connection must pass: the cheap tests first."""
    tests: list[Callable[[Connection], bool]] = []
    client, peer, states, clocks = (given[name] for name in ("client", "peer", "state", "clock"))
    least_age, least_idle, least_owed = (
        given[name] for name in ("min_age", "min_idle", "min_owed")
    )
    if client is not None:
        tests.append(lambda each: each.client.key == client)
    if states is not None:
        tests.append(lambda each: each.state.value in states)
    if least_owed is not None:
        tests.append(lambda each: each.owed >= least_owed)
    if least_age is not None:
        tests.append(lambda each: each.age >= least_age)
    if least_idle is not None:
        tests.append(lambda each: _idle(each) >= least_idle)
    if peer is not None:
        tests.append(_peer_test(peer))
    if clocks is not None:
        tests.append(lambda each: _next_clock(each) in clocks)
    return tests


def _peer_test(text: str) -> Callable[[Connection], bool]:
    """`10.0.0.7`, `10.0.0.0/8`, `2001:db8::/32`, a whole `HOST:PORT`, or the start of the path
    of a Unix peer."""
    if text.startswith("unix:"):
        return lambda each: str(each.peer).startswith(text)
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return _whole_peer_test(text)
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    mask, first = int(network.netmask), int(network.network_address)

    def is_inside(connection: Connection) -> bool:
        try:
            # Not `peer`, which makes an address of each, and keeps it.
            packed = socket.inet_pton(family, _unmapped(connection.peer_host))
        except OSError:
            return False
        return int.from_bytes(packed, "big") & mask == first

    return is_inside


def _whole_peer_test(text: str) -> Callable[[Connection], bool]:
    # The text of an address, as rows show it: host and port.
    if ":" not in text:
        raise ControlError(
            "peer must be an address, a network or host and port, not {value!r}",
            hint="such as 10.0.0.7, 10.0.0.0/8, 10.0.0.7:50123 or unix:/run",
            code="bad_value",
            name="peer",
            value=brief(text),
        )
    return lambda each: str(each.peer) == text
