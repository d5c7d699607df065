"""What ends a connection by itself: its clocks, looked at when its slot of the wheel comes up."""

from __future__ import annotations

import contextlib
import fcntl
import struct
import termios

from .clocks import Credit, next_due, running_clocks
from .ending import Ending
from .limits import LIMIT_OF_REASON, Limits
from .reasons import CloseReason
from .states import State

__all__ = ["LOOK_AGAIN", "NONE_SPARED", "Expiring"]

#: Closing by itself leaves nothing behind if nothing is owed: then the peer sees an end and no
#: error. All other clocks reset.
_QUIET_ENDS = frozenset({
    CloseReason.IDLE_TIMEOUT, CloseReason.RECEIVE_IDLE_TIMEOUT, CloseReason.SEND_IDLE_TIMEOUT,
    CloseReason.HALF_CLOSED_TIMEOUT,
})  # fmt: skip

#: Seconds between two looks at whether a peer takes the bytes that it is owed.
LOOK_AGAIN = 1.0

#: One for all: Python makes a new empty one, of 216 bytes, each time it is asked.
NONE_SPARED: frozenset[CloseReason] = frozenset()


class Expiring(Ending):
    """A connection with clocks. `clocks` says which of them strikes; here is what it does.

    Attributes:
        unfinished: the message that has begun and is not whole yet.
        owing: the bytes that the peer has not taken yet, as far as they were looked at.
    """

    __slots__ = ("_spared", "owing", "unfinished")

    #: Clocks on trial that have struck; each is counted once a connection.
    _spared: frozenset[CloseReason]
    owing: Credit | None
    unfinished: Credit | None

    def clocks(self) -> list[tuple[float, CloseReason]]:
        """The clocks that run: the seconds left of each, soonest first, and what it stands for."""
        if self._state is State.CLOSED:
            return []
        now = self._reactor.clock()
        owner = self._owner
        running = running_clocks(self, owner.limits, owner.fullness)
        return sorted((due - now, reason) for due, reason in running)

    def _file_first_check(self) -> None:
        """A connection is new: have its clocks looked at in time."""
        owner = self._owner
        if self._state is State.HANDSHAKE:
            self._reactor.file(self, self.opened_at + owner.limits.handshake)
        elif owner.first_check is not None:
            self._reactor.file(self, self.opened_at + owner.first_check)

    def check_clocks(self) -> None:
        """Not for applications: limits have changed; look at its clocks anew."""
        if self._state is not State.CLOSED:
            # Filed for now, the wheel asks within a tick.
            self._reactor.file(self, self._reactor.clock())

    def on_deadline(self, now: float) -> float | None:
        """The wheel's call: end what is due, or say when it will be."""
        owner = self._owner
        limits = owner.limits
        if self.bytes_sent:
            self._see_what_was_taken(now)
        if self._spared:
            # Those that are in earnest by now count again.
            trial = (each for each in self._spared if LIMIT_OF_REASON[each] in limits.dry_run)
            self._spared = frozenset(trial)
        while self._state is not State.CLOSED:
            due, reason = next_due(self, limits, owner.fullness, self._spared)
            if due is None or due > now:
                return self._next_check(due, now, limits)
            if LIMIT_OF_REASON.get(reason) in limits.dry_run:
                self._spared |= {reason}
                owner.limit_spared(self, reason)
            elif reason is CloseReason.LIFETIME and not self.closing_at:
                self.closing_at = now + limits.closing
                self.finish(reason)
            elif (
                reason in _QUIET_ENDS
                and self.owing is not None
                and now < self.owing.began + LOOK_AGAIN / 2
            ):
                # It is owed bytes, and was looked at just now for the first time: whether it takes
                # them shows in a second look.
                return self.owing.began + LOOK_AGAIN
            else:
                self._strike(reason)
        return None

    def _see_what_was_taken(self, now: float) -> None:
        """See whether the peer has taken any of the bytes that it is owed.

        The kernel takes megabytes from us in advance and says so in lumps: what it took is no
        sign that the peer took anything, and a peer that reads steadily would seem to stall.
        So it is asked, at each visit, and once a second while it still holds some.
        """
        if self._state is State.CLOSING or self._state is State.HANDSHAKE:
            return
        left = self._unconfirmed()
        taken = self._carried() - left
        owing = self.owing
        if not left and self._outgoing is None:
            self.owing = None
        elif owing is None:
            self._give_credit(now, taken)
        elif taken > owing.moved:
            self.last_sent = now
            if not left or taken >= owing.until:
                # All that it was owed when the credit began: what it is owed now is new.
                self._give_credit(now, taken)
            else:
                owing.moved, owing.moved_at = taken, now

    def _give_credit(self, now: float, taken: int) -> None:
        """The peer is owed bytes: its clocks for taking them begin."""
        self.owing = Credit(now, taken, self._owner.limits.rate_grace)
        self.owing.until = self._carried() + self.owed

    def _next_check(self, due: float | None, now: float, limits: Limits) -> float | None:
        if due is not None and self.owing is not None:
            due = min(due, now + LOOK_AGAIN)
        least = limits.idle_when_full
        if least is None:
            return due
        # The server may fill up meanwhile, which brings the idle clock forward.
        return now + least if due is None else min(due, now + least)

    def _strike(self, reason: CloseReason) -> None:
        if reason is CloseReason.CLOSE_TIMEOUT and self._reason and not self.is_owed_by_kernel():
            # The peer has it all and does not end its own side: nothing is lost.
            self._gone(self._reason)
        elif reason in _QUIET_ENDS and not self.is_owed_by_kernel():
            # Nothing is owed, so a FIN leaves nothing in the kernel, and the peer sees an end
            # instead of an error.
            if self._tls is not None:
                # The peer may be gone already; then there is nobody to say it to.
                with contextlib.suppress(OSError):
                    self._tls.say_goodbye()
            self._gone(self._first_cause(reason))
        else:
            # A FIN would leave bytes in the kernel for minutes if the peer does not read.
            self.abort(reason)

    def is_owed_by_kernel(self) -> bool:
        """Whether bytes have not reached the peer yet, as far as this side knows. Not for a
        connection that is over."""
        return bool(self._outgoing) or self._unconfirmed() > 0

    def is_still_taking(self) -> bool:
        """Whether somebody has not taken all that he was sent: then it is not evicted."""
        return self.is_owed_by_kernel()

    def _unconfirmed(self) -> int:
        """Bytes that the kernel holds until the peer confirms them (SIOCOUTQ, tcp(7))."""
        answer = fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, b"\0\0\0\0")
        left: int = struct.unpack("i", answer)[0]
        return left

    def _carried(self) -> int:
        """Bytes that the kernel has been given, in all."""
        return self.bytes_sent if self._tls is None else self._tls.carried
