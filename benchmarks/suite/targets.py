"""What tieline means to reach, as ratios within one run, and whether it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from .cases import CLOSES, E1, E2, E3, Plan, e1_case, e2_case
from .measure import Results
from .quiet_cases import E4, E5, EXPIRY, ON_OFF, SLOPE

LOOPS = {"asyncio": "", "uvloop": "_uvloop"}


@dataclass(frozen=True)
class Target:
    """A bound on a figure of a tieline peer. `figure` takes the ending of the peer's name."""

    text: str
    bound: float
    at_least: bool
    figure: Callable[[str], float | None]
    unit: str = ""


@dataclass(frozen=True)
class Verdict:
    """A target on one event loop: what was found, and "met", "missed" or "not measured"."""

    target: Target
    loop: str
    found: float | None

    @property
    def word(self) -> str:
        """Whether the target was met."""
        if self.found is None:
            return "not measured"
        bound = self.target.bound
        met = self.found >= bound if self.target.at_least else self.found <= bound
        return "met" if met else "missed"


def _ratio(
    results: Results, metric: str, experiment: str, case: str, peer: str, base: str
) -> Callable[[str], float | None]:
    return lambda ending: results.ratio(metric, experiment, case, peer + ending, base)


def _median(
    results: Results, metric: str, experiment: str, case: str, peer: str
) -> Callable[[str], float | None]:
    def figure(ending: str) -> float | None:
        row = results.find(experiment, case, peer + ending)
        return None if row is None else row.metrics[metric].median

    return figure


def _ping_pong(results: Results) -> Iterator[Target]:
    bounds = {
        "responder": (("c_epoll", 1.25), ("uvloop_protocol", 1.0)),
        "conversation": (
            ("c_epoll", 1.7), ("uvloop_streams_timeout", 0.6), ("asyncio_streams_timeout", 0.4),
        ),
    }  # fmt: skip
    for kind, bases in bounds.items():
        for connections in (100, 1000):
            for base, bound in bases:
                case = e1_case(connections)
                text = f"{kind}, {case}: CPU a request, times {base}"
                figure = _ratio(results, "cpu_us", E1, case, f"tieline_{kind}", base)
                yield Target(text, bound, False, figure)


def _batches(results: Results) -> Iterator[Target]:
    for kind in ("responder", "conversation"):
        for base, bound in (("c_lines", 1.0), ("uvloop_streams", 3.0)):
            text = f"{kind}, {e2_case(16)}: lines a CPU-second, times {base}"
            figure = _ratio(results, "per_cpu_second", E2, e2_case(16), f"tieline_{kind}", base)
            yield Target(text, bound, True, figure)


def _short(results: Results) -> Iterator[Target]:
    for kind in ("responder", "conversation"):
        for case in CLOSES.values():
            for base, bound in (("c_epoll", 1.6), ("asyncio_streams", 0.7)):
                text = f"{kind}, short connections, {case}: CPU a connection, times {base}"
                figure = _ratio(results, "cpu_us", E3, case, f"tieline_{kind}", base)
                yield Target(text, bound, False, figure)


def _quiet(results: Results, plan: Plan) -> Iterator[Target]:
    memory = partial(_median, results, "private_bytes", E4, SLOPE)
    yield Target("responder: bytes an idle connection", 900, False,
                 memory("tieline_responder"), " B")  # fmt: skip
    yield Target("conversation: bytes an idle connection", 2100, False,
                 memory("tieline_conversation"), " B")  # fmt: skip
    for kind in ("responder", "conversation"):
        for metric, words in (("per_second", "second"), ("per_cpu_second", "CPU-second")):
            text = f"{kind}, 1,000 connections: requests a {words}, idle limit on against off"
            figure = partial(_on_against_off, results, metric, f"tieline_{kind}")
            yield Target(text, 0.98, True, figure)
    for kind in ("responder", "conversation"):
        case = f"{EXPIRY} ({plan.quiet:,})"
        yield Target(
            f"{kind}: longest stall when {plan.quiet:,} connections expire together", 50, False,
            _median(results, "longest_stall_ms", E5, case, f"tieline_{kind}"), " ms",
        )  # fmt: skip


def _on_against_off(results: Results, metric: str, name: str, ending: str) -> float | None:
    on = name + ending
    return results.ratio(metric, E5, ON_OFF, on, f"{on}_no_idle")


def verdicts(results: Results, plan: Plan) -> list[Verdict]:
    """Every target on every event loop."""
    targets = [
        *_ping_pong(results), *_batches(results), *_short(results), *_quiet(results, plan),
    ]  # fmt: skip
    return [
        Verdict(target, loop, target.figure(ending))
        for target in targets
        for loop, ending in LOOPS.items()
    ]
