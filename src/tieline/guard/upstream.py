"""One upstream as it is now: whether it is up, what it has, where its name leads."""

from __future__ import annotations

import enum
import errno
import hashlib
import ipaddress
import socket
import sys
from collections.abc import Collection, Sequence

from ..address import Address
from ..resolve import Candidate
from .health import Health
from .spec import UpstreamSpec

__all__ = ["MOST_ADDRESSES", "OUR_OWN", "Upstream", "UpstreamState", "known_at_once"]

#: Addresses of one upstream; what a resolver knows beyond them is not used.
MOST_ADDRESSES = 64

#: What connecting fails of that is this machine's affair, and says nothing about the upstream.
OUR_OWN = frozenset({
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL,
})  # fmt: skip


class UpstreamState(enum.Enum):
    """Whether an upstream gets sessions."""

    # Members are single objects. Enum's own hash is a call into Python for each look-up.
    __hash__ = object.__hash__

    UP = "up"  #: it gets sessions
    DOWN = "down"  #: it gets none until it answers again
    DRAINING = "draining"  #: it gets none until an operator says so; those it has go on
    REMOVED = "removed"  #: it gets none any more, and is forgotten when the last has ended


class Upstream:
    """One upstream. Its `Pool` makes and changes it.

    Attributes:
        spec: what it was wished to be.
        name: what it is called.
        state: whether it gets sessions.
        sessions: those that are open or being connected.
        connected, failed: attempts to connect for a session that succeeded, and that did not.
        checks_failed: checks that it did not pass.
        bytes_sent, bytes_received: what passed, of the sessions that are over.
        last_error: what failed there last, as a sentence; empty: nothing yet.
        changed_at: when `state` last changed, by the pool's clock.
        is_own: whether it leads back to the guard itself.
        draining, removed: what an operator wants of it.
        unknown: whether its name was looked up, and has no address.
        health: what its checks and sessions have found.
        most: sessions that it may have at once; beyond reach where there is no limit.
        share: its weight as it counts now; less than `spec.weight` while it recovers.
        back_since: when it last came back, by the pool's clock.
        turn, seed: kept for `balancing`: how far its turn is, and what a hash tells it apart by.
    """

    __slots__ = (
        "_candidates", "_next", "_shunned", "back_since", "bytes_received", "bytes_sent",
        "changed_at", "checks_failed", "connected", "draining", "failed", "health", "is_own",
        "last_error", "most", "name", "removed", "seed", "sessions", "share", "spec", "state",
        "turn", "unknown",
    )  # fmt: skip

    spec: UpstreamSpec
    most: int
    share: float

    def __init__(self, spec: UpstreamSpec, now: float = 0.0) -> None:
        self.name = spec.name
        self.state = UpstreamState.UP
        self.sessions = 0
        self.connected = self.failed = self.checks_failed = 0
        self.bytes_sent = self.bytes_received = 0
        self.last_error = ""
        self.changed_at = now
        self.is_own = False
        self.health = Health()
        self.draining = self.removed = self.unknown = False
        self.back_since = now
        self.turn = 0.0
        self.seed = _seed(spec.name)
        self._candidates: tuple[Candidate, ...] = known_at_once(spec.address)
        self._shunned: frozenset[Candidate] = frozenset()
        self._next = 0
        self.change(spec)

    def __repr__(self) -> str:
        return f"<Upstream {self.name} {self.state.value} sessions={self.sessions}>"

    def change(self, spec: UpstreamSpec) -> None:
        """Take over a new weight, limit, names or part; name and address are the same."""
        self.spec = spec
        self.most = sys.maxsize if spec.max is None else spec.max
        self.share = float(spec.weight)

    def judge(self) -> UpstreamState:
        """What `state` should be, by all that is known of it and wanted from it."""
        if self.removed:
            return UpstreamState.REMOVED
        if self.draining:
            return UpstreamState.DRAINING
        if self.is_own or self.unknown or not self.health.is_up:
            return UpstreamState.DOWN
        return UpstreamState.UP

    @property
    def rests(self) -> bool:
        """Whether it is out for nothing but its sessions, so that another may try it."""
        out = self.removed or self.draining or self.is_own or self.unknown
        return self.health.rests and not out

    @property
    def addresses(self) -> tuple[Candidate, ...]:
        """All of its addresses that are known, in the resolver's order."""
        return self._candidates

    @property
    def can_take(self) -> bool:
        """Whether it has room for one more, and an address to go to."""
        return self.sessions < self.most and bool(self._candidates)

    def candidates(self) -> list[Candidate]:
        """Its addresses, to be tried in this order; empty while none is known.

        Each call begins at the next of them. Those that did not answer their last check come
        last.
        """
        known = self._candidates
        if len(known) < 2:
            return list(known)
        start = self._next % len(known)
        self._next = start + 1
        turned = known[start:] + known[:start]
        if self._shunned:
            return sorted(turned, key=self._shunned.__contains__)
        return list(turned)

    def move(self, candidates: Sequence[Candidate]) -> bool:
        """Take over what its name leads to now. Returns whether it is somewhere else altogether."""
        found = tuple(dict.fromkeys(candidates))
        if len(found) > MOST_ADDRESSES:
            # Always the same of them, in whichever order they come.
            found = tuple(sorted(found)[:MOST_ADDRESSES])
        known = set(self._candidates)
        if known.symmetric_difference(found):
            self._candidates = found
            self._shunned &= frozenset(found)
        return known.isdisjoint(found)

    def shun(self, candidates: Collection[Candidate]) -> None:
        """These of its addresses did not answer, the others did."""
        self._shunned = frozenset(candidates)


def known_at_once(address: Address) -> tuple[Candidate, ...]:
    """Where an address leads that nobody needs to be asked about; empty for a name."""
    if address.is_unix:
        return ((socket.AF_UNIX, address.path),)
    try:
        parsed = ipaddress.ip_address(address.host)
    except ValueError:
        return ()
    if parsed.version == 4:
        return ((socket.AF_INET, (str(parsed), address.port)),)
    if parsed.scope_id:
        # Only the system knows its number.
        return ()
    return ((socket.AF_INET6, (str(parsed), address.port, 0, address.scope)),)


def _seed(name: str) -> int:
    """64 bits that depend on a name alone: the same in every process, and odd."""
    text = name.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"upstream").digest()) | 1
