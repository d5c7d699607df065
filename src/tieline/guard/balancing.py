"""Which of several upstreams gets the next session.

Pure: each is given upstreams that are up, and returns one that has room and has not failed this
session; `None` if there is none. Weights are the upstreams' `share`, which is above zero.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from .upstream import Upstream

__all__ = ["BALANCES", "Balance", "choose_by_hash", "choose_in_turn", "choose_least"]

#: Chooses among upstreams, for a client's key, leaving out those tried.
Balance: TypeAlias = Callable[[Sequence[Upstream], str, Collection[Upstream]], Upstream | None]

_MASK = (1 << 64) - 1
_UNIT = 1 / (1 << 53)


def choose_in_turn(
    upstreams: Sequence[Upstream], key: str, tried: Collection[Upstream]
) -> Upstream | None:
    """Smooth weighted round robin: each in turn, those of more weight more often, and never all
    of one's turns in a row."""
    chosen: Upstream | None = None
    total = 0.0
    furthest = -math.inf
    for upstream in upstreams:
        if upstream.sessions >= upstream.most or (tried and upstream in tried):
            continue
        share = upstream.share
        total += share
        upstream.turn = turn = upstream.turn + share
        if turn > furthest:
            furthest = turn
            chosen = upstream
    if chosen is not None:
        chosen.turn = furthest - total
    return chosen


def choose_least(
    upstreams: Sequence[Upstream], key: str, tried: Collection[Upstream]
) -> Upstream | None:
    """The one that would have fewest sessions for its weight, this one included; among equals,
    each in turn."""
    least = math.inf
    equal: list[Upstream] = []
    for upstream in upstreams:
        sessions = upstream.sessions
        if sessions >= upstream.most or (tried and upstream in tried):
            continue
        load = (sessions + 1) / upstream.share
        if load < least:
            least = load
            equal = [upstream]
        elif load == least:
            equal.append(upstream)
    if len(equal) > 1:
        return choose_in_turn(equal, key, ())
    return equal[0] if equal else None


def choose_by_hash(
    upstreams: Sequence[Upstream], key: str, tried: Collection[Upstream]
) -> Upstream | None:
    """Weighted rendezvous hashing: a key's own upstream, in every process. One that comes takes
    only its share of the keys, one that goes gives only its own to the others."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    number = int.from_bytes(digest, "little") | 1
    log = math.log
    chosen: Upstream | None = None
    best = -math.inf
    for upstream in upstreams:
        if upstream.sessions >= upstream.most or (tried and upstream in tried):
            continue
        # Multiply-shift: the top bits of the product are as good as random for each upstream.
        # Above zero by half a unit, since zero has no logarithm.
        drawn = (((number * upstream.seed) & _MASK) >> 11) * _UNIT + _UNIT / 2
        score = log(drawn) / upstream.share
        if score > best:
            best = score
            chosen = upstream
    return chosen


#: By the names that `GuardSettings.balance` may have.
BALANCES: dict[str, Balance] = {
    "round-robin": choose_in_turn,
    "least": choose_least,
    "hash": choose_by_hash,
}
