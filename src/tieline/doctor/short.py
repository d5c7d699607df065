"""How fast short connections may follow each other for as long as one likes.

Whoever closes first keeps the connection in TIME-WAIT for a minute. Where that is the client, its
port can not be used towards the same address and port meanwhile, so that ports run out before
anything else does.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ceilings import Load
from .machine import Machine

__all__ = ["TIME_WAIT", "ShortRate", "short_rate"]

#: Seconds in TIME-WAIT: a constant of Linux (TCP_TIMEWAIT_LEN), which no setting changes.
TIME_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class ShortRate:
    """Connections a second that a client can go on making to one address and port, if it is the
    one that closes first.

    Attributes:
        elsewhere: to another machine.
        loopback: to this one.
        ports: of how many ports.
        rest, rest_loopback: seconds for which a port is not used again.
    """

    elsewhere: float
    loopback: float
    ports: int
    rest: float
    rest_loopback: float


def short_rate(machine: Machine, load: Load) -> ShortRate | None:
    """The rate at which ports come back as fast as they go; `None`: it cannot be known."""
    if machine.ports is None or machine.time_wait_reuse is None:
        return None
    ports = machine.ports.count * load.sources
    # None of less than a millisecond: that is what the kernel counts in.
    reused = max(machine.reuse_after, 0.001)
    rest = reused if machine.time_wait_reuse == 1 else TIME_WAIT
    rest_loopback = reused if machine.time_wait_reuse in (1, 2) else TIME_WAIT
    return ShortRate(ports / rest, ports / rest_loopback, ports, rest, rest_loopback)
