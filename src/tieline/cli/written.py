"""Messages as people write them: text with escapes, or hexadecimal."""

from __future__ import annotations

import re

from ..errors import SettingError

__all__ = ["Parts", "parse_escapes", "parse_hex"]

#: A message as written: text, to be put into the peer's charset, and bytes, to be left alone.
Parts = tuple[str | bytes, ...]

_NAMED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}
_ESCAPE = re.compile(
    r"\\(?:x(?P<byte>[0-9A-Fa-f]{2})|u(?P<u>[0-9A-Fa-f]{4})|U(?P<U>[0-9A-Fa-f]{8})"
    r"|(?P<named>[nrt0\\])|(?P<wrong>.?))",
    re.DOTALL,
)

#: Between bytes: spaces, commas, colons... and the 0x or \x before one.
_HEX_SEPARATORS = re.compile(r"[\s,;:_-]+|0[xX]|\\[xX]")


def parse_escapes(text: str) -> Parts:
    r"""Read text in which `\n`, `\r`, `\t`, `\0`, `\\`, `\xNN` and `\uNNNN` are escapes.

    `\xNN` is a byte, whatever the charset; the others are characters.

    Raises:
        SettingError: a backslash begins no escape.
    """
    parts: list[str | bytes] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        _add(parts, text[at : match.start()])
        _add(parts, _meaning(match))
        at = match.end()
    _add(parts, text[at:])
    return tuple(parts)


def _meaning(match: re.Match[str]) -> str | bytes:
    if match["byte"]:
        return bytes.fromhex(match["byte"])
    if match["named"]:
        return _NAMED[match["named"]]
    code = int(match["u"] or match["U"] or "110000", 16)
    # Neither a half of a surrogate pair nor a number beyond Unicode is a character.
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise SettingError(
            "{escape} is no escape",
            hint=r"there are \n \r \t \0 \xNN \uNNNN, and \\ for a backslash",
            escape=match[0],
        )
    return chr(code)


def _add(parts: list[str | bytes], part: str | bytes) -> None:
    """Add a part, joined to the last one where both are of a kind."""
    last = parts[-1] if parts else None
    # Two branches that look alike, since only so is it plain that the kinds are the same.
    if isinstance(last, str) and isinstance(part, str):  # noqa: SIM114
        parts[-1] = last + part
    elif isinstance(last, bytes) and isinstance(part, bytes):
        parts[-1] = last + part
    elif part:
        parts.append(part)


def parse_hex(text: str) -> bytes:
    r"""Read hexadecimal however it is written: `01 03`, `0x01,0x3`, `0103`, `\x01\x03`, `01:03`.

    Raises:
        SettingError: something in it is no hexadecimal, or a run of digits is half a byte short.
    """
    data = bytearray()
    for run in _HEX_SEPARATORS.split(text):
        if not run:
            continue
        # `0x3` on its own is a byte; a longer odd run leaves it open where the half one is.
        digits = run.zfill(2) if len(run) == 1 else run
        try:
            data += bytes.fromhex(digits)
        except ValueError:
            raise SettingError(
                "{text!r} is not hexadecimal",
                hint="write bytes as 01 03, 0x01,0x03, 0103 or \\x01\\x03",
                text=run,
            ) from None
    return bytes(data)
