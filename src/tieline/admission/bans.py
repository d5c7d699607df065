"""Whom the operator has shut out: networks, users and single clients, for a time or for good."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .networks import Network, Networks, address_number, network_of_key

__all__ = ["Ban", "Bans"]

#: How many bans are looked at in one go, for whether their time is over.
_MOST_SWEPT = 1_000


@dataclass(frozen=True, slots=True)
class Ban:
    """One ban.

    Attributes:
        network: whom it shuts out: an address, a network, a user or a client's key.
        why: what its maker said.
        left: seconds for which it lasts; `None`: until it is lifted.
        refusals: attempts that it has refused.
    """

    network: str
    why: str
    left: float | None
    refusals: int


class _Entry:
    __slots__ = ("name", "network", "refusals", "until", "why")

    def __init__(self, name: str, network: Network | None) -> None:
        self.name = name
        self.network = network
        self.refusals = 0
        self.until = math.inf
        self.why = ""

    def as_ban(self, now: float) -> Ban:
        left = None if self.until == math.inf else self.until - now
        return Ban(self.name, self.why, left, self.refusals)


class Bans:
    """All bans. They may overlap: each has its own time, and lifting one leaves the others.

    Attributes:
        entries: by name. Only for asking whether there are any.
    """

    __slots__ = ("_networks", "_unswept", "entries")

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self._networks: Networks[_Entry] = Networks()
        self._unswept: list[str] = []

    def add(
        self, name: str, network: Network | None, seconds: float | None, why: str, now: float
    ) -> Ban:
        """Ban a network, or what else has a name. A second ban takes the place of the first."""
        entry = self.entries.get(name)
        if entry is None:
            entry = self.entries[name] = _Entry(name, network)
            if network is not None:
                self._networks.put(network, entry)
        entry.until = math.inf if seconds is None else now + seconds
        entry.why = why
        return entry.as_ban(now)

    def remove(self, name: str, now: float) -> bool:
        """Lift a ban. Returns whether there was one that lasted."""
        entry = self.entries.pop(name, None)
        if entry is None:
            return False
        if entry.network is not None:
            self._networks.remove(entry.network)
        return entry.until > now

    def refuses(self, key: str, host: str, now: float) -> bool:
        """Whether a newcomer is shut out, by its key or its address; counts it on the ban."""
        if not (key in self.entries or self._is_near(host)):
            return False
        for entry in self._matching(key, network_of_key(host)):
            if entry.until > now:
                entry.refusals += 1
                return True
        return False

    def _is_near(self, host: str) -> bool:
        """Whether there is a ban of a network around this address. It may be over."""
        address = address_number(host)
        return address is not None and self._networks.at(*address) is not None

    def cover(self, key: str, network: Network | None, now: float) -> bool:
        """Whether all of a client, or an address, is shut out."""
        return any(entry.until > now for entry in self._matching(key, network))

    def _matching(self, key: str, network: Network | None) -> Iterator[_Entry]:
        entry = self.entries.get(key)
        if entry is not None:
            yield entry
        if network is not None:
            yield from self._networks.covering(network)

    def listed(self, now: float) -> Iterator[Ban]:
        """Those that last."""
        for entry in list(self.entries.values()):
            if entry.until > now:
                yield entry.as_ban(now)

    def sweep(self, now: float) -> int:
        """Drop those of a share of them whose time is over. Returns how many."""
        if not self._unswept:
            self._unswept = list(self.entries)
        names = self._unswept[-_MOST_SWEPT:]
        del self._unswept[-_MOST_SWEPT:]
        over = [
            name for name in names
            if (entry := self.entries.get(name)) is not None and entry.until <= now
        ]  # fmt: skip
        for name in over:
            self.remove(name, now)
        return len(over)
