"""Settings that every command has which listens: how it does, TLS, how it ends."""

from __future__ import annotations

import click

from ..errors import SettingError
from .options import Setting
from .parameters import COUNT, DURATION, PAUSE, Written
from .translation import N_

__all__ = ["listening_settings"]


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise SettingError(
            "{text!r} is not a file's mode", hint="write it as 600 or 660", text=text
        )
    return mode


def listening_settings() -> tuple[Setting, ...]:
    """How it listens, how it speaks TLS to clients, and how it ends."""
    return (
        Setting(
            ["--backlog"], type=COUNT, default="4096",
            help=N_("clients that the kernel holds until they are let in"),
        ),
        Setting(
            ["--unix-mode"], type=Written("MODE", _mode),
            help=N_("permission bits of a Unix socket's file, such as 660"),
        ),
        Setting(
            ["--tls-cert"], metavar="FILE",
            help=N_("speak TLS with this certificate chain (PEM)"),
        ),
        Setting(["--tls-key"], metavar="FILE", help=N_("its key, if it is not in the same file")),
        Setting(
            ["--tls-ca"], metavar="FILE",
            help=N_("clients must show a certificate signed by one of these (PEM)"),
        ),
        Setting(
            ["--drain"], type=DURATION, default="10s",
            help=N_("after the first signal, connections have this long to finish"),
        ),
        Setting(
            ["--drain-spread"], type=PAUSE, default="0s",
            help=N_("idle ones are closed one by one over this time, not all at once"),
        ),
        Setting(
            ["--loop"], type=click.Choice(["asyncio", "uvloop"]), default="asyncio",
            help=N_("the event loop"),
        ),
    )  # fmt: skip
