"""A trace for programs: one JSON object for the connection, and one for each step.

The keys are documented in docs/trace.md. They may be added to, never removed or changed.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from typing import Any

from ...trace.model import Source, Trace
from ..visible import RAW_BYTE
from .preview import Preview
from .wording import meaning, moments_of

__all__ = ["records_of"]


def records_of(
    trace: Trace, preview: Preview, *, explain: bool = False
) -> Iterator[dict[str, Any]]:
    """The objects, that of the connection first.

    Args:
        trace: what happened.
        preview: knows the charsets of both sides.
        explain: whether each step says what it means, in the user's language.
    """
    yield {
        "event": "trace",
        "time": _time(trace.started_at),
        "client": str(trace.client),
        "server": str(trace.server),
        "source": trace.source.value,
        "why_not_captured": trace.why_not_captured,
        "outcome": trace.outcome.value,
        "duration": _rounded(trace.steps[-1].at) if trace.steps else 0.0,
        "steps": len(trace.steps),
        "dropped": dataclasses.asdict(trace.dropped),
        "tcp_info": None if trace.facts is None else dataclasses.asdict(trace.facts),
        "failure": None if trace.failure is None else str(trace.failure),
    }
    for number, (step, part, moment) in enumerate(moments_of(trace), 1):
        seen = trace.source is Source.CAPTURE
        record = {
            "event": "step",
            "number": number,
            "time": _time(trace.started_at + step.at),
            "at": _rounded(step.at),
            "side": step.side.value,
            "part": part.value,
            "note": step.note.value,
            "extra": sorted(note.value for note in step.extra),
            "flags": step.flags,
            "sequence": step.sequence,
            "acknowledgement": step.acknowledgement,
            "size": step.size,
            "text": _text(preview.text(step)) if step.payload else None,
            "hex": step.payload.hex(),
            "window": step.window,
            "options": list(step.options),
            "client_state": step.client_state.value,
            "server_state": step.server_state.value if seen else None,
            "repeated": step.repeated,
        }
        if explain:
            record["meaning"] = meaning(moment, step)
        yield record


def _text(text: str | None) -> str | None:
    """The text, or `None` where a byte of it is none."""
    if text is None or any(RAW_BYTE <= ord(character) <= RAW_BYTE + 0xFF for character in text):
        return None
    return text


def _rounded(seconds: float) -> float:
    return round(seconds, 9)


def _time(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
