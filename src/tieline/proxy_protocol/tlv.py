"""What a header of version 2 can tell beside addresses: values with a type and a length (TLV)."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import ProxyHeaderError

__all__ = ["ClientTls", "TlvType", "readable", "tlv_places"]


class TlvType(enum.IntEnum):
    """The types that the protocol names. 0xE0-0xEF are for applications."""

    ALPN = 0x01  #: the protocol agreed on in the client's TLS, or another name for it
    AUTHORITY = 0x02  #: the host that the client asked for; in TLS, its server name (SNI)
    CRC32C = 0x03  #: a checksum of the whole header
    NOOP = 0x04  #: padding
    UNIQUE_ID = 0x05  #: what the proxy calls the connection
    SSL = 0x20  #: the client's TLS, see `ClientTls`
    NETNS = 0x30  #: the network namespace that the client came in by


_VERSION, _COMMON_NAME, _CIPHER, _SIGNATURE, _KEY = range(0x21, 0x26)
_HAS_TLS, _HAS_CERTIFICATE, _HAD_CERTIFICATE = 1, 2, 4

#: The flags, and the result of verifying.
_CLIENT_TLS_SIZE = 5


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What a proxy says of the TLS between itself and the client.

    Attributes:
        has_tls: whether the client came over TLS.
        has_certificate: whether it showed a certificate on this connection.
        had_certificate: whether it showed one at least once in this TLS session.
        is_verified: whether there was a certificate, and the proxy found it good.
        version: such as `TLSv1.3`.
        common_name: of the client's certificate.
        cipher: such as `TLS_AES_256_GCM_SHA384`.
        signature_algorithm: that the proxy's own certificate is signed with, such as `SHA256`.
        key_algorithm: of the proxy's own certificate, such as `RSA2048`.

    A text is `None` where the proxy does not tell it, or where it is not text that can be shown.
    """

    has_tls: bool
    has_certificate: bool
    had_certificate: bool
    is_verified: bool
    version: str | None
    common_name: str | None
    cipher: str | None
    signature_algorithm: str | None
    key_algorithm: str | None

    @classmethod
    def read(cls, value: bytes) -> ClientTls:
        """Read the value of an SSL TLV.

        Raises:
            ProxyHeaderError: it is cut short, or something inside it is longer than itself.
        """
        if len(value) < _CLIENT_TLS_SIZE:
            raise ProxyHeaderError(
                "a TLV of type {type} cannot have {size} bytes", type=TlvType.SSL, size=len(value)
            )
        flags = value[0]
        # Without a certificate there was nothing to verify, and OpenSSL's result is "good" too.
        verified = value[1:_CLIENT_TLS_SIZE] == bytes(4) and flags & (
            _HAS_CERTIFICATE | _HAD_CERTIFICATE
        )
        texts: dict[int, str | None] = {}
        for kind, start, end in tlv_places(value, _CLIENT_TLS_SIZE):
            texts.setdefault(kind, readable(value[start:end]))
        return cls(
            has_tls=bool(flags & _HAS_TLS),
            has_certificate=bool(flags & _HAS_CERTIFICATE),
            had_certificate=bool(flags & _HAD_CERTIFICATE),
            is_verified=bool(verified),
            version=texts.get(_VERSION),
            common_name=texts.get(_COMMON_NAME),
            cipher=texts.get(_CIPHER),
            signature_algorithm=texts.get(_SIGNATURE),
            key_algorithm=texts.get(_KEY),
        )


def tlv_places(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """The type of each TLV from `at` to the end of the data, and where its value begins and ends.

    Raises:
        ProxyHeaderError: one is longer than what is left for it.
    """
    size = len(data)
    while at < size:
        start = at + 3
        end = start + int.from_bytes(data[at + 1 : start], "big")
        if max(start, end) > size:
            raise ProxyHeaderError("a TLV of type {type} goes beyond its end", type=data[at])
        yield data[at], start, end
        at = end


def readable(value: bytes) -> str | None:
    """A value as text; `None` where it is not UTF-8, or holds what cannot be shown.

    Much of it is the client's word, passed on by a proxy that did not look: a connection is not
    refused for it, and no log shows it.
    """
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text and text.isprintable() else None
