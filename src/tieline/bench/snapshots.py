"""What one process tells of a piece of the run, and how those of several become one result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .plan import Mode, Plan
from .progress import Phase, Progress
from .recording import TIMES, Piece
from .result import Generator, Interval, KernelView, Result

__all__ = ["Gathering", "Last", "Snapshot", "piece_of"]

#: Lengths of an interval in seconds, and how many of them a run has at most by plan.
_LENGTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_MOST_BY_PLAN = 100

#: The longest piece: whoever watches is to see that it goes on.
_LONGEST_PIECE = 1.0

#: Intervals that are kept; beyond, two become one.
_MOST_INTERVALS = 240


def _interval_of(plan: Plan) -> float:
    """Seconds of an interval of a run."""
    if plan.duration is None:
        return 0.5
    fitting = (length for length in _LENGTHS if plan.duration / length <= _MOST_BY_PLAN)
    return next(fitting, _LENGTHS[-1])


def piece_of(plan: Plan) -> float:
    """Seconds after which a process tells how it goes."""
    return min(_interval_of(plan), _LONGEST_PIECE)


@dataclass(slots=True)
class Last:
    """What a process knows when it is through.

    Attributes:
        cpu_seconds: its processor time while it measured; `waited`: for a processor.
        watched: how long those were watched.
        seconds: how long it measured.
    """

    cpu_seconds: float
    waited: float
    watched: float
    seconds: float
    held_most: int
    waiting_most: int
    message_size: int
    cut_short: bool
    kernel: KernelView


@dataclass(slots=True)
class Snapshot:
    """A piece of the run, of one process.

    Attributes:
        index: which piece; the first that is measured is 0, and those before are below.
        at: when it began, in seconds after the measuring did.
        pieces: by kind of place.
        elapsed: since the beginning, and `share` of all that is to be.
        last: in the last one.
    """

    index: int
    phase: Phase
    at: float
    seconds: float
    elapsed: float
    share: float | None
    held: int
    waiting: int
    pieces: dict[str, Piece] = field(default_factory=dict)
    last: Last | None = None

    def merge(self, other: Snapshot) -> None:
        """Add what another process tells of the same piece."""
        self.held += other.held
        self.waiting += other.waiting
        for kind, piece in other.pieces.items():
            self.pieces.setdefault(kind, Piece()).merge(piece)

    @property
    def whole(self) -> Piece:
        """All kinds together. Not a copy, where there is only one."""
        if len(self.pieces) == 1:
            return next(iter(self.pieces.values()))
        whole = Piece()
        for piece in self.pieces.values():
            whole.merge(piece)
        return whole


class Gathering:
    """Snapshots in, a result out.

    Args:
        plan: of all processes together.
        started: when it began (seconds of the epoch).
        cores: processors that may be used.
    """

    def __init__(self, plan: Plan, started: float, cores: int) -> None:
        self._plan = plan
        self._cores = cores
        self._waiting_for: dict[int, tuple[Snapshot, int]] = {}
        self._lasts: list[Last] = []
        self._sums: dict[str, Piece] = {}
        self._finishing: dict[str, Piece] = {}
        self._result = Result(
            address=str(plan.address), mode=plan.mode.value, connections=plan.connections,
            pipeline=plan.pipeline, rate=plan.rate, tls=plan.tls is not None,
            processes=plan.processes, started=started,
        )  # fmt: skip
        #: Pieces that make an interval, and how many the last one has.
        self._pieces_each = max(1, round(_interval_of(plan) / piece_of(plan)))
        self._in_last = 0

    def add(self, snapshot: Snapshot) -> Progress | None:
        """Take a snapshot of one process.

        Returns:
            What can be said now, once all processes have told of that piece.
        """
        if snapshot.last is not None:
            self._lasts.append(snapshot.last)
            for kind, piece in snapshot.pieces.items():
                self._finishing.setdefault(kind, Piece()).merge(piece)
        elif snapshot.index < 0:
            # Nothing is measured yet, and nothing to be in step with.
            return self._take(snapshot)
        else:
            earlier, count = self._waiting_for.get(snapshot.index, (snapshot, 0))
            if earlier is not snapshot:
                earlier.merge(snapshot)
            self._waiting_for[snapshot.index] = (earlier, count + 1)
        return self._take_complete()

    def _take_complete(self) -> Progress | None:
        """Take the pieces that all who still run have told of, in order."""
        progress = None
        for index in sorted(self._waiting_for):
            snapshot, count = self._waiting_for[index]
            if count < self._plan.processes - len(self._lasts):
                break
            del self._waiting_for[index]
            progress = self._take(snapshot)
        return progress

    def _take(self, snapshot: Snapshot) -> Progress:
        whole = snapshot.whole
        interval = _interval(snapshot, whole)
        if snapshot.index >= 0:
            for kind, piece in snapshot.pieces.items():
                self._sums.setdefault(kind, Piece()).merge(piece)
            self._result.failures.update(whole.failures)
            self._result.exchanges += whole.exchanges
            self._keep(interval)
        else:
            self._take_early(snapshot)
        seconds = snapshot.seconds or 1.0
        return Progress(
            phase=snapshot.phase, elapsed=snapshot.elapsed, share=snapshot.share,
            exchanges=self._result.exchanges,
            per_second=(whole.exchanges or (whole.opened if self._opens else 0)) / seconds,
            p50=interval.p50, p99=interval.p99,
            failures=Counter(self._result.failures), held=snapshot.held, waiting=snapshot.waiting,
        )  # fmt: skip

    def _take_early(self, snapshot: Snapshot) -> None:
        """A piece of before the measuring: of it count connections that are kept, and in an open
        loop what a piece holds of exchanges, since that is of the instants that are measured."""
        for kind, piece in snapshot.pieces.items():
            kept = Piece()
            if kind != "short" and self._plan.exchanges is None:
                kept = Piece(
                    opened=piece.opened, connecting=piece.connecting, securing=piece.securing
                )
            if self._is_paced:
                kept.exchanges = piece.exchanges
                self._result.exchanges += piece.exchanges
                for name in ("exchange", "first_byte", "whole", "lateness"):
                    setattr(kept, name, getattr(piece, name))
            self._sums.setdefault(kind, Piece()).merge(kept)

    @property
    def _is_paced(self) -> bool:
        return self._plan.rate is not None and not self._opens

    @property
    def _opens(self) -> bool:
        return self._plan.mode in (Mode.HOLD, Mode.STORM)

    def _keep(self, interval: Interval) -> None:
        intervals = self._result.intervals
        if intervals and self._in_last < self._pieces_each:
            _join(intervals[-1], interval)
            self._in_last += 1
        else:
            intervals.append(interval)
            self._in_last = 1
        if len(intervals) >= _MOST_INTERVALS and self._in_last == self._pieces_each:
            self._pieces_each *= 2
            for first, second in zip(intervals[::2], intervals[1::2], strict=False):
                _join(first, second)
            self._in_last = self._pieces_each
            del intervals[1::2]

    def result(self) -> Result:
        """The result of all that was taken."""
        result = self._result
        lasts = self._lasts
        result.seconds = max((last.seconds for last in lasts), default=0.0)
        result.cut_short = any(last.cut_short for last in lasts)
        result.held_most = sum(last.held_most for last in lasts)
        result.waiting = sum(last.waiting_most for last in lasts)
        result.message_size = max((last.message_size for last in lasts), default=0)
        for last in lasts:
            result.kernel.sampled += last.kernel.sampled
            result.kernel.retransmitted += last.kernel.retransmitted
            result.kernel.round_trip.merge(last.kernel.round_trip)
        result.generator = self._generator()
        for kind in self._sums.keys() | self._finishing.keys():
            total, after = self._sums.get(kind, Piece()), self._finishing.get(kind, Piece())
            _fill(result, total, after)
            result.failures.update(after.failures)
            # In an open loop those count whose instant was within the time, of connections that are
            # held those that were begun.
            counts = self._is_paced or self._opens
            late = after.exchanges if counts else 0
            result.exchanges += late
            if counts:
                result.opened += after.opened
                result.bytes_sent += after.bytes_sent
                result.bytes_received += after.bytes_received
            if self._plan.mode is Mode.MIXED:
                result.parts[kind] = part = self._part(kind)
                _fill(part, total, after)
                part.failures.update(total.failures + after.failures)
                part.exchanges = total.exchanges + late
        return result

    def _part(self, kind: str) -> Result:
        whole = self._result
        return Result(
            address=whole.address, mode=kind, tls=whole.tls, rate=None, started=whole.started,
            seconds=whole.seconds, cut_short=whole.cut_short, message_size=whole.message_size,
        )  # fmt: skip

    def _generator(self) -> Generator:
        busy = [(min(last.cpu_seconds / (last.watched or 1), 1.0), last) for last in self._lasts]
        if not busy:
            return Generator(self._plan.processes, cores=self._cores)
        busiest, last = max(
            busy, key=lambda each: each[0] + each[1].waited / (each[1].watched or 1)
        )
        return Generator(
            processes=self._plan.processes, cores=self._cores,
            cpu_seconds=sum(last.cpu_seconds for last in self._lasts),
            busiest=busiest, starved=min(last.waited / (last.watched or 1), 1.0),
            seconds=last.watched,
        )  # fmt: skip


def _fill(result: Result, total: Piece, after: Piece) -> None:
    """Add sums to a result. What ended after the measuring was begun within it: its time counts,
    it itself does not."""
    result.opened += total.opened
    result.lost += total.lost
    result.bytes_sent += total.bytes_sent
    result.bytes_received += total.bytes_received
    for name in TIMES:
        getattr(result, name).merge(getattr(total, name))
        getattr(result, name).merge(getattr(after, name))


def _interval(snapshot: Snapshot, whole: Piece) -> Interval:
    times = whole.exchange.percentiles((0.5, 0.99))
    return Interval(
        at=snapshot.at, seconds=snapshot.seconds, exchanges=whole.exchanges,
        failures=whole.failures.total(), opened=whole.opened, held=snapshot.held,
        p50=times[0.5], p99=times[0.99],
        most=whole.exchange.most,
    )  # fmt: skip


def _join(first: Interval, second: Interval) -> None:
    """Make two intervals one. Of two p99 the larger is kept: no bad moment is smoothed away."""
    exchanges = first.exchanges + second.exchanges
    if exchanges:
        first.p50 = (first.p50 * first.exchanges + second.p50 * second.exchanges) / exchanges
    first.seconds += second.seconds
    first.exchanges = exchanges
    first.failures += second.failures
    first.opened += second.opened
    first.held = second.held
    first.p99 = max(first.p99, second.p99)
    first.most = max(first.most, second.most)
