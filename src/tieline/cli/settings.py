"""Settings from a file and from the environment, under the names that the flags have.

A flag beats the environment (`TIELINE_SERVE_IDLE`), which beats the file given by `--config`
(TOML; one table per command), which beats the default.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import SettingError

__all__ = ["check_environment", "nearest", "read_settings"]

Table = dict[str, Any]


def nearest(name: str, known: Collection[str]) -> str:
    """The known name that is most like this one; empty if none is."""
    found = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return found[0] if found else ""


def read_settings(
    path: Path, own: Collection[str], tables: Mapping[str, Callable[[], Collection[str]]]
) -> Table:
    """Read a settings file.

    Args:
        path: the file.
        own: the names that may stand outside of tables (with dashes, as the flags).
        tables: for each command, what tells its names.

    Returns:
        The settings, with the names of parameters (underscores).

    Raises:
        SettingError: the file cannot be read, or has something unknown in it.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(
            "the settings file {path} cannot be read: {detail}",
            path=str(path), detail=error.strerror or str(error),
        ) from error  # fmt: skip
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(
            "the settings file {path} is not TOML: {detail}", path=str(path), detail=str(error)
        ) from error
    settings: Table = {}
    for key, value in content.items():
        if isinstance(value, dict) and key in tables:
            known = tables[key]()
            settings[key] = dict(_entry(path, f"{key}.", k, v, known) for k, v in value.items())
        else:
            known = {*own, *tables} if isinstance(value, dict) else own
            name, entry = _entry(path, "", key, value, known)
            settings[name] = entry
    return settings


def _entry(path: Path, where: str, key: str, value: Any, known: Collection[str]) -> tuple[str, Any]:
    name = key.replace("_", "-")
    if name not in known:
        raise _unknown("{path} has an unknown setting {name!r}", where, key, known, path=str(path))
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, (str, int, float)) for item in items):
        raise SettingError(
            "the setting {name!r} in {path} has a value of the wrong kind",
            name=where + key, path=str(path),
        )  # fmt: skip
    return name.replace("-", "_"), value


def check_environment(environment: Mapping[str, str], prefix: str, known: Collection[str]) -> None:
    """Refuse a variable that looks like a setting and is none.

    Raises:
        SettingError: there is such a variable.
    """
    names = {prefix + name.replace("-", "_").upper() for name in known}
    for variable in environment:
        if variable.startswith(prefix) and variable not in names:
            raise _unknown("{name!r} in the environment is no setting", "", variable, names)


def _unknown(
    template: str, where: str, name: str, known: Collection[str], **fields: str
) -> SettingError:
    like = nearest(name.replace("_", "-"), known) or nearest(name, known)
    hint = "did you mean {like!r}?" if like else ""
    return SettingError(template, hint=hint, like=like, name=where + name, **fields)
