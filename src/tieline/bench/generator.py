"""One process's load over time: warm-up, the measuring, the last answers; told in snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..address import Address
from ..errors import translate_os_error
from ..reactor import Reactor
from ..resolve import interleave, lookup_name, not_resolved, open_connection
from .load import PlaceLoad
from .plan import Mode, Plan
from .progress import Phase
from .snapshots import Last, Snapshot, piece_of

__all__ = ["Share", "find", "generate"]

#: Seconds between two times that what was appended is counted: so few that counting it, at a
#: hundred thousand exchanges a second, holds them up for half a millisecond.
_FOLD = 0.01

#: Seconds between two looks at whether somebody has ended it, or something broken it.
_ROUND = 0.1

#: Seconds between two looks at whether the last exchange is over.
_LOOK = 0.01

#: Seconds for which the last answers are awaited where somebody has ended it.
_PARTING = 0.5

#: Seconds by which a time limit may strike late: two ticks of the wheel.
_TICKS = 0.2


async def find(address: Address, sources: Sequence[str] = ()) -> tuple[int, Any]:
    """The family and the address to call, of all that a name stands for: the first that answers.

    Args:
        address: where to.
        sources: addresses to call from; what they cannot call is left out.

    Raises:
        ResolveError: there is no such host.
        ConnectError: several are known, and none answers.
    """
    if address.is_unix:
        return socket.AF_UNIX, address.path
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(lookup_name(address), address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise not_resolved(error, address) from error
    candidates = interleave(found)
    if sources:
        family = socket.AF_INET6 if ":" in sources[0] else socket.AF_INET
        candidates = [each for each in candidates if each[0] == family] or candidates
    if len(candidates) == 1 or sources:
        return candidates[0]
    with await open_connection(address) as connected:
        try:
            return connected.family, connected.getpeername()
        except OSError as error:
            raise translate_os_error(error, "connect", address) from error


@dataclass(frozen=True, slots=True)
class Share:
    """What one process does of a plan.

    Attributes:
        plan: with its share of the places, the rate and the count.
        candidate: from `find`.
        first, step: how its connections are numbered; of a rate, its instants likewise.
        origin: when it begins (`time.monotonic`).
    """

    plan: Plan
    candidate: tuple[int, Any]
    first: int
    step: int
    origin: float


class _Run:
    """The course of one process's load."""

    def __init__(self, share: Share, tell: Callable[[Snapshot], None]) -> None:
        self._plan = plan = share.plan
        self._tell = tell
        self._reactor = Reactor.of(asyncio.get_running_loop())
        try:
            self.load = PlaceLoad(plan, self._reactor, share.candidate, share.first, share.step)
        except BaseException:
            self._reactor.close_if_unused()
            raise
        self._origin = share.origin
        holds = plan.mode in (Mode.HOLD, Mode.STORM)
        self._begin = share.origin + (0.0 if holds else plan.ramp + plan.warmup)
        # A `hold` lasts from when all are there: see `_is_over`.
        open_end = plan.duration is None or plan.mode is Mode.HOLD
        self._end = math.inf if open_end else self._begin + (plan.duration or 0.0)
        self._interval = piece_of(plan)
        self._cpu = self._waited = self._watched = self._watched_from = 0.0
        self._index = -1
        self._piece_began = share.origin

    async def run(self, stop: asyncio.Event) -> None:
        """Do it all. Setting `stop` ends it before its time."""
        load = self.load
        await self._pause_until(self._origin, stop)
        if load.open_loop is not None:
            load.open_loop.measure(self._begin, self._end)
        cut_short = False
        self._fold()
        try:
            if self._begin > self._origin:
                load.begin(self._origin)
                cut_short = await self._until(lambda: self._begin, stop)
                self._start_measuring()
            else:
                # Before the first exchange begins, which may be at once.
                self._start_measuring()
                load.begin(self._origin)
            cut_short = cut_short or await self._until(lambda: self._end, stop)
            seconds = self._stop_measuring()
            load.settle()
            if cut_short:
                await self._finish(asyncio.Event(), _PARTING)
            else:
                cut_short = await self._finish(stop, self._plan.reply_timeout + _TICKS)
        finally:
            self._folding.cancel()
            load.close()
        self._tell_last(seconds, cut_short)

    def _fold(self) -> None:
        for recorder in self.load.recorders.values():
            recorder.fold()
        self._folding = self._reactor.loop.call_later(_FOLD, self._fold)

    def _start_measuring(self) -> None:
        self._emit(Phase.WARMUP)
        self._index = 0
        self._watched_from = self._reactor.clock()
        self._cpu, self._waited = time.process_time(), waited_for_processor()
        if self._plan.count is not None:
            self.load.limit(self._plan.count)

    def _stop_measuring(self) -> float:
        """The end of what is measured. Returns how long it took."""
        now = self._reactor.clock()
        end = min(now, self._end)
        if self.load.tickets.left == 0 and self.load.tickets.ran_out:
            end = self.load.tickets.ran_out
        self._emit(Phase.MEASURING)
        self._watched = now - self._watched_from
        self._cpu = time.process_time() - self._cpu
        self._waited = waited_for_processor() - self._waited
        return max(end - self._begin, 0.0)

    async def _until(self, end: Callable[[], float], stop: asyncio.Event) -> bool:
        """Go on until then, and tell of each piece. Returns whether somebody ended it before."""
        piece_ends = self._reactor.clock() + self._interval
        while (now := self._reactor.clock()) < end():
            if stop.is_set():
                return True
            if self.load.broken is not None:
                raise self.load.broken
            if self._is_over():
                return False
            if now >= piece_ends:
                piece_ends += self._interval
                self.load.look_around()
                self._emit(self._phase(now))
            nearing = self.load.tickets.left == 0 or self._plan.mode is Mode.STORM
            wake = min(end(), piece_ends, now + (_LOOK if nearing else _ROUND))
            await self._pause_until(wake, stop)
        return False

    def _is_over(self) -> bool:
        """Whether nothing more is to come before the time is over."""
        load, plan = self.load, self._plan
        if load.finds_nobody:
            return True
        if plan.mode is Mode.STORM:
            return load.all_through
        if plan.mode is Mode.HOLD:
            if load.all_through and self._end == math.inf:
                self._end = self._reactor.clock() + (plan.duration or 0.0)
            return load.all_through and not load.held
        return load.tickets.left == 0 and load.is_idle

    async def _pause_until(self, instant: float, stop: asyncio.Event) -> None:
        delay = instant - self._reactor.clock()
        if delay > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), delay)

    async def _finish(self, stop: asyncio.Event, patience: float) -> bool:
        """Wait for the last answers, and count what does not come. Returns whether somebody ended
        it before."""
        end = self._reactor.clock() + patience
        while not self.load.is_idle and (now := self._reactor.clock()) < end:
            if stop.is_set():
                break
            if self.load.broken is not None:
                raise self.load.broken
            await self._pause_until(now + _LOOK, stop)
        self.load.count_unfinished()
        return stop.is_set()

    # ---- Telling

    def _phase(self, now: float) -> Phase:
        if now >= self._begin:
            return Phase.MEASURING
        return Phase.RAMP if now < self._origin + self._plan.ramp else Phase.WARMUP

    def _emit(self, phase: Phase) -> None:
        now = self._reactor.clock()
        began, self._piece_began = self._piece_began, now
        load = self.load
        self._tell(
            Snapshot(
                index=self._index, phase=phase, at=began - self._begin, seconds=now - began,
                elapsed=now - self._origin, share=self._share(now), held=load.held,
                waiting=load.waiting,
                pieces={kind: each.take() for kind, each in load.recorders.items()},
            )
        )  # fmt: skip
        self._index += 1 if self._index >= 0 else 0

    def _share(self, now: float) -> float | None:
        plan = self._plan
        if plan.count is not None and self.load.tickets.left is not None:
            return 1 - self.load.tickets.left / plan.count
        if plan.duration is None:
            return None
        if self._end == math.inf:
            return None
        return min(1.0, (now - self._origin) / (self._end - self._origin))

    def _tell_last(self, seconds: float, cut_short: bool) -> None:
        load = self.load
        waiting_most = 0 if load.open_loop is None else load.open_loop.waiting_most
        last = Last(
            cpu_seconds=self._cpu, waited=self._waited, watched=self._watched, seconds=seconds,
            held_most=load.held_most, waiting_most=waiting_most,
            message_size=len(load.talk.wire), cut_short=cut_short, kernel=load.kernel,
        )  # fmt: skip
        now = self._reactor.clock()
        self._tell(
            Snapshot(
                index=self._index, phase=Phase.FINISHING, at=now - self._begin, seconds=0.0,
                elapsed=now - self._origin, share=1.0, held=load.held, waiting=0,
                pieces={kind: each.take() for kind, each in load.recorders.items()}, last=last,
            )
        )  # fmt: skip


async def generate(share: Share, tell: Callable[[Snapshot], None], stop: asyncio.Event) -> None:
    """Run a share of a load, and tell how it goes; the last snapshot has a `last`.

    Setting `stop` ends it: what was measured up to then is told.
    """
    await _Run(share, tell).run(stop)


def waited_for_processor() -> float:
    """Seconds that this process was ready to run, and had no processor (schedstat)."""
    try:
        text = Path("/proc/self/schedstat").read_text("ascii")
        return int(text.split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
