"""For tests: a relay that lets things go wrong on the way, and a watch for leaks.

::

    async with tieline.testing.FaultRelay(server.addresses[0]) as relay:
        relay.add(Slice(1), direction="up")
        assert await tieline.ask(relay.address, b"hello", framing=Line()) == b"hello"
        relay.assert_happened("slice")

It serves whatever speaks TCP, made with tieline or not. `tieline.testing.blocking` is the relay for
tests without asyncio; docs/testing.md tells all of it.
"""

from __future__ import annotations

from . import blocking
from .faults import BlackHole, Cut, Delay, Fault, Rate, Reset, Slice, SlowClose, Stall
from .leaks import LeakCheck, no_leaks
from .relay import FaultRelay
from .relayed import RelayedConnection

__all__ = [
    "BlackHole",
    "Cut",
    "Delay",
    "Fault",
    "FaultRelay",
    "LeakCheck",
    "Rate",
    "RelayedConnection",
    "Reset",
    "Slice",
    "SlowClose",
    "Stall",
    "blocking",
    "no_leaks",
]
