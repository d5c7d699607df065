"""`tieline send`: one short connection, one message, one reply."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from ..address import parse_address
from ..charset import Charset
from ..connection import Connection
from ..errors import EndOfStreamError, SettingError, TielineError, UsageError
from .commands import Command, Shared
from .dialling import Dialling, check_dialling, dialling_settings
from .ending import Ending, ending_of, gather
from .exits import Exit, exit_of
from .forms import form_of, form_settings
from .log import Log
from .options import Setting, settings
from .parameters import DURATION, Written, text_settings
from .payload import Outgoing, Payload
from .running import run_command
from .translation import N_
from .translation import gettext as _
from .watched import send_shown
from .written import Parts, parse_escapes, parse_hex

__all__ = ["command"]

_MESSAGE = (
    Setting(
        ["--file"], type=click.Path(path_type=Path), metavar="FILE", brief=True,
        help=N_("send what a file holds, byte by byte (-: stdin)"),
    ),
    Setting(
        ["--half-close"], is_flag=True, brief=True, help=N_("end our stream after the message")
    ),
)  # fmt: skip

_ENDING = (
    Setting(
        ["--until-reply"], is_flag=True, brief=True,
        help=N_("end after one message by the framing (the default)"),
    ),
    Setting(
        ["--until-delimiter"], type=Written("TEXT", parse_escapes), brief=True,
        help=N_("end when this has come"),
    ),
    Setting(["--until-close"], is_flag=True, brief=True, help=N_("end when the peer closes")),
    Setting(
        ["--until-quiet"], type=DURATION, brief=True,
        help=N_("end when nothing has come for this long"),
    ),
    Setting(["--no-reply"], is_flag=True, brief=True, help=N_("end when the message is delivered")),
    Setting(
        ["--expect"], type=Written("TEXT", parse_escapes), brief=True,
        help=N_("fail with exit code 7 unless the reply contains this"),
    ),
    Setting(
        ["--expect-regex"], metavar="REGEX",
        help=N_("the same, for a regular expression (Python's) found in its text"),
    ),
)  # fmt: skip


@click.command(
    cls=Command,
    check=check_dialling,
    help=N_("Send one message over a connection of its own, and show the reply."),
    examples=(
        'tieline send 127.0.0.1:7788 "你好" --encoding gbk --expect "thank you"',
        'tieline send 192.168.1.9:502 --hex "01 03 00 00 00 02" --until-quiet 200ms',
        "tieline send :8080 --file request.bin --until-close --raw > reply.bin",
    ),
)
@click.argument("address", type=Written("ADDRESS", parse_address))
@click.argument("message", required=False)
@settings(*_MESSAGE, *_ENDING, *text_settings(), *form_settings(), *dialling_settings())
@click.pass_obj
def command(shared: Shared, /, address: Any, message: str | None, **given: Any) -> int:
    """Send, wait for the end that was chosen, show the reply."""
    ending = ending_of(given)
    expected = _compiled(given["expect_regex"])
    log = shared.log(form_of(hex=given["hex"], json=given["json"], raw=given["raw"]))
    dialling = Dialling.of(address, given)
    parts = _message(message, given["file"], hexadecimal=given["hex"])

    async def run() -> int:
        return await _send(dialling, parts, ending, given, expected, log)

    return run_command(run, log)


def _message(message: str | None, file: Path | None, *, hexadecimal: bool) -> Parts:
    """What is to be sent: written as an argument, or as it is in a file or from stdin."""
    if message is not None and file is not None:
        raise UsageError("give the message or --file, not both")
    if message is not None and message != "-":
        return (parse_hex(message),) if hexadecimal else parse_escapes(message)
    if file is not None and str(file) != "-":
        return (_contents(file),)
    if message is None and file is None and sys.stdin.isatty():
        raise UsageError("there is no message", hint="write it behind the address, or give --file")
    data = sys.stdin.buffer.read()
    if hexadecimal and file is None:
        return (parse_hex(data.decode("ascii", "backslashreplace")),)
    return (data,)


def _contents(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingError(
            "{file} cannot be read: {detail}", file=str(file), detail=error.strerror or str(error)
        ) from error


def _compiled(expression: str | None) -> re.Pattern[str] | None:
    try:
        return None if expression is None else re.compile(expression)
    except re.error as error:
        raise SettingError(
            "{expression!r} is not a regular expression: {detail}",
            expression=expression, detail=str(error),
        ) from error  # fmt: skip


class _Reply:
    """Shows the reply as it comes, and keeps it where something is expected of it."""

    def __init__(self, connection: Connection, log: Log, *, keep: bool) -> None:
        self._connection = connection
        self._log = log
        self._keep = keep
        self.data = bytearray()
        self.text = ""

    def take(self, payload: Payload) -> None:
        """The next message of it."""
        if self._log.form in ("json", "raw"):
            self._log.message(self._connection.id, self._connection.peer, "in", payload)
        else:
            self._log.reply(payload)
        if self._keep:
            self.data += payload.data
            self.text += payload.shown or ""


async def _send(
    dialling: Dialling, parts: Parts, ending: Ending, given: dict[str, Any],
    expected: re.Pattern[str] | None, log: Log,
) -> int:  # fmt: skip
    async with dialling.dial() as connection:
        if log.form == "json":
            log.opened(connection.id, connection.peer, connection.local)
            await send_shown(connection, log, *parts)
        else:
            await connection.send(Outgoing(*parts))
        if given["half_close"]:
            connection.half_close()
        wanted = given["expect"] or ()
        reply = _Reply(connection, log, keep=bool(wanted or expected))
        mark = _encoded(connection, ending.delimiter)
        try:
            await gather(connection, ending, mark, dialling.timeout, reply.take)
            code: int = _check(reply, _encoded(connection, wanted), expected, log)
        except TielineError as error:
            connection.abort()
            code = _failed(error, log)
    if log.form == "json" and connection.close_reason is not None:
        log.closed(
            connection.id, connection.peer, connection.close_reason.value,
            connection.bytes_sent, connection.bytes_received,
        )  # fmt: skip
    return code


def _encoded(connection: Connection, parts: Parts) -> bytes:
    """Text in the charset that this peer speaks."""
    speaker = Charset(connection.encoding or "utf-8").speaker()
    return b"".join(speaker.encode(part) if isinstance(part, str) else part for part in parts)


def _failed(error: TielineError, log: Log) -> int:
    if isinstance(error, EndOfStreamError):
        log.complain(_("the peer ended its stream before its reply was whole"))
    else:
        log.error(error)
    return exit_of(error)


def _check(reply: _Reply, wanted: bytes, expected: re.Pattern[str] | None, log: Log) -> Exit:
    """Whether the reply is what was expected."""
    if wanted not in reply.data:
        log.complain(_("the reply does not contain what was expected"))
        return Exit.UNEXPECTED
    if expected is not None and expected.search(reply.text) is None:
        log.complain(_("the reply does not match what was expected"))
        return Exit.UNEXPECTED
    return Exit.DONE
