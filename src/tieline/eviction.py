"""Who goes when there is no room: decisions, given the connections and the time.

Never a connection with something under way, never one that has not been idle for a while; and
few at a time, so that making room never stalls the others.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from .limits import Limits

__all__ = ["Evictable", "Holdings", "idlest", "idlest_of_biggest", "over_the_caps"]

#: The most that go at once, and the share of the total that this is at most. (nginx: 32 of its
#: reusable ones; Sozu: one in a hundred.)
_AT_ONCE = 32
_SHARE_AT_ONCE = 100


class Evictable(Protocol):
    """What is looked at of a connection."""

    @property
    def is_idle(self) -> bool: ...
    @property
    def is_receiving(self) -> bool: ...
    @property
    def last_active(self) -> float: ...

    id: int
    client: Any

    def is_still_taking(self) -> bool: ...


C = TypeVar("C", bound=Evictable)


def _may_go(connection: Evictable, before: float) -> bool:
    # `is_receiving` first: it is cheap, and false once closing has begun.
    return connection.last_active <= before and connection.is_receiving and connection.is_idle


def idlest(connections: Iterable[C], before: float) -> C | None:
    """The connection that has been idle longest; `None` if none may go.

    Args:
        before: one that was active after this is left alone.
    """
    eligible = sorted(
        (each for each in connections if _may_go(each, before)), key=lambda each: each.last_active
    )
    # The kernel is asked last, of few: a peer may still be taking what it holds.
    return next((each for each in eligible if not each.is_still_taking()), None)


def idlest_of_biggest(
    connections: Iterable[C], before: float, total: int, too_many: int = 0
) -> list[C]:
    """The idlest connections of the clients that hold most, for a server that is full.

    Args:
        before: one that was active after this is left alone.
        total: the server's places; about one in a hundred is vacated, 1 to 32.
        too_many: how many are above that, where it was lowered.
    """
    by_client: dict[Any, list[tuple[float, int, C]]] = {}
    for each in connections:
        if _may_go(each, before):
            by_client.setdefault(each.client, []).append((each.last_active, each.id, each))
    biggest = [
        (-client.connections, number, found)
        for number, (client, found) in enumerate(by_client.items())
    ]
    heapq.heapify(biggest)
    for _, _, found in biggest:
        heapq.heapify(found)
    going: list[C] = []
    most = min(_AT_ONCE, max(1, total // _SHARE_AT_ONCE, too_many))
    while biggest and len(going) < most:
        kept, number, found = biggest[0]
        candidate = heapq.heappop(found)[2]
        # The kernel is asked last, of few: a peer may still be taking what it holds.
        if not candidate.is_still_taking():
            going.append(candidate)
            kept += 1
        if found:
            heapq.heapreplace(biggest, (kept, number, found))
        else:
            heapq.heappop(biggest)
    return going


def over_the_caps(connections: Iterable[C], limits: Limits) -> list[C]:
    """Those that must go so that lowered caps hold: the idle first, the idlest of them first, and
    then the busy ones."""
    ranked = sorted(connections, key=lambda each: (not each.is_idle, each.last_active))
    left = len(ranked)
    of_client = Counter(each.client for each in ranked)
    of_network = Counter(each.client.network for each in ranked)
    going: list[C] = []
    for each in ranked:
        client = each.client
        too_many = limits.total is not None and left > limits.total
        if not client.exempt:
            too_many = too_many or (
                limits.per_client is not None and of_client[client] > limits.per_client
            )
            too_many = too_many or (
                limits.per_network is not None
                and client.network is not None
                and of_network[client.network] > limits.per_network
            )
        if too_many:
            going.append(each)
            left -= 1
            of_client[client] -= 1
            of_network[client.network] -= 1
    return going


class Holdings:
    """Which connections each client holds. Kept only while a client's own may be evicted."""

    __slots__ = ("_held",)

    def __init__(self, connections: Iterable[Any] = ()) -> None:
        self._held: dict[Any, dict[int, Any]] = {}
        for each in connections:
            self.add(each)

    def add(self, connection: Any) -> None:
        """It was let in."""
        self._held.setdefault(connection.client, {})[connection.id] = connection

    def remove(self, connection: Any) -> None:
        """It has ended."""
        held = self._held.get(connection.client)
        if held is not None:
            held.pop(connection.id, None)
            if not held:
                del self._held[connection.client]

    def of(self, client: Any) -> Iterable[Any]:
        """Those of one client."""
        return list(self._held.get(client, {}).values())
