"""Limits, made ready for decisions: prefixes as masks, networks as tables, rates as buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..address import UNKNOWN_CLIENT
from ..limits import LIMIT_OF_REASON, Limits
from .clients import Client
from .keys import Keys, user_key
from .networks import Network, Networks, address_number, network_of_key, parse_network
from .rates import Rate

__all__ = ["Terms"]


class Terms:
    """What decisions need of some limits.

    Args:
        limits: where it comes from.

    Raises:
        SettingError: a network in them is none.

    Attributes:
        client_rate, total_rate: the buckets; `None` where there is no rate.
        spared: the reasons for which nobody is refused, since their limit is on trial.
        address_key: the key of an IP address and its scope.
        has_groups: whether any clients are exempt, or counted by wider networks.
    """

    __slots__ = (
        "_exempt", "_has_apart", "_keys", "_limits", "_network_keys", "_reserved", "_whole_keys",
        "address_key", "client_rate", "has_groups", "spared", "total_rate",
    )  # fmt: skip

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._keys = Keys(limits.client_ipv4_prefix, limits.client_ipv6_prefix)
        self._network_keys = Keys(limits.network_ipv4_prefix, limits.network_ipv6_prefix)
        self._whole_keys = Keys(32, 128)
        self._exempt = _networks(limits.exempt_networks)
        self._reserved = _networks(limits.reserved_networks)
        self.client_rate = _rate(limits.per_client_rate, limits.per_client_burst)
        self.total_rate = _rate(limits.total_rate, limits.total_burst)
        self.spared = frozenset(
            reason for reason, name in LIMIT_OF_REASON.items() if name in limits.dry_run
        )
        self._has_apart = any(
            network.length > self._prefix(network.width)
            for network in map(parse_network, map(str, limits.exempt_networks))
        )
        self.address_key: Callable[[str, int], str] = (
            self._apart_key if self._has_apart else self._keys.key
        )
        self.has_groups = bool(self._exempt) or limits.per_network is not None

    def key(self, host: str, scope: int, uid: int | None) -> str:
        """The key of an IP address, or of a Unix peer where there is none."""
        return self.address_key(host, scope) if host else user_key(uid)

    def _apart_key(self, host: str, scope: int) -> str:
        # An exempt address in a client that is not exempt as a whole is counted apart: it must
        # not take a place from the others.
        address = address_number(host)
        if address is not None:
            exempt = self._exempt.at(*address)
            if exempt is not None and exempt.length > self._prefix(exempt.width):
                return self._whole_keys.key(host, scope)
        return self._keys.key(host, scope)

    def _prefix(self, width: int) -> int:
        limits = self._limits
        return limits.client_ipv4_prefix if width == 32 else limits.client_ipv6_prefix

    def is_exempt_client(self, client: Client) -> bool:
        """Whether a client is exempt, all of it."""
        if not self._exempt:
            return False
        if self._has_apart:
            return self.is_exempt(client.key)
        # As any of its addresses is: no exempt network is narrower than a client.
        address = address_number(client.host)
        return address is not None and self._exempt.at(*address) is not None

    def is_exempt(self, key: str) -> bool:
        """The same of a client that is given by its key."""
        if not self._exempt:
            return False
        network = network_of_key(key)
        return network is not None and any(self._exempt.covering(network))

    def may_use_reserved(self, host: str) -> bool:
        """Whether the reserved places are for this address."""
        address = address_number(host)
        return address is not None and self._reserved.at(*address) is not None

    def network_key(self, client: Client) -> str | None:
        """The key of the wider network in which a client is counted; `None`: in none."""
        if self._limits.per_network is None or client.exempt:
            return None
        if client.key == UNKNOWN_CLIENT:
            return UNKNOWN_CLIENT
        if not client.host:
            return None
        return self._network_keys.key(client.host, client.key.partition("%")[2])

    def wider_key(self, key: str) -> str:
        """The key that a client of this key has under these limits.

        A client that is several now keeps its key: which of them it was is not known.
        """
        network = network_of_key(key)
        if network is None or network.length < self._prefix(network.width):
            return key
        first, percent, scope = key.partition("%")
        return self._keys.key(f"{first.partition('/')[0]}{percent}{scope}")


def _networks(texts: Iterable[str]) -> Networks[Network]:
    found: Networks[Network] = Networks()
    for text in texts:
        network = parse_network(str(text))
        found.put(network, network)
    return found


def _rate(rate: float | None, burst: int) -> Rate | None:
    return None if rate is None else Rate(rate, burst)
