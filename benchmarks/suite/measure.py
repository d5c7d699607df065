"""Results: spreads, rows and their ratios; and rounds that go over all peers in turn."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .peers import Peer
from .processes import RunError, Server

Metrics = dict[str, float]

NOT_RUN = "not run: "  # begins the error of a peer that cannot run here


@dataclass(frozen=True)
class Spread:
    """The values of one metric, one a round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)


@dataclass
class Row:
    """What one peer did in one case: its metrics, or the error that ended it."""

    experiment: str
    case: str
    peer: str
    title: str
    metrics: dict[str, Spread] = field(default_factory=dict)
    error: str = ""


class Results:
    """All rows of a run."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, rows: Iterable[Row]) -> None:
        """Take in more rows."""
        self.rows.extend(rows)

    def find(self, experiment: str, case: str, peer: str) -> Row | None:
        """The row of a peer in a case, if it was run and did not fail."""
        for row in self.rows:
            if (row.experiment, row.case, row.peer) == (experiment, case, peer):
                return None if row.error else row
        return None

    def ratio(self, metric: str, experiment: str, case: str, peer: str, base: str) -> float | None:
        """How many times `base`'s metric a peer's is: the median of the rounds' own ratios.

        A round takes both within a moment of each other, so what slows the whole machine for a
        while slows both.
        """
        above, below = (self.find(experiment, case, name) for name in (peer, base))
        if above is None or below is None:
            return None
        pairs = zip(above.metrics[metric].values, below.metrics[metric].values, strict=True)
        return statistics.median(one / other for one, other in pairs)


def row_of(experiment: str, case: str, peer: Peer, rounds: Sequence[Metrics]) -> Row:
    """A row of the rounds' metrics."""
    metrics = {
        name: Spread(tuple(metrics[name] for metrics in rounds)) for name in rounds[0]
    }  # fmt: skip
    return Row(experiment, case, peer.name, peer.title, metrics)


def error_row(experiment: str, case: str, peer: Peer, error: str) -> Row:
    """A row of a peer that could not be measured."""
    if not error.startswith(NOT_RUN):
        say(f"  {peer.name}: {error}")
    return Row(experiment, case, peer.name, peer.title, error=error)


def say(text: str) -> None:
    """Tell how far the run is."""
    print(text, file=sys.stderr, flush=True)


class Fleet:
    """The servers of an experiment, which keep running over its cases and rounds.

    A server that fails is ended; the next case starts it anew.
    """

    def __init__(self, peers: Sequence[Peer]) -> None:
        self._peers = peers
        self._servers: dict[str, Server] = {}

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._servers):
            self._end(name)

    def _end(self, name: str) -> None:
        self._servers.pop(name).close()

    def _start(self, peers: Sequence[Peer]) -> dict[str, str]:
        """Start those that do not run, all at once; the errors of those that could not."""
        begun = [peer.name for peer in peers if peer.name not in self._servers]
        for peer in peers:
            if peer.name in begun:
                self._servers[peer.name] = Server(peer)
        errors: dict[str, str] = {}
        for name in begun:
            try:
                self._servers[name].wait_until_ready()
            except RunError as error:
                errors[name] = str(error)
                self._end(name)
        return errors

    def measure(
        self,
        experiment: str,
        case: str,
        rounds: int,
        window: Callable[[Server], Metrics],
        among: Callable[[Peer], bool] = lambda peer: True,
    ) -> list[Row]:
        """One window of each peer in turn, `rounds` times, after one that does not count."""
        say(f"{experiment}: {case}")
        peers = [peer for peer in self._peers if among(peer)]
        errors = {peer.name: reason for peer in peers if (reason := not_run(peer))}
        errors |= self._start([peer for peer in peers if peer.name not in errors])
        taken: dict[str, list[Metrics]] = {peer.name: [] for peer in peers}
        for _ in range(1 + rounds):
            for name in [name for name in taken if name not in errors]:
                try:
                    taken[name].append(window(self._servers[name]))
                except RunError as error:
                    errors[name] = str(error)
                    self._end(name)
        return [
            error_row(experiment, case, peer, errors[peer.name])
            if peer.name in errors
            else row_of(experiment, case, peer, taken[peer.name][1:])
            for peer in peers
        ]


def not_run(peer: Peer) -> str:
    """The error of a peer that cannot run here; empty if it can."""
    reason = peer.why_not()
    return NOT_RUN + reason if reason else ""
