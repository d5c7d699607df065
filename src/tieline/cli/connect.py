"""`tieline connect`: hold a conversation with a server."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..address import Address, parse_address, parse_port
from ..errors import AddressError, TielineError, UsageError
from .commands import Command, Shared
from .dialling import Dialling, check_dialling, dialling_settings
from .exits import Exit
from .forms import form_of, form_settings
from .log import Form, Log
from .options import Setting, settings
from .parameters import DURATION, Written, text_settings
from .plain_input import PlainInput
from .running import run_command
from .session import Session, Typing
from .translation import N_
from .translation import gettext as _
from .typing_in import chunks_of, lines_of, nothing

__all__ = ["command"]

_OWN = (
    Setting(
        ["--reconnect"], is_flag=True, brief=True,
        help=N_("connect again, with growing pauses, when the connection has ended"),
    ),
    Setting(
        ["--linger"], type=Written("TIME", DURATION.read, off=True), default="5s", brief=True,
        help=N_("after the end of stdin, leave when nothing came for this long"),
    ),
    Setting(["--no-input"], is_flag=True, brief=True, help=N_("ask nothing, read nothing")),
)  # fmt: skip


@click.command(
    cls=Command,
    check=check_dialling,
    help=N_("Hold a conversation with a server: type messages, see what comes."),
    examples=(
        N_("tieline connect                        # asks for server and messages"),
        "tieline connect 127.0.0.1:7788 --encoding gbk",
        N_("tieline connect 192.168.1.9:502 --hex  # type bytes: 01 03 00 00"),
        "printf 'one\\ntwo\\n' | tieline connect 127.0.0.1:7788 --framing line",
    ),
)
@click.argument("address", type=Written("ADDRESS", parse_address), required=False)
@settings(*text_settings(), *form_settings(), *_OWN, *dialling_settings())
@click.pass_obj
def command(shared: Shared, /, address: Address | None, **given: Any) -> int:
    """Talk until either side has had enough."""
    form = form_of(hex=given["hex"], json=given["json"], raw=given["raw"])
    log = shared.log(form, many=False)
    editing = sys.stdin.isatty() and sys.stdout.isatty() and not given["no_input"]
    source = PlainInput()
    asked = address is None
    if address is None:
        if given["no_input"]:
            raise UsageError("there is no address", hint="for example 127.0.0.1:7788")
        address = _ask(source, log)
        if address is None:
            return Exit.INTERRUPTED
    dialling = Dialling.of(address, given)
    typing = _typing(form, source, given, editing=editing, asked=asked)

    async def run() -> int:
        session = Session(
            dialling, log, reconnect=given["reconnect"], linger=given["linger"],
            interactive=editing,
        )  # fmt: skip
        return await session.run(typing)

    return run_command(run, log)


def _typing(
    form: Form, source: PlainInput, given: dict[str, Any], *, editing: bool, asked: bool
) -> Typing:
    if given["no_input"]:
        return nothing
    if editing:
        # Only here, since it takes a while to load.
        from .editor import Editor

        return Editor(_("data to send: ")) if asked else Editor()
    if form == "raw":
        return chunks_of(source)
    return lines_of(source, hexadecimal=form == "hex")


def _ask(source: PlainInput, log: Log) -> Address | None:
    """Ask for the server, as long as it takes. `None`: whoever was asked has left.

    Raises:
        TielineError: an answer that did not come from a person makes no sense.
    """
    host = _answer(source, log, _("server IP: "), _read_host)
    if host is None:
        return None
    port = _answer(source, log, _("server port: "), parse_port)
    return None if port is None else Address(host, port)


def _read_host(text: str) -> str:
    host = text.removeprefix("[").removesuffix("]")
    if not host or any(character.isspace() for character in host):
        raise AddressError("{text!r} is not a host", text=text)
    return host


def _answer(source: PlainInput, log: Log, question: str, read: Any) -> Any:
    while True:
        print(question, end="", file=sys.stderr, flush=True)
        try:
            line = source.read_line()
        except KeyboardInterrupt:
            line = None
        if line is None:
            print(file=sys.stderr)
            return None
        try:
            return read(line.decode("utf-8", "replace").strip())
        except TielineError as error:
            if not sys.stdin.isatty():
                raise
            log.error(error)
