"""What a server allows a connection, a client machine, and all of them together.

The one source of every default: flags, settings and documentation are derived from the
fields of `Limits`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from .errors import SettingError

__all__ = ["DEFAULT_MAXIMUM", "Limits"]

#: The largest message by default, in bytes: 64 KiB, as asyncio's streams.
DEFAULT_MAXIMUM = 65_536


def _limit(default: Any, unit: str, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"unit": unit, "help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a server, all finite by default. `None` switches one off, where it may be off.

    Times are seconds, sizes bytes, the rest counts.

    Raises:
        SettingError: a limit is not a number in its range, or two do not go together.
    """

    # Clocks of one connection. Precedents for the defaults: nginx stream 10 min, Thousand
    # Island 60 s, Envoy 1 h of idleness; sshd's login grace is 120 s, nginx's preread 30 s.
    idle: float | None = _limit(
        300.0, "seconds", "close a connection on which no byte moved either way for this long"
    )
    first_byte: float | None = _limit(
        60.0, "seconds", "close a connection that has said nothing this long after it came"
    )
    message: float | None = _limit(
        30.0, "seconds", "a message, once begun, must be whole within this time"
    )
    handshake: float = _limit(10.0, "seconds", "the TLS handshake must be done within this time")
    closing: float = _limit(
        5.0, "seconds", "an orderly close must be done within this time, or the peer is reset"
    )

    # How many.
    per_client: int | None = _limit(100, "connections", "connections one client machine may hold")
    per_network: int | None = _limit(
        None, "connections", "connections a client's wider network may hold together"
    )
    total: int | None = _limit(
        10_000, "connections", "connections in all; more wait in the kernel's backlog"
    )
    client_ipv4_prefix: int = _limit(32, "bits", "how much of an IPv4 address is one client")
    client_ipv6_prefix: int = _limit(64, "bits", "how much of an IPv6 address is one client")
    network_ipv4_prefix: int = _limit(24, "bits", "how much of an IPv4 address is one network")
    network_ipv6_prefix: int = _limit(48, "bits", "how much of an IPv6 address is one network")

    # How much.
    max_message: int = _limit(DEFAULT_MAXIMUM, "bytes", "the largest message, without its framing")
    max_owed: int = _limit(
        1_048_576, "bytes", "a peer that is owed more than this, and is sent more, is reset"
    )
    high_water: int = _limit(
        65_536, "bytes", "above this a sender waits, and reading from the peer pauses"
    )
    low_water: int = _limit(16_384, "bytes", "at or below this, both go on")

    def __post_init__(self) -> None:
        for name in ("idle", "first_byte", "message", "handshake", "closing"):
            self._check_seconds(name, optional=name not in ("handshake", "closing"))
        for name in ("per_client", "per_network", "total"):
            self._check_whole(name, optional=True)
        for name in ("max_message", "max_owed", "high_water"):
            self._check_whole(name)
        self._check_whole("low_water", least=0)
        for kind in ("client", "network"):
            self._check_whole(f"{kind}_ipv4_prefix", most=32)
            self._check_whole(f"{kind}_ipv6_prefix", most=128)
        if self.low_water >= self.high_water:
            raise SettingError(
                "low_water ({low}) must be below high_water ({high})",
                low=self.low_water,
                high=self.high_water,
            )
        if self.max_owed < self.high_water:
            raise SettingError(
                "max_owed ({owed}) must not be below high_water ({high}): "
                "a peer would be reset before its sender is told to wait",
                owed=self.max_owed,
                high=self.high_water,
            )

    def _check_seconds(self, name: str, *, optional: bool) -> None:
        value = getattr(self, name)
        if value is None and optional:
            return
        # bool is an int, and `idle=True` is nobody's intent; NaN and infinity are no times.
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 < value < math.inf
        ):
            raise SettingError(
                "{name} must be a number of seconds above zero{or_none}, not {value!r}",
                name=name,
                value=value,
                or_none=" or None" if optional else "",
            )

    def _check_whole(
        self, name: str, *, optional: bool = False, least: int = 1, most: int | None = None
    ) -> None:
        value = getattr(self, name)
        if value is None and optional:
            return
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or value < least
            or (most is not None and value > most)
        ):
            raise SettingError(
                "{name} must be a whole number {range}{or_none}, not {value!r}",
                name=name,
                value=value,
                range=f"of at least {least}" if most is None else f"from {least} to {most}",
                or_none=" or None" if optional else "",
            )
