"""Who may come in: a decision, given the counts. No sockets, no clock.

One object owns the counts; whoever accepts asks it, and tells it when a connection has ended.
"""

from __future__ import annotations

from .address import ClientKeys
from .limits import Limits
from .reasons import CloseReason

__all__ = ["Admission", "Client"]


class Client:
    """One client machine that holds connections.

    Attributes:
        key: its network prefix (see `ClientKeys`).
        host: its address as the kernel wrote it when it first came.
        connections: how many it holds.
    """

    __slots__ = ("connections", "host", "key", "network")

    def __init__(self, key: str, host: str, network: Client | None) -> None:
        self.key = key
        self.host = host
        self.network = network
        self.connections = 0


class Admission:
    """Counts connections, in all and per client, and says no.

    Args:
        limits: `total`, `per_client`, `per_network` and the prefixes are what counts here.
    """

    __slots__ = ("_clients", "_keys", "_limits", "_network_keys", "_networks", "total")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._keys = ClientKeys(limits.client_ipv4_prefix, limits.client_ipv6_prefix)
        self._network_keys = ClientKeys(limits.network_ipv4_prefix, limits.network_ipv6_prefix)
        self._clients: dict[str, Client] = {}
        self._networks: dict[str, Client] = {}
        #: Connections now held, by all clients.
        self.total = 0

    @property
    def full(self) -> bool:
        """Whether the total cap is reached: accepting waits, the kernel's backlog queues."""
        return self._limits.total is not None and self.total >= self._limits.total

    @property
    def clients(self) -> dict[str, Client]:
        """Every client that holds a connection now, by key. Not to be changed."""
        return self._clients

    def admit(self, host: str, scope: int = 0, uid: int | None = None) -> Client | CloseReason:
        """Let a client in, or say why not. O(1).

        Args:
            host: its IP address, or an empty string for a Unix peer.
            scope: IPv6 scope id.
            uid: the user of a Unix peer.

        Returns:
            The client, counted: `release` it exactly once. Or the reason for refusing it.
        """
        key = self._keys.key(host, scope) if host else self._keys.user_key(uid)
        client = self._clients.get(key)
        if client is None:
            client = Client(key, host, self._network(host, scope))
        limits = self._limits
        if limits.per_client is not None and client.connections >= limits.per_client:
            return CloseReason.CLIENT_LIMIT
        network = client.network
        if network is not None:
            if network.connections >= (limits.per_network or 0):
                return CloseReason.NETWORK_LIMIT
            network.connections += 1
            self._networks[network.key] = network
        client.connections += 1
        self._clients[key] = client
        self.total += 1
        return client

    def _network(self, host: str, scope: int) -> Client | None:
        if self._limits.per_network is None or not host:
            return None
        key = self._network_keys.key(host, scope)
        return self._networks.get(key) or Client(key, host, None)

    def release(self, client: Client) -> None:
        """A connection of this client has ended."""
        self.total -= 1
        client.connections -= 1
        if client.connections == 0:
            del self._clients[client.key]
        network = client.network
        if network is not None:
            network.connections -= 1
            if network.connections == 0:
                del self._networks[network.key]
