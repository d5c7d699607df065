"""Nine thousand sessions in one process, of 20,000 descriptors: none is lost, all are let go."""

from __future__ import annotations

import resource
import time

import pytest

from guard.services import size
from many.guard_proofs.programs import guard, note, program, until

_DESCRIPTORS = 20_000
_SOURCES = 100


@pytest.mark.timeout(600)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_nine_thousand_sessions_and_a_drain(loop: str) -> None:
    count = size(1_000, 9_000)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < _DESCRIPTORS:
        pytest.skip("this machine does not allow a process that many descriptors")
    limits = {"total": 9_500, "per_client": 100, "idle": 600.0, "first_byte": None}
    with program("service_program") as service, program("crowd_program", sources=_SOURCES) as crowd:
        with guard(
            f"127.0.0.1:{service.port}", loop=loop, descriptors=_DESCRIPTORS, limits=limits
        ) as it:
            # What the first of them cost is not theirs.
            crowd.order("come", port=it.port, count=200)
            crowd.order("leave")
            until(lambda: it.order("facts")["sides"] == 0)
            before = it.order("facts", collect=True)
            begun = time.monotonic()
            assert crowd.order("come", port=it.port, count=count)["fates"] == {"answered": count}
            took = time.monotonic() - begun
            held = it.order("facts", collect=True)
            assert held["sessions"] == held["sides"] == held["admitted"] == count
            assert held["clients"] == _SOURCES
            assert held["refused"] == {}
            assert held["descriptors"] == before["descriptors"] + 2 * count
            each = (held["memory"] - before["memory"]) / count
            # They are there, and not only counted.
            assert crowd.order("talk")["fates"] == {"answered": count}
            it.begin("drain", seconds=60.0)
            assert crowd.order("ended")["fates"] == {"end": count}
            drained = it.answer(60.0)
            assert drained["done"]
            assert drained["closed"] == {"peer_closed": 200, "shutdown": count}
            assert (drained["sessions"], drained["sides"], drained["admitted"]) == (0, 0, 0)
            until(lambda: service.order("connections")["open"] == 0)
    note(
        f"many, {loop}: {count:,} sessions in {held['descriptors']:,} descriptors, all answered "
        f"({count / took:,.0f} a second came), none lost; {each:,.0f} B of private memory a "
        f"session; drained in {drained['took']:.2f} s, every client saw an end in good order"
    )
