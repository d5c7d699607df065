"""What is written down of a bench for programs, and read again by `tieline bench diff`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ...bench import Comparison, Histogram, Result
from ...errors import SettingError
from .words import TIMES

__all__ = ["check_place", "document", "read_result", "write_result"]

_SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)


def document(results: Result | Comparison) -> dict[str, Any]:
    """All that was measured, and what most ask for worked out: `summary`. Times are seconds."""
    if isinstance(results, Comparison):
        made = results.as_json()
        made["short"], made["long"] = document(results.short), document(results.long)
        return made
    return {**results.as_json(), "summary": _summary(results)}


def _summary(result: Result) -> dict[str, Any]:
    times: dict[str, Histogram] = {name: getattr(result, name) for name in TIMES}
    return {
        "per_second": result.per_second,
        "failed": result.failed,
        "failure_share": result.failure_share,
        "cpu_per_exchange": result.cpu_per_exchange,
        "generator_is_limit": result.generator.is_limit,
        "times": {name: _figures(each) for name, each in times.items() if each.count},
    }


def _figures(times: Histogram) -> dict[str, float]:
    figures: dict[str, float] = {"count": times.count, "mean": times.mean, "least": times.least}
    figures.update((f"p{share * 100:.6g}", times.percentile(share)) for share in _SHARES)
    figures["most"] = times.most
    return figures


def check_place(file: Path) -> None:
    """Say before a long run, and not after it, that a file cannot be written.

    Raises:
        SettingError: it cannot.
    """
    folder = file.parent
    why = (
        "there is no such folder" if not folder.is_dir()
        else "it is a folder" if file.is_dir()
        else "" if os.access(file if file.exists() else folder, os.W_OK)
        else "this user may not"
    )  # fmt: skip
    if why:
        raise _unwritable(file, why=why)


def _unwritable(file: Path, why: str) -> SettingError:
    return SettingError("{file} cannot be written: {why}", file=str(file), why=why)


def write_result(results: Result | Comparison, file: Path) -> None:
    """Keep a result.

    Raises:
        SettingError: the file cannot be written.
    """
    try:
        file.write_text(json.dumps(document(results)) + "\n", encoding="ascii")
    except OSError as error:
        raise _unwritable(file, why=error.strerror or str(error)) from error


def read_result(file: Path) -> Result | Comparison:
    """A result that was kept.

    Raises:
        SettingError: the file cannot be read, or holds something else.
    """
    try:
        read = json.loads(file.read_bytes())
    except OSError as error:
        raise SettingError(
            "{file} cannot be read: {detail}", file=str(file), detail=error.strerror or str(error)
        ) from error
    except ValueError as error:
        raise SettingError("{file} is no result of a bench", file=str(file)) from error
    try:
        if isinstance(read, dict) and read.get("type") == "bench_comparison":
            return Comparison.from_json(read)
        return Result.from_json(read)
    except SettingError as error:
        raise SettingError("{place}: {detail}", place=str(file), detail=str(error)) from error
