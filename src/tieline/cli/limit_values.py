"""Limits as people write them: `idle=5m`, `max-owed=1MiB`, `exempt-networks=10.0.0.0/8`.

How a limit is read and written follows from its rule alone, for flags, the settings file, the
environment and `tieline ctl limits` alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..errors import SettingError
from ..limits import RULES, Limits
from ..rules import Rule, nearest
from . import units
from .visible import visible
from .written import parse_escapes

__all__ = [
    "OFF",
    "default_of",
    "format_limit",
    "limit_name",
    "metavar_of",
    "parse_limit",
    "written_name",
]

#: How it is written that a limit is off, or a list empty.
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
_WORDS = {"networks": "NETWORK,...", "limits": "LIMIT,...", "text": "TEXT"}

_BETWEEN = re.compile(r"[\s,]+")


def written_name(name: str) -> str:
    """A limit's name as flags and the settings file have it: with dashes."""
    return name.replace("_", "-")


def limit_name(written: str) -> str:
    """The limit that is meant, whether it is written with dashes or with underscores.

    Raises:
        SettingError: there is none of this name.
    """
    name = written.strip().lower().replace("-", "_")
    if name in RULES:
        return name
    like = nearest(name, RULES)
    raise SettingError(
        "there is no limit {name!r}",
        hint="did you mean {like!r}?" if like else "",
        name=written,
        like=written_name(like),
    )


def metavar_of(rule: Rule) -> str:
    """What stands for a value of such a limit in help."""
    if rule.unit == "choice":
        return f"[{'|'.join(rule.choices)}]"
    return _WORDS.get(rule.unit) or _NUMBERS[rule.unit][0]


def parse_limit(name: str, text: str) -> Any:
    """The value of a limit from what people write; `none` switches it off, or empties a list.

    Raises:
        SettingError: it is no value of this limit.
    """
    rule = RULES[name]
    if rule.unit in ("networks", "limits"):
        words = tuple(word for word in _BETWEEN.split(text) if word not in ("", OFF))
        if rule.unit == "limits":
            words = tuple(limit_name(word) for word in words)
        return rule.check(written_name(name), words)
    if rule.off and text.strip().lower() == OFF:
        return None
    if rule.unit == "text":
        return _parse_text(text)
    value = text.strip() if rule.unit == "choice" else _NUMBERS[rule.unit][1](text)
    return rule.check(written_name(name), value)


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


def format_limit(name: str, value: Any) -> str:
    """A limit's value as `parse_limit` reads it."""
    rule = RULES[name]
    if rule.unit in ("networks", "limits"):
        words = [written_name(word) if rule.unit == "limits" else word for word in value]
        return ", ".join(words) or OFF
    if value is None:
        return OFF
    if rule.unit == "text":
        return visible(str(value).replace("\\", "\\\\"))
    return str(value) if rule.unit == "choice" else _NUMBERS[rule.unit][2](value)


def default_of(name: str) -> str:
    """A limit's default, as people write it."""
    return format_limit(name, Limits.__dataclass_fields__[name].default)
