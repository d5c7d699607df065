"""What a bench has measured, and how it is written down."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self, TypeVar

from ..errors import SettingError
from .histogram import Histogram

__all__ = ["VERSION", "Failure", "Generator", "Interval", "KernelView", "Result"]

#: Of the JSON. It grows by new keys only; a changed meaning is a new version.
VERSION = 1

#: Seconds of which shares mean something.
_ENOUGH = 0.3

_R = TypeVar("_R", bound="Result")
_T = TypeVar("_T", bound="Result | Interval | KernelView | Generator")


class Failure(StrEnum):
    """Why an exchange or a connection came to nothing. Counted where it happens, once."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    RESET = "reset"
    CLOSED_EARLY = "closed_early"
    REPLY_TIMEOUT = "reply_timeout"
    WRONG_ANSWER = "wrong_answer"
    MALFORMED = "malformed"
    #: An answer that nobody had asked for.
    UNASKED = "unasked"
    #: `Ending.SERVER`: answered, and then not ended.
    NOT_ENDED = "not_ended"
    #: Under way when there was no more time for it.
    UNFINISHED = "unfinished"
    #: Open loop: its instant came, and never a place that was free.
    UNSENT = "unsent"
    NO_PORTS = "no_ports"
    NO_DESCRIPTORS = "no_descriptors"
    OTHER = "other"


@dataclass(slots=True)
class Interval:
    """A piece of the run.

    Attributes:
        at: when it began, in seconds after the measuring did.
        seconds: how long it was.
        exchanges: answered rightly in it.
        failures: of exchanges and connections.
        opened: connections that were made.
        held: connections that were open at its end.
        p50, p99, most: of the exchanges' times, in seconds; 0.0 where there was none.
    """

    at: float
    seconds: float
    exchanges: int = 0
    failures: int = 0
    opened: int = 0
    held: int = 0
    p50: float = 0.0
    p99: float = 0.0
    most: float = 0.0


@dataclass(slots=True)
class KernelView:
    """What the kernel knew of the connections (TCP_INFO), of a sample of them.

    Attributes:
        sampled: connections that were looked at when they ended: the first ones, then some.
        retransmitted: segments that this side sent again, on those.
        round_trip: the kernel's smoothed round-trip times, in seconds, as they were seen meanwhile
            and at the end.
    """

    sampled: int = 0
    retransmitted: int = 0
    round_trip: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class Generator:
    """The load's own side.

    Attributes:
        processes: how many there were.
        cpu_seconds: their processor time while it was measured.
        busiest: the share of the time for which the busiest of them had a processor, 0 to 1.
        cores: processors that they could use.
        starved: the share of the time for which the busiest wanted a processor and had none.
        seconds: how long that was watched.
    """

    processes: int = 1
    cpu_seconds: float = 0.0
    busiest: float = 0.0
    cores: int = 1
    starved: float = 0.0
    seconds: float = 0.0

    @property
    def is_limit(self) -> bool:
        """Whether the generator, and not the server, may be what ended the growth. A moment is
        too short to tell."""
        return self.seconds >= _ENOUGH and self.busiest + self.starved > 0.9


@dataclass(slots=True)
class Result:
    """One run. Times are in seconds; `lateness` is how long after its instant a message went out.

    Attributes:
        address, mode, connections, pipeline, rate: of the plan.
        tls: whether it was under TLS.
        processes: as planned.
        message_size: bytes of a message on the wire (of the first, where they differ).
        started: when it began (seconds of the epoch).
        seconds: how long it was measured.
        cut_short: whether somebody ended it before its time.
        exchanges: that were answered, and rightly.
        failures: those that were not, and connections that came to nothing, by reason.
        opened: connections that were made; `held_most`: open at once; `lost`: of those that were
            to be held, ended by the other side.
        bytes_sent, bytes_received: without TLS's own.
        connecting: how long connecting took, TCP alone; `securing`: TLS on top of it.
        first_byte: from a message (open loop: from its instant) to the first byte of its answer.
        exchange: from a message (open loop: from its instant) to the end of its answer. Those of a
            closed loop that were under way when the time was over are here, and not in `exchanges`.
        whole: of short connections, from the first call to the last answer.
        lateness: open loop: from an exchange's instant to its message.
        waiting: open loop: the most exchanges that waited for a place at once.
        intervals: how it went over time.
        kernel, generator: see there.
        parts: in the mode `mixed`, the results of `short` and `long` places apart.
    """

    address: str
    mode: str
    connections: int = 1
    pipeline: int = 1
    rate: float | None = None
    tls: bool = False
    processes: int = 1
    message_size: int = 0
    started: float = 0.0
    seconds: float = 0.0
    cut_short: bool = False
    exchanges: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    held_most: int = 0
    lost: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    waiting: int = 0
    connecting: Histogram = field(default_factory=Histogram)
    securing: Histogram = field(default_factory=Histogram)
    first_byte: Histogram = field(default_factory=Histogram)
    exchange: Histogram = field(default_factory=Histogram)
    whole: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)
    intervals: list[Interval] = field(default_factory=list)
    kernel: KernelView = field(default_factory=KernelView)
    generator: Generator = field(default_factory=Generator)
    parts: dict[str, Result] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Failures of all kinds."""
        return self.failures.total()

    @property
    def per_second(self) -> float:
        """Exchanges a second; in `hold` and `storm` without messages, connections."""
        done = self.exchanges or (self.opened if self.mode in ("hold", "storm") else 0)
        return done / self.seconds if self.seconds else 0.0

    @property
    def tried(self) -> int:
        """What was tried: exchanges; where none was, connections."""
        if self.exchanges or self.mode not in ("hold", "storm"):
            return self.exchanges + self.failed
        # One that was lost had been opened.
        return self.opened + self.failed - self.lost

    @property
    def failure_share(self) -> float:
        """The share of all that was tried which came to nothing, 0 to 1."""
        return self.failed / self.tried if self.tried else 0.0

    @property
    def cpu_per_exchange(self) -> float:
        """Processor seconds of the generator for an exchange; 0.0 where there was none."""
        return self.generator.cpu_seconds / self.exchanges if self.exchanges else 0.0

    def as_json(self) -> dict[str, Any]:
        """Everything, under the attributes' names; `from_json` reads it back."""
        made: dict[str, Any] = {"v": VERSION, "type": "bench"}
        made.update((each.name, _written(getattr(self, each.name))) for each in fields(self))
        return made

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Self:
        """What `as_json` gave, of this version or an earlier one.

        Raises:
            SettingError: it is something else, or of a later version.
        """
        if not isinstance(read, Mapping) or read.get("type") != "bench":
            raise SettingError("this is no result of a bench")
        if read.get("v") != VERSION:
            raise SettingError(
                "this result is of version {version}; {known} is what is known here",
                version=str(read.get("v")), known=VERSION,
            )  # fmt: skip
        try:
            return _result(cls, read)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SettingError("this result of a bench cannot be read") from error


def _written(value: Any) -> Any:
    if isinstance(value, (Histogram, Result)):
        return value.as_json()
    if isinstance(value, (Interval, KernelView, Generator)):
        return {each.name: _written(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, list):
        return [_written(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _written(each) for name, each in value.items()}
    return value


def _result(cls: type[_R], read: Mapping[str, Any]) -> _R:
    made = _plain(cls(address=str(read["address"]), mode=str(read["mode"])), read)
    made.failures = Counter(
        {str(reason): _number(0, count) for reason, count in read.get("failures", {}).items()}
    )
    made.intervals = [_plain(Interval(0.0, 0.0), each) for each in read.get("intervals", [])]
    made.kernel = _plain(KernelView(), read.get("kernel", {}))
    made.generator = _plain(Generator(), read.get("generator", {}))
    made.parts = {str(name): _result(Result, each) for name, each in read.get("parts", {}).items()}
    return made


def _plain(made: _T, read: Mapping[str, Any]) -> _T:
    """Fill in what is a number, a text or a histogram; keys that are not known are passed over."""
    if not isinstance(read, Mapping):
        raise TypeError(f"{read!r} has no keys")
    for each in fields(made):
        if each.name not in read:
            continue
        default, value = getattr(made, each.name), read[each.name]
        if isinstance(default, Histogram):
            setattr(made, each.name, Histogram.from_json(value))
        elif isinstance(default, str):
            setattr(made, each.name, str(value))
        elif isinstance(default, bool):
            setattr(made, each.name, bool(value))
        elif default is None or isinstance(default, (int, float)):
            setattr(made, each.name, _number(default, value))
    return made


def _number(default: float | None, value: Any) -> Any:
    """A number, of the default's kind.

    Raises:
        TypeError, ValueError: it is none.
    """
    if default is None and value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return int(value) if isinstance(default, int) else float(value)
