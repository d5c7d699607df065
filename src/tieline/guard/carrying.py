"""How a session ends: an end stays an end, a reset a reset, and what came before it arrives first.

No relay of the field carries all three: HAProxy and nginx end the client's stream in good order
when the server has cut it off, so that half a file looks whole; Envoy resets before the last reply
has been read. Here a leg whose peer is gone tells the other one, which first gives its own peer
everything, waits until the kernel has it confirmed, and only then ends in the same way.
"""

from __future__ import annotations

import errno
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

from ..ending import END_OF_STREAM
from ..errors import TielineError, reason_of
from ..reasons import CloseReason
from ..states import Move, State, next_state
from ..stream import Stream
from ..tls import SHORT_OF_MEMORY
from .splicing import Pipe

if TYPE_CHECKING:
    from .leg import Leg

__all__ = ["QUIET_ENDS", "Carrying"]

#: Ends by itself, with nothing owed: the other side sees an end, too.
QUIET_ENDS = frozenset({
    CloseReason.IDLE_TIMEOUT, CloseReason.RECEIVE_IDLE_TIMEOUT, CloseReason.SEND_IDLE_TIMEOUT,
    CloseReason.HALF_CLOSED_TIMEOUT,
})  # fmt: skip

#: Seconds between looks at whether a peer's kernel has confirmed everything, before it is reset:
#: the first, and the longest.
_FIRST_LOOK = 0.001
_LONGEST_LOOK = 0.1

_NO_ERROR = struct.pack("i", 0)


class Carrying(Stream):
    """A leg that takes over the end of the other one.

    Owned by it: the pipe in which bytes wait that are owed to its peer.
    """

    __slots__ = ("_broken", "_cut", "_end_is_due", "_other", "_pipe")

    _pipes: Any

    _other: Leg | None
    _pipe: Pipe | None
    #: It failed, and what its peer sent before that has not been read yet.
    _broken: OSError | None
    #: It is to be reset as soon as its peer has everything.
    _cut: bool
    #: Its stream is to end as soon as its peer has been given everything.
    _end_is_due: bool

    # ---- What a leg does

    def _pause(self) -> None:
        """Read no more for now."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """Read on, if it may."""
        raise NotImplementedError

    def _owe(self, rest: bytes | memoryview) -> None:
        """Keep what the kernel does not take now."""
        raise NotImplementedError

    def session_reason(self, reason: CloseReason) -> CloseReason:
        """What the end of this leg is called on the other one."""
        return reason

    def _wake(self) -> None:
        # Nobody waits for input: it is passed on as it comes.
        pass

    # ---- The end of a stream

    def _on_end(self) -> None:
        """Its peer has ended its stream: so does the other leg, once everything is out."""
        if self._broken is not None:
            # All that came before the failure has been read now.
            self._lost(self._broken)
            return
        other = self._other
        self._input_over(END_OF_STREAM, CloseReason.PEER_CLOSED)
        if other is not None and other._state is not State.CLOSED:
            other.carry_end(self.session_reason(CloseReason.PEER_CLOSED))

    def carry_end(self, reason: CloseReason) -> None:
        """The other leg's peer has ended its stream: end this one's, after what is owed."""
        if self._reason is None:
            self._reason = reason
        if self._state is State.PEER_ENDED and self._outgoing is not None:
            # Not `close`, which is bounded: a slow reader gets it all, by the clocks for that.
            self._end_is_due = True
        elif self._state is State.OPEN or self._state is State.PEER_ENDED:
            self.half_close()

    def _input_over(self, error: TielineError, reason: CloseReason) -> None:
        if self._state is State.HALF_CLOSED and self._outgoing is not None:
            # Both sides have ended, and its peer has not been given everything yet.
            self._reason = self._reason or reason
            self._input_error = error
            self._special = True
            self._reading = False
            return
        super()._input_over(error, reason)

    def _on_all_sent(self) -> None:
        other = self._other
        if self._cut:
            self._reset_when_confirmed(_FIRST_LOOK)
            return
        super()._on_all_sent()
        if self._state is State.HALF_CLOSED and self._saw_end:
            self._start_closing()
        elif self._end_is_due and self._state is State.PEER_ENDED:
            self.half_close()
        if other is not None and other._state is not State.CLOSED:
            other._go_on()

    # ---- A failure

    def _on_error_unread(self) -> None:
        """It failed while it is not read, since the other one is owed bytes: what its peer sent
        before is still there, and is read first."""
        option = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR, 4)
        (code,) = struct.unpack("i", option)
        if not code:
            return  # a hint about a descriptor that has been given out again since
        error = OSError(code, "the connection failed")
        if self._saw_end or self._other is None:
            self._lost(error)
        else:
            self._break(error)

    def _send_failed(self, error: OSError) -> bool:
        """A call that sends failed. Returns whether the leg lives, and keeps what was not sent."""
        if error.errno in SHORT_OF_MEMORY:
            return self._call_failed(error)
        if self._cut:
            self._gone(self._reason or CloseReason.ABORTED, reset=True)
        elif self._saw_end or self._other is None or self._state is State.CLOSING:
            self._lost(error)
        else:
            # Its peer may have sent its last words before it cut the connection off. Only one
            # call is told of that; reading goes on, to what looks like a good end.
            self._break(error)
        return False

    def _end_failed(self, error: OSError) -> None:
        # Its peer has cut it off meanwhile; its last words may still be unread.
        self._send_failed(error)

    def _lost(self, error: OSError) -> None:
        # In `Ending` an error is made for whoever waits for input; here nobody does.
        if self._state is State.CLOSING and self._outgoing is None and self._reason is not None:
            self._gone(self._reason)
        elif isinstance(error, ssl.SSLError):
            self._gone(self._first_cause(CloseReason.TLS_ERROR))
        else:
            self._gone(self._first_cause(reason_of(error)))

    def _break(self, error: OSError) -> None:
        """It can be sent nothing any more; what its peer has sent is still read."""
        if error.errno in (errno.EPIPE, errno.ENOTCONN):
            error = ConnectionResetError(errno.ECONNRESET, "the peer reset the connection")
        other = self._other
        if other is None or other._broken is not None:
            self._lost(error)
            return
        self._broken = error
        self._drop_owed()
        self._watch()
        # There is nobody to pass it on to.
        other._pause()
        # What is left for the other one holds this one's place.
        now = self._reactor.now or self._reactor.clock()
        if other.owing is not None:
            other.owing.moved_at = now
        self._reactor.file(self, now + self._owner.limits.closing)

    def on_deadline(self, now: float) -> float | None:
        if self._broken is None or self._other is None:
            return super().on_deadline(now)
        due = self._wait_for(self._other, self._broken, now)
        later = None if self.close_reason is not None else super().on_deadline(now)
        return None if self.close_reason is not None else min(due, later or due)

    def _wait_for(self, other: Leg, error: OSError, now: float) -> float:
        """It failed, and the other leg's peer is still owed what came before. Whoever takes none of
        it for `Limits.closing` has had his time. Returns when that will be."""
        other._see_what_was_taken(now)
        taken_at = now if other.owing is None else other.owing.moved_at
        due = taken_at + self._owner.limits.closing
        if due <= now:
            self._lost(error)
            # That was to wait for `Limits.closing` once more.
            other.abort()
        return due

    def _drop_owed(self) -> None:
        self._outgoing = self.owing = None
        if self._pipe is not None:
            self._pipes.drop(self._pipe)
            self._pipe = None

    # ---- The end of the other leg

    def _gone(self, reason: CloseReason, reset: bool = False) -> None:
        if self._state is State.CLOSED:
            return
        if self._pipe is not None:
            self._drop_owed()
        super()._gone(reason, reset)
        other, self._other = self._other, None
        if other is not None:
            other.left_alone(self.session_reason(reason))

    def left_alone(self, reason: CloseReason) -> None:
        """The other leg is gone: end in the way in which it has."""
        self._other = None
        if self._state is State.CLOSED or self._state is State.CLOSING:
            return
        if reason.in_good_order:
            self.carry_end(reason)
            if self._state is State.HALF_CLOSED:
                # Nobody is left for what may still come.
                self.close(reason)
        elif reason in QUIET_ENDS and self._state is not State.HANDSHAKE:
            self.close(reason)
        else:
            self.cut(reason)

    def cut(self, reason: CloseReason) -> None:
        """Reset its peer as soon as it has been given everything; at once after
        `Limits.closing`."""
        if self._reason is None or self._reason.in_good_order:
            self._reason = reason
        if (
            self._broken is not None
            or self._state is State.HANDSHAKE
            or (self._outgoing is None and not self._unconfirmed())
        ):
            self._gone(self._reason, reset=True)
            return
        self._cut = self._special = True
        self._sendable = self._reading = False
        self._state = next_state(self._state, Move.CLOSE)
        self.closing_at = self._reactor.clock() + self._owner.limits.closing
        self._reactor.file(self, self.closing_at)
        self._watch()
        if self._outgoing is None:
            self._reactor.loop.call_later(_FIRST_LOOK, self._reset_when_confirmed, _FIRST_LOOK * 2)

    def _reset_when_confirmed(self, pause: float) -> None:
        """A reset overtakes what the kernel still holds and throws it away: wait for that."""
        if self._state is State.CLOSED:
            return
        if not self._unconfirmed():
            self._gone(self._reason or CloseReason.ABORTED, reset=True)
        else:
            self._reactor.loop.call_later(
                pause, self._reset_when_confirmed, min(pause * 2, _LONGEST_LOOK)
            )

    def _discard(self) -> None:
        if not self._cut:
            super()._discard()
        elif self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR, 4) != _NO_ERROR:
            # Its peer has cut it off first.
            self._gone(self._reason or CloseReason.ABORTED, reset=True)

    def _strike(self, reason: CloseReason) -> None:
        if self._cut:
            # Its peer has not taken everything in time.
            self._gone(self._reason or reason, reset=True)
        else:
            super()._strike(reason)

    # ---- What is owed

    @property
    def owed(self) -> int:
        held = 0 if self._pipe is None else self._pipe.held
        return held + super().owed

    def _flush(self) -> None:
        pipe = self._pipe
        if pipe is None:
            super()._flush()
            return
        try:
            sent = pipe.empty(self._descriptor)
        except BlockingIOError:
            return
        except OSError as error:
            self._send_failed(error)
            return
        self.last_sent = self._reactor.now or self._reactor.clock()
        self.bytes_sent += sent
        if not pipe.held:
            self._pipes.give_back(pipe)
            self._pipe = self._outgoing = self.owing = None
            self._on_all_sent()
