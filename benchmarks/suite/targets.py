"""What tieline means to reach, as ratios within one run, and whether it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from .bulk_cases import FLOWS, P2, WAYS, bulk_case
from .cases import CLOSES, E1, E2, E3, Plan, e1_case, e2_case
from .control_cases import E10, PAGE_CASES, page_case
from .held_cases import L3, growth_case
from .honesty_cases import L2, SHARES, paced_load_case, standstill_case
from .load_cases import HTTP, L1, short_case
from .measure import Results
from .pace_cases import P3, PACED, paced_case
from .policy_cases import E8, E9, POLICY_CONNECTIONS, TABLE, TABLE_CASES, memory_case, table_case
from .proxy_cases import P1, P4, P5, sessions_case
from .quiet_cases import E4, E5, ON_OFF, SLOPE, expiry_case, quiet_case
from .refusal_cases import E7, REFUSED
from .stall_cases import MEMORY, P6, PLAYED
from .storm_cases import E6, PLAYERS, storm_case

LOOPS = {"asyncio": "", "uvloop": "_uvloop"}
_GUARD = "tieline_guard"


@dataclass(frozen=True)
class Target:
    """A bound on a figure of a tieline peer. `figure` takes the ending of the peer's name.

    Without `by_loop` the figure has nothing to do with an event loop.
    """

    text: str
    bound: float
    at_least: bool
    figure: Callable[[str], float | None]
    unit: str = ""
    by_loop: bool = True


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
        yield Target(
            f"{kind}: CPU while {plan.quiet:,} quiet connections wait, a second", 2.0, False,
            _median(results, "cpu_ms_per_second", E5, quiet_case(plan), f"tieline_{kind}"), " ms",
        )  # fmt: skip
        expired = partial(_median, results, experiment=E5, case=expiry_case(plan))
        yield Target(
            f"{kind}: longest stall when {plan.quiet:,} connections expire together", 50, False,
            expired("longest_stall_ms", peer=f"tieline_{kind}"), " ms",
        )  # fmt: skip
        yield Target(
            f"{kind}: of these, the middle one's close after its limit", 100, False,
            expired("middle_late_ms", peer=f"tieline_{kind}"), " ms",
        )  # fmt: skip


def _storm(results: Results, plan: Plan) -> Iterator[Target]:
    case = storm_case(plan)
    for kind in ("responder", "conversation"):
        median = partial(_median, results, experiment=E6, case=case, peer=f"tieline_{kind}")
        yield Target(
            f"{kind}, storm of {plan.storm:,}: seconds to the last answer", 5, False,
            median("storm_seconds"), " s",
        )  # fmt: skip
        for metric, words in (
            ("storm_seconds", "time to the last answer"),
            ("storm_p99_ms", f"p99 of the {PLAYERS} that play"),
            ("storm_longest_ms", "their longest wait"),
        ):
            text = f"{kind}, storm of {plan.storm:,}: {words}, times uvloop_streams"
            figure = _ratio(results, metric, E6, case, f"tieline_{kind}", "uvloop_streams")
            yield Target(text, 1.0, False, figure)


def _policy(results: Results) -> Iterator[Target]:
    for base, bound in (("haproxy", 2.0), ("nginx", 1.5)):
        figure = _ratio(results, "cpu_us", E7, REFUSED, "tieline_responder", base)
        yield Target(f"refused connections: CPU a refusal, times {base}", bound, False, figure)
    for kind in ("responder", "conversation"):
        for connections in POLICY_CONNECTIONS:
            for metric, words in (("per_second", "second"), ("per_cpu_second", "CPU-second")):
                case = e1_case(connections)
                text = f"{kind}, {case}: requests a {words}, every limit on against none"
                figure = partial(_on_against_none, results, metric, case, f"tieline_{kind}")
                yield Target(text, 0.97, True, figure)


def _on_against_none(
    results: Results, metric: str, case: str, name: str, ending: str
) -> float | None:
    on, off = (f"{name}{ending}_policy_{policy}" for policy in ("on", "off"))
    return results.ratio(metric, E8, case, on, off)


def _table(results: Results, plan: Plan) -> Iterator[Target]:
    known = f"{plan.known_clients:,} known clients"
    memory = _median(results, "known_bytes", E9, memory_case(plan), TABLE)
    yield Target(f"{known}: bytes each", 250, False, memory, " B", False)
    for name, words in TABLE_CASES.items():
        median = partial(_median, results, experiment=E9, case=table_case(plan, name), peer=TABLE)
        if name != "clean":
            yield Target(f"{known}; {words}: a decision", 5, False,
                         median("decision_us"), " µs", False)  # fmt: skip
        yield Target(f"{known}; {words}: longest pause", 20, False,
                     median("pause_ms"), " ms", False)  # fmt: skip


def _control(results: Results, plan: Plan) -> Iterator[Target]:
    for name, words in PAGE_CASES.items():
        median = partial(
            _median, results, experiment=E10, case=page_case(plan, name), peer="tieline_responder"
        )
        text = f"control, {plan.control_connections:,} connections, {words}"
        yield Target(f"{text}: first page", 150, False, median("first_page_ms"), " ms")
        yield Target(f"{text}: longest hold of the loop", 20, False,
                     median("longest_stall_ms"), " ms")  # fmt: skip


def _proxy(results: Results, plan: Plan) -> Iterator[Target]:
    """The guard as a proxy: traffic."""
    ratio = partial(_ratio, results, peer=_GUARD)
    for sessions in plan.sessions:
        case = sessions_case(sessions)
        for base, bound in (("haproxy", 0.85), ("envoy", 1.4)):
            text = f"guard, {case}: requests a CPU-second, times {base}"
            figure = ratio("per_cpu_second", experiment=P1, case=case, base=base)
            yield Target(text, bound, True, figure)
    for flows in FLOWS:
        for way in WAYS:
            case = bulk_case(flows, way)
            for base, bound in (("haproxy", 1.3), ("haproxy_splice", 1.0)):
                text = f"guard, {case}: bytes a CPU-second, times {base}"
                figure = ratio("gb_per_cpu_second", experiment=P2, case=case, base=base)
                yield Target(text, bound, True, figure)
    for sessions in PACED:
        case = paced_case(sessions)
        for metric, words in (("added_p50_us", "p50"), ("added_p99_us", "p99")):
            text = f"guard, {case}: what it adds to {words}, times haproxy"
            figure = ratio(metric, experiment=P3, case=case, base="haproxy")
            yield Target(text, 1.3, False, figure)
    for case in CLOSES.values():
        text = f"guard, short connections, {case}: connections a CPU-second, times haproxy"
        figure = ratio("per_cpu_second", experiment=P4, case=case, base="haproxy")
        yield Target(text, 0.6, True, figure)


def _proxy_at_rest(results: Results) -> Iterator[Target]:
    """The guard as a proxy: refusals, memory, stalled readers."""
    for base, bound in (("haproxy", 2.0), ("nginx", 1.5)):
        figure = _ratio(results, "cpu_us", P4, REFUSED, _GUARD, base)
        yield Target(f"guard, refused connections: CPU a refusal, times {base}", bound, False,
                     figure)  # fmt: skip
    median = partial(_median, results, peer=_GUARD)
    yield Target("guard: bytes an idle session", 1700, False,
                 median("private_bytes", experiment=P5, case=SLOPE), " B")  # fmt: skip
    yield Target("guard, 100 of 1,000 do not read: p99 of the others, times that beside quiet ones",
                 1.5, False, median("p99_times", experiment=P6, case=PLAYED))  # fmt: skip
    yield Target("guard: bytes a session whose client does not read", 131_072, False,
                 median("stalled_bytes", experiment=P6, case=MEMORY), " B")  # fmt: skip


def _loads(results: Results, plan: Plan) -> Iterator[Target]:
    """tieline as a load generator."""
    for case, base, bound in (
        (e1_case(100), "c_ping", 0.75), (HTTP, "wrk", 1.0),
        *((short_case(close), "c_short", 0.6) for close in CLOSES),
    ):  # fmt: skip
        text = f"bench, {case}: exchanges a CPU-second, times {base}"
        figure = _ratio(results, "per_cpu_second", L1, case, "tieline_bench", base)
        yield Target(text, bound, True, figure, by_loop=False)
    median = partial(_median, results, peer="tieline_bench")
    yield Target("bench, a tenth of the time nobody is answered: p99, times the standstill", 0.8,
                 True, median("p99_standstill", experiment=L2, case=standstill_case(plan)),
                 by_loop=False)  # fmt: skip
    for share in SHARES:
        case = paced_load_case(share)
        yield Target(f"bench, {case}: p99 of how late it sends", 1000, False,
                     median("late_p99_us", experiment=L2, case=case), " µs", False)  # fmt: skip
    yield Target("bench: bytes a connection that is held", 1000, False,
                 median("private_bytes", experiment=L3, case=SLOPE), " B", False)  # fmt: skip
    yield Target("bench at full rate: private memory late, times early", 1.05, False,
                 median("memory_growth", experiment=L3, case=growth_case(plan)),
                 by_loop=False)  # fmt: skip


def _on_against_off(results: Results, metric: str, name: str, ending: str) -> float | None:
    on = name + ending
    return results.ratio(metric, E5, ON_OFF, on, f"{on}_no_idle")


def verdicts(results: Results, plan: Plan) -> list[Verdict]:
    """Every target of the experiments that were run, on every event loop."""
    groups: list[tuple[set[str], Iterator[Target]]] = [
        ({E1}, _ping_pong(results)), ({E2}, _batches(results)), ({E3}, _short(results)),
        ({E4, E5}, _quiet(results, plan)), ({E6}, _storm(results, plan)),
        ({E7, E8}, _policy(results)), ({E9}, _table(results, plan)),
        ({E10}, _control(results, plan)), ({P1, P2, P3, P4}, _proxy(results, plan)),
        ({P5, P6}, _proxy_at_rest(results)), ({L1, L2, L3}, _loads(results, plan)),
    ]  # fmt: skip
    run = {row.experiment for row in results.rows}
    return [
        Verdict(target, loop, target.figure(ending))
        for experiments, targets in groups
        if experiments & run
        for target in targets
        for loop, ending in (LOOPS.items() if target.by_loop else [("", "")])
    ]
