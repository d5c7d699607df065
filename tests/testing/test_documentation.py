"""docs/testing.md names every fault, with its settings, and every way to receive newcomers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from tieline.testing import FaultRelay, blocking
from tieline.testing.faults import FAULTS, Fault

TEXT = (Path(__file__).parents[2] / "docs/testing.md").read_text("utf-8")


def _written(kind: type[Fault]) -> str:
    """A fault as the documentation writes it."""
    settings = [field for field in dataclasses.fields(kind) if not field.kw_only]
    return f"{kind.__name__}({', '.join(_setting(field) for field in settings)})"


def _setting(field: dataclasses.Field[object]) -> str:
    if field.default is dataclasses.MISSING:
        return field.name
    assert isinstance(field.default, (int, float))
    return f"{field.name}={field.default:g}"


def test_the_faults_are_those_of_the_source() -> None:
    shown = re.findall(r"^\| `(\w+\(.*?\))` \|", TEXT, re.M)
    assert shown == [_written(kind) for kind in FAULTS.values()]
    for name in FAULTS:
        assert f"`{name}`" in TEXT.partition("## Has it happened?")[2]


def test_the_ways_to_receive_newcomers_are_those_of_the_source() -> None:
    shown = re.findall(r"^\| `relay\.(\w+)\(\)` \|", TEXT, re.M)
    assert sorted(shown) == sorted(name for name in vars(FaultRelay) if "newcomers" in name)


def test_both_relays_offer_the_same() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    #: Of the one: what blocks elsewhere, what is set once, and what is for its listener.
    own = {"wait_happened"} | {
        name
        for name, value in vars(FaultRelay).items()
        if (value.__doc__ or "").startswith("Not for applications")
    }
    assert public(FaultRelay) - own == public(blocking.FaultRelay) - {
        "reset", "upstream", "failures",
    }  # fmt: skip
