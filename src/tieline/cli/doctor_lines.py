"""What `tieline doctor --json` writes: a line for each thing that was found out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ..doctor import Ceiling, Load, Machine, Remedy, ShortRate, Verdict
from .log import Log

__all__ = ["write_lines"]


def write_lines(
    log: Log, machine: Machine, load: Load, verdicts: Iterable[Verdict], short: ShortRate | None
) -> None:
    """The machine's facts, a verdict for each role, and how fast short connections may follow."""
    log.json_line(kind="machine", **_machine(machine))
    for verdict in verdicts:
        log.json_line(kind="verdict", **_verdict(verdict, load))
    if short is not None:
        log.json_line(
            kind="short", ports=short.ports,
            elsewhere={"rate": round(short.elsewhere, 1), "rest": short.rest},
            loopback={"rate": round(short.loopback, 1), "rest": short.rest_loopback},
        )  # fmt: skip


def _machine(machine: Machine) -> dict[str, Any]:
    facts = dataclasses.asdict(machine)
    group = machine.memory_group
    facts["memory_group"] = None if group is None else group._asdict()
    return {**facts, "unknown": machine.unknown}


def _verdict(verdict: Verdict, load: Load) -> dict[str, Any]:
    return {
        "role": verdict.role.value,
        "connections": verdict.connections,
        "ends_first": None if verdict.first is None else verdict.first.what.value,
        "aim": verdict.aim,
        "met": None if verdict.aim is None else verdict.is_met,
        "per_connection": load.per_connection,
        "sources": load.sources,
        "ceilings": [
            _ceiling(each, verdict.remedies.get(each.what, ())) for each in verdict.ceilings
        ],
    }


def _ceiling(ceiling: Ceiling, remedies: Iterable[Remedy]) -> dict[str, Any]:
    return {
        "what": ceiling.what.value,
        "connections": ceiling.connections,
        "setting": ceiling.setting or None,
        "parts": ceiling.parts,
        "remedies": [
            {
                "kind": each.kind.value,
                "setting": each.setting or None,
                "value": each.value,
                "command": each.command or None,
                "unit": each.unit or None,
                "lasting": each.lasting or None,
                "needs_root": each.needs_root,
                "memory": each.memory,
                "alternative": each.is_alternative,
            }
            for each in remedies
        ],
    }
