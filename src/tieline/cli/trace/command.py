"""The command's flags, and what they mean together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...address import Address, parse_address, parse_port
from ...errors import UsageError
from ...trace import Call, Watch
from ..commands import Command, Shared
from ..dialling import Dialling, check_dialling, dialling_settings
from ..options import Setting, settings
from ..parameters import DURATION, Written, charset_of, text_settings
from ..payload import Outgoing
from ..translation import N_
from ..written import parse_escapes, parse_hex
from .doing import Drawing, run_trace
from .preview import Preview

__all__ = ["command"]

_WHAT = (
    Setting(
        ["--listen"], type=Written("PORT", parse_port), metavar="PORT", brief=True,
        help=N_("watch the next connection to this port, whoever serves there"),
    ),
    Setting(
        ["--close"], type=click.Choice(["client", "server", "reset"]), default="client",
        brief=True, help=N_("who closes first; reset: cut it off with an RST"),
    ),
    Setting(
        ["--half-close"], is_flag=True, brief=True, help=N_("end our stream after the message")
    ),
    Setting(
        ["--no-reply"], is_flag=True, brief=True, help=N_("close without waiting for a reply")
    ),
    Setting(
        ["--no-capture"], is_flag=True,
        help=N_("do not capture: draw what the socket alone shows"),
    ),
    Setting(
        ["--within"], type=DURATION,
        help=N_("with --listen: wait no longer for a connection to come and go"),
    ),
)  # fmt: skip

_HOW = (
    Setting(["--explain"], is_flag=True, brief=True, help=N_("say what each step means")),
    Setting(
        ["--svg"], type=click.Path(path_type=Path), metavar="FILE", brief=True,
        help=N_("draw it as a picture for a page too"),
    ),
    Setting(
        ["--pcap"], type=click.Path(path_type=Path), metavar="FILE", brief=True,
        help=N_("keep the packets for Wireshark too (pcapng)"),
    ),
    Setting(
        ["--hex"], is_flag=True, brief=True,
        help=N_("the message is hexadecimal, and data is shown so"),
    ),
    Setting(["--json"], is_flag=True, brief=True, help=N_("show JSON Lines, for programs")),
)  # fmt: skip


def _check(given: dict[str, Any]) -> None:
    """Say what makes no sense together.

    Raises:
        SettingError, UsageError: there is something.
    """
    check_dialling(given)
    if given["close"] == "reset" and given["half_close"]:
        raise UsageError("--half-close ends one direction in good order, --close reset none")
    if given["listen"] is None:
        if given["within"] is not None:
            raise UsageError("--within is for --listen", hint="--timeout limits our own waiting")
        return
    for name in ("half_close", "no_reply", "no_capture"):
        if given[name]:
            raise UsageError(
                "--listen watches what others do, and sends nothing: {flag} has no meaning",
                flag="--" + name.replace("_", "-"),
            )
    if given["listen"] == 0:
        raise UsageError("port 0 is no port that anybody could connect to")


@click.command(
    cls=Command,
    check=_check,
    help=N_("Make one short connection, and draw what happens on the wire, packet by packet."),
    examples=(
        'tieline trace 127.0.0.1:7788 "你好" --encoding gbk --explain',
        "tieline trace 127.0.0.1:7788 hello --svg short.svg --pcap short.pcapng",
        "tieline trace --listen 7788",
    ),
)
@click.argument("address", type=Written("ADDRESS", parse_address), required=False)
@click.argument("message", required=False)
@settings(*_WHAT, *_HOW, *text_settings(), *dialling_settings())
@click.pass_obj
def command(
    shared: Shared, /, address: Address | None, message: str | None, **given: Any
) -> int:  # fmt: skip
    """Make the connection, or wait for one; draw it."""
    _check(given)
    charset = charset_of(given["encoding"], given["errors"])
    drawing = Drawing(
        preview=Preview(charset, hex=given["hex"]), explain=given["explain"], svg=given["svg"],
        pcap=given["pcap"],
    )  # fmt: skip
    log = shared.log("json" if given["json"] else "text")
    return run_trace(_what(address, message, given), drawing, log)


def _what(address: Address | None, message: str | None, given: dict[str, Any]) -> Call | Watch:
    """What is to be seen: a connection of our own, or somebody else's."""
    port = given["listen"]
    if port is not None:
        if address is not None:
            raise UsageError("give an address to connect to, or --listen, not both")
        return Watch(port, timeout=given["within"])
    if address is None:
        raise UsageError(
            "there is no address to connect to", hint="give HOST:PORT, or --listen PORT"
        )
    dialling = Dialling.of(address, given)
    codec = dialling.framing.codec(dialling.max_message)
    data = None
    if message is not None:
        parts = (parse_hex(message),) if given["hex"] else parse_escapes(message)
        data = codec.pack(Outgoing(*parts))
    return Call(
        address, data, reply=codec, wait_for_reply=False if given["no_reply"] else None,
        timeout=dialling.timeout, half_close=given["half_close"], close=given["close"],
        tls=dialling.tls, server_name=dialling.server_name,
        captured=not given["no_capture"],
    )  # fmt: skip
