"""A front door for any TCP service: it relays connections, with tieline's policy at the door.

::

    async with tieline.guard.serve(
        ":5432", upstreams=["127.0.0.1:5433"], limits=tieline.Limits(idle=300, per_client=20)
    ) as guard:
        await guard.wait_closed()

`Guard` is a server like any other to `tieline.control`, the event log and the metrics; what it
relays is a session: a client's leg and an upstream's.
"""

from __future__ import annotations

from .client_leg import ClientLeg
from .front import Guard
from .pool import Pool
from .serving import serve
from .settings import SETTINGS, GuardSettings
from .spec import UpstreamSpec, parse_upstream
from .upstream import Upstream, UpstreamState

__all__ = [
    "SETTINGS",
    "ClientLeg",
    "Guard",
    "GuardSettings",
    "Pool",
    "Upstream",
    "UpstreamSpec",
    "UpstreamState",
    "parse_upstream",
    "serve",
]
