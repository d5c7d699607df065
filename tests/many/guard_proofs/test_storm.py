"""Fifteen thousand come at once, beyond the caps: those are refused, and nobody else notices."""

from __future__ import annotations

import resource

import pytest

from guard.services import size
from many.guard_proofs.programs import guard, note, program, until

_TALKING = 100
_RATE = 500.0

#: From so many addresses, each of which may have so many.
_SOURCES, _SHARE = 10, 50


@pytest.mark.timeout(600)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_storm_beyond_the_caps(loop: str) -> None:
    count = size(3_000, 15_000)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < count + 100:
        pytest.skip("this machine does not allow a process that many descriptors")
    let_in = _SOURCES * _SHARE
    with (
        program("service_program") as service,
        program("talking_program", sessions=_TALKING, rate=_RATE) as talking,
        program("storm_program", sources=_SOURCES) as storm,
        guard(f"127.0.0.1:{service.port}", loop=loop, limits={"per_client": _SHARE}) as it,
    ):
        talking.order("come", port=it.port)
        talking.order("measure", seconds=1.0)
        calm = talking.order("measure", seconds=3.0)
        # It is over before they have said all they wanted to say.
        talking.begin("measure", seconds=6.0)
        told = storm.order("storm", port=it.port, count=count)
        during = talking.answer(6.0)
        facts = it.order("facts")
        assert told["fates"] == {"answered": let_in, "ConnectionResetError": count - let_in}
        assert facts["refused"] == {"client_limit": count - let_in}
        assert facts["sessions"] == facts["admitted"] == _TALKING + let_in
        assert facts["accept_errors"] == 0
        assert storm.order("gone") == {"gone": 0}
        for each in (calm, during):
            assert each["wrong"] == {}
            assert each["answered"] == each["asked"]
        storm.order("leave")
        until(lambda: it.order("facts")["sides"] == _TALKING)
        # Its places can be had again, and no more than those.
        again = storm.order("storm", port=it.port, count=let_in + _SOURCES)
        assert again["fates"] == {"answered": let_in, "ConnectionResetError": _SOURCES}
        storm.order("leave")
        talking.order("leave")
    note(
        f"storm, {loop}: {count:,} at once from {_SOURCES} addresses with {_SHARE} places each: "
        f"{let_in} let in and answered, {count - let_in:,} reset, in {told['took']:.2f} s "
        f"({count / told['took']:,.0f} a second; they took {told['offered']:.2f} s to begin); "
        f"{_TALKING} others: every answer right, p99 {calm['p99'] * 1000:.2f} ms before, "
        f"{during['p99'] * 1000:.2f} ms meanwhile (at most {during['most'] * 1000:.0f} ms)"
    )
