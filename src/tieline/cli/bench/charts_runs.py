"""The runs that a page shows, each with its name and its look in all charts."""

from __future__ import annotations

from dataclasses import dataclass

from ...bench import Comparison, Histogram, Result
from ..translation import gettext as _

__all__ = ["Run", "runs_of", "said_of", "with_name"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run, or one kind of places of a mixed one.

    Attributes:
        name: what it is called where there are several; empty where it is the only one.
        kind: its look: `one`, `short` or `long`.
    """

    name: str
    kind: str
    result: Result

    def times(self, name: str) -> Histogram:
        """One of the result's histograms."""
        found: Histogram = getattr(self.result, name)
        return found


def runs_of(results: Result | Comparison) -> list[Run]:
    """What is to be shown side by side."""
    if isinstance(results, Comparison):
        parts = {"short": results.short, "long": results.long}
    else:
        parts = {kind: results.parts[kind] for kind in ("short", "long") if kind in results.parts}
    if not parts:
        assert isinstance(results, Result)
        return [Run("", "one", results)]
    names = {"short": _("short"), "long": _("long")}
    return [Run(names[kind], kind, result) for kind, result in parts.items()]


def with_name(run: Run, text: str) -> str:
    """A text about one of the runs, which says of which."""
    return f"{run.name} {text}".strip()


def said_of(run: Run, sentence: str) -> str:
    """A sentence, and of which of the runs it is said."""
    if not run.name:
        return sentence
    return _("{run}: {remark}").format(run=run.name, remark=sentence)
