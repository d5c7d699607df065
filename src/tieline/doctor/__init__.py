"""How many connections this machine can hold, what ends first, and which setting changes that.

`machine` reads the facts, `ports` and `groups` those that are more than a number in a file;
`ceilings` does the arithmetic of each thing that ends, `verdict` puts them in order and says what
would reach an aim, `short` how fast short connections may follow each other. Nothing here opens a
socket or changes anything::

    from tieline.doctor import Role, examine, judge

    verdict = judge(examine(), Role.SERVER, aim=100_000)
    print(verdict.connections, verdict.first, verdict.is_met)
"""

from __future__ import annotations

from .ceilings import Ceiling, Load, Role, What
from .descriptors import OF_A_GUARD, OF_A_LISTENER, OF_A_PROCESS, OF_A_SERVER
from .machine import Machine, examine
from .ports import PortRange
from .remedies import Remedy
from .short import ShortRate, short_rate
from .verdict import Verdict, judge

__all__ = [
    "OF_A_GUARD",
    "OF_A_LISTENER",
    "OF_A_PROCESS",
    "OF_A_SERVER",
    "Ceiling",
    "Load",
    "Machine",
    "PortRange",
    "Remedy",
    "Role",
    "ShortRate",
    "Verdict",
    "What",
    "examine",
    "judge",
    "short_rate",
]
