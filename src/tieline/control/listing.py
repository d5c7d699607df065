"""Pages of connections and clients: filtered, sorted, cut."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..states import State
from .columns import (
    CLIENT_COLUMNS,
    CONNECTION_COLUMNS,
    AnyConnection,
    Column,
    connection_row,
    idle,
    next_clock,
    unmapped,
)
from .pace import Pace, pieces
from .protocol import ControlError, brief
from .results import ClientRow, ClientsResult, ConnectionRow, ConnectionsResult
from .selection import Key, Selection, Wanted, select

if TYPE_CHECKING:
    from ..admission import Client

__all__ = ["list_clients", "list_connections"]

_Item = TypeVar("_Item")


async def list_connections(
    connections: Sequence[AnyConnection], given: Mapping[str, Any]
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


def _is_open(connection: AnyConnection) -> bool:
    return connection.state is not State.CLOSED


def _holds(client: Client) -> bool:
    return client.connections > 0


def _filters(given: Mapping[str, Any]) -> list[Callable[[AnyConnection], bool]]:
    """What a connection must pass: the cheap tests first."""
    tests: list[Callable[[AnyConnection], bool]] = []
    client, peer, states, clocks = (given[name] for name in ("client", "peer", "state", "clock"))
    upstreams = given["upstream"]
    least_age, least_idle, least_owed = (
        given[name] for name in ("min_age", "min_idle", "min_owed")
    )
    if client is not None:
        tests.append(lambda each: each.client.key == client)
    if upstreams is not None:
        tests.append(lambda each: each.upstream in upstreams)
    if states is not None:
        tests.append(lambda each: each.state.value in states)
    if least_owed is not None:
        tests.append(lambda each: each.owed >= least_owed)
    if least_age is not None:
        tests.append(lambda each: each.age >= least_age)
    if least_idle is not None:
        tests.append(lambda each: idle(each) >= least_idle)
    if peer is not None:
        tests.append(_peer_test(peer))
    if clocks is not None:
        tests.append(lambda each: next_clock(each) in clocks)
    return tests


def _peer_test(text: str) -> Callable[[AnyConnection], bool]:
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

    def is_inside(connection: AnyConnection) -> bool:
        try:
            # Not `peer`, which makes an address of each, and keeps it.
            packed = socket.inet_pton(family, unmapped(connection.peer_host))
        except OSError:
            return False
        return int.from_bytes(packed, "big") & mask == first

    return is_inside


def _whole_peer_test(text: str) -> Callable[[AnyConnection], bool]:
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
