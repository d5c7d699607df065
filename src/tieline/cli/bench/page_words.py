"""The texts of a page that are the same for every run."""

from __future__ import annotations

from ...bench import Comparison, Result
from ..translation import N_
from ..translation import gettext as _

__all__ = ["how_to_read", "interface"]

_INTERFACE = {
    # The language's tag, as HTML has it.
    "language": N_("en"),
    "theme": N_("light or dark"),
    "figures": N_("The figures"),
    "remarks": N_("Know this first"),
    "details": N_("piece by piece"),
    "plan": N_("What was done"),
    "outcome": N_("What came of it"),
    "reading": N_("How to read this"),
}


def interface() -> dict[str, str]:
    """The words around the figures."""
    return {name: _(text) for name, text in _INTERFACE.items()}


def how_to_read(results: Result | Comparison) -> list[str]:
    """What the words and charts of this page mean, a paragraph each."""
    result = results.short if isinstance(results, Comparison) else results
    texts = [
        _(
            "p50 is the median: half of the times are not longer. p99 is what 99 of 100 do not "
            "exceed, p99.9 is that of 999 of 1,000. A user who asks a hundred times meets p99 "
            "once, so it says more than a mean, which one slow answer can move and many fast ones "
            "can hide."
        ),
        _(
            "Times come from a histogram whose percentiles are within 0.4% of the exact ones; "
            "smallest, largest and mean are exact. What failed has no time and is in no "
            "percentile: look at the failures first."
        ),
    ]
    if result.mode in ("hold", "storm"):
        # Its connections say nothing, or wait for nothing: there is no loop.
        pass
    elif result.rate is None:
        texts.append(
            _(
                "The load was a closed loop: a connection sends its next message when the last one "
                "is answered. A server that stands still is asked nothing meanwhile, so its "
                "standing still counts once for each connection. To see what users would feel who "
                "come at their own pace, give a rate (--rate)."
            )
        )
    else:
        texts.append(
            _(
                "The load was an open loop: each exchange had an instant at which it was due, and "
                "its time counts from there, whether the message could go out or not. A server "
                "that stands still for a second so shows it in every exchange that was due in that "
                "second, as its users would feel it."
            )
        )
    if isinstance(results, Comparison):
        texts.append(
            _(
                "What a connection costs is the time of an exchange over a connection of its own "
                "less that over one that is there: places times seconds, by exchanges. It holds "
                "making the connection, ending it, and what both sides do for it."
            )
        )
    texts.append(
        _(
            "On a logarithmic axis equal ways are equal factors, not equal sums: fast and slow "
            "times can both be seen. The figures hold for this machine, this way and this hour."
        )
    )
    return texts
