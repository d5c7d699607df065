"""The arguments of each verb, as both clients take them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

__all__ = ["ClientsQuery", "ConnectionsQuery", "ids_of", "words_of"]


class ConnectionsQuery(TypedDict, total=False):
    """Which connections, in what order.

    `client`: a client's key. `peer`: an address, a network (`10.0.0.0/8`), a `HOST:PORT` or the
    beginning of `unix:PATH`. `upstream`: where a guard relays it to, a name or a list of them.
    `state`, `clock`: a word, or a list of them. `min_age`, `min_idle`: seconds. `min_owed`: bytes.
    `sort`: a column (default `id`). `descending`: the largest first. `limit`: rows of a page, 1 to
    1000 (default 50). `after`: what the page before gave as `next`.
    """

    client: str | None
    peer: str | None
    upstream: str | list[str] | None
    state: str | list[str] | None
    clock: str | list[str] | None
    min_age: float | None
    min_idle: float | None
    min_owed: int | None
    sort: str
    descending: bool
    limit: int
    after: list[Any] | None


class ClientsQuery(TypedDict, total=False):
    """Which client machines, in what order.

    `min_connections`: that hold so many. `sort`: a column (default `connections`). `descending`:
    the largest first (default). `limit`, `after`: as for connections.
    """

    min_connections: int | None
    sort: str
    descending: bool
    limit: int
    after: list[Any] | None


def ids_of(ids: tuple[int, ...]) -> list[int] | None:
    """What `kick` is given; `None`: nothing."""
    return list(ids) or None


def words_of(words: Iterable[str] | None) -> list[str] | None:
    """What `watch` is given; `None`: all events."""
    return None if words is None else list(words)
