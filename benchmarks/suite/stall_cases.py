"""The experiment P6: sessions whose clients do not read, among others that play ping-pong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from .build import BUILD
from .cases import Plan, load_window
from .machine import GENERATOR_CORE, private_bytes
from .measure import Fleet, Metrics, Row, error_row, not_run, row_of, say
from .peers import Peer
from .processes import Holder, RunError, Server, holding, running, settle
from .proxy_cases import behind, proxy_plan

P6 = "P6"

_ACTIVE, _STALLED = 900, 100
PLAYED = f"{_ACTIVE} play; {_STALLED} are quiet, then {_STALLED} do not read what they are sent"
MEMORY = f"memory of {_STALLED} that do not read"

_SECONDS = 60.0
_LOOKS = 5  # in a row at which nobody has anything to do

#: Answers like the other backend, and sends bytes without end to those who ask for them.
_BACKEND = Peer("flood", "C, echo and flood", (str(BUILD / "c_flood"),), core=GENERATOR_CORE)


def stalled_readers(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """P6: what stalled readers cost the others, and how much is kept for them."""
    plan = proxy_plan(plan)
    unforked = [peer for peer in peers if not peer.forks]
    with behind(unforked, _BACKEND) as sources:
        entrants = [
            peer.in_front_of(sources[peer.name].port) for peer in unforked if peer.name in sources
        ]
        with Fleet(entrants) as fleet:
            rows = fleet.measure(P6, PLAYED, plan.rounds, partial(_play, plan, sources))
        say(f"{P6}: {MEMORY}")
        return rows + [_memory_row(sources, peer) for peer in entrants]


def _play(plan: Plan, sources: Mapping[str, Server], server: Server) -> Metrics:
    """A window with quiet sessions beside those that play, and one with stalled readers."""
    with holding(server, _STALLED, _SECONDS) as quiet:
        calm = load_window(plan, server, _ACTIVE, 1)
        _see_them_held(quiet)
    with _stalling(server, sources) as stalled:
        found = load_window(plan, server, _ACTIVE, 1)
        _see_them_held(stalled)
    return {
        **found,
        "quiet_p99_us": calm["p99_us"],
        "p99_times": found["p99_us"] / calm["p99_us"],
    }


@contextmanager
def _stalling(server: Server, sources: Mapping[str, Server]) -> Iterator[Holder]:
    """Clients that do not read, until the block ends; it begins when all on the way is full:
    neither the proxy nor the server behind it has anything to do."""
    with holding(server, _STALLED, _SECONDS, how="stall") as holder:
        settle(server, sources[server.peer.name], looks=_LOOKS)
        yield holder


def _see_them_held(holder: Holder) -> None:
    closed = holder.release()["closed"]
    if closed != 0:
        raise RunError(f"the proxy closed {closed} that were held")


def _memory_row(sources: Mapping[str, Server], peer: Peer) -> Row:
    if error := not_run(peer):
        return error_row(P6, MEMORY, peer, error)
    try:
        with running(peer) as server:
            before = private_bytes(server.pid)
            with _stalling(server, sources) as stalled:
                taken = private_bytes(server.pid) - before
                _see_them_held(stalled)
    except RunError as failure:
        return error_row(P6, MEMORY, peer, str(failure))
    return row_of(P6, MEMORY, peer, [{"stalled_bytes": taken / _STALLED}])
