"""What every command of ours is: help that fits a screen, settings from three places."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from ..errors import TielineError
from ..rules import nearest
from .help_screen import command_screen, group_screen
from .log import Log
from .options import PLACES, keys, table_of
from .parameters import shared_settings
from .settings import Names, SettingsFile, check_environment, read_settings
from .translation import LANGUAGES, N_, use_language, with_hint
from .translation import gettext as _

__all__ = [
    "ENVIRONMENT",
    "Command",
    "Commands",
    "Shared",
    "context_again",
    "inner_contexts",
    "inner_values",
    "parse_again",
    "read_file",
    "said_before_parsing",
    "value_of",
]

#: What the names of all our environment variables begin with.
ENVIRONMENT = "TIELINE"

_SHARED = tuple(setting.name or "" for setting in shared_settings())


@dataclass(frozen=True, slots=True)
class Shared:
    """What the command as a whole was told, before or after the command's name."""

    quiet: bool = False
    verbose: bool = False
    color: str = "auto"

    def log(self, form: Any = "text", *, many: bool = True) -> Log:
        """What shows things as it was asked for."""
        return Log(form, color=self.color, quiet=self.quiet, many=many)


def value_of(ctx: click.Context, name: str) -> Any:
    """A setting that may stand before or after a command's name: the last that was given."""
    at: click.Context | None = ctx
    while at is not None:
        if name in at.params and at.get_parameter_source(name) is not ParameterSource.DEFAULT:
            return at.params[name]
        at = at.parent
    return ctx.params[name]


class Command(click.Command):
    """A command of ours.

    Args:
        examples: command lines, perhaps with a remark that is translated.
        check: says what makes no sense among its settings together, before anything is begun.
        kind: what inner tables of its own it has in a settings file: `listener` for
            `[guard.listener.NAME]`; empty (default): none.
        outer: settings that have no place in an inner table.
        check_all: for one with inner tables, gives what makes no sense, in any of them or between
            them; of a context in which each setting by itself is right.
    """

    def __init__(
        self,
        *args: Any,
        examples: Collection[str] = (),
        check: Callable[[dict[str, Any]], object] | None = None,
        kind: str = "",
        outer: Collection[str] = (),
        check_all: Callable[[click.Context], Iterable[TielineError]] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(*args, **attributes)
        self.examples = examples
        self.check = check
        self.kind = kind
        self.check_all = check_all
        self._outer = {*outer, *_SHARED}
        self.params += shared_settings(_load_settings)
        self.params.append(
            click.Option(
                ["--help-all"], is_flag=True, is_eager=True, expose_value=False,
                callback=_show_everything, help=N_("show this and exit"),
            )
        )  # fmt: skip

    @property
    def names(self) -> Names:
        """The names that its table in a settings file may have."""
        own = keys(self)
        inner = own - {name.replace("_", "-") for name in self._outer} if self.kind else ()
        return Names(own, self.kind, inner)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(self.screen(ctx, everything=False))

    def screen(self, ctx: click.Context, *, everything: bool) -> str:
        """The help of this command."""
        return command_screen(ctx, self.help or "", self.examples, everything=everything)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        given = list(args)
        ctx = super().make_context(info_name, args, parent, **extra)
        ctx.meta[_ARGUMENTS] = given
        return ctx

    def invoke(self, ctx: click.Context) -> Any:
        prefix = f"{ctx.auto_envvar_prefix}_"
        check_environment(os.environ, prefix, {*keys(self), "config", "help-all"})
        ctx.obj = Shared(*(value_of(ctx, name) for name in ("quiet", "verbose", "color")))
        for own in _SHARED:
            ctx.params.pop(own, None)
        return super().invoke(ctx)


class Commands(click.Group):
    """A group of commands, each imported when it is needed.

    Args:
        found: for each command, where it is found (`module:name`), and what it is for.
        title: what the group is, in one sentence.
        examples: command lines, perhaps with a remark that is translated.
    """

    def __init__(
        self,
        *args: Any,
        found: Mapping[str, tuple[str, str]],
        title: str,
        examples: Collection[str],
        **attributes: Any,
    ) -> None:
        super().__init__(*args, **attributes)
        self.found = found
        self._title = title
        self._examples = examples
        self.params += shared_settings(_load_settings)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.found)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.found:
            return None
        module, _colon, name = self.found[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.found and not args[0].startswith("-"):
            like = nearest(args[0], self.found)
            text = _("there is no command {name!r}").format(name=args[0])
            hint = _("did you mean {like!r}?").format(like=like) if like else ""
            ctx.fail(with_hint(text, hint))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = {name: text for name, (_place, text) in self.found.items()}
        formatter.write(group_screen(ctx, self._title, self._examples, found))

    def tables(self) -> dict[str, Callable[[], Names]]:
        """What tells the names of each command's settings in a file, when it is asked."""

        def known(name: str) -> Callable[[], Names]:
            def names() -> Names:
                command = self.get_command(click.Context(self), name) or self
                return command.names if isinstance(command, Command) else Names(keys(command))

            return names

        return {name: known(name) for name in self.found if name not in _WITHOUT_TABLE}


#: Commands whose settings make no sense in a file.
_WITHOUT_TABLE = frozenset({"completion", "config"})

_ARGUMENTS = "tieline.arguments"

_BEFORE_A_FILE = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def _show_everything(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.command, Command):
        click.echo(ctx.command.screen(ctx, everything=True))
        ctx.exit()


# ---- Settings from a file


def read_file(ctx: click.Context, path: Any) -> SettingsFile:
    """The settings file, as far as it can be read.

    Raises:
        SettingError: it is none.
    """
    root = ctx.find_root().command
    assert isinstance(root, Commands)
    return read_settings(path, keys(root), root.tables())


def _load_settings(ctx: click.Context, _param: click.Parameter, path: Any) -> Any:
    """Make a file's settings the defaults of this command, or of all when it is the root."""
    if path is None:
        return path
    file = read_file(ctx, path)
    if file.problems:
        raise file.problems[0]
    ctx.meta[PLACES] = file
    table = table_of(ctx)
    if table:
        outside = {name: value for name, value in file.values.items() if name in _SHARED}
        ctx.default_map = {**outside, **file.values.get(table, {})}
    else:
        ctx.default_map = file.values
    _heed_language(file.values, ctx.default_map)
    return path


def _heed_language(*found: Mapping[str, Any]) -> None:
    """The file's language, unless a flag or the environment has said another."""
    for values in found:
        if values.get("lang") in LANGUAGES and said_before_parsing("lang", sys.argv[1:]) is None:
            use_language(values["lang"])


def said_before_parsing(setting: str, arguments: list[str]) -> str | None:
    """What a flag or the environment says, before anything is parsed: errors must know it."""
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == f"--{setting}" and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(f"--{setting}="):
            return argument.partition("=")[2]
    return os.environ.get(f"{ENVIRONMENT}_{setting.upper()}")


def parse_again(ctx: click.Context) -> dict[str, Any]:
    """What a command that is running would be told now: its settings file is read again.

    Raises:
        SettingError, click.UsageError: the file has become one that cannot be used.
    """
    params = context_again(ctx).params
    return {name: value for name, value in params.items() if name not in _SHARED}


def context_again(ctx: click.Context) -> click.Context:
    """The context that a command which is running would have now: its settings file is read
    again.

    Raises:
        SettingError, click.UsageError: the file has become one that cannot be used.
    """
    parent = ctx.parent
    assert parent is not None
    if parent.params.get("config") is not None:
        _load_settings(parent, parent.command.params[0], parent.params["config"])
    return ctx.command.make_context(ctx.info_name, list(ctx.meta[_ARGUMENTS]), parent)


# ---- Inner tables of a settings file


def inner_contexts(ctx: click.Context) -> list[click.Context]:
    """A context for each inner table that a command has in the settings file, in their order."""
    file: SettingsFile | None = ctx.meta.get(PLACES)
    names = [] if file is None else file.inner.get(table_of(ctx), {})
    return [
        click.Context(
            ctx.command, parent=ctx, info_name=name, auto_envvar_prefix=ctx.auto_envvar_prefix
        )
        for name in names
    ]


def inner_values(
    ctx: click.Context, above: dict[str, Any], without: Collection[str] = ()
) -> dict[str, Any]:
    """What holds for an inner table: what a flag or the environment says, then the table, then
    what holds for the command.

    Args:
        ctx: one of `inner_contexts`.
        above: what holds for the command.
        without: settings of which the table's beat even what a flag or the environment says.

    Raises:
        SettingError: a value in the table has no meaning.
    """
    assert ctx.parent is not None
    file: SettingsFile = ctx.meta[PLACES]
    values = file.inner[table_of(ctx)][ctx.info_name or ""]
    held = dict(above)
    for param in ctx.command.params:
        name = param.name or ""
        said = ctx.parent.get_parameter_source(name) in _BEFORE_A_FILE
        if name in values and not (said and name not in without):
            ctx.set_parameter_source(name, ParameterSource.DEFAULT_MAP)
            held[name] = param.process_value(ctx, values[name])
    return held
