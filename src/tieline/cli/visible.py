"""What came from a peer, made safe and readable: nothing in it can move a terminal's cursor.

Control characters, escape sequences, bidi marks and other characters without a shape become
escapes in the notation that the editor of `tieline connect` reads: `\\n`, `\\x1b`, `\\u202e`. A
byte that is no text is `\\xNN`; it comes here as one of U+DC00-U+DCFF (see `payload`).
"""

from __future__ import annotations

import unicodedata

__all__ = ["RAW_BYTE", "hexadecimal", "visible", "width"]

#: U+DC00 + N stands for a byte N that is no text. No decoder ever gives such a character.
RAW_BYTE = 0xDC00

_NAMED = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}


class _Escapes(dict[int, str]):
    """What `str.translate` puts for each character: worked out once for each."""

    def __missing__(self, code: int) -> str:
        shown = self[code] = _shown(code)
        return shown


def _shown(code: int) -> str:
    if code in _NAMED:
        return _NAMED[code]
    character = chr(code)
    # Spaces (Zs) are harmless, though Python calls all but U+0020 unprintable: Chinese text is
    # full of U+3000.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    if RAW_BYTE <= code <= RAW_BYTE + 0xFF:
        return f"\\x{code - RAW_BYTE:02x}"
    # A C1 control is two bytes in UTF-8: `\x85` would say that it was one.
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


_ESCAPES = _Escapes()


def visible(text: str) -> str:
    """The text with everything that is not plainly visible written as an escape."""
    return text if text.isprintable() else text.translate(_ESCAPES)


def hexadecimal(data: bytes) -> str:
    """Bytes as `01 03 0a`."""
    return data.hex(" ")


def width(text: str) -> int:
    """Columns that a text takes on a terminal: a Chinese character takes two."""
    return sum(
        0 if unicodedata.combining(character)
        else 2 if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )  # fmt: skip
