"""CRC32c, the checksum of version 2 (RFC 4960, appendix B). `zlib` has another polynomial."""

from __future__ import annotations

__all__ = ["crc32c"]

#: Castagnoli's polynomial, its bits in reverse.
_POLYNOMIAL = 0x82F63B78


def _entry(number: int) -> int:
    for _ in range(8):
        number = number >> 1 ^ (_POLYNOMIAL if number & 1 else 0)
    return number


_TABLE = tuple(_entry(number) for number in range(256))


def crc32c(data: bytes) -> int:
    """The checksum of these bytes, a number of 32 bits."""
    rest = 0xFFFF_FFFF
    for byte in data:
        rest = _TABLE[(rest ^ byte) & 0xFF] ^ rest >> 8
    return rest ^ 0xFFFF_FFFF
