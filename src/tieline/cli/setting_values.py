"""Settings of a guard as people write them: `balance=least`, `check-send=PING\\r\\n`."""

from __future__ import annotations

from typing import Any

from ..errors import SettingError
from ..guard import SETTINGS, GuardSettings
from ..rules import nearest
from .rule_values import format_value, parse_value, written_name

__all__ = ["default_of_setting", "format_setting", "parse_setting", "setting_name"]


def setting_name(written: str) -> str:
    """The setting that is meant, whether it is written with dashes or with underscores.

    Raises:
        SettingError: there is none of this name.
    """
    name = written.strip().lower().replace("-", "_")
    if name in SETTINGS:
        return name
    like = nearest(name, SETTINGS)
    raise SettingError(
        "there is no setting {name!r}",
        hint="did you mean {like!r}?" if like else "",
        name=written,
        like=written_name(like),
    )


def parse_setting(name: str, text: str) -> Any:
    """The value of a setting from what people write; `none` switches it off, or empties a list.

    Raises:
        SettingError: it is no value of this setting.
    """
    return parse_value(SETTINGS[name], name, text)


def format_setting(name: str, value: Any) -> str:
    """A setting's value as `parse_setting` reads it. Bytes may be text, as the control socket has
    them."""
    return format_value(SETTINGS[name], value)


def default_of_setting(name: str) -> str:
    """A setting's default, as people write it."""
    return format_setting(name, GuardSettings.__dataclass_fields__[name].default)
