"""What the documentation of the doctor says is what the source has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tieline.cli.doctor_lines import write_lines
from tieline.cli.log import Log
from tieline.doctor import Load, Machine, Role, What, examine, judge, short_rate
from tieline.doctor.ceilings import GUARD_MEMORY, KERNEL_MEMORY, TIELINE_MEMORY
from tieline.doctor.descriptors import OF_A_GUARD, OF_A_PROCESS, OF_A_SERVER
from tieline.doctor.remedies import TRACKING_MEMORY

DOCS = Path(__file__).parents[2] / "docs"
ENGLISH, CHINESE = DOCS / "doctor.md", DOCS / "zh-CN" / "一台机器能撑多少连接.md"


def rows(path: Path) -> list[list[str]]:
    """The cells of all tables."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


@pytest.mark.parametrize("path", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_every_word_is_explained(path: Path) -> None:
    first = [row[0] for row in rows(path)]
    assert {f"`{what.value}`" for what in What} <= set(first)
    assert {"`machine`", "`verdict`", "`short`"} <= set(first)


@pytest.mark.parametrize("path", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_every_key_is_explained(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine, load = Machine(hard_descriptors=9, ports=examine().ports, time_wait_reuse=2), Load()
    write_lines(
        Log("json"), machine, load, [judge(machine, Role.CLIENT, aim=10**5)],
        short_rate(machine, load),
    )  # fmt: skip
    _machine, *others = capsys.readouterr().out.splitlines()
    keys = set(re.findall(r'"(\w+)": ', "".join(others))) - {"v", "kind"}
    # The parts of a ceiling are its own.
    keys -= {"allowed", "own", "ends", "low", "high", "reserved"}
    text = path.read_text("utf-8")
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_its_numbers_are_those_of_the_source() -> None:
    text = ENGLISH.read_text("utf-8")
    assert f"a server needs {OF_A_SERVER} descriptors" in text
    assert f"A client needs {OF_A_PROCESS}, a guard up to {OF_A_GUARD} " in text
    assert f"is {KERNEL_MEMORY / 1000:g} KB in the kernel" in text
    assert f"{TIELINE_MEMORY / 1000:g} KB in tieline" in text
    assert f"first and {GUARD_MEMORY / 1000:.1f} KB" in text
    assert f"{TRACKING_MEMORY} bytes of the kernel" in text


def test_both_languages_have_the_same_tables() -> None:
    english, chinese = rows(ENGLISH), rows(CHINESE)
    assert [len(row) for row in english] == [len(row) for row in chinese]
    code = [re.findall(r"`[^`]*`", row[0]) for row in english]
    assert code == [re.findall(r"`[^`]*`", row[0]) for row in chinese]
