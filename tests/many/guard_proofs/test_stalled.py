"""A hundred that do not read among a thousand sessions: nobody else notices, little is kept."""

from __future__ import annotations

from statistics import median

import pytest

from guard.services import FULL_SIZE, size
from many.guard_proofs.programs import guard, note, program, until

_TALKING, _STALLED = 900, 100
_RATE = 1_000.0

#: What is kept for one that does not read: a read, and what Python rounds it up to.
_MOST_KEPT = 80 * 1024


@pytest.mark.timeout(900)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_hundred_stalled_readers_among_a_thousand_sessions(loop: str) -> None:
    rounds, seconds = size(3, 7), size(1, 4)
    limits = {
        "per_client": 200, "total": 2_000, "write_stall": 600.0, "min_send_rate": None,
        "idle": 600.0,
    }  # fmt: skip
    with (
        program("service_program") as service,
        program("talking_program", sessions=_TALKING, rate=_RATE) as talking,
        program("stalling_program", count=_STALLED) as others,
        guard(f"127.0.0.1:{service.port}", loop=loop, limits=limits) as it,
    ):
        talking.order("come", port=it.port)

        def window(how: str) -> dict[str, float]:
            """A time in which a hundred others do this."""
            before = it.order("facts", collect=True)
            others.order("come", port=it.port, how=how)
            told = talking.order("measure", seconds=float(seconds))
            facts = it.order("facts")
            assert told["wrong"] == {}
            assert told["answered"] == told["asked"]
            assert facts["sessions"] == facts["sides"] == _TALKING + _STALLED
            assert (facts["owed"] > 0) == (how == "stalled")
            others.order("leave")
            until(lambda: it.order("facts")["sides"] == _TALKING)
            kept = (facts["memory"] - before["memory"]) / _STALLED
            return {"p50": told["p50"], "p99": told["p99"], "kept": kept}

        window("quiet")
        quiet, stalled = [], []
        for _ in range(rounds):
            quiet.append(window("quiet"))
            stalled.append(window("stalled"))
        # And those who do not read are sent away in the end, all of them, and nobody else.
        others.order("come", port=it.port, how="stalled")
        talking.begin("measure", seconds=6.0)
        it.order("limits", write_stall=2.0)
        told = talking.answer(6.0)
        assert told["wrong"] == {}
        assert told["answered"] == told["asked"]
        until(lambda: it.order("facts")["closed"].get("write_stall") == _STALLED)
        assert others.order("ended") == {"cut off": _STALLED}
        after = it.order("facts")
        assert after["sessions"] == after["sides"] == _TALKING
        assert after["owed"] == 0
        talking.order("leave")
    ratio = median(s["p99"] / q["p99"] for s, q in zip(stalled, quiet, strict=True))
    kept = max(each["kept"] for each in stalled)
    note(
        f"stalled, {loop}: {_STALLED} stalled readers among {_TALKING + _STALLED:,} sessions, "
        f"{rounds} windows of {seconds} s each, interleaved with windows of {_STALLED} quiet ones: "
        f"p99 of the others {median(each['p99'] for each in stalled) * 1000:.2f} ms against "
        f"{median(each['p99'] for each in quiet) * 1000:.2f} ms, ratio {ratio:.2f} (p50 "
        f"{median(each['p50'] for each in stalled) * 1000:.2f} and "
        f"{median(each['p50'] for each in quiet) * 1000:.2f} ms); at most {kept / 1024:.1f} KiB "
        f"kept for each; then all {_STALLED} ended by write_stall, the others' p99 meanwhile "
        f"{told['p99'] * 1000:.2f} ms"
    )
    if FULL_SIZE:
        # A few windows of a second tell nothing on a machine with other work.
        assert ratio < 1.5
    assert kept < _MOST_KEPT
