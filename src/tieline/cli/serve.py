"""`tieline serve`: listen, show what arrives, and answer it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Any

import click

from ..address import Address, parse_address, parse_port
from ..errors import UsageError
from ..limits import RULES, Limits
from ..server import Server
from ..server import serve as make_server
from .commands import Command, Shared
from .companions import companion_settings, companions
from .doctor_at_start import shortage_of
from .exits import Exit
from .forms import form_of, form_settings
from .handlers import load_handler
from .listening_settings import listening_settings
from .log import Log
from .options import PLACES, Setting, settings
from .parameters import Written, charset_of, limit_settings, text_settings
from .payload import Outgoing
from .payload_framing import PayloadFraming
from .reload import Reload, check_drain
from .running import exit_of_signal, raise_descriptor_limit, run_loop
from .service import Service, report
from .serving import handed_over, serve_notifying
from .tls_settings import server_context
from .translation import N_
from .written import parse_escapes

__all__ = ["command"]

_BRIEF_LIMITS = ("idle", "per_client")


_WHERE_AND_WHAT = (
    Setting(
        ["-p", "--port"], type=Written("PORT", parse_port), brief=True,
        help=N_("listen on this port (0: any that is free)"),
    ),
    Setting(
        ["--host"], default="", metavar="HOST", brief=True,
        help=N_("on this address only; on all without it"),
    ),
    Setting(
        ["-l", "--listen"], multiple=True, type=Written("ADDRESS", parse_address), brief=True,
        help=N_("HOST:PORT, [IPv6]:PORT, unix:PATH; may be repeated"),
    ),
    Setting(
        ["--reply"], type=Written("TEXT", parse_escapes), brief=True,
        help=N_("answer every message with this (\\n, \\x41: escapes)"),
    ),
    Setting(["--echo"], is_flag=True, brief=True, help=N_("answer with what came")),
    Setting(
        ["--handler"], metavar="NAME", brief=True,
        help=N_("answer by a function of yours: module:function"),
    ),
    Setting(["--once"], is_flag=True, brief=True, help=N_("serve one connection, then end")),
)  # fmt: skip


def check(given: dict[str, Any]) -> None:
    """Say what makes no sense together, without listening anywhere or importing a handler.

    Raises:
        UsageError, SettingError: there is something.
    """
    _check_together(given)
    form_of(hex=given["hex"], json=given["json"], raw=given["raw"])
    tls = server_context(given["tls_cert"], given["tls_key"], given["tls_ca"])
    anywhere = [Address("127.0.0.1", 0)]
    _server(Service(Log(), once=False), anywhere, {**given, "handler": None}, tls)


@click.command(
    cls=Command,
    check=check,
    help=N_("Listen for connections, show what arrives and answer it."),
    examples=(
        'tieline serve --port 7788 --encoding gbk --reply "thank you !"',
        "tieline serve --listen 127.0.0.1:7788 --framing line --echo",
        "tieline serve --port 7788 --handler app:talk --idle 5m --per-client 20",
    ),
)
@settings(
    *_WHERE_AND_WHAT, *text_settings(), *form_settings(),
    *limit_settings(_BRIEF_LIMITS, without=("max_message",)), *listening_settings(),
    *companion_settings(),
)  # fmt: skip
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> int:
    """Serve until a signal comes, or until the one connection of `--once` has ended."""
    shared: Shared = ctx.obj
    _check_together(given)
    log = shared.log(form_of(hex=given["hex"], json=given["json"], raw=given["raw"]))
    report(log, shared.verbose)
    service = Service(log, once=given["once"])
    tls = server_context(given["tls_cert"], given["tls_key"], given["tls_ca"])
    with handed_over() as sockets:
        addresses = _addresses(given["port"], given["host"], given["listen"], sockets)
        server = _server(service, addresses, given, tls, sockets)
        service.server = server
        service.drain, service.drain_spread = given["drain"], given["drain_spread"]
        raise_descriptor_limit()
        # Without a file there is nothing to read again: then a hangup ends it, as it ends any
        # program.
        reads = ctx.meta.get(PLACES) is not None
        reload = Reload(ctx, given, server, service, log, tls) if reads else None
        return run_loop(lambda: _serve(service, server, given, log, reload), given["loop"])


def _addresses(
    port: int | None, host: str, listen: tuple[Address, ...], sockets: Sequence[socket.socket]
) -> list[Address]:
    addresses = list(listen)
    if port is not None:
        addresses.insert(0, Address(host.removeprefix("[").removesuffix("]"), port))
    elif host:
        raise UsageError("--host needs --port")
    if not addresses and not sockets:
        raise UsageError("say where to listen", hint="for example --port 7788")
    return addresses


def _check_together(given: dict[str, Any]) -> None:
    check_drain(given)
    if sum((given["reply"] is not None, given["echo"], given["handler"] is not None)) > 1:
        raise UsageError("--reply, --echo and --handler exclude each other")


def _server(
    service: Service,
    addresses: list[Address],
    given: dict[str, Any],
    tls: ssl.SSLContext | None,
    sockets: Sequence[socket.socket] = (),
) -> Server:
    limits = Limits(**{name: given[name] for name in RULES})
    charset = charset_of(given["encoding"], given["errors"])
    framing = PayloadFraming(given["framing"], charset, given["errors"])
    if given["reply"] is not None:
        # A reply that cannot be written is said now, not to the first client.
        framing.codec(limits.max_message).pack(Outgoing(*given["reply"]))
    own = None if given["handler"] is None else load_handler(given["handler"])
    return make_server(
        service.handler(reply=given["reply"], echo=given["echo"], own=own),
        *addresses,
        framing=framing,
        limits=limits,
        tls=tls,
        backlog=given["backlog"],
        unix_mode=given["unix_mode"],
        on_open=service.on_open,
        on_close=service.on_close,
        on_refuse=service.on_refuse,
        sockets=sockets,
    )


async def _serve(
    service: Service, server: Server, given: dict[str, Any], log: Log, reload: Reload | None
) -> int:
    with log.without_waiting():
        async with companions(server, given) as beside:

            def ready(server: Server) -> None:
                # Before the word that it listens, after which it may be ended at any moment.
                total = None if given["once"] else server.limits.total
                if text := shortage_of(total, len(server)):
                    log.notice(text)
                service.on_ready(server, beside)

            number = await serve_notifying(
                server,
                ready=ready,
                stop=service.stop,
                on_signal=service.on_signal,
                on_hangup=reload,
            )
    return Exit.DONE if number is None else exit_of_signal(number)
