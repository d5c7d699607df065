"""The group of all commands, and the one place where an error becomes an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import get_completion_class

from .._version import __version__
from ..errors import TielineError
from .exits import Exit, exit_of
from .help_screen import COLUMNS, command_screen, keys, option_row, rows, wrap
from .log import Log, silence_stdout
from .parameters import settings, shared_settings
from .settings import check_environment, nearest, read_settings
from .translation import LANGUAGES, N_, use_language, with_hint
from .translation import gettext as _

__all__ = ["Command", "Shared", "group", "run"]

PROGRAM = "tieline"
_ENVIRONMENT = "TIELINE"

#: The commands: where each is found, and what it is for. Only the one that runs is imported.
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("tieline.cli.serve", N_("listen, show what arrives and answer it")),
    "connect": ("tieline.cli.connect", N_("hold a conversation with a server")),
    "send": ("tieline.cli.send", N_("send one message and show the reply")),
    "completion": ("tieline.cli.app", N_("print the completion script of a shell")),
}

_SHARED = tuple(setting.name for setting in shared_settings())


@dataclass(frozen=True, slots=True)
class Shared:
    """What the command as a whole was told, before or after the command's name."""

    quiet: bool = False
    verbose: bool = False
    color: str = "auto"

    def log(self, form: Any = "text", *, many: bool = True) -> Log:
        """What shows things as it was asked for."""
        return Log(form, color=self.color, quiet=self.quiet, many=many)


class Command(click.Command):
    """A command of ours: help that fits a screen, settings from a file and the environment."""

    def __init__(self, *args: Any, examples: Collection[str] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = examples
        self.params += shared_settings()
        for setting in self.params:
            if setting.name == "config":
                setting.callback = _load_command_settings
        self.params.append(
            click.Option(
                ["--help-all"], is_flag=True, is_eager=True, expose_value=False,
                callback=_show_everything, help=N_("show this and exit"),
            )
        )  # fmt: skip

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(self.screen(ctx, everything=False))

    def screen(self, ctx: click.Context, *, everything: bool) -> str:
        """The help of this command."""
        return command_screen(ctx, self.help or "", self.examples, everything=everything)

    def invoke(self, ctx: click.Context) -> Any:
        name = (ctx.info_name or "").replace("-", "_").upper()
        check_environment(os.environ, f"{_ENVIRONMENT}_{name}_", keys(self) | {"help-all"})
        ctx.obj = _shared(ctx)
        for own in _SHARED:
            ctx.params.pop(own or "", None)
        return super().invoke(ctx)


def _show_everything(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.command, Command):
        click.echo(ctx.command.screen(ctx, everything=True))
        ctx.exit()


def _shared(ctx: click.Context) -> Shared:
    """The shared settings: the command's own where they are given, else the group's."""

    def value(name: str) -> Any:
        own = ctx.get_parameter_source(name)
        above = ctx.parent
        if own is ParameterSource.DEFAULT and above is not None and name in above.params:
            return above.params[name]
        return ctx.params[name]

    return Shared(value("quiet"), value("verbose"), value("color"))


class Group(click.Group):
    """The commands, imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(
            module, "command" if cmd_name != "completion" else cmd_name
        )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            like = nearest(args[0], COMMANDS)
            text = _("there is no command {name!r}").format(name=args[0])
            hint = _("did you mean {like!r}?").format(like=like) if like else ""
            ctx.fail(with_hint(text, hint))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = [
            *wrap(_("TCP connections, held well: serve them, make them, look into them."), COLUMNS),
            "",
            *(f"  {example}" for example in _EXAMPLES),
            "",
            _("Usage: {usage}").format(usage=f"{PROGRAM} [OPTIONS] COMMAND ..."),
            *rows(((name, _(text)) for name, (_module, text) in COMMANDS.items()), 14),
            "",
            *rows(
                option_row(option, everything=False)
                for option in self.get_params(ctx)
                if isinstance(option, click.Option)
            ),
        ]
        formatter.write("\n".join(lines))


_EXAMPLES = (
    'tieline serve --port 7788 --encoding gbk --reply "thank you !"',
    "tieline connect 127.0.0.1:7788",
    'tieline send 127.0.0.1:7788 "你好"',
)


def _tables() -> dict[str, Callable[[], Collection[str]]]:
    def known(name: str) -> Callable[[], Collection[str]]:
        return lambda: keys(group.get_command(click.Context(group), name) or group)

    return {name: known(name) for name in COMMANDS if name != "completion"}


def _load_settings(ctx: click.Context, _param: click.Parameter, path: Any) -> Any:
    """Of the group: the file gives defaults to the group and to its commands."""
    if path is not None:
        ctx.default_map = read_settings(path, keys(group), _tables())
        _heed_language(ctx.default_map)
    return path


def _load_command_settings(ctx: click.Context, _param: click.Parameter, path: Any) -> Any:
    """Of a command: its table, and what stands outside of tables."""
    if path is not None:
        found = read_settings(path, keys(group), _tables())
        outside = {name: value for name, value in found.items() if name in _SHARED}
        ctx.default_map = {**outside, **found.get(ctx.info_name or "", {})}
        _heed_language(ctx.default_map)
    return path


def _heed_language(found: Any) -> None:
    """The file's language, unless a flag or the environment has said another."""
    if found.get("lang") in LANGUAGES and _wanted("lang", sys.argv[1:]) is None:
        use_language(found["lang"])


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@settings(*shared_settings())
def group(**_shared: Any) -> None:
    """What all commands have in common."""


for _setting in group.params:
    if _setting.name == "config":
        _setting.callback = _load_settings


@click.command(
    cls=Command, help=N_("Print the completion script of a shell."),
    examples=('eval "$(tieline completion bash)"', "tieline completion fish | source"),
)  # fmt: skip
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print what the shell must read to complete this command's words."""
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(group, {}, PROGRAM, "_TIELINE_COMPLETE").source())
    return Exit.DONE


def _wanted(setting: str, arguments: list[str]) -> str | None:
    """What a flag or the environment says, before anything is parsed: errors must know it."""
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == f"--{setting}" and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(f"--{setting}="):
            return argument.partition("=")[2]
    return os.environ.get(f"{_ENVIRONMENT}_{setting.upper()}")


def run(arguments: list[str]) -> int:
    """Run the command.

    Returns:
        Its exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's charset cannot show must not end the program.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    use_language(_wanted("lang", arguments))
    log = Log(color=_wanted("color", arguments) or "auto")
    try:
        code = group.main(
            arguments, prog_name=PROGRAM, standalone_mode=False,
            auto_envvar_prefix=_ENVIRONMENT,
        )  # fmt: skip
        sys.stdout.flush()
        return int(code or Exit.DONE)
    except click.UsageError as error:
        return _misused(error, log)
    except click.ClickException as error:
        log.complain(error.format_message())
        return Exit.FAILED
    except TielineError as error:
        log.error(error)
        return exit_of(error)
    except (click.Abort, KeyboardInterrupt):
        log.complain(_("interrupted"))
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has seen enough.
        silence_stdout()
        return Exit.DONE


def _misused(error: click.UsageError, log: Log) -> int:
    path = error.ctx.command_path if error.ctx is not None else PROGRAM
    # Newer releases of click raise the help screen; older ones print it.
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        click.echo(error.format_message(), err=True)
    else:
        hint = _("see {command} -h").format(command=path)
        log.complain(f"{path}: {error.format_message()}", hint)
    return Exit.USAGE
