"""When connections are due, kept so that a message costs nothing.

Activity only stores a time on the connection; nothing here is touched. The wheel asks a
connection when its slot comes up, and the connection says when it is really due: it is filed
again, or has ended. So a message costs one store, a connection one visit per timeout, and a
million connections no more per message than ten. (The lazy form of the timing wheels of
Varghese and Lauck, 1987.)
"""

from __future__ import annotations

import logging
import math
from typing import Protocol

__all__ = ["Deadlines", "Subject"]

_log = logging.getLogger("tieline")


class Subject(Protocol):
    """What can be filed: it has a place for its slot, and can be asked."""

    #: The slot it is filed in, 0 for none. Only `Deadlines` sets it.
    slot: int

    def on_deadline(self, now: float) -> float | None:
        """Its slot has come up: end what is due, and say when to ask again (`None`: never)."""


class Deadlines:
    """A wheel of coarse slots. Never early; late by at most one tick.

    Args:
        tick: width of a slot in seconds.

    Holds each subject at most once, in a set, so that a connection that ends takes itself out
    at once: ten thousand short connections a second leave nothing behind.
    """

    __slots__ = ("_slots", "tick")

    def __init__(self, tick: float = 0.1) -> None:
        self.tick = tick
        self._slots: dict[int, set[Subject]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def file(self, subject: Subject, when: float) -> None:
        """Have `subject` asked at `when`, or earlier if it is filed earlier already."""
        slot = math.ceil(when / self.tick)
        filed = subject.slot
        if filed:
            if filed <= slot:
                return
            self.withdraw(subject)
        subject.slot = slot
        subjects = self._slots.get(slot)
        if subjects is None:
            self._slots[slot] = {subject}
        else:
            subjects.add(subject)

    def slot_end(self, when: float) -> float:
        """When the slot of this time comes up."""
        return math.ceil(when / self.tick) * self.tick

    def withdraw(self, subject: Subject) -> None:
        """Take `subject` out, wherever it is filed."""
        slot = subject.slot
        if slot:
            subject.slot = 0
            subjects = self._slots[slot]
            subjects.discard(subject)
            if not subjects:
                del self._slots[slot]

    @property
    def next_due(self) -> float | None:
        """When the earliest slot comes up; `None` while nothing is filed."""
        return min(self._slots) * self.tick if self._slots else None

    def advance(self, now: float, most: int) -> bool:
        """Ask the subjects whose slots have come up, `most` of them at the most.

        Returns:
            Whether more are waiting: then call again soon. The bound keeps ten thousand
            connections that expire together from stalling the loop.
        """
        # Not floor(now / tick): a slot has come up when its whole tick is over.
        while self._slots:
            slot = min(self._slots)
            if slot * self.tick > now:
                return False
            subjects = self._slots[slot]
            while subjects:
                if most == 0:
                    return True
                most -= 1
                subject = subjects.pop()
                subject.slot = 0
                try:
                    when = subject.on_deadline(now)
                except Exception:
                    # A defect of ours. It must not stop everybody else's clocks.
                    _log.exception("unexpected error at a deadline")
                    continue
                if when is not None:
                    # Never into a slot that is up: a subject that misjudges itself must not
                    # hold the loop here.
                    self.file(subject, max(when, now + self.tick))
            # Asking may have emptied and removed the slot, or filed others in a new one.
            if self._slots.get(slot) is subjects:
                del self._slots[slot]
        return False
