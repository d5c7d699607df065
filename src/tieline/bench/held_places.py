"""Places that open one connection and keep it: `hold` and `storm`."""

from __future__ import annotations

from typing import Protocol

from .exchanging import Exchanging
from .place import Load
from .plan import Mode
from .result import Failure

__all__ = ["GatheringLoad", "HeldPlace"]


class GatheringLoad(Load, Protocol):
    """What waits until all are there."""

    def through(self, place: object) -> None:
        """The place has what it came for, or has failed; called once."""


class HeldPlace(Exchanging):
    """One connection, kept until the load is over. It is not opened again."""

    __slots__ = ("_is_through",)

    _load: GatheringLoad

    def begin(self) -> None:
        """Begin."""
        self._is_through = False
        self.open()

    def _on_open(self, now: float) -> None:
        super()._on_open(now)
        plan = self._load.plan
        if plan.mode is Mode.STORM and plan.messages is not None:
            self.ask(now)
            return
        self._arrived()
        self._after_exchange(now)

    def _arrived(self) -> None:
        if not self._is_through:
            self._is_through = True
            self._load.through(self)

    def _after_exchange(self, now: float) -> None:
        heartbeat = self._load.plan.heartbeat
        if heartbeat is not None:
            self._load.reactor.file(self, now + heartbeat)
        self._arrived()

    def on_deadline(self, now: float) -> float | None:
        heartbeat = self._load.plan.heartbeat
        if not self.is_open or self._is_waiting or heartbeat is None:
            return super().on_deadline(now)
        # `_asked` is 0.0 before the first: it is due a heartbeat after opening.
        if not self._asked:
            self._asked = now - heartbeat
        due = self._asked + heartbeat
        if now < due:
            return due
        if self._load.going:
            self.ask(now)
        return None

    def settle(self) -> None:
        """It is over, but for what is under way."""
        if not self.under_way:
            self.close()

    def _on_idle_end(self) -> None:
        self.fail(Failure.CLOSED_EARLY)

    def fail(self, failure: Failure) -> None:
        if self.is_open and failure in (Failure.CLOSED_EARLY, Failure.RESET):
            self.recorder.counted.lost += 1
        super().fail(failure)

    def _after_failure(self) -> None:
        self._arrived()
