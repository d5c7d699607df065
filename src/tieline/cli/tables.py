"""Tables for people: aligned whatever the script, and never wider than the terminal."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UsageError
from .log import Log
from .visible import visible, width

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Cell", "Column", "Style", "show_pairs", "show_table", "table_lines"]

Style = str

#: What a cell says, perhaps with how: a colour's name, `dim` or `bold`.
Cell = str | tuple[str, Style]

#: As wide as a pipe is: nothing is cut off for a program or a file.
_ENDLESS = 100_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: what stands above it, in the user's language.
        right: whether it is a number, which stands at the right.
        gives: whether it is cut off first where the terminal is narrow.
    """

    title: str
    right: bool = False
    gives: bool = False


def show_pairs(log: Log, pairs: Iterable[tuple[str, str]]) -> None:
    """Show what something is, name by name."""
    found = list(pairs)
    left = max((width(name) for name, _value in found), default=0)
    for name, value in found:
        log.print(log.dim(name) + " " * (left - width(name) + 2) + visible(value))


def show_table(log: Log, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
    """Show a table on stdout, as wide as the terminal at most; whole where there is none."""
    most = shutil.get_terminal_size().columns if sys.stdout.isatty() else _ENDLESS
    for line in table_lines(columns, rows, most, color=log.paints):
        log.print(line)


def table_lines(
    columns: Sequence[Column], rows: Iterable[Sequence[Cell]], most: int, *, color: bool
) -> list[str]:
    """The lines of a table.

    Args:
        columns: its columns, whose titles are the first line.
        rows: their cells; what a terminal might obey in them is made visible.
        most: columns of the terminal, for the widest line.
        color: whether styles are shown.

    Raises:
        UsageError: `rich`, of the extra `cli`, is not installed.
    """
    try:
        from rich.console import Console
    except ModuleNotFoundError as error:
        raise UsageError(
            "the command needs {module}: pip install 'tieline[cli]'", module="rich"
        ) from error
    written = io.StringIO()
    console = Console(
        file=written, width=most, force_terminal=color, no_color=not color, highlight=False,
        color_system="standard" if color else None, markup=False, emoji=False, legacy_windows=False,
    )  # fmt: skip
    console.print(_table(columns, rows))
    return [line.rstrip() for line in written.getvalue().splitlines()]


def _table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(
            Text(column.title, no_wrap=True),
            justify="right" if column.right else "left",
            no_wrap=not column.gives,
            overflow="ellipsis",
        )
    for row in rows:
        texts = [(cell, "") if isinstance(cell, str) else cell for cell in row]
        table.add_row(
            *(Text(visible(text), style, no_wrap=True, overflow="ellipsis")
              for text, style in texts)
        )  # fmt: skip
    return table
