"""Reading a header of either version: its first byte tells which."""

from __future__ import annotations

from ..errors import ProxyHeaderError
from .binary import SIGNATURE, read_block
from .header import Header
from .text import KEYWORD, read_line

__all__ = ["MAXIMUM", "parse"]

#: The largest header in bytes that is read where nothing else is said. Senders are asked to stay
#: within 536; certificates' names and unique ids seldom take more than a thousand.
MAXIMUM = 4_096


def parse(data: bytes | bytearray, *, maximum: int = MAXIMUM) -> Header | None:
    """Read the PROXY header that a connection begins with.

    To be called with everything that has come, from the connection's first byte on, each time that
    more has; what it costs is bounded, and grows with the header's size alone.

    Args:
        data: what has come. It may hold more than the header, and is not changed.
        maximum: the largest header of version 2, in bytes (default 4,096). A line of version 1
            has at most 107.

    Returns:
        The header, or `None` while more bytes are needed to tell. What comes behind the header
        begins at `data[header.size]`.

    Raises:
        ProxyHeaderError: this is no header, and no more bytes can make it one. It is raised at the
            first byte that shows it; what is wrong behind the first 16 bytes of version 2 shows as
            soon as its last byte is there. Whose bytes they are cannot be said: the connection is
            of no use.
    """
    if not data:
        return None
    if data[0] == KEYWORD[0]:
        return read_line(data)
    if data[0] == SIGNATURE[0]:
        return read_block(data, maximum)
    raise ProxyHeaderError
