"""What really happens when two machines speak TCP: one connection, step by step.

::

    seen = trace("127.0.0.1:7788", b"hello")
    for step in seen.steps:
        print(f"{step.at:.6f} {step.side} {step.flags} {step.client_state} {step.server_state}")

The steps come from a capture of this machine's packets, where that is allowed; else from what the
socket itself sees. The trace says which.
"""

from .calling import Call, Close, trace
from .model import (
    KEPT_PAYLOAD,
    Dropped,
    Note,
    Outcome,
    Packet,
    Side,
    Source,
    Step,
    TcpState,
    Trace,
)
from .pcapng import write_pcapng
from .watching import Watch, watch

__all__ = [
    "KEPT_PAYLOAD",
    "Call",
    "Close",
    "Dropped",
    "Note",
    "Outcome",
    "Packet",
    "Side",
    "Source",
    "Step",
    "TcpState",
    "Trace",
    "Watch",
    "trace",
    "watch",
    "write_pcapng",
]
