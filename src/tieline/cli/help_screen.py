"""Help that fits a screen: examples first, then what is needed often; the rest on request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click

from .translation import gettext as _
from .visible import width

__all__ = ["COLUMNS", "command_screen", "group_screen", "wrap"]

#: The width of a help screen, whatever the terminal's: one that fits everywhere.
COLUMNS = 80

_LEFT = 26


def wrap(text: str, columns: int, last: str = "") -> list[str]:
    """Lines of at most so many columns. Chinese may break anywhere, other text at spaces.

    Args:
        text: what is to be wrapped.
        columns: of the widest line.
        last: what comes at the end, and is not broken.
    """
    lines, line = [], ""
    for piece in [*_pieces(text.strip()), last]:
        if line and width(line) + width(piece.rstrip()) > columns:
            lines.append(line.rstrip())
            line = piece.lstrip()
        else:
            line += piece
    return [*lines, line.rstrip()] if line.strip() else lines


def _pieces(text: str) -> list[str]:
    """Text cut where a line may end. No line begins with closing punctuation."""
    pieces: list[str] = []
    for character in text:
        follows = pieces and (
            character in "，。；：、！？）”"
            or character == " "
            or (width(character) == 1 and width(pieces[-1][-1]) == 1 and pieces[-1][-1] != " ")
            or pieces[-1][-1] in "（“"
        )
        if follows:
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


#: A name, what it is for, and perhaps what comes last and is not broken.
Row = tuple[str, str] | tuple[str, str, str]


def rows(found: Iterable[Row], left: int = _LEFT) -> list[str]:
    """Two columns: names and what they are for."""
    lines = []
    for name, *parts in found:
        texts = wrap(parts[0], COLUMNS - left - 2, *parts[1:]) or [""]
        head = f"  {name}"
        if width(head) > left:
            lines.append(head)
        else:
            lines.append(head + " " * (left + 2 - width(head)) + texts.pop(0))
        lines += [" " * (left + 2) + text for text in texts]
    return lines


def _metavar(option: click.Option) -> str:
    """What stands for an option's value."""
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return f"[{'|'.join(option.type.choices)}]"
    return option.type.name.upper()


def option_row(option: click.Option, *, everything: bool) -> Row:
    """An option's names and its help; with everything, its default too."""
    names = ", ".join(option.opts)
    if not option.is_flag:
        names += " " + _metavar(option)
    text, default = _(option.help or ""), ""
    if everything and isinstance(option.default, str) and option.default:
        default = _(" (default: {default})").format(default=option.default)
    return names, text, default


def command_screen(
    ctx: click.Context, title: str, examples: Iterable[str], *, everything: bool
) -> str:
    """The help of a command.

    Args:
        ctx: its context.
        title: what it does, in one sentence.
        examples: command lines, perhaps with a remark that is translated.
        everything: every option, and not only those that are needed often.
    """
    command = ctx.command
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    options = [option for option in command.get_params(ctx) if isinstance(option, click.Option)]
    shown = [option for option in options if everything or getattr(option, "brief", False)]
    lines = [
        *wrap(_(title), COLUMNS),
        "",
        *(f"  {_(example)}" for example in examples),
        "",
        _("Usage: {usage}").format(usage=usage),
        *rows(option_row(option, everything=everything) for option in shown),
    ]
    if not everything:
        lines += rows([("--help-all", _("every option, with its default"))])
    return "\n".join(lines)


def group_screen(
    ctx: click.Context, title: str, examples: Iterable[str], commands: Mapping[str, str]
) -> str:
    """The help of a group of commands.

    Args:
        ctx: its context.
        title: what the group is, in one sentence.
        examples: command lines, perhaps with a remark that is translated.
        commands: their names, and what each is for.
    """
    options = [each for each in ctx.command.get_params(ctx) if isinstance(each, click.Option)]
    if ctx.parent is not None:
        # What all commands share is on the first screen.
        options = [each for each in options if getattr(each, "brief", False)]
    lines = [
        *wrap(_(title), COLUMNS),
        "",
        *(f"  {_(example)}" for example in examples),
        "",
        _("Usage: {usage}").format(usage=f"{ctx.command_path} [OPTIONS] COMMAND ..."),
        *rows(((name, _(text)) for name, text in commands.items()), 14),
        "",
        *rows(option_row(option, everything=False) for option in options),
    ]
    return "\n".join(lines)
