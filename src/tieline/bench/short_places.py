"""Places that make short connections: call, one exchange, end, and the next."""

from __future__ import annotations

from .long_places import LongPlace
from .plan import Ending
from .result import Failure

__all__ = ["ShortPlace"]

#: Failures in a row after which a place rests before it calls again.
_PATIENCE = 10


class ShortPlace(LongPlace):
    """A connection for each exchange."""

    __slots__ = ("_called", "_failed_in_a_row", "_is_leaving")

    #: Each exchange is the last of its connection.
    _may_be_plain = False

    def begin(self) -> None:
        self._called = 0.0
        self._failed_in_a_row = 0
        self._is_leaving = False
        now = self._load.reactor.clock()
        self._next(now)

    @property
    def under_way(self) -> int:
        return int(self.connected is not None)

    @property
    def asked(self) -> int:
        return int(self.connected is not None and not self._is_leaving)

    def can_ask(self) -> bool:
        # A timer: it rests.
        return self.connected is None and self._timer is None

    def ask_due(self, now: float, due: float) -> None:
        self.due = due
        if self._load.is_measured(due):
            self.recorder.lateness.append(now - due)
        self._call(now)

    def _call(self, now: float) -> None:
        self._called = self.due or now
        self._is_leaving = False
        self.open()

    def _next(self, now: float) -> None:
        """The next connection, or none."""
        if not self._load.is_free(self, now) and self._load.take_ticket():
            self._call(now)

    def _go_on(self, now: float) -> None:
        # In `LongPlace`, what comes after opening: here the only exchange.
        self.ask(now)

    def settle(self) -> None:
        """Begin nothing more; what is under way is finished."""

    def _after_exchange(self, now: float) -> None:
        self._failed_in_a_row = 0
        if self._load.plan.ending is Ending.SERVER:
            # It is the server's to end; it has the time of an answer for that.
            self._is_leaving = True
            return
        self.close()
        if self._load.going or self._load.waiting:
            self._next(now)

    def _on_idle_end(self) -> None:
        if not self._is_leaving:
            self.fail(Failure.CLOSED_EARLY)
            return
        self.close()
        if self._load.going or self._load.waiting:
            self._next(self._load.reactor.clock())

    def on_deadline(self, now: float) -> float | None:
        if not (self.is_open and self._is_leaving):
            return super().on_deadline(now)
        due = self._asked + self._load.plan.reply_timeout
        if now < due:
            return due
        self.fail(Failure.NOT_ENDED)
        return None

    def _after_failure(self) -> None:
        if self._load.going or self._load.waiting:
            # One that never asked anything found nobody, or no port: it rests. So does one that
            # is turned away again and again.
            self._failed_in_a_row += 1
            self.begin_again(rest=not self._numbered or self._failed_in_a_row > _PATIENCE)

    def _begin_again(self) -> None:
        self._timer = None
        if (self._load.going or self._load.waiting) and self.connected is None:
            self._next(self._load.reactor.clock())

    def _record_exchange(self, now: float) -> None:
        super()._record_exchange(now)
        if not self.due or self._load.is_measured(self.due):
            self.recorder.whole.append(now - self._called)
