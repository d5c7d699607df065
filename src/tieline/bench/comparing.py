"""Short and long connections to the same service, one after the other: what a connection costs."""

from __future__ import annotations

import dataclasses
import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..errors import SettingError
from .plan import Mode, Plan
from .progress import Progress
from .result import VERSION, Result
from .running import run

__all__ = ["Comparison", "compare"]


@dataclass(slots=True)
class Comparison:
    """The same exchanges, over a connection each and over connections that are kept.

    What an exchange takes of a place is what is compared: places times seconds, by exchanges. It
    holds everything there is to a connection, its end too.

    Attributes:
        short: every exchange over a connection of its own.
        long: all of them over connections that stay.
    """

    short: Result
    long: Result

    @property
    def short_time(self) -> float:
        """Seconds of a place that an exchange takes over a connection of its own; 0.0 where none
        was answered."""
        return _time(self.short)

    @property
    def long_time(self) -> float:
        """The same, over a connection that stays."""
        return _time(self.long)

    @property
    def is_whole(self) -> bool:
        """Whether both kinds were answered, so that there is something to compare."""
        return bool(self.short.exchanges and self.long.exchanges)

    @property
    def connection_cost(self) -> float:
        """Seconds that making and ending a connection takes beside its exchange."""
        return max(0.0, self.short_time - self.long_time) if self.is_whole else 0.0

    @property
    def cost_in_exchanges(self) -> float:
        """As how many exchanges a connection costs as much."""
        return self.connection_cost / self.long_time if self.is_whole else 0.0

    @property
    def cpu_cost(self) -> float:
        """Processor seconds of the generator that a connection takes beside its exchange."""
        if not self.is_whole:
            return 0.0
        return max(0.0, self.short.cpu_per_exchange - self.long.cpu_per_exchange)

    @property
    def tenth_from(self) -> int:
        """The number of exchanges from which on making and ending their connection takes less
        than a tenth of all."""
        return max(1, math.floor(9 * self.cost_in_exchanges) + 1)

    def time_of(self, exchanges: int) -> tuple[float, float]:
        """Seconds that so many exchanges, one after another, take: over a short connection each,
        and over one long connection that is made and ended for them."""
        return (
            exchanges * self.short_time,
            self.connection_cost + exchanges * self.long_time,
        )

    def as_json(self) -> dict[str, Any]:
        """Everything; `from_json` reads it back."""
        return {
            "v": VERSION, "type": "bench_comparison",
            "connection_cost": self.connection_cost, "cost_in_exchanges": self.cost_in_exchanges,
            "cpu_cost": self.cpu_cost, "tenth_from": self.tenth_from,
            "short": self.short.as_json(), "long": self.long.as_json(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Self:
        """What `as_json` gave.

        Raises:
            SettingError: it is something else.
        """
        if not isinstance(read, Mapping) or read.get("type") != "bench_comparison":
            raise SettingError("this is no comparison of a bench")
        try:
            return cls(Result.from_json(read["short"]), Result.from_json(read["long"]))
        except KeyError as error:
            raise SettingError("this is no comparison of a bench") from error


def _time(result: Result) -> float:
    if not result.exchanges:
        return 0.0
    return result.connections * result.seconds / result.exchanges


def compare(
    plan: Plan,
    on_progress: Callable[[Mode, Progress], None] | None = None,
    on_signal: Callable[[signal.Signals], None] | None = None,
) -> Comparison:
    """Run a plan over short connections, then over long ones.

    A first run that is cut short is followed by no second.

    Args:
        plan: what to do; its mode is set here. `pipeline` must be 1.
        on_progress: called several times a second, with which of the two it is and how it goes.
        on_signal: as in `run`.

    Raises:
        TielineError: as `run`.
    """
    results: dict[Mode, Result] = {}
    for mode in (Mode.SHORT, Mode.LONG):
        one = dataclasses.replace(plan, mode=mode)
        if results and results[Mode.SHORT].cut_short:
            results[mode] = Result(address=str(plan.address), mode=mode.value, cut_short=True)
            continue

        def tell(progress: Progress, mode: Mode = mode) -> None:
            if on_progress is not None:
                on_progress(mode, progress)

        results[mode] = run(one, tell, on_signal)
    return Comparison(results[Mode.SHORT], results[Mode.LONG])
