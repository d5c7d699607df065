"""On which line of a settings file a key stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

__all__ = ["KeyPath", "line_of_error", "lines_of_keys"]

#: A key with the tables it is in, outermost first.
KeyPath = tuple[str, ...]

_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """The line on which each key, and each table, of a TOML text begins.

    Nothing here knows how TOML is written: statement after statement is read by the standard
    library's parser, which does not say where it found what.

    Args:
        text: what the parser can read as a whole.
    """
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    statement, begins = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        if not statement:
            begins = number
        statement += line + "\n"
        try:
            content = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # it goes on in the next line
        if statement.lstrip(" \t").startswith("["):
            table = max(_paths(content), key=len, default=())
            found.setdefault(table, begins)
        else:
            for path in _paths(content):
                found.setdefault(table + path, begins)
        statement = ""
    return found


def _paths(content: Any) -> Iterator[KeyPath]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield (key,)
            for inner in _paths(value):
                yield (key, *inner)


def line_of_error(error: ValueError, text: str) -> int:
    """The line at which the parser gave up; the last one where it does not say."""
    found = _AT_LINE.search(str(error))
    return int(found[1]) if found else text.rstrip("\n").count("\n") + 1
