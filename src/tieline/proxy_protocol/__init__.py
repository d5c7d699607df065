r"""The PROXY protocol: what a proxy says of a client, before the client's own bytes.

Versions 1 (a line of text) and 2 (binary) of HAProxy's proxy-protocol.txt. No sockets, no clock:
bytes in, a header out, and the other way round::

    data = b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\nhello"
    header = parse(data)        # None: more bytes are needed
    header.source               # Address(host='192.0.2.7', port=51000)
    data[header.size:]          # b"hello", the client's own

    build(2, Address("192.0.2.7", 51000), Address("198.51.100.1", 443), checksum=True)

Whether a header must come is agreed on beforehand, and only for proxies that are known: whoever may
send one says who they are. So nothing is guessed: bytes that are no header are an error, and never
a client's.
"""

from .building import build
from .header import Command, Family, Header
from .parsing import MAXIMUM, parse
from .tlv import ClientTls, TlvType

__all__ = ["MAXIMUM", "ClientTls", "Command", "Family", "Header", "TlvType", "build", "parse"]
