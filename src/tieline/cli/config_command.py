"""`tieline config`: check settings files, and show what holds and where it was said."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource, iter_params_for_processing

from ..errors import SettingError, TielineError, UsageError
from .commands import ENVIRONMENT, Command, Commands, Shared, inner_contexts, read_file
from .exits import Exit
from .log import Log
from .options import PLACES, Setting, inner_of, place_of, placed, settings
from .parameters import shared_settings
from .settings import SettingsFile
from .translation import N_, hint_of, ngettext, sentence, with_hint
from .translation import gettext as _

__all__ = ["command"]

_EXAMPLES = (
    "tieline config check tieline.toml",
    "tieline config show --config tieline.toml serve",
    "tieline config show serve --idle 30s",
)


@click.group(
    cls=Commands, examples=_EXAMPLES, title=N_("Check settings files, and show what holds."),
    found={
        "check": ("tieline.cli.config_command:check", N_("say what is wrong in a settings file")),
        "show": ("tieline.cli.config_command:show", N_("show each setting, and where it is from")),
    },
)  # fmt: skip
def command(**_shared: Any) -> None:
    """What both have in common."""


# ---- check


@click.command(
    cls=Command,
    help=N_("Say what is wrong in a settings file, line by line; exit code 2 if anything is."),
    examples=("tieline config check tieline.toml", "tieline config check *.toml --quiet"),
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def check(ctx: click.Context, /, files: tuple[Path, ...]) -> int:
    """Check them all."""
    log = ctx.obj.log()
    right = [_check_file(ctx, path, log) for path in files]
    return Exit.DONE if all(right) else Exit.USAGE


def _check_file(ctx: click.Context, path: Path, log: Log) -> bool:
    try:
        file = read_file(ctx, path)
    except SettingError as error:
        log.error(error)
        return False
    root = ctx.find_root().command
    assert isinstance(root, Commands)
    problems = [*file.problems, *_wrong_values(file, root)]
    for problem in sorted(problems, key=_line):
        log.error(problem)
    if not problems:
        count = sum(len(v) if isinstance(v, dict) else 1 for v in file.values.values())
        count += sum(len(v) for tables in file.inner.values() for v in tables.values())
        text = ngettext("{path}: {count} setting, all right", "{path}: {count} settings, all right",
                        count)  # fmt: skip
        log.notice(text.format(path=path, count=count))
    return not problems


def _line(error: SettingError) -> int:
    line = str(error.fields.get("place", "")).rpartition(":")[2]
    return int(line) if line.isdecimal() else sys.maxsize


def _wrong_values(file: SettingsFile, root: Commands) -> Iterator[SettingError]:
    """What has no meaning among the values of a file."""
    above = click.Context(root, info_name="tieline", default_map=file.values)
    above.meta[PLACES] = file
    yield from _wrong_in(above, file.values)
    for name in root.tables():
        if name in file.values and (found := root.get_command(above, name)) is not None:
            ctx = click.Context(found, parent=above, info_name=name)
            yield from _wrong_in(ctx, file.values[name], file.inner.get(name, {}))


def _wrong_in(
    ctx: click.Context, values: dict[str, Any], inner: dict[str, dict[str, Any]] | None = None
) -> Iterator[SettingError]:
    """What has no meaning among the settings of one command, alone or together."""
    wrong = list(_wrong_alone(ctx, values))
    for below in inner_contexts(ctx) if inner else ():
        wrong += _wrong_alone(below, inner[below.info_name or ""] if inner else {})
    yield from wrong
    command = ctx.command
    if wrong or not isinstance(command, Command):
        return
    # Nothing but what the file says: without what a command line must have.
    whole = command.make_context(ctx.info_name, [], parent=ctx.parent, resilient_parsing=True)
    try:
        if command.check is not None:
            command.check(whole.params)
    except TielineError as error:
        yield _placed(error, whole)
    else:
        for each in command.check_all(whole) if command.check_all is not None else ():
            yield _placed(each, whole)


def _wrong_alone(ctx: click.Context, values: dict[str, Any]) -> Iterator[SettingError]:
    """What has no meaning by itself."""
    for param in ctx.command.params:
        if not isinstance(param, Setting) or param.name not in values:
            continue
        ctx.set_parameter_source(param.name, ParameterSource.DEFAULT_MAP)
        try:
            param.process_value(ctx, values[param.name])
        except SettingError as error:
            yield error


def _placed(error: TielineError, ctx: click.Context) -> SettingError:
    """The error with the line of one of the settings it speaks of; else with the file."""
    found = placed(error, ctx)
    if isinstance(found, SettingError) and "place" in found.fields:
        return found
    file: SettingsFile = ctx.meta[PLACES]
    detail = with_hint(sentence(error), hint_of(error))
    return SettingError("{place}: {detail}", place=str(file.path), detail=detail)


# ---- show


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting as it holds.

    Attributes:
        command: whose it is; empty for those that all commands share.
        value: as it was written; `None` where it is not set.
        source: `default`, `file`, `environment` or `flag`.
        place: `FILE:LINE` or the variable's name.
    """

    command: str
    name: str
    value: Any
    source: str
    place: str


_SOURCES = {
    ParameterSource.COMMANDLINE: "flag",
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
}


@click.command(
    cls=Command,
    help=N_("Show every setting, its value, and where that was said."),
    examples=(
        "tieline config show --config tieline.toml serve",
        N_("tieline config show serve --idle 30s  # as this command line would have it"),
        "tieline config show --json send",
    ),
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("command_line", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND [OPTIONS]]")
@settings(
    Setting(["--json"], is_flag=True, brief=True, help=N_("show JSON Lines, for programs")),
    Setting(
        ["--changed"], is_flag=True, brief=True, help=N_("only what is not as it is by default")
    ),
)
@click.pass_context
def show(ctx: click.Context, /, command_line: tuple[str, ...], *, json: bool, changed: bool) -> int:
    """Show them, command by command."""
    shared: Shared = ctx.obj
    shown = list(_effective(ctx, command_line))
    if changed:
        shown = [each for each in shown if each.source != "default"]
    log = shared.log()
    if json:
        for each in shown:
            log.json_line(
                command=each.command, name=each.name, value=each.value, source=each.source,
                place=each.place or None,
            )  # fmt: skip
        return Exit.DONE
    _show_tables(shown, log)
    return Exit.DONE


def _effective(ctx: click.Context, command_line: tuple[str, ...]) -> Iterator[Shown]:
    root = ctx.find_root().command
    assert isinstance(root, Commands)
    name, *arguments = command_line or ("",)
    if name and name not in root.tables():
        raise UsageError(
            "{name!r} has no settings to show", hint="there are {names}",
            name=name, names=", ".join(root.tables()), like=name,
        )  # fmt: skip
    file: SettingsFile | None = ctx.meta.get(PLACES)
    above = click.Context(
        root, info_name="tieline", auto_envvar_prefix=ENVIRONMENT,
        default_map=file.values if file is not None else None,
    )  # fmt: skip
    above.meta[PLACES] = file
    if not name:
        yield from _settings_of(above, [], "")
    for table in [name] if name else root.tables():
        found = root.get_command(above, table)
        assert found is not None
        below = click.Context(found, parent=above, info_name=table)
        yield from _settings_of(below, arguments, table)
        yield from _inner_settings_of(below)


def _settings_of(ctx: click.Context, arguments: list[str], table: str) -> Iterator[Shown]:
    command = ctx.command
    options, _rest, order = command.make_parser(ctx).parse_args(list(arguments))
    shared = {setting.name for setting in shared_settings()} if table else set()
    for param in iter_params_for_processing(order, command.get_params(ctx)):
        if not isinstance(param, Setting) or param.name is None:
            continue
        value, source = param.consume_value(ctx, options)
        ctx.set_parameter_source(param.name, source)
        # Reading the value says what is wrong with it; of --config, it gives the others.
        param.process_value(ctx, value)
        said = _SOURCES.get(source, "default")
        if param.key != "config" and (param.name not in shared or said != "default"):
            yield Shown(table, param.key, _plain(value), said, place_of(ctx, param))


def _inner_settings_of(ctx: click.Context) -> Iterator[Shown]:
    """What the tables inside a command's own say; all else in them is as it is in that one."""
    file: SettingsFile | None = ctx.meta[PLACES]
    for below in inner_contexts(ctx):
        assert file is not None
        written = file.inner[ctx.info_name or ""][below.info_name or ""]
        for param in ctx.command.params:
            if not isinstance(param, Setting) or param.name not in written:
                continue
            below.set_parameter_source(param.name, ParameterSource.DEFAULT_MAP)
            param.process_value(below, written[param.name])
            value = _plain(written[param.name])
            yield Shown(inner_of(below), param.key, value, "file", place_of(below, param))


def _plain(value: Any) -> Any:
    """A value as it was written, in what JSON has."""
    if isinstance(value, (list, tuple)):
        return [str(each) for each in value]
    return value if isinstance(value, (str, int, float)) else None


def _show_tables(shown: list[Shown], log: Log) -> None:
    from .tables import Column, show_table

    columns = (Column(_("setting")), Column(_("value"), gives=True), Column(_("from"), gives=True))
    for table in dict.fromkeys(each.command for each in shown):
        log.print(f"[{table}]" if table else _("shared by all commands"))
        rows = [
            (each.name, _written(each.value), each.place or _(_NAMES[each.source]))
            for each in shown
            if each.command == table
        ]
        show_table(log, columns, rows)


#: What people are told of sources that have no place.
_NAMES = {
    "default": N_("default"),
    "flag": N_("flag"),
    "file": N_("file"),
    "environment": N_("environment"),
}


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return "-" if value is None or value == "" else str(value)
