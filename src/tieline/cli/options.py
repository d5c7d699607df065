"""A setting: flag, environment variable and key of the settings file in one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from ..errors import SettingError, TielineError
from .translation import hint_of, sentence, with_hint

__all__ = ["PLACES", "Setting", "inner_of", "keys", "place_of", "placed", "settings", "table_of"]

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
    table, inner = table_of(ctx), inner_of(ctx)
    if inner and name in file.inner[table][ctx.info_name]:
        path = f"{inner}.{name}"
    else:
        path = f"{table}.{name}" if table and file.has(table, name) else name
    place: str = file.place(path)
    return place


def table_of(ctx: click.Context) -> str:
    """The table of the settings file that belongs to what runs here; empty for the root."""
    at = ctx
    while at.parent is not None and at.parent.parent is not None:
        at = at.parent
    return (at.info_name or "") if at.parent is not None else ""


def inner_of(ctx: click.Context) -> str:
    """The table of the settings file, inside the command's, that belongs to what runs here, such
    as `guard.listener.NAME`; empty where it has none of its own."""
    if ctx.parent is None or ctx.parent.command is not ctx.command:
        return ""
    return f"{table_of(ctx)}.{getattr(ctx.command, 'kind', '')}.{ctx.info_name}"


def placed(error: TielineError, ctx: click.Context, *also: str) -> TielineError:
    """The error with the line of one of the settings that it speaks of, where the settings file
    has one; else, of an inner table, with that table's.

    Args:
        error: what makes no sense.
        ctx: whose settings.
        also: settings that it may be about without naming them.
    """
    file = ctx.meta.get(PLACES)
    if file is None or "place" in error.fields:
        return error
    spoken_of = [*error.fields, *(str(each).removeprefix("--") for each in error.fields.values())]
    spoken_of += [*re.findall(r"--([a-z-]+)", error.template), *also]
    inner = inner_of(ctx)
    tables = [inner, table_of(ctx)] if inner else [table_of(ctx)]
    for table in tables:
        place = file.place(*(f"{table}.{name}" for name in spoken_of))
        if place != str(file.path):
            break
    else:
        if not inner:
            return error
        place = file.place_of_key(tuple(inner.split(".")))
    detail = with_hint(sentence(error), hint_of(error))
    return SettingError("{place}: {detail}", place=place, detail=detail)


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
