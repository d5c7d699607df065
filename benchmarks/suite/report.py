"""The report of a run, for programs (JSON) and for people (Markdown)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from .bulk_cases import P2
from .cases import E1, E2, E3, Plan
from .control_cases import E10
from .held_cases import L3
from .honesty_cases import L2
from .load_cases import L1
from .measure import Results, Row, Spread
from .pace_cases import P3
from .policy_cases import E8, E9
from .proxy_cases import P1, P4, P5
from .quiet_cases import E4, E5
from .refusal_cases import E7
from .stall_cases import P6
from .storm_cases import E6
from .targets import LOOPS, Verdict

TITLES = {
    E1: "E1: one 64-byte line and its answer, in turn",
    E2: "E2: several 64-byte lines a write, each answered (100 connections; per line)",
    E3: "E3: connect, one exchange, close (64 at once; per connection)",
    E4: "E4: memory of idle connections, after one exchange each",
    E5: "E5: idle limits",
    E6: "E6: a storm of connects",
    E7: "E7: refused connections (per refusal)",
    E8: "E8: every limit there is, against none",
    E9: "E9: the table of clients, alone in a process",
    E10: "E10: the control socket of a server with many connections",
    P1: "P1: through a proxy: one 64-byte line and its answer, in turn",
    P2: "P2: through a proxy: bulk",
    P3: "P3: through a proxy: latency at a fixed rate of 64-byte lines",
    P4: "P4: through a proxy: connect, one exchange, close (64 at once); and refusals",
    P5: "P5: memory of a proxy's idle sessions, after one exchange each",
    P6: "P6: through a proxy: readers that stall, and others that play",
    L1: "L1: load generators: what an exchange costs the one that makes it",
    L2: "L2: load generators: a server that stands still, and a rate that is kept",
    L3: "L3: load generators: private memory",
}
BASES = (
    "c_epoll", "c_lines", "uvloop_protocol", "uvloop_streams", "asyncio_streams",
    "haproxy", "haproxy_splice", "nginx", "envoy",
    "c_ping", "c_load", "c_short", "wrk", "redis_benchmark",
)  # fmt: skip

Column = tuple[str, Callable[[Row], str]]


def write(
    folder: Path, facts: dict[str, str], plan: Plan, results: Results, judged: Sequence[Verdict]
) -> Path:
    """Write latest.json and latest.md; gives the path of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "facts": facts,
        "plan": asdict(plan),
        "targets": [
            {
                "target": verdict.target.text, "loop": verdict.loop, "found": verdict.found,
                "bound": verdict.target.bound, "at_least": verdict.target.at_least,
                "verdict": verdict.word,
            }
            for verdict in judged
        ],
        "rows": [_row_document(row) for row in results.rows],
    }  # fmt: skip
    (folder / "latest.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    path = folder / "latest.md"
    path.write_text("\n".join(_markdown(facts, plan, results, judged)), encoding="utf-8")
    return path


def _row_document(row: Row) -> dict[str, object]:
    metrics = {
        name: {"median": spread.median, "values": spread.values}
        for name, spread in row.metrics.items()
    }
    document: dict[str, object] = {
        "experiment": row.experiment, "case": row.case, "peer": row.peer, "metrics": metrics,
    }  # fmt: skip
    return {**document, "error": row.error} if row.error else document


def _markdown(
    facts: dict[str, str], plan: Plan, results: Results, judged: Sequence[Verdict]
) -> Iterator[str]:
    yield "# Benchmark results\n"
    mode = "quick: windows too short for more than a first look" if plan.quick else "full"
    yield f"Mode: {mode}. {plan.rounds} rounds of {plan.seconds:g} s, after one that is dropped."
    yield "Medians (least–most). CPU is the server's (in L1: the generator's), user and kernel.\n"
    yield from _table(["what", "which"], ([name, value] for name, value in facts.items()))
    yield "\n## Targets\n"
    yield from _table(["target", "bound", "on asyncio", "", "on uvloop", ""], _target_cells(judged))
    for experiment, title in TITLES.items():
        rows = [row for row in results.rows if row.experiment == experiment]
        if not rows:
            continue
        yield f"\n## {title}\n"
        for case in dict.fromkeys(row.case for row in rows):
            yield f"\n### {case}\n"
            yield from _case_table(results, [row for row in rows if row.case == case])
    yield ""


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + " --- |" * len(heads)
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def _target_cells(judged: Sequence[Verdict]) -> Iterator[list[str]]:
    by_target: dict[str, list[Verdict]] = {}
    for verdict in judged:
        by_target.setdefault(verdict.target.text, []).append(verdict)
    for text, verdicts in by_target.items():
        target = verdicts[0].target
        cells = [text, f"{'≥' if target.at_least else '≤'} {target.bound:g}{target.unit}"]
        for verdict in verdicts:
            found = "–" if verdict.found is None else f"{verdict.found:.3g}{target.unit}"
            cells += [found, f"**{verdict.word}**" if verdict.word == "missed" else verdict.word]
        yield cells + [""] * (2 * len(LOOPS) - 2 * len(verdicts))


def _case_table(results: Results, rows: Sequence[Row]) -> Iterator[str]:
    columns = _columns(results, rows)
    yield from _table(
        [
            "generator" if rows[0].experiment in (L1, L2, L3) else "server",
            *(head for head, _ in columns),
        ],
        (
            [row.title, f"**{row.error}**".replace("|", "/"), *[""] * (len(columns) - 1)]
            if row.error
            else [row.title, *(cell(row) for _, cell in columns)]
            for row in rows
        ),
    )


def _columns(results: Results, rows: Sequence[Row]) -> list[Column]:
    metrics = {name for row in rows for name in row.metrics}
    columns: list[Column] = []
    for main, head in _COMPARED.items():
        if main in metrics:
            columns.append((head, _spread_of(main, _decimal)))
            measured = {row.peer for row in rows if not row.error}
            columns += [
                (f"× {base}", _times(results, main, base)) for base in BASES if base in measured
            ]
    for name, (head, style) in _HEADS.items():
        if name in metrics:
            columns.append((head, _spread_of(name, style)))
    return columns


def _times(results: Results, main: str, base: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        ratio = results.ratio(main, row.experiment, row.case, row.peer, base)
        return "–" if ratio is None else f"{ratio:.2f}"

    return cell


def _spread_of(name: str, style: Callable[[float], str]) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        spread: Spread | None = row.metrics.get(name)
        if spread is None:
            return "–"
        low, high = style(min(spread.values)), style(max(spread.values))
        return style(spread.median) + (f" ({low}–{high})" if low != high else "")

    return cell


def _decimal(value: float) -> str:
    return f"{value:.2f}"


def _fine(value: float) -> str:
    return f"{value:.3f}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


#: What is compared with the other servers, where it was measured.
_COMPARED = {"cpu_us": "CPU µs", "gb_per_cpu_second": "GB a CPU-second"}

_HEADS: dict[str, tuple[str, Callable[[float], str]]] = {
    "per_second": ("per second", _whole),
    "per_cpu_second": ("per CPU-second", _whole),
    "gb_per_second": ("GB a second", _decimal),
    "busy_percent": ("busy %", _whole),
    "server_busy_percent": ("server busy %", _whole),
    "taken_percent": ("core taken by others, %", _whole),
    "p50_us": ("p50 µs", _whole),
    "p99_us": ("p99 µs", _whole),
    "p999_us": ("p99.9 µs", _whole),
    "added_p50_us": ("added p50 µs", _whole),
    "added_p99_us": ("added p99 µs", _whole),
    "added_p999_us": ("added p99.9 µs", _whole),
    "p99_standstill": ("p99, times the standstill", _decimal),
    "late_p50_us": ("sent after its instant, p50 µs", _whole),
    "late_p99_us": ("p99 µs", _whole),
    "early_mb": ("private MB, early", _decimal),
    "late_mb": ("late", _decimal),
    "memory_growth": ("times that", _fine),
    "quiet_p99_us": ("p99 beside quiet ones, µs", _whole),
    "p99_times": ("p99, times that", _decimal),
    "stalled_bytes": ("private bytes, each of them", _whole),
    "listen_drops": ("backlog drops", _whole),
    "reset_percent": ("ended by RST, %", _whole),
    "storm_seconds": ("seconds to the last answer", _decimal),
    "storm_cpu_seconds": ("CPU seconds", _decimal),
    "storm_p99_ms": ("p99 of those who play, ms", _decimal),
    "storm_longest_ms": ("longest, ms", _decimal),
    "calm_p99_ms": ("p99 before the storm, ms", _decimal),
    "listen_overflows": ("backlog overflows", _whole),
    "known_bytes": ("private bytes a known client", _whole),
    "decision_us": ("µs a decision, median", _decimal),
    "decision_p99_us": ("p99 µs", _decimal),
    "pause_ms": ("longest pause, ms", _decimal),
    "cleanings": ("cleanings", _whole),
    "first_page_ms": ("ms to the page, median", _decimal),
    "first_page_longest_ms": ("longest, ms", _decimal),
    "private_bytes": ("private bytes a connection", _whole),
    "kernel_bytes": ("kernel bytes, all ends", _whole),
    "cpu_ms_per_second": ("CPU ms a second", _fine),
    "longest_stall_ms": ("longest stall of the loop, ms", _decimal),
    "earliest_late_ms": ("first closed after the limit by, ms", _whole),
    "middle_late_ms": ("middle, ms", _whole),
    "latest_late_ms": ("last, ms", _whole),
}
