"""Limits as people write them: `idle=5m`, `max-owed=1MiB`, `exempt-networks=10.0.0.0/8`."""

from __future__ import annotations

from typing import Any

from ..errors import SettingError
from ..limits import RULES, Limits
from ..rules import nearest
from .rule_values import OFF, format_value, metavar_of, parse_value, words_in, written_name

__all__ = [
    "OFF",
    "default_of",
    "format_limit",
    "limit_name",
    "metavar_of",
    "parse_limit",
    "written_name",
]


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


def parse_limit(name: str, text: str) -> Any:
    """The value of a limit from what people write; `none` switches it off, or empties a list.

    Raises:
        SettingError: it is no value of this limit.
    """
    rule = RULES[name]
    if rule.unit == "limits":
        words = tuple(limit_name(word) for word in words_in(text))
        return rule.check(written_name(name), words)
    return parse_value(rule, name, text)


def format_limit(name: str, value: Any) -> str:
    """A limit's value as `parse_limit` reads it."""
    return format_value(RULES[name], value)


def default_of(name: str) -> str:
    """A limit's default, as people write it."""
    return format_limit(name, Limits.__dataclass_fields__[name].default)
