"""Version 2: sixteen bytes, two addresses, and TLVs."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_ntop

from ..address import Address
from ..errors import ProxyHeaderError, SettingError
from .crc32c import crc32c
from .ends import PATH_SIZE, Ends, path_address
from .header import Family, Header
from .tlv import ClientTls, TlvType, tlv_places

__all__ = ["SIGNATURE", "read_block", "write_block"]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

#: Up to the addresses: the signature, version and command, family and transport, length.
_FIXED = 16

#: What its length can tell of what comes behind them.
_LARGEST = 65_535

_VERSION = 2
_LOCAL, _PROXY = 0, 1

_INET = struct.Struct("!4s4sHH")
_INET6 = struct.Struct("!16s16sHH")
_UNIX = struct.Struct(f"!{PATH_SIZE}s{PATH_SIZE}s")

#: By the byte for family and transport (stream or datagram): the family, and the bytes of both its
#: addresses. What the service at the other end speaks is TCP in any case.
_FAMILIES: dict[int, tuple[Family, int]] = {
    0x00: ("unspec", 0),
    0x11: ("inet", _INET.size),
    0x12: ("inet", _INET.size),
    0x21: ("inet6", _INET6.size),
    0x22: ("inet6", _INET6.size),
    0x31: ("unix", _UNIX.size),
    0x32: ("unix", _UNIX.size),
}
_WRITTEN = {"inet": 0x11, "inet6": 0x21, "unix": 0x31}

_CHECKSUM_SIZE = 4
_UNIQUE_ID_SIZE = 128


def read_block(data: bytes | bytearray, maximum: int) -> Header | None:
    """Read a header of version 2; `None` while more bytes are needed.

    Raises:
        ProxyHeaderError: this is none.
    """
    whole = _whole_size(data, maximum)
    if whole is None or len(data) < whole:
        return None
    block = bytes(data[:whole])
    if block[12] & 15 == _LOCAL:
        # The protocol has receivers discard the rest of it, whatever it is.
        return Header(2, "local", "unspec", None, None, whole)
    family, size = _FAMILIES[block[13]]
    source, destination = _addresses(family, block)
    return Header(2, "proxy", family, source, destination, whole, _tlvs(block, _FIXED + size))


def write_block(ends: Ends | None, *, tlvs: Iterable[tuple[int, bytes]], checksum: bool) -> bytes:
    """A header of version 2; without addresses it is `LOCAL`.

    `PROXY` without addresses exists too. HAProxy refuses it, and writes `LOCAL` itself.

    Raises:
        SettingError: the TLVs are too many for it.
    """
    body = bytearray()
    if ends is not None:
        body += _packed(ends)
    for kind, value in tlvs:
        body += struct.pack("!BH", kind, len(value)) + value
    if checksum:
        body += struct.pack("!BHI", TlvType.CRC32C, _CHECKSUM_SIZE, 0)
    if len(body) > _LARGEST:
        raise SettingError(
            "a PROXY header has {maximum} bytes for addresses and TLVs, and these take {size}",
            size=len(body),
            maximum=_LARGEST,
        )
    command, family = (_LOCAL, 0) if ends is None else (_PROXY, _WRITTEN[ends.family])
    block = SIGNATURE + struct.pack("!BBH", _VERSION << 4 | command, family, len(body)) + body
    if checksum:
        block = block[:-_CHECKSUM_SIZE] + crc32c(block).to_bytes(_CHECKSUM_SIZE, "big")
    return block


def _whole_size(data: bytes | bytearray, maximum: int) -> int | None:
    """The size of the whole header, once it is told; each byte is looked at as soon as it is there.

    Raises:
        ProxyHeaderError: one of them cannot stand where it does.
    """
    if not SIGNATURE.startswith(data[: len(SIGNATURE)]):
        raise ProxyHeaderError
    seen = len(data)
    if seen > 12:
        version, command = divmod(data[12], 16)
        if version != _VERSION:
            raise ProxyHeaderError(
                "there is no version {version} of the binary PROXY header", version=version
            )
        if command not in (_LOCAL, _PROXY):
            raise ProxyHeaderError("a PROXY header has no command {command}", command=command)
    if seen > 13 and command == _PROXY and data[13] not in _FAMILIES:
        raise ProxyHeaderError("a PROXY header has no family {family}", family=data[13])
    if seen <= 14:
        return None
    # With one byte of two, the least that it can become.
    length = int.from_bytes(data[14:_FIXED].ljust(2, b"\0"), "big")
    if _FIXED + length > maximum:
        raise ProxyHeaderError("a PROXY header is over {maximum} bytes", maximum=maximum)
    if seen < _FIXED:
        return None
    if command == _PROXY and length < _FAMILIES[data[13]][1]:
        raise ProxyHeaderError("a PROXY header is too short for its addresses", size=length)
    return _FIXED + length


def _addresses(family: Family, block: bytes) -> tuple[Address | None, Address | None]:
    if family == "unspec":
        return None, None
    if family == "unix":
        source, destination = _UNIX.unpack_from(block, _FIXED)
        return path_address(source), path_address(destination)
    kind, layout = (AF_INET, _INET) if family == "inet" else (AF_INET6, _INET6)
    source, destination, source_port, destination_port = layout.unpack_from(block, _FIXED)
    return (
        Address(inet_ntop(kind, source), source_port),
        Address(inet_ntop(kind, destination), destination_port),
    )


def _packed(ends: Ends) -> bytes:
    if ends.family == "unix":
        return _UNIX.pack(ends.source, ends.destination)
    layout = _INET if ends.family == "inet" else _INET6
    return layout.pack(*ends[1:])


def _tlvs(block: bytes, at: int) -> tuple[tuple[int, bytes], ...]:
    """What is told beside addresses, each where it is of use; the checksum is verified."""
    found: list[tuple[int, bytes]] = []
    checksum_at: int | None = None
    for kind, start, end in tlv_places(block, at):
        if kind == TlvType.CRC32C:
            _check_size(kind, end - start, end - start == _CHECKSUM_SIZE)
            if checksum_at is not None:
                raise ProxyHeaderError("a PROXY header has two checksums")
            checksum_at = start
        elif kind != TlvType.NOOP:
            value = block[start:end]
            if kind == TlvType.UNIQUE_ID:
                _check_size(kind, len(value), len(value) <= _UNIQUE_ID_SIZE)
            elif kind == TlvType.SSL:
                # For what it raises: a property that is read later has nobody to tell.
                ClientTls.read(value)
            found.append((kind, value))
    if checksum_at is not None:
        _verify(block, checksum_at)
    return tuple(found)


def _check_size(kind: int, size: int, fits: bool) -> None:
    if not fits:
        raise ProxyHeaderError(
            "a TLV of type {type} cannot have {size} bytes", type=kind, size=size
        )


def _verify(block: bytes, at: int) -> None:
    end = at + _CHECKSUM_SIZE
    told = int.from_bytes(block[at:end], "big")
    if crc32c(block[:at] + bytes(_CHECKSUM_SIZE) + block[end:]) != told:
        raise ProxyHeaderError("a PROXY header does not match its checksum")
