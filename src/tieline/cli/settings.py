"""Settings from a file and from the environment, under the names that the flags have.

A flag beats the environment (`TIELINE_SERVE_IDLE`), which beats the file given by `--config`
(TOML; one table per command), which beats the default. A command may have tables of its own for
several things of one kind: `[guard.listener.NAME]`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SettingError
from ..rules import nearest
from .settings_lines import KeyPath, line_of_error, lines_of_keys

__all__ = ["Names", "SettingsFile", "check_environment", "read_settings"]

Table = dict[str, Any]

#: Where in the text an error is: its line is said in front of it.
_WHERE = re.compile(r" \(at [^)]*\)$")

#: What an inner table may be called: it may become part of a file's name.
_INNER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Names:
    """The names that may stand in a command's table, with dashes, as the flags.

    Attributes:
        own: its settings.
        kind: what its inner tables are for: `listener` of `[guard.listener.NAME]`; empty: it may
            have none.
        inner: the settings of each of those.
    """

    own: Collection[str]
    kind: str = ""
    inner: Collection[str] = ()


@dataclass(slots=True)
class SettingsFile:
    """What a settings file says.

    Attributes:
        path: the file.
        values: the settings that it has, under the names of parameters (underscores), with a
            table for each command. What is empty (`""`) is not set.
        inner: for each command that has inner tables, those, by their names.
        problems: what cannot be a setting, in the order of the file.
        lines: where each key stands, as it is written.
    """

    path: Path
    values: Table = field(default_factory=dict)
    inner: dict[str, dict[str, Table]] = field(default_factory=dict)
    problems: list[SettingError] = field(default_factory=list)
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def place(self, *names: str) -> str:
        """`FILE:LINE` of the first of these settings that the file has; else the file.

        Args:
            names: parameters, those in a table as `serve.idle`.
        """
        wanted = {tuple(name.replace("_", "-").split(".")) for name in names}
        for path, line in self.lines.items():
            if tuple(key.replace("_", "-") for key in path) in wanted:
                return f"{self.path}:{line}"
        return str(self.path)

    def place_of_key(self, path: KeyPath) -> str:
        """`FILE:LINE` of a key that the file has, or of the first inside the table that it is."""
        line = self.lines.get(path)
        if line is None:
            # Only `[a.b.c]` stands there, and not `[a.b]`.
            line = min(line for key, line in self.lines.items() if key[: len(path)] == path)
        return f"{self.path}:{line}"

    def has(self, table: str, name: str) -> bool:
        """Whether a setting stands in this table."""
        return name in self.values.get(table, {})


def read_settings(
    path: Path, own: Collection[str], tables: Mapping[str, Callable[[], Names]]
) -> SettingsFile:
    """Read a settings file.

    Args:
        path: the file.
        own: the names that may stand outside of tables (with dashes, as the flags).
        tables: for each command, what tells its names.

    Raises:
        SettingError: the file cannot be read, or is not TOML.
    """
    text = _text_of(path)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(
            "{place}: this is not TOML: {detail}",
            place=f"{path}:{line_of_error(error, text)}", detail=_WHERE.sub("", str(error)),
        ) from error  # fmt: skip
    file = SettingsFile(path, lines=lines_of_keys(text))
    for key, value in content.items():
        if isinstance(value, dict) and key in tables:
            _enter_table(file, key, value, tables[key]())
        else:
            known = {*own, *tables} if isinstance(value, dict) else own
            _enter(file, file.values, (key,), value, known)
    return file


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingError(
            "the settings file {path} cannot be read: {detail}",
            path=str(path), detail=error.strerror or str(error),
        ) from error  # fmt: skip
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingError(
            "{place}: this is not TOML: {detail}",
            place=f"{path}:{line}", detail=f"not UTF-8 (byte {error.start})",
        ) from error  # fmt: skip


def _enter_table(file: SettingsFile, table: str, content: Table, names: Names) -> None:
    """Enter the table of a command."""
    file.values[table] = {}
    for key, value in content.items():
        if key == names.kind and isinstance(value, dict):
            file.inner[table] = {}
            for name, inner in value.items():
                _enter_inner(file, (table, key, name), inner, names.inner)
        else:
            known = {*names.own, names.kind} if isinstance(value, dict) else names.own
            _enter(file, file.values[table], (table, key), value, known)


def _enter_inner(file: SettingsFile, path: KeyPath, content: Any, known: Collection[str]) -> None:
    """Enter a table inside of a command's."""
    table, kind, name = path
    place = file.place_of_key(path)
    if not isinstance(content, dict):
        error = SettingError(
            "{place}: {name!r} stands in no table that has a name",
            hint="write it below [{table}.{kind}.NAME]",
            place=place, name=name, table=table, kind=kind,
        )  # fmt: skip
        file.problems.append(error)
    elif not _INNER_NAME.fullmatch(name):
        error = SettingError(
            "{place}: {name!r} cannot be the name of a {kind}",
            hint="up to 32 letters and digits, with - and _ between them",
            place=place, name=name, kind=kind,
        )  # fmt: skip
        file.problems.append(error)
    else:
        values = file.inner[table][name] = {}
        for key, value in content.items():
            _enter(file, values, (*path, key), value, known)


def _enter(
    file: SettingsFile, table: Table, path: KeyPath, value: Any, known: Collection[str]
) -> None:
    """Enter a setting into its table, or what is wrong with it into the problems."""
    name, written = path[-1].replace("_", "-"), ".".join(path)
    place = file.place_of_key(path)
    if name not in known:
        template = "{place}: there is no setting {name!r}"
        file.problems.append(_unknown(template, written, name, known, place=place))
        return
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, (str, int, float)) for item in items):
        error = SettingError(
            "{place}: the setting {name!r} has a value of the wrong kind",
            place=place, name=written,
        )  # fmt: skip
        file.problems.append(error)
    elif (parameter := name.replace("-", "_")) in table:
        error = SettingError("{place}: {name!r} is set twice", place=place, name=written)
        file.problems.append(error)
    elif value != "":
        table[parameter] = value


def check_environment(environment: Mapping[str, str], prefix: str, known: Collection[str]) -> None:
    """Refuse a variable that looks like a setting and is none.

    Raises:
        SettingError: there is such a variable.
    """
    names = {prefix + name.replace("-", "_").upper() for name in known}
    for variable in environment:
        if variable.startswith(prefix) and variable not in names:
            raise _unknown("{name!r} in the environment is no setting", variable, variable, names)


def _unknown(
    template: str, written: str, name: str, known: Collection[str], **fields: str
) -> SettingError:
    like = nearest(name, known)
    hint = "did you mean {like!r}?" if like else ""
    return SettingError(template, hint=hint, like=like, name=written, **fields)
