"""Values as people write them: `5m`, `1MiB`, `10.0.0.0/8`, `PING\\r\\n`, `none`.

How one is read and written follows from its rule alone, for flags, the settings file, the
environment and `tieline ctl` alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..errors import SettingError
from ..rules import Rule
from . import units
from .visible import visible
from .written import parse_escapes

__all__ = ["OFF", "format_value", "metavar_of", "parse_value", "words_in", "written_name"]

#: How it is written that something is off, or a list empty.
OFF = "none"

#: For each kind of number: what stands for it in help, how it is read, how it is written.
_NUMBERS: dict[str, tuple[str, Callable[[str], Any], Callable[[Any], str]]] = {
    "seconds": ("TIME", units.parse_duration, units.format_duration),
    "share": ("SHARE", units.parse_share, units.format_share),
    "bytes": ("SIZE", units.parse_size, units.format_size),
    "bytes a second": ("SIZE/s", units.parse_byte_rate, units.format_byte_rate),
    "connections": ("N", units.parse_count, units.format_count),
    "connections a second": ("N/s", units.parse_rate, units.format_rate),
    "clients": ("N", units.parse_count, units.format_count),
    "bits": ("BITS", units.parse_count, units.format_count),
}

#: What stands for a word, or for several, in help.
_WORDS = {"networks": "NETWORK,...", "limits": "LIMIT,...", "text": "TEXT", "data": "TEXT"}

_BETWEEN = re.compile(r"[\s,]+")


def written_name(name: str) -> str:
    """A name as flags and the settings file have it: with dashes."""
    return name.replace("_", "-")


def words_in(text: str) -> list[str]:
    """The words of a list; none of `none`."""
    return [word for word in _BETWEEN.split(text) if word not in ("", OFF)]


def metavar_of(rule: Rule) -> str:
    """What stands for a value of such a rule in help."""
    if rule.unit == "choice":
        return f"[{'|'.join(rule.choices)}]"
    return _WORDS.get(rule.unit) or _NUMBERS[rule.unit][0]


def parse_value(rule: Rule, name: str, text: str) -> Any:
    """A value from what people write; `none` switches it off, or empties a list.

    Args:
        rule: what it may be.
        name: whose value it is, for an error.
        text: as written.

    Raises:
        SettingError: it is no value of this rule.
    """
    name = written_name(name)
    if rule.unit in ("networks", "limits"):
        return rule.check(name, tuple(words_in(text)))
    if rule.off and text.strip().lower() == OFF:
        return None
    if rule.unit == "text":
        return _parse_text(text)
    if rule.unit == "data":
        return rule.check(name, _parse_data(text))
    value = text.strip() if rule.unit == "choice" else _NUMBERS[rule.unit][1](text)
    return rule.check(name, value)


def _parse_text(text: str) -> str:
    """Text with escapes. `\\x0a` is a byte, and ASCII's are characters in every charset."""
    try:
        return "".join(
            part if isinstance(part, str) else part.decode("ascii") for part in parse_escapes(text)
        )
    except UnicodeDecodeError:
        raise SettingError(
            "{text!r} must be text", hint="\\xNN is a byte; write \\uNNNN", text=text
        ) from None


def _parse_data(text: str) -> bytes:
    """Bytes as text with escapes: characters are UTF-8."""
    return b"".join(
        part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
        for part in parse_escapes(text)
    )


def format_value(rule: Rule, value: Any) -> str:
    """A value as `parse_value` reads it."""
    if rule.unit in ("networks", "limits"):
        words = [written_name(word) if rule.unit == "limits" else word for word in value]
        return ", ".join(words) or OFF
    if value is None:
        return OFF
    if rule.unit in ("text", "data"):
        if isinstance(value, bytes):
            value = value.decode("utf-8", "surrogateescape")
        return visible(str(value).replace("\\", "\\\\"))
    return str(value) if rule.unit == "choice" else _NUMBERS[rule.unit][2](value)
