"""Both sides' states, from what is seen of them on the wire (RFC 9293, 3.3.2 and 3.10)."""

from __future__ import annotations

from .model import Side, TcpState
from .numbering import Numbered
from .packets import Flags

__all__ = ["SideState"]

S = TcpState

#: What a side is in after it has ended its stream.
_ENDING_OWN = {
    S.SYN_RECEIVED: S.FIN_WAIT_1,
    S.ESTABLISHED: S.FIN_WAIT_1,
    S.CLOSE_WAIT: S.LAST_ACK,
}

#: What it is in once the end of its stream is acknowledged.
_END_ACKNOWLEDGED = {
    S.FIN_WAIT_1: S.FIN_WAIT_2,
    S.CLOSING: S.TIME_WAIT,
    S.LAST_ACK: S.CLOSED,
}

#: What it is in once the other side has ended its.
_OTHER_ENDED = {
    S.SYN_RECEIVED: S.CLOSE_WAIT,
    S.ESTABLISHED: S.CLOSE_WAIT,
    S.FIN_WAIT_1: S.CLOSING,
    S.FIN_WAIT_2: S.TIME_WAIT,
}


class SideState:
    """One side's state.

    Args:
        side: whose.
        state: what it is in before the first segment.
    """

    def __init__(self, side: Side, state: TcpState) -> None:
        self.side = side
        self.state = state
        #: Behind its FIN; `None` before it has sent one.
        self.end: int | None = None

    def send(self, segment: Numbered) -> None:
        """This side sends a segment."""
        flags = segment.segment
        if segment.is_reset:
            self.state = S.CLOSED
        elif flags.has(Flags.SYN):
            if self.state in (S.CLOSED, S.LISTEN):
                self.state = S.SYN_RECEIVED if flags.has(Flags.ACK) else S.SYN_SENT
        elif flags.has(Flags.FIN):
            self.end = segment.end
            self.state = _ENDING_OWN.get(self.state, self.state)

    def receive(self, segment: Numbered) -> None:
        """A segment of the other side's arrives at this one."""
        flags = segment.segment
        if segment.is_reset:
            self.state = S.CLOSED
            return
        if flags.has(Flags.SYN):
            self._receive_syn(answered=flags.has(Flags.ACK))
        acknowledged = segment.acknowledgement
        if acknowledged is not None and acknowledged >= 1 and self.state is S.SYN_RECEIVED:
            self.state = S.ESTABLISHED
        if self.end is not None and acknowledged is not None and acknowledged >= self.end:
            self.state = _END_ACKNOWLEDGED.get(self.state, self.state)
        if flags.has(Flags.FIN):
            self.state = _OTHER_ENDED.get(self.state, self.state)

    def _receive_syn(self, *, answered: bool) -> None:
        if self.state in (S.LISTEN, S.CLOSED):
            self.state = S.SYN_RECEIVED
        elif self.state is S.SYN_SENT:
            # Without an answer in it, the two SYNs have crossed.
            self.state = S.ESTABLISHED if answered else S.SYN_RECEIVED
