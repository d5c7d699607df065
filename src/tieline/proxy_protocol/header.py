"""A PROXY header that was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..address import Address
from .tlv import ClientTls, TlvType, readable

__all__ = ["Command", "Family", "Header"]

Command: TypeAlias = Literal["proxy", "local"]
Family: TypeAlias = Literal["inet", "inet6", "unix", "unspec", "unknown"]


@dataclass(frozen=True, slots=True)
class Header:
    """What a proxy says of a connection that it makes.

    Attributes:
        version: 1 or 2.
        command: `"proxy"`: it relays for a client; `"local"` (version 2): it speaks for itself,
            to see whether the service is up.
        family: `"inet"`, `"inet6"` or `"unix"`, of both addresses; `"unspec"` (version 2) and
            `"unknown"` (version 1): no address is told, and the connection's own is the one that
            counts. `"local"` is always `"unspec"`.
        source: the client, as the proxy sees it; `None` where no address is told.
        destination: where the client has connected to; `None` where no address is told.
        size: bytes of the header; what comes behind them is the client's.
        tlvs: what else is told, each as its type (see `TlvType`) and its value, in the order of
            the wire. Padding, and a checksum, which was verified, are left out. Values may be the
            client's word: they are as they came.
    """

    version: Literal[1, 2]
    command: Command
    family: Family
    source: Address | None
    destination: Address | None
    size: int
    tlvs: tuple[tuple[int, bytes], ...] = ()

    @property
    def authority(self) -> str | None:
        """The host that the client asked for; in TLS, its server name (SNI).

        `None` where it is not told, is not UTF-8, or holds what cannot be shown. Otherwise as it
        came: it is the client's word.
        """
        value = self._value(TlvType.AUTHORITY)
        return None if value is None else readable(value)

    @property
    def unique_id(self) -> bytes | None:
        """What the proxy calls this connection, in at most 128 bytes; `None` if it does not say."""
        return self._value(TlvType.UNIQUE_ID)

    @property
    def ssl(self) -> ClientTls | None:
        """The client's TLS with the proxy; `None` if the proxy does not speak of it."""
        value = self._value(TlvType.SSL)
        return None if value is None else ClientTls.read(value)

    def _value(self, wanted: TlvType) -> bytes | None:
        """The first value of a type."""
        return next((value for kind, value in self.tlvs if kind == wanted), None)
