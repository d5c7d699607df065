"""What the verbs share: where the server is, and what becomes of its answers."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import click

from ...control import ControlError
from ...control.blocking import Control, connect
from ...errors import ConnectError, SettingError
from ..commands import Command, Shared, value_of
from ..control_path import CONTROL, default_control_path
from ..exits import Exit
from ..log import Form, Log
from ..options import Setting, settings
from ..translation import N_

__all__ = ["Talk", "talking_settings", "verb"]


def talking_settings() -> tuple[Setting, ...]:
    """Where the server is, and for whom the answer is; before and after a verb."""
    return (
        Setting(
            ["--control"], type=CONTROL, metavar="PATH", brief=True,
            help=N_("the control socket, if not at its default path"),
        ),
        Setting(["--json"], is_flag=True, brief=True, help=N_("show JSON Lines, for programs")),
    )  # fmt: skip


class Talk:
    """What a verb holds.

    Attributes:
        shared: what the command as a whole was told.
        log: where the answer is shown.
        json: whether it is for programs.
        path: of the control socket.
    """

    def __init__(self, ctx: click.Context) -> None:
        self.shared: Shared = ctx.obj
        self.log: Log = self.log_in("text")
        self.json: bool = value_of(ctx, "json")
        given: str | None = value_of(ctx, "control")
        self.path = given or default_control_path(os.environ, os.geteuid())
        self._checked = given is not None

    def log_in(self, form: Form) -> Log:
        """What shows messages in this form, and ends the command when nobody reads on."""
        log = self.shared.log(form)
        log.on_broken_pipe = _leave
        return log

    @contextlib.contextmanager
    def control(self) -> Iterator[Control]:
        """The server, to be asked.

        Raises:
            ConnectError: none answers at that path.
            SettingError: what is there belongs to somebody else.
        """
        if not self._checked:
            _check_owner(self.path)
        try:
            opened = connect(self.path)
        except ConnectError as error:
            raise ConnectError(
                "no server answers at {path}: {detail}",
                hint="start it with `tieline serve --control`, or say where with --control PATH",
                **{**error.fields, "path": self.path, "detail": _detail_of(error)},
            ) from error
        with opened as control:
            yield control

    def answer(self, result: Any, text: str) -> None:
        """Show what came of it: as it came, or in a sentence."""
        if self.json:
            self.log.json_line(**result)
        else:
            self.log.print(text)


def _leave() -> None:
    raise BrokenPipeError


def _check_owner(path: str) -> None:
    """In a folder that everybody may write to, somebody else may have been there first."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        if stat.S_ISSOCK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
            raise SettingError(
                "the socket {path} belongs to user {user}, who may not be whom you think",
                hint="if it is meant, say so with --control PATH",
                path=path, user=found.st_uid,
            )  # fmt: skip


def _detail_of(error: ConnectError) -> str:
    number = error.fields.get("errno")
    return os.strerror(number) if isinstance(number, int) else str(error)


_CODES = {
    "unknown_verb": Exit.USAGE,
    "unknown_argument": Exit.USAGE,
    "missing_argument": Exit.USAGE,
    "bad_value": Exit.USAGE,
    "not_allowed": Exit.REFUSED,
}


def verb(*own: Setting, title: str, examples: tuple[str, ...]) -> Callable[[Any], click.Command]:
    """Make a verb of a function, which is given a `Talk` and returns an exit code or nothing.

    Args:
        own: its settings.
        title: what it does, in one sentence.
        examples: command lines.
    """

    def decorate(function: Any) -> click.Command:
        @wraps(function)
        def run(**given: Any) -> int:
            talk = Talk(click.get_current_context())
            for shared in talking_settings():
                given.pop(shared.name or "")
            try:
                return int(function(talk, **given) or Exit.DONE)
            except ControlError as error:
                talk.log.error(error)
                return _CODES.get(error.code, Exit.FAILED)

        # Arguments were noted on the function below; settings follow them.
        decorated = settings(*own, *talking_settings())(run)
        return click.command(cls=Command, help=title, examples=examples)(decorated)

    return decorate
