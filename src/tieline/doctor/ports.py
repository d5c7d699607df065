"""The ports from which a client's connections leave."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HIGHEST_PORT", "LOWEST_PORT", "PortRange", "reserved_within"]

#: From where on a port is for anybody: those below are for services that root starts.
LOWEST_PORT = 1024
HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class PortRange:
    """The ports that the kernel gives out by itself.

    Attributes:
        low, high: the first and the last.
        reserved: how many of them it keeps back (`net.ipv4.ip_local_reserved_ports`).
    """

    low: int
    high: int
    reserved: int = 0

    @property
    def count(self) -> int:
        """Connections that one address of ours can have to one address and port."""
        size = max(0, self.high - self.low + 1)
        # The kernel tries every second port, then those between. Of an odd number most kernels
        # leave one out, all do for a socket that has chosen its source address.
        return max(0, (size & ~1 if size > 1 else size) - self.reserved)

    def widened(self, count: int) -> PortRange | None:
        """A range with room for so many, which contains this one; `None`: there is none."""
        needed = count + self.reserved
        if self.count >= count:
            return self
        low = min(self.low, HIGHEST_PORT - needed + 1)
        # Ports come in pairs: a range that begins and ends alike has one that is never used.
        low -= (HIGHEST_PORT - low + 1) & 1
        return PortRange(low, HIGHEST_PORT, self.reserved) if low >= LOWEST_PORT else None


def reserved_within(words: str, low: int, high: int) -> int:
    """How many ports of a list such as `8080,9000-9010` lie within a range."""
    count = 0
    for word in words.split(","):
        first, _dash, last = word.strip().partition("-")
        if first.isdecimal() and (not last or last.isdecimal()):
            count += max(0, min(high, int(last or first)) - max(low, int(first)) + 1)
    return count
