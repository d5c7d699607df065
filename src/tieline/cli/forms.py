"""In which form messages are shown, and the settings that choose it."""

from __future__ import annotations

import sys

from ..errors import UsageError
from .log import Form
from .options import Setting
from .translation import N_

__all__ = ["form_of", "form_settings"]


def form_settings() -> tuple[Setting, ...]:
    """How messages are shown."""
    return (
        Setting(["--hex"], is_flag=True, brief=True, help=N_("show bytes instead of text")),
        Setting(["--json"], is_flag=True, brief=True, help=N_("show JSON Lines, for programs")),
        Setting(
            ["--raw"], is_flag=True,
            help=N_("write to stdout what comes in, untouched, and nothing else (to no terminal)"),
        ),
    )  # fmt: skip


def form_of(*, hex: bool, json: bool, raw: bool) -> Form:
    """The form in which messages are shown.

    Raises:
        UsageError: two were asked for, or `--raw` on a terminal.
    """
    if (raw and (json or hex)) or (json and hex):
        raise UsageError("--hex, --json and --raw exclude each other")
    if raw and sys.stdout.isatty():
        raise UsageError(
            "--raw writes what a peer sends untouched, which a terminal might obey",
            hint="send it to a pipe or a file",
        )
    return "raw" if raw else "json" if json else "hex" if hex else "text"
