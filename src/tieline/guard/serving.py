"""`tieline.guard.serve`: make a guard."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable

from ..address import Address
from ..admission import Admission
from ..errors import UsageError
from ..limits import Limits
from ..reasons import CloseReason
from .client_leg import ClientLeg
from .front import Guard
from .settings import GuardSettings
from .spec import UpstreamSpec, parse_upstream

__all__ = ["serve"]


def serve(
    *addresses: str | Address,
    upstreams: Iterable[str | Address | UpstreamSpec],
    settings: GuardSettings | None = None,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    upstream_tls: ssl.SSLContext | None = None,
    upstream_name: str | None = None,
    on_open: Callable[[ClientLeg], object] | None = None,
    on_close: Callable[[ClientLeg, CloseReason], object] | None = None,
    on_refuse: Callable[[Address, CloseReason], object] | None = None,
    backlog: int = 4096,
    unix_mode: int | None = None,
    admission: Admission | None = None,
    sockets: Iterable[socket.socket] = (),
) -> Guard:
    """Make a guard: a front door for a TCP service. It listens once it is entered or started::

        async with tieline.guard.serve(":5432", upstreams=["127.0.0.1:5433"]) as guard:
            await guard.wait_closed()

    Every connection that the limits let in becomes a session with one of the upstreams, and its
    bytes are passed on both ways as they are. An end of a stream stays one, a reset a reset, and
    what came before either of them is delivered first.

    Args:
        addresses: where to listen, as for `tieline.serve`.
        upstreams: where sessions go: `HOST:PORT` or `unix:PATH`, with options behind commas:
            `name=`, `weight=`, `max=` (sessions at once), `backup`, `sni=` (a name asked for in
            TLS, such as `a.example` or `*.b.example`; may be repeated).
        settings: how sessions find their upstream (default `GuardSettings()`).
        limits: what is allowed (default `Limits()`). Those of messages have nothing to do here.
        tls: a server-side context: TLS with clients ends here.
        upstream_tls: a client-side context: TLS with the upstreams begins here.
        upstream_name: the name that upstreams must prove to have (default: the host of each).
        on_open, on_close, on_refuse: as for `tieline.serve`, with a session's client leg.
        backlog, unix_mode, admission, sockets: as for `tieline.serve`.

    Raises:
        AddressError, SettingError: the arguments make no sense.
    """
    sockets = tuple(sockets)
    if not addresses and not sockets:
        raise UsageError("a guard needs an address", hint='for example "127.0.0.1:5432"')
    specs = [
        each if isinstance(each, UpstreamSpec) else parse_upstream(str(each)) for each in upstreams
    ]
    if not specs:
        raise UsageError("a guard needs an upstream", hint='for example "127.0.0.1:5433"')
    settings = settings or GuardSettings()
    guard = Guard(
        addresses, specs, settings, limits or Limits(), tls, upstream_tls, upstream_name, backlog,
        unix_mode, on_open, on_close, on_refuse, admission,
    )  # fmt: skip
    guard.adopt(*sockets)
    return guard
