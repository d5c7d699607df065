"""Churn: sessions that come and go in every way there is, while an operator interferes; and what
must be true of it all afterwards."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from guard.services import free_port
from many.guard_proofs.programs import Program, guard, note, program, until

__all__ = ["churn"]

_WORKERS = 60
_SOURCES = 12
_CLIENTS = 2  # processes

#: Short, so that every clock strikes.
_LIMITS = {
    "idle": 3.0, "half_closed": 1.5, "write_stall": 1.5, "closing": 1.0, "first_byte": 1.0,
    "lifetime": 15.0, "min_send_rate": None, "per_client": 8, "total": 100,
}  # fmt: skip
_SETTINGS = {
    "check_interval": None, "passive_rest": 0.5, "recover": 1.0, "queue_timeout": 1.0,
    "connect_timeout": 1.0,
}  # fmt: skip

#: Ends that the guard itself brings about in good order, whatever both sides have done.
_QUIET = {
    "idle_timeout", "half_closed_timeout", "first_byte_timeout", "lifetime", "shutdown",
}  # fmt: skip

#: Resets that the guard itself brings about.
_CUT_OFF = {
    "kicked", "write_stall", "upstream_stalled", "close_timeout", "client_limit", "no_upstream",
    "queue_timeout", "queue_full", "slow_reader",
}  # fmt: skip

#: Ends that have to happen for the proof to be one.
_MUST_HAPPEN = {
    "peer_closed", "upstream_closed", "peer_reset", "upstream_reset", "kicked", "idle_timeout",
    "write_stall", "half_closed_timeout", "first_byte_timeout",
}  # fmt: skip

_BASE = (
    "sessions",
    "sides",
    "waiting",
    "admitted",
    "clients",
    "owed",
    "registered",
    "filed",
    "tasks",
)


def churn(loop: str, seconds: float, seed: int, ends: Path, short: bool) -> None:
    """Do it for so long.

    Args:
        ends: a file that may be written to.
        short: whether it is too short for all that must happen to happen.
    """
    stories: list[list[dict[str, Any]]] = [[], []]
    services = [
        program("churn_program", role="service", seed=seed + number, name=f"s{number}")
        for number in range(2)
    ]
    with services[0] as first, services[1] as second:
        upstreams = [
            f"127.0.0.1:{first.port},name=first", f"127.0.0.1:{second.port},name=second,max=30",
            f"127.0.0.1:{free_port()},name=nobody",
        ]  # fmt: skip
        crowds = [
            program(
                "churn_program", role="client", seed=seed + 10 + number, workers=_WORKERS,
                sources=_SOURCES, first=(number + 1) * 100_000_000,
            )
            for number in range(_CLIENTS)
        ]  # fmt: skip
        with crowds[0] as one, crowds[1] as other:
            with guard(
                *upstreams, loop=loop, limits=_LIMITS, settings=_SETTINGS, ends=str(ends)
            ) as it:
                base = it.order("facts", collect=True)
                for each in (one, other):
                    each.order("start", port=it.port)
                memory = interfere(it, seconds, random.Random(seed))
                for each in (one, other):
                    each.begin("stop")
                sessions = sum(each.answer(60.0)["sessions"] for each in (one, other))
                until(lambda: it.order("facts")["sides"] == 0)
                until(lambda: is_at_base(it.order("facts"), base))
                after = it.order("facts", collect=True)
                assert after["descriptors"] == base["descriptors"] + 2 * after["pipes"], after
                assert after["pipes"] <= 4
                assert [each["sessions"] for each in after["upstreams"].values()] == [0, 0, 0]
                assert sum(after["closed"].values()) == after["accepted"]
            for each in (one, other):
                stories[0] += each.order("report")["stories"]
            for each in (first, second):
                until(lambda each=each: each.order("open")["open"] == 0)  # type: ignore[misc]
                stories[1] += each.order("report")["stories"]
    compared = compare(stories[0], stories[1], ends)
    if not short:
        missing = _MUST_HAPPEN - set(after["closed"])
        assert not missing, f"nothing is proved: {missing} never happened"
    why = ", ".join(f"{reason} {count:,}" for reason, count in sorted(after["closed"].items()))
    over_time = ", ".join(f"{each / 2**20:.2f}" for each in memory)
    note(
        f"churn, {loop}, seed {seed}: {seconds:.0f} s, {sessions:,} connects, "
        f"{after['accepted']:,} sessions ({why}); {compared}; afterwards descriptors, pipes, "
        f"sessions, places, registrations, deadlines and tasks as before; memory {over_time} MiB "
        f"over time, {after['memory'] / 2**20:.2f} at the end"
    )
    if not short:
        # The first look is after a fifth of the time, when everything has been done once.
        assert memory[-1] - memory[0] < 2 * 2**20, memory


def is_at_base(facts: dict[str, Any], base: dict[str, Any]) -> bool:
    return all(facts[name] == base[name] for name in _BASE)


def interfere(it: Program, seconds: float, chance: random.Random) -> list[int]:
    """What an operator does meanwhile. Returns its memory, five times."""
    memory: list[int] = []
    begun = time.monotonic()
    drained = False
    while (now := time.monotonic() - begun) < seconds:
        what = chance.randrange(6)
        if what == 0:
            it.order("upstream", verb="enable" if drained else "drain", name="first")
            drained = not drained
        elif what == 1:
            it.order("limits", write_stall=1.0 + chance.random(), per_client=chance.randint(5, 10))
        elif what == 2:
            it.order("settings", balance=chance.choice(["round-robin", "least", "hash"]))
        else:
            it.order("kick", number=chance.randrange(1000))
        if now > seconds * (len(memory) + 1) / 5:
            memory.append(it.order("facts", collect=True)["memory"])
        time.sleep(chance.random() * 0.2)
    if drained:
        it.order("upstream", verb="enable", name="first")
    memory.append(it.order("facts", collect=True)["memory"])
    return memory


def compare(clients: list[dict[str, Any]], services: list[dict[str, Any]], ends: Path) -> str:
    """See that both sides of each session tell the same story."""
    reasons: dict[str, set[str]] = {}
    for line in ends.read_text("ascii").splitlines():
        address, _, reason = line.partition(" ")
        reasons.setdefault(address, set()).add(reason)
    behind = {each["number"]: each for each in services}
    seen: Counter[str] = Counter()
    for client in clients:
        assert not client["wrong"], client
        service = behind.pop(client["number"], None)
        if service is None:
            seen["never relayed"] += 1
            continue
        assert not service["wrong"], service
        why = reasons.get(client["address"], set())
        for one, other in ((client, service), (service, client)):
            story = (why, one, other)
            assert one["came"] <= other["sent"], story
            if one["saw"] == "end" and not why & _QUIET:
                # What looks whole is whole.
                assert other["how"] != "reset", story
                assert one["came"] == other["sent"], story
                seen["whole streams"] += 1
            elif one["saw"] == "reset":
                seen["resets"] += 1
                if not why & (_QUIET | _CUT_OFF):
                    # Who has left in good order has reset nobody.
                    assert other["how"] != "end", story
    assert not behind, "sessions of nobody"
    return ", ".join(f"{what} {count:,}" for what, count in seen.items())
