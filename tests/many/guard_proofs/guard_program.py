"""The guard of a proof, in a process of its own.

Options: `upstreams`, `limits`, `settings`, `loop`; `pipes`, how many it may have at most;
`descriptors`, the limit of this process; `certificate`, a PEM file with which TLS ends here, and
`authority`, one with whom the upstreams must be known to; `ends`, a file for who has left and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import ssl
import time
from collections import Counter
from typing import Any, TextIO

import tieline
import tieline.guard
from many.guard_proofs.orders import obey, options, raise_descriptor_limit, run
from many.guard_proofs.programs import private_bytes
from tieline import CloseReason, Limits
from tieline.guard import ClientLeg, Guard, GuardSettings
from tieline.guard.spec import parse_upstream
from tieline.guard.splicing import Pipes
from tieline.reactor import Reactor


def facts(guard: Guard) -> dict[str, Any]:
    """What it holds and has done."""
    reactor = Reactor._of.get(asyncio.get_running_loop())
    counters = guard.counters
    return {
        "sessions": len(guard),
        "sides": sum(1 for _ in guard.upstream_sides),
        "upstreams": {
            each.name: {
                "state": each.state.name, "sessions": each.sessions, "connected": each.connected,
                "failed": each.failed,
            }
            for each in guard.pool.upstreams
        },
        "waiting": guard.pool.waiting,
        "admitted": guard.admission.total,
        "clients": len(list(guard.admission.clients)),
        "pipes": guard.pipes.count,
        "short": guard.pipes.short,
        "registered": Counter(
            type(each).__name__ for each in (reactor._ready.values() if reactor else ())
        ),
        "filed": len(reactor._deadlines) if reactor else 0,
        "tasks": len(asyncio.all_tasks()),
        **looked_up(),
        "cpu": time.process_time(),
        "owed": sum(leg.owed for leg in guard.connections),
        "accepted": counters.accepted,
        "closed": {str(reason): count for reason, count in counters.closed.items()},
        "refused": {str(reason): count for reason, count in counters.refused.items()},
        "accept_errors": counters.accept_errors,
        "bytes_received": counters.bytes_received,
        "bytes_sent": counters.bytes_sent,
    }  # fmt: skip


def looked_up() -> dict[str, int]:
    """What it takes a descriptor to know, if there is one."""
    with contextlib.suppress(OSError):
        return {"descriptors": descriptors(), "memory": private_bytes(os.getpid())}
    return {}


def descriptors() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/fd")) - 1


def make(told: dict[str, Any], ends: TextIO | None) -> Guard:
    """The guard that was asked for."""
    tls = upstream_tls = None
    if certificate := told.get("certificate"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    if authority := told.get("authority"):
        upstream_tls = ssl.create_default_context(cafile=authority)

    def on_close(leg: ClientLeg, reason: CloseReason) -> None:
        if ends is not None:
            ends.write(f"{leg.peer} {reason}\n")

    guard = tieline.guard.serve(
        "127.0.0.1:0",
        upstreams=told["upstreams"],
        settings=GuardSettings(**told.get("settings", {})),
        limits=Limits(**told.get("limits", {})),
        tls=tls,
        upstream_tls=upstream_tls,
        on_close=on_close,
    )
    if told.get("pipes") is not None:
        guard.pipes = Pipes(most=told["pipes"])
    return guard


#: What it can be told.
VERBS = ("facts", "limits", "settings", "upstream", "apply", "kick", "drain", "close")


class Orders:
    """What it can be told."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def facts(self, collect: bool = False) -> dict[str, Any]:
        if collect:
            gc.collect()
        return facts(self._guard)

    async def limits(self, **changes: Any) -> dict[str, Any]:
        return {"changed": list(self._guard.change_limits(**changes))}

    async def settings(self, **changes: Any) -> dict[str, Any]:
        return {"changed": list(self._guard.change_settings(**changes))}

    async def upstream(self, verb: str, name: str) -> dict[str, Any]:
        """`add` takes its whole text."""
        if verb == "add":
            return {"name": self._guard.add_upstream(parse_upstream(name)).name}
        found = getattr(self._guard.pool, verb)(name)
        return {"name": found.name, "state": found.state.name}

    async def apply(self, upstreams: list[str]) -> None:
        self._guard.apply_upstreams([parse_upstream(each) for each in upstreams])

    async def kick(self, number: int) -> dict[str, Any]:
        """The session that has this place among those that are open."""
        open_now = list(self._guard.connections)
        if not open_now:
            return {"kicked": 0}
        return {"kicked": self._guard.kick(open_now[number % len(open_now)])}

    async def drain(self, seconds: float) -> dict[str, Any]:
        begun = time.monotonic()
        done = await self._guard.drain(seconds)
        return {"done": done, "took": time.monotonic() - begun, **facts(self._guard)}

    async def close(self) -> dict[str, Any]:
        await self._guard.close()
        for _ in range(20):  # the loop closes what it has in its next rounds
            await asyncio.sleep(0)
        return facts(self._guard)


async def main() -> None:
    told = options()
    raise_descriptor_limit(told.get("descriptors"))
    with contextlib.ExitStack() as stack:
        ends = None
        if told.get("ends"):
            ends = stack.enter_context(open(told["ends"], "w"))  # noqa: ASYNC230 - lines, buffered
        guard = make(told, ends)
        orders = Orders(guard)

        async def begin() -> dict[str, Any]:
            before = {"descriptors": descriptors(), "tasks": len(asyncio.all_tasks())}
            await guard.start()
            return {"port": guard.addresses[0].port, **before}

        try:
            await obey({verb: getattr(orders, verb) for verb in VERBS}, begin)
        finally:
            await guard.close()


if __name__ == "__main__":
    run(main, options().get("loop", "asyncio"))
