"""The next connection to a port of this machine, whoever serves there."""

from __future__ import annotations

import select
import threading

from ..address import Address
from ..blocking.deadline import Deadline, check_timeout
from ..errors import AddressError
from .capture import Capture, Seen
from .collecting import Collected
from .following import follow
from .model import Outcome, Source, Trace
from .packets import Flags
from .waiting import ready

__all__ = ["Watch", "watch"]

#: Seconds for which what may come after the end is waited for.
_AFTERWARDS = 0.05


class Watch:
    """Somebody else's connection that is yet to come. `run` waits for it; for most, `watch` does.

    The arguments are those of `watch`.
    """

    def __init__(self, port: int, *, timeout: float | None = None) -> None:
        if not 0 < port < 65536:
            raise AddressError("{port!r} is not a port", port=port, text=str(port))
        check_timeout(timeout)
        self.port = port
        self._timeout = timeout
        self._collected: Collected | None = None
        #: Set once every connection that comes is seen.
        self.ready = threading.Event()

    def run(self) -> Trace:
        """Wait for a connection, and watch it until it is over or the time is.

        Raises:
            NetworkError: capturing is not allowed here, or failed.

        Interrupting it is safe; `so_far` has what was seen until then.
        """
        with Capture(self.port) as capture:
            until = Deadline(self._timeout, "", "")
            poll = select.poll()
            poll.register(capture, select.POLLIN)
            self.ready.set()
            while until.left and not self._is_over:
                ready(poll, until)
                self._look(capture)
            if self._is_over:
                afterwards = Deadline(_AFTERWARDS, "", "")
                while afterwards.left:
                    ready(poll, afterwards)
                    self._look(capture)
        return self.so_far()

    def so_far(self) -> Trace:
        """What has been seen; a trace without steps where nobody has come."""
        collected = self._collected
        if collected is None:
            nobody = Address(port=self.port)
            return Trace((), nobody, nobody, Source.CAPTURE, 0.0, Outcome.STILL_OPEN)
        story = follow(collected.segments, collected.client)
        return Trace(
            steps=story.steps,
            client=collected.client,
            server=collected.server,
            source=Source.CAPTURE,
            started_at=story.started_at_ns / 1e9,
            outcome=story.outcome,
            packets=tuple(segment.packet for segment in story.segments),
            dropped=collected.dropped,
        )

    @property
    def _is_over(self) -> bool:
        return self._collected is not None and self._collected.is_over

    def _look(self, capture: Capture) -> None:
        for seen in capture.read():
            if self._collected is None and self._begins(seen):
                segment = seen.segment
                self._collected = Collected(segment.source, segment.destination)
                # Others may come to the same port: their packets need not be read.
                capture.narrow(self.port, segment.source.port)
            if self._collected is not None:
                self._collected.take(seen)
        if self._collected is not None:
            self._collected.dropped = capture.dropped

    def _begins(self, seen: Seen) -> bool:
        """Whether it is the first packet of a connection to this machine."""
        segment = seen.segment
        return (
            seen.arrives
            and segment.destination.port == self.port
            and segment.has(Flags.SYN)
            and not segment.has(Flags.ACK)
        )


def watch(port: int, *, timeout: float | None = None) -> Trace:
    """Wait for the next connection to a port of this machine, and tell what happened. It blocks.

    Args:
        port: whoever serves there.
        timeout: seconds for a connection to come and go; `None` (default): no limit. The trace of
            one that is not over by then is `STILL_OPEN`; that of none has no steps.

    Raises:
        AddressError: that is no port.
        NetworkError: capturing is not allowed here, or not possible.
    """
    return Watch(port, timeout=timeout).run()
