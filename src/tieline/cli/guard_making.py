"""A guard of what one listener is told."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..address import Address
from ..errors import TielineError
from ..guard import SETTINGS, Guard, GuardSettings
from ..guard import serve as make_guard
from ..guard.spec import check_names
from ..limits import RULES, Limits
from ..reasons import CloseReason
from .guard_settings import MESSAGE_LIMITS, ListenerSettings
from .reload import check_drain
from .tls_settings import client_context, server_context

__all__ = ["GUARD_LIMITS", "Made", "make", "try_out"]

#: The limits that a guard has.
GUARD_LIMITS = tuple(name for name in RULES if name not in MESSAGE_LIMITS)


@dataclass(frozen=True, slots=True)
class Made:
    """A guard that was made, and not started.

    Attributes:
        guard: it.
        tls: the context of its connections; `None` without TLS.
        upstream_tls: that of the upstreams' sides.
    """

    guard: Guard
    tls: ssl.SSLContext | None
    upstream_tls: ssl.SSLContext | None


def make(
    listener: ListenerSettings,
    sockets: Iterable[socket.socket] = (),
    on_refuse: Callable[[Address, CloseReason], object] | None = None,
) -> Made:
    """Make the guard of a listener. Certificates are read; nothing is opened.

    Args:
        listener: what it is told.
        sockets: that listen already, and are for it.
        on_refuse: as for `tieline.guard.serve`.

    Raises:
        UsageError, SettingError: its settings make no sense, with the line where they stand if
            that is known.
    """
    given = listener.given
    try:
        check_names(listener.upstreams)
    except TielineError as error:
        raise listener.placed(error, "upstream") from error
    try:
        check_drain(given)
        tls = server_context(given["tls_cert"], given["tls_key"], given["tls_ca"])
        upstream_tls = client_context(
            given["upstream_tls"] or given["upstream_name"] is not None,
            given["upstream_ca"], None, None, given["upstream_insecure"], "--upstream-ca",
        )  # fmt: skip
        guard = make_guard(
            *listener.addresses,
            upstreams=listener.upstreams,
            settings=GuardSettings(**{name: given[name] for name in SETTINGS}),
            limits=Limits(**{name: given[name] for name in GUARD_LIMITS}),
            tls=tls,
            upstream_tls=upstream_tls,
            upstream_name=given["upstream_name"],
            on_refuse=on_refuse,
            backlog=given["backlog"],
            unix_mode=given["unix_mode"],
            sockets=sockets,
        )
    except TielineError as error:
        raise listener.placed(error) from error
    return Made(guard, tls, upstream_tls)


def try_out(listener: ListenerSettings) -> None:
    """See that a listener's settings make sense together, wherever it is to listen.

    Raises:
        UsageError, SettingError: as for `make`.
    """
    anywhere = listener.addresses or (Address("127.0.0.1", 0),)
    make(ListenerSettings(listener.name, {**listener.given, "listen": anywhere}, listener.ctx))
