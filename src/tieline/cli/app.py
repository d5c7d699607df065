"""The group of all commands, and the one place where an error becomes an exit code."""

from __future__ import annotations

import sys
from typing import Any

import click
from click.shell_completion import get_completion_class

from .._version import __version__
from ..errors import TielineError
from .commands import ENVIRONMENT, Command, Commands, said_before_parsing
from .exits import Exit, exit_of
from .log import Log, silence_stdout
from .translation import N_, use_language
from .translation import gettext as _

__all__ = ["completion", "group", "run"]

PROGRAM = "tieline"

#: The commands: where each is found, and what it is for. Only the one that runs is imported.
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("tieline.cli.serve:command", N_("listen, show what arrives and answer it")),
    "guard": ("tieline.cli.guard:command", N_("relay connections, with limits at the door")),
    "connect": ("tieline.cli.connect:command", N_("hold a conversation with a server")),
    "send": ("tieline.cli.send:command", N_("send one message and show the reply")),
    "bench": ("tieline.cli.bench.command:command", N_("put a load on a service, and measure it")),
    "trace": ("tieline.cli.trace:command", N_("draw what passes on the wire, step by step")),
    "ctl": ("tieline.cli.ctl:command", N_("look into a running server and direct it")),
    "doctor": ("tieline.cli.doctor:command", N_("say how many connections this machine can hold")),
    "config": ("tieline.cli.config_command:command", N_("check and show settings")),
    "completion": ("tieline.cli.app:completion", N_("print the completion script of a shell")),
}

_EXAMPLES = (
    'tieline serve --port 7788 --encoding gbk --reply "thank you !"',
    'tieline send 127.0.0.1:7788 "你好"',
)


@click.group(
    cls=Commands, found=COMMANDS, examples=_EXAMPLES,
    title=N_("TCP connections, held well: serve them, make them, look into them."),
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def group(**_shared: Any) -> None:
    """What all commands have in common."""


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
    use_language(said_before_parsing("lang", arguments))
    log = Log(color=said_before_parsing("color", arguments) or "auto")
    try:
        code = group.main(
            arguments, prog_name=PROGRAM, standalone_mode=False,
            auto_envvar_prefix=ENVIRONMENT,
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
