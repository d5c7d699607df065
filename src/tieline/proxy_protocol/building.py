"""Writing a header of either version."""

from __future__ import annotations

from collections.abc import Iterable

from ..address import Address
from ..errors import SettingError
from .binary import write_block
from .ends import Ends
from .text import write_line
from .tlv import TlvType

__all__ = ["build"]


def build(
    version: int,
    source: Address | None,
    destination: Address | None,
    *,
    tlvs: Iterable[tuple[int, bytes]] = (),
    checksum: bool = False,
) -> bytes:
    """A PROXY header, to be sent before anything else, in one piece.

    Args:
        version: 1 or 2.
        source: the client. `None`, with `destination`: no addresses are told, and the receiver
            takes the connection's own, as for a health check (`LOCAL`; in version 1 `UNKNOWN`).
        destination: where the client has connected to. Where one address is IPv4 and the other
            IPv6, both are told as IPv6, without scopes. Where only one is a Unix socket's, neither
            can be told, which is as with `None`. Version 1 cannot tell Unix sockets at all;
            version 2 can, but HAProxy and nginx refuse such headers.
        tlvs: what else to tell (version 2), each as its type and its value, at most 65,535 bytes.
            See `TlvType`. Receivers may read no more than a few hundred bytes in all.
        checksum: whether to add a CRC32c of the header (version 2).

    Raises:
        AddressError: an address is a name, or has a port or a path that cannot be.
        SettingError: there is no such version, only one address is given, or the TLVs are none, too
            long, hold a checksum of their own, or are for version 1.
    """
    if version not in (1, 2):
        raise SettingError(
            "the PROXY protocol has versions 1 and 2, not {version!r}", version=version
        )
    if (source is None) != (destination is None):
        raise SettingError("a PROXY header tells both ends of a connection, or neither")
    known = None if source is None or destination is None else Ends.of(source, destination)
    told = [_checked(each) for each in tlvs]
    if version == 1:
        if told or checksum:
            raise SettingError(
                "a PROXY header of version 1 has no place for TLVs and checksums",
                hint="use version 2",
            )
        return write_line(known)
    return write_block(known, tlvs=told, checksum=checksum)


def _checked(tlv: tuple[int, bytes]) -> tuple[int, bytes]:
    kind, value = tlv
    if not (
        isinstance(kind, int)
        and 0 <= kind <= 255
        and isinstance(value, (bytes, bytearray))
        and len(value) <= 65_535
    ):
        raise SettingError(
            "a TLV is a type from 0 to 255 and at most 65535 bytes, not {tlv!r}", tlv=tlv
        )
    if kind == TlvType.CRC32C:
        raise SettingError(
            "a checksum cannot be given as a TLV", hint="ask for it with checksum=True"
        )
    return kind, bytes(value)
