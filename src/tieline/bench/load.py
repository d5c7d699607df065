"""A load in one process: its places, when they begin, and when an exchange is due."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from ..charset import message_codec
from ..doctor import examine
from ..errors import TielineError
from ..framing import Codec
from ..reactor import Reactor
from ..tcp_info import TcpInfo, read_tcp_info
from .exchanging import Talk
from .held_places import HeldPlace
from .long_places import LongPlace, PipelinedPlace
from .open_loop import OpenLoop
from .pacing import Schedule
from .place import Place
from .plan import Mode, Plan
from .recording import Recorder
from .result import Failure, KernelView
from .short_places import ShortPlace
from .tickets import Tickets

__all__ = ["PlaceLoad"]

#: Connections that are looked at when they end: the first ones, then every so many-th.
_LOOK_AT_FIRST = 256
_LOOK_AT_EVERY = 64

#: Connections that `hold` opens at once; a storm has no such bound.
_OPENING_AT_ONCE = 128

#: Seconds for which a load goes on that finds nobody: at its beginning, and later.
_PATIENCE = 1.0
_PATIENCE_WITH_THE_GONE = 10.0

#: Seconds between two visits of the reactor's wheel.
_WAKE = 60.0


class PlaceLoad:
    """The places of one process.

    Args:
        plan: what to do. Its connections, rate and count are this process's share.
        reactor: the loop's.
        candidate: the family and the address to call.
        first: what its connections are counted from; `step` apart.

    Attributes:
        going: whether connections and exchanges are still to be begun.
        recorders: what was measured, by kind of place: `short`, `long`.
        held: connections that are open.
        held_most: the most there were.
        tickets: exchanges that are still to be begun; `open_loop`: what says when, if not the
            answers do.
        broken: why there is no sense in going on; `None` while there is.
        kernel: what the kernel knew of those that were looked at.
        is_plain: whether an exchange is like the other, without end, so that only its time counts.
    """

    def __init__(
        self,
        plan: Plan,
        reactor: Reactor,
        candidate: tuple[int, Any],
        first: int = 1,
        step: int = 1,
    ) -> None:
        self.plan = plan
        self.reactor = reactor
        self.candidate = candidate
        ports = examine().ports
        self.may_meet_itself = candidate[0] != socket.AF_UNIX and (
            ports is None or ports.low <= candidate[1][1] <= ports.high
        )
        self.going = True
        self.held = self.held_most = 0
        self.kernel = KernelView()
        self._number, self._step = first, step
        self._sources: Iterator[str] | None = cycle(plan.sources) if plan.sources else None
        self._ended = self.slot = 0
        self._has_failed = self._began = False
        self.broken: TielineError | None = None
        self._last_opened = 0.0
        self._origin = 0.0
        self.tickets = Tickets(reactor.clock)
        self.open_loop: OpenLoop | None = None
        self.talk = Talk(self)
        self.is_plain = self.talk.answer is not None and not (
            plan.rate or plan.think or plan.exchanges or plan.count or plan.tls
        )
        self.recorders: dict[str, Recorder] = {}
        self.places: list[Any] = self._make_places()
        self._to_come = deque(self.places)
        self._not_through = len(self.places)
        if plan.rate and plan.mode in (Mode.LONG, Mode.SHORT, Mode.MIXED):
            # Processes that share a rate do not send together.
            schedule = Schedule(plan.rate, plan.ramp, offset=(first - 1) / step)
            self.open_loop = OpenLoop(reactor, schedule, self.tickets)

    # ---- Places

    def _make_places(self) -> list[Any]:
        plan = self.plan
        if plan.mode in (Mode.HOLD, Mode.STORM):
            recorder = self._recorder(plan.mode.value)
            return [HeldPlace(self, recorder, self.talk) for _ in range(plan.connections)]
        short = plan.short_places
        kind = PipelinedPlace if plan.pipeline > 1 else LongPlace
        places: list[Any] = []
        if short:
            recorder = self._recorder("short")
            places += [ShortPlace(self, recorder, self.talk) for _ in range(short)]
        if short < plan.connections:
            recorder = self._recorder("long")
            places += [kind(self, recorder, self.talk) for _ in range(plan.connections - short)]
        return places

    def _recorder(self, kind: str) -> Recorder:
        made = Recorder(len(self.talk.wire), len(self.talk.answer_wire))
        self.recorders[kind] = made
        return made

    def give_up(self, error: TielineError) -> None:
        self.broken = error

    def new_codec(self) -> Codec:
        return message_codec(self.plan.framing, self.plan.charset, self.plan.max_message)

    def next_source(self) -> str | None:
        return next(self._sources) if self._sources is not None else None

    # ---- What places tell

    def opened(self, place: Place) -> None:
        place.number = self._number
        self._number += self._step
        self.held += 1
        self._last_opened = self.reactor.clock()
        if self.held > self.held_most:
            self.held_most = self.held

    def gone(self, place: Place) -> None:
        self.held -= 1

    def failed(self, place: Place, failure: Failure) -> None:
        self._has_failed = True
        place.recorder.fail(failure)

    def through(self, place: object) -> None:
        self._not_through -= 1
        if self.plan.mode is Mode.HOLD and not self.pace:
            # Not within this call: connecting may be over at once, fifteen thousand times.
            self.reactor.loop.call_soon(self._begin_next)

    def _begin_next(self) -> None:
        if self._to_come and self.going:
            self._to_come.popleft().begin()

    def look(self, connected: Any) -> None:
        self._ended += 1
        if self._ended > _LOOK_AT_FIRST and self._ended % _LOOK_AT_EVERY:
            return
        info = self._see(connected)
        if info is not None:
            self.kernel.sampled += 1
            self.kernel.retransmitted += info.retransmitted

    def look_around(self, most: int = 16) -> None:
        """See what the kernel knows of some of the connections that are open."""
        for place in self.places[:: max(1, len(self.places) // most)]:
            if place.is_open and place.connected is not None:
                self._see(place.connected)

    def _see(self, connected: Any) -> TcpInfo | None:
        if self.candidate[0] == socket.AF_UNIX:
            return None
        info = read_tcp_info(connected)
        if info.round_trip:
            self.kernel.round_trip.add([info.round_trip])
        return info

    # ---- Beginning

    @property
    def pace(self) -> float:
        """Seconds over which the connections are opened; 0.0 for at once."""
        plan = self.plan
        if plan.mode in (Mode.HOLD, Mode.STORM):
            return plan.connections / plan.rate if plan.rate else plan.ramp
        return 0.0 if plan.rate else plan.ramp

    def begin(self, origin: float) -> None:
        """Begin. Places that do not begin now do so by the reactor's loop.

        Args:
            origin: when that is, or was a moment ago, by the reactor's clock.
        """
        self._origin = origin
        self._began = True
        # Between two short connections the reactor would have nothing to live for.
        self.reactor.file(self, self._origin + _WAKE)
        if self.open_loop is not None:
            self.open_loop.begin(origin)
        if self.pace:
            self._begin_paced(self.pace)
        elif self.plan.mode is Mode.HOLD:
            for _ in range(min(_OPENING_AT_ONCE, len(self._to_come))):
                self._to_come.popleft().begin()
        else:
            self._begin_all()

    def _begin_all(self) -> None:
        """All at once, but so that the loop hears of those that are there already."""
        for _ in range(min(_OPENING_AT_ONCE, len(self._to_come))):
            self._to_come.popleft().begin()
        if self._to_come and self.going:
            self.reactor.loop.call_soon(self._begin_all)

    def _begin_paced(self, pace: float) -> None:
        elapsed = self.reactor.clock() - self._origin
        total = len(self.places)
        due = min(total, int(total * elapsed / pace) + 1)
        while total - len(self._to_come) < due:
            self._to_come.popleft().begin()
        if self._to_come and self.going:
            wait = (total - len(self._to_come)) * pace / total - elapsed
            self.reactor.loop.call_later(max(wait, 0.001), self._begin_paced, pace)

    def on_deadline(self, now: float) -> float | None:
        """The wheel's call: the reactor is still needed."""
        return now + _WAKE

    # ---- Who asks when

    def take_ticket(self) -> bool:
        return self.open_loop is None and self.tickets.take()

    def is_free(self, place: Any, now: float) -> bool:
        if self.open_loop is None:
            return False
        self.open_loop.free(place, now)
        return True

    def is_measured(self, due: float) -> bool:
        return self.open_loop is None or self.open_loop.is_measured(due)

    def limit(self, count: int) -> None:
        """Begin so many exchanges more, and none after them."""
        # In a closed loop those that are under way will be measured too.
        under_way = sum(place.asked for place in self.places) if self._began else 0
        self.tickets.limit(max(0, count - (0 if self.open_loop is not None else under_way)))

    @property
    def waiting(self) -> int:
        """Open loop: exchanges that are due, and wait for a place."""
        return 0 if self.open_loop is None else self.open_loop.waiting()

    # ---- The end

    @property
    def all_through(self) -> bool:
        """Whether every place of a `hold` or `storm` has what it came for, or has failed."""
        return self._not_through <= 0

    @property
    def finds_nobody(self) -> bool:
        """Whether connecting has failed, and gone well for nobody for a while: `_PATIENCE` from the
        beginning; much longer for a server that was there, if the load has no other end."""
        if not self._has_failed or self.held:
            return False
        alone = self.reactor.clock() - max(self._origin, self._last_opened)
        if not self.held_most:
            return alone >= _PATIENCE
        return self.plan.duration is None and alone >= _PATIENCE_WITH_THE_GONE

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way that has to be awaited."""
        return not self.waiting and not any(place.under_way for place in self.places)

    def settle(self) -> None:
        """Begin nothing more; exchanges under way are finished."""
        self.going = self.is_plain = False
        self.tickets.is_closed = self.open_loop is None
        if self._to_come and self.plan.mode in (Mode.HOLD, Mode.STORM):
            self.places[0].recorder.fail(Failure.UNSENT, len(self._to_come))
        self._to_come.clear()
        for place in self.places:
            place.settle()

    def close(self) -> None:
        """End everything now."""
        self.going = False
        self._to_come.clear()
        for place in self.places:
            place.close()
        if self.open_loop is not None:
            self.open_loop.close()
        self.reactor.withdraw(self)
        self.reactor.close_if_unused()

    def count_unfinished(self) -> None:
        """What was under way when there was no more time for it has failed."""
        for place in self.places:
            for _ in range(place.under_way):
                self.failed(place, Failure.UNFINISHED)
        if self.waiting:
            self.places[0].recorder.fail(Failure.UNSENT, self.waiting)
