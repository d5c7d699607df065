"""Descriptors run out in the middle: who is there goes on, newcomers are told no, then all is well.

Health checks go on as well, and no upstream is blamed for what this machine is short of.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from guard.services import size
from many.guard_proofs.programs import Program, guard, note, program, until

_TALKING = 30
_RATE = 300.0
_BULK = 32_000_000

#: Enough for a hundred sessions, with some over.
_DESCRIPTORS = 220
_NEWCOMERS = 300


def cpu_seconds(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def took(what: Callable[[], object]) -> float:
    begun = time.monotonic()
    until(what)
    return time.monotonic() - begun


def has_run_out(it: Program) -> bool:
    """Whether somebody was told that there are none."""
    facts = it.order("facts")
    return "no_descriptors" in {**facts["refused"], **facts["closed"]}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("descriptors", [_DESCRIPTORS, _DESCRIPTORS + 1])
def test_descriptors_run_out_in_the_middle(descriptors: int, loop: str) -> None:
    """The last one may be missing for a client, or for the upstream of one that was accepted."""
    seconds = float(size(2, 10))
    settings = {"check_interval": 0.2, "check_timeout": 0.2, "fall": 1, "passive_failures": 1}
    limits = {"per_client": None, "idle": 600.0}
    with (
        program("service_program", name="behind") as service,
        program("talking_program", sessions=_TALKING, rate=_RATE) as talking,
        program("crowd_program") as crowd,
        guard(
            f"127.0.0.1:{service.port},name=behind", loop=loop, descriptors=descriptors,
            settings=settings, limits=limits,
        ) as it,
        socket.create_connection(("127.0.0.1", it.port), timeout=20.0) as bulk,
    ):  # fmt: skip
        bulk.sendall(b"who is there\n")
        assert bulk.recv(100) == b"behind is there\n"
        talking.order("come", port=it.port)
        talking.begin("measure", seconds=2 * seconds + 8.0)
        crowd.begin("come", port=it.port, count=_NEWCOMERS, patience=seconds + 2.0)
        until(lambda: has_run_out(it))
        # Who asks for bulk now gets it without pipes.
        bulk.sendall(b"!\n")
        left = _BULK
        while left > 0:
            data = bulk.recv(min(left, 262_144))
            assert data.count(b"x") == len(data) > 0
            left -= len(data)
        short = it.order("facts")
        assert short["short"] > 0
        assert short["pipes"] == 0
        bulk.close()
        used = cpu_seconds(it.pid)
        time.sleep(seconds)
        used = (cpu_seconds(it.pid) - used) / seconds
        fates = crowd.answer(2 * seconds)["fates"]
        # As many as there was room for, and they can talk. The others were told no, or waited.
        assert 50 < fates["answered"] < _NEWCOMERS
        assert crowd.order("talk")["fates"]["answered"] == fates["answered"]
        crowd.order("leave", how="reset")
        until(lambda: it.order("facts")["sides"] == _TALKING)
        again = took(lambda: crowd.order("come", port=it.port, count=1)["fates"].get("answered"))
        assert crowd.order("come", port=it.port, count=20)["fates"] == {"answered": 20}
        told = talking.answer(2 * seconds + 8.0)
        assert told["wrong"] == {}
        assert told["answered"] == told["asked"]
        after = it.order("facts")
        upstream = after["upstreams"]["behind"]
        assert (upstream["state"], upstream["failed"]) == ("UP", 0)
        crowd.order("leave")
        talking.order("leave")
    note(
        f"descriptors, {loop}: at {descriptors}, {_NEWCOMERS} newcomers: {fates}; {_TALKING} who "
        f"were there: every answer right ({told['answered']:,}), p99 {told['p99'] * 1000:.1f} ms; "
        f"bulk goes on by copying; {used:.1%} of a CPU while there are none; the upstream stays "
        f"up; refused {after['refused']}, closed {after['closed']}, {after['accept_errors']} "
        f"errors of accept; the next newcomer answered {again:.2f} s after there was room"
    )
    # Mostly that of those who talk: they alone need more than half of it.
    assert used < 0.3
