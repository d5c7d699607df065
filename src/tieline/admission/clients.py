"""One client machine, or one wider network of them, that holds connections."""

from __future__ import annotations

from typing import ClassVar

__all__ = ["Client", "UnlistedClient"]


class Client:
    """One client machine that holds connections.

    Attributes:
        key: its network prefix (see `Keys`).
        host: its address as the kernel wrote it when it first came; empty for a Unix peer.
        network: the wider network that it is counted in, with the same attributes; `None` while
            networks have no limit.
        connections: how many it holds.
        refused: attempts refused since it holds any.
        exempt: whether no limit, rate or penalty of a client applies to it.
        listed: whether it is among those told apart; `False` for one that came while the table
            was full and is counted in the total only.
        full_at: when its bucket of connections is full again, on the admission's clock; 0.0
            while rates are off.
    """

    __slots__ = ("connections", "exempt", "full_at", "host", "key", "network", "refused")

    listed: ClassVar[bool] = True

    def __init__(self, key: str, host: str = "", network: Client | None = None) -> None:
        self.key = key
        self.host = host
        self.network = network
        self.connections = 0
        self.refused = 0
        self.exempt = False
        self.full_at = 0.0

    def __repr__(self) -> str:
        return f"<Client {self.key} connections={self.connections} refused={self.refused}>"


class UnlistedClient(Client):
    """One that came while there was no room to tell it apart: only the total counts it."""

    __slots__ = ()

    listed: ClassVar[bool] = False

    def __init__(self, key: str, host: str = "") -> None:
        super().__init__(key, host)
        self.exempt = True
