"""A setting: flag, environment variable and key of the settings file in one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from ..errors import SettingError

__all__ = ["PLACES", "Setting", "keys", "place_of", "settings", "table_of"]

#: Under which key of a context's `meta` its settings file is kept.
PLACES = "tieline.settings"


class Setting(click.Option):
    """An option: flag, environment variable and key of the settings file in one.

    Args:
        brief: whether `-h` shows it, and not only `--help-all`.
    """

    def __init__(self, *names: Any, brief: bool = False, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.brief = brief

    def variable(self, ctx: click.Context) -> str:
        """The environment variable that sets it."""
        return f"{ctx.auto_envvar_prefix}_{(self.name or '').upper()}"

    @property
    def key(self) -> str:
        """Its name in the settings file: that of the long flag."""
        return (self.name or "").replace("_", "-")

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        # In a file, one word is a list of one.
        single = self.multiple and isinstance(value, (str, int, float))
        return super().type_cast_value(ctx, [value] if single else value)

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            place = place_of(ctx, self)
            if not place:
                raise
            # A rule's sentence begins with the name by itself.
            known = error.message.startswith(self.key)
            template = "{place}: {detail}" if known else "{place}: {name}: {detail}"
            raise SettingError(
                template, place=place, name=self.key, detail=error.message
            ) from error


def place_of(ctx: click.Context, setting: Setting) -> str:
    """Where a setting's value stands: `FILE:LINE` or a variable's name; empty for a flag."""
    name = setting.name or ""
    source = ctx.get_parameter_source(name)
    if source is ParameterSource.ENVIRONMENT:
        return setting.variable(ctx)
    file = ctx.meta.get(PLACES)
    if source is not ParameterSource.DEFAULT_MAP or file is None:
        return ""
    table = table_of(ctx)
    inside = bool(table) and file.has(table, name)
    place: str = file.place(f"{table}.{name}" if inside else name)
    return place


def table_of(ctx: click.Context) -> str:
    """The table of the settings file that belongs to what runs here; empty for the root."""
    at = ctx
    while at.parent is not None and at.parent.parent is not None:
        at = at.parent
    return (at.info_name or "") if at.parent is not None else ""


def keys(command: click.Command) -> set[str]:
    """The names under which a command's settings may stand in a file."""
    return {
        option.key
        for option in command.params
        if isinstance(option, Setting) and option.key != "config"
    }


def settings(*made: Setting) -> Callable[[Any], Any]:
    """Give a command settings, in this order."""

    def decorate(function: Any) -> Any:
        for setting in reversed(made):
            function.__dict__.setdefault("__click_params__", []).append(setting)
        return function

    return decorate
