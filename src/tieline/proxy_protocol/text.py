r"""Version 1: a line of text, `PROXY TCP4 192.0.2.7 198.51.100.1 51000 443` and CRLF."""

from __future__ import annotations

import re
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from ..address import Address
from ..errors import ProxyHeaderError
from .ends import Ends
from .header import Family, Header

__all__ = ["KEYWORD", "read_line", "write_line"]

KEYWORD = b"PROXY"

#: With its CRLF. What is longer cannot be a header, and is not waited for.
_LONGEST = 107

_UNKNOWN = b"PROXY UNKNOWN"
_FAMILIES: dict[bytes, Family] = {b"TCP4": "inet", b"TCP6": "inet6"}

#: No number begins with a zero that another digit follows. The beginning of a number is one too.
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_PORT = re.compile(
    rb"6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0"
)
_IPV4 = re.compile(rb"(?:%b\.){3}%b" % (_OCTET, _OCTET))
_IPV4_BEGINNING = re.compile(rb"(?:%b\.){0,3}(?:%b)?" % (_OCTET, _OCTET))
_GROUP = re.compile(rb"[0-9A-Fa-f]{1,4}")


def read_line(data: bytes | bytearray) -> Header | None:
    """Read a header of version 1; `None` while more bytes are needed.

    Raises:
        ProxyHeaderError: this is none.
    """
    end = data.find(b"\r\n", 0, _LONGEST)
    line = bytes(data[: _LONGEST if end < 0 else end])
    if end < 0:
        if len(line.removesuffix(b"\r")) > _LONGEST - 2:
            raise ProxyHeaderError("a PROXY header is over {maximum} bytes", maximum=_LONGEST)
        _check_beginning(line)
        return None
    if line.startswith(_UNKNOWN):
        if line[len(_UNKNOWN) :][:1] not in (b"", b" "):
            raise _wrong(2)
        return Header(1, "proxy", "unknown", None, None, end + 2)
    words = line.split(b" ")
    _check_words(words, len(words))
    if len(words) != 6:
        raise _wrong(len(words) + 1)
    family = _FAMILIES[words[1]]
    source, destination = (
        _address(family, host, port) for host, port in ((words[2], words[4]), (words[3], words[5]))
    )
    return Header(1, "proxy", family, source, destination, end + 2)


def write_line(ends: Ends | None) -> bytes:
    """A header of version 1; without addresses, or with those of Unix sockets, it tells none."""
    if ends is None or ends.family == "unix":
        return _UNKNOWN + b"\r\n"
    word, kind = ("TCP4", AF_INET) if ends.family == "inet" else ("TCP6", AF_INET6)
    source, destination = inet_ntop(kind, ends.source), inet_ntop(kind, ends.destination)
    ports = f"{ends.source_port} {ends.destination_port}"
    return f"PROXY {word} {source} {destination} {ports}\r\n".encode("ascii")


def _check_beginning(line: bytes) -> None:
    """That a line without its end may become a header."""
    if line.startswith(_UNKNOWN):
        rest = line[len(_UNKNOWN) :]
        if rest[:1] not in (b"", b" ") and rest != b"\r":
            raise _wrong(2)
        return
    words = line.split(b" ")
    if len(words) == 6 and words[5].endswith(b"\r"):
        words[5] = words[5].removesuffix(b"\r")
        _check_words(words, 6)
        return
    _check_words(words, len(words) - 1)
    number = len(words)
    if number > 6:
        raise _wrong(6)
    begins: Callable[[bytes], bool]
    if number == 1:
        begins = KEYWORD.startswith
    elif number == 2:
        begins = _begins_protocol
    elif number <= 4:
        begins = _begins_ipv4 if words[1] == b"TCP4" else _begins_ipv6
    else:
        begins = _begins_port
    if not begins(words[-1]):
        raise _wrong(number)


def _check_words(words: list[bytes], count: int) -> None:
    """That the first words, which are whole, are those of a header with addresses."""
    for number, word in enumerate(words[:count], 1):
        if number == 1:
            fits = word == KEYWORD
        elif number == 2:
            fits = word in _FAMILIES
        elif number <= 4:
            fits = _is_ipv4(word) if words[1] == b"TCP4" else _is_ipv6(word)
        else:
            fits = number <= 6 and _PORT.fullmatch(word) is not None
        if not fits:
            raise _wrong(number)


def _wrong(number: int) -> ProxyHeaderError:
    if number == 1:
        return ProxyHeaderError()
    return ProxyHeaderError("word {number} of a PROXY header is wrong", number=number)


def _begins_protocol(word: bytes) -> bool:
    return any(known.startswith(word) for known in (b"TCP4", b"TCP6", b"UNKNOWN"))


def _begins_port(word: bytes) -> bool:
    return not word or _PORT.fullmatch(word) is not None


def _begins_ipv4(word: bytes) -> bool:
    return _IPV4_BEGINNING.fullmatch(word) is not None


def _is_ipv4(word: bytes) -> bool:
    return _IPV4.fullmatch(word) is not None


def _begins_ipv6(word: bytes) -> bool:
    """Whether this is an IPv6 address, or becomes one when the right characters follow."""
    head, double_colon, tail = word.partition(b"::")
    if not double_colon:
        return word in (b"", b":") or _begins_groups(word, room=8, ends=False)
    groups = head.split(b":") if head else []
    if len(groups) > 7 or not all(map(_GROUP.fullmatch, groups)):
        return False
    # A double colon stands for one group at least.
    return not tail or _begins_groups(tail, room=7 - len(groups), ends=True)


def _begins_groups(part: bytes, room: int, ends: bool) -> bool:
    """Whether these are groups of an address with room for so many, the last perhaps unfinished.

    Args:
        ends: whether there was a double colon before. Without one all the room must be filled,
            and a double colon may still come.
    """
    *whole, last = part.split(b":")
    if not all(map(_GROUP.fullmatch, whole)):
        return False
    if b"." in last:
        # The last 32 bits as an IPv4 address: the room of two groups.
        fits = len(whole) + 2 <= room if ends else len(whole) + 2 == room
        return fits and _begins_ipv4(last)
    if not last:
        # The colon that stands here may be the first of two.
        return len(whole) < room
    return len(whole) < room and _GROUP.fullmatch(last) is not None


def _is_ipv6(word: bytes) -> bool:
    if not _begins_ipv6(word):
        return False
    try:
        inet_pton(AF_INET6, word.decode("ascii"))
    except OSError:
        return False
    return True


def _address(family: Family, host: bytes, port: bytes) -> Address:
    text = host.decode("ascii")
    if family == "inet6":
        # Written as the system writes it: one client has one text.
        text = inet_ntop(AF_INET6, inet_pton(AF_INET6, text))
    return Address(text, int(port))
