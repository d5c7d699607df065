"""The experiments E8 and E9: what the whole policy costs traffic, and its table of clients."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import partial

from .build import PEERS, PYTHON, python_environment
from .cases import Plan, e1_case, load_window
from .machine import SERVER_CORE, child_setup
from .measure import Fleet, Metrics, Row, error_row, not_run, row_of, say
from .peers import Peer, with_policy
from .processes import RunError, parse_result, read_line, reap

E8, E9 = "E8", "E9"
POLICY_CONNECTIONS = (100, 1000)
TABLE = "tieline_admission"
_TABLE_SECONDS = 600.0

#: What each case of E9 is, by the name under which the program in `peers` gives it.
TABLE_CASES = {
    "fill": "strangers come, until all are known",
    "ipv6": "strangers come over IPv6",
    "further": "strangers come, with their networks and all lists looked at",
    "return": "known clients come back",
    "live": "clients that hold connections open one more",
    "refuse": "clients at their cap are refused",
    "overflow": "strangers come, the table is full",
    "clean": "all debts are over: cleaning, shard by shard",
}


def all_policy(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E8: the same server with every limit there is, and with none."""
    names = [peer.name for peer in peers if peer.name.startswith("tieline")]
    pairs = [with_policy(name, policy) for name in names for policy in ("on", "off")]
    rows: list[Row] = []
    with Fleet(pairs) as fleet:
        for connections in POLICY_CONNECTIONS:
            window = partial(load_window, plan, connections=connections, lines=1)
            rows += fleet.measure(E8, e1_case(connections), plan.on_off_rounds, window)
    return rows


def table_case(plan: Plan, name: str) -> str:
    """The name of a case of E9."""
    return f"{plan.known_clients:,} known, {plan.live_clients:,} live: {TABLE_CASES[name]}"


def memory_case(plan: Plan) -> str:
    """The name of E9's case of memory."""
    return f"{plan.known_clients:,} known clients: memory"


def admission_table(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E9: decisions about clients, in a process of their own. One round: each has 10,000s."""
    if not any(peer.name.startswith("tieline") for peer in peers):
        return []
    say(f"{E9}: {plan.known_clients:,} known clients")
    peer = Peer(TABLE, "tieline's admission", (str(PYTHON), str(PEERS / "admission_table.py")))
    cases = {name: table_case(plan, name) for name in TABLE_CASES}
    cases["memory"] = memory_case(plan)
    error = not_run(peer)
    try:
        found = {} if error else _run_table(plan, peer)
    except RunError as failure:
        error = str(failure)
    if error:
        return [error_row(E9, case, peer, error) for case in cases.values()]
    return [row_of(E9, case, peer, [found[name]]) for name, case in cases.items()]


def _run_table(plan: Plan, peer: Peer) -> dict[str, Metrics]:
    process = subprocess.Popen(
        [*peer.command, str(plan.known_clients), str(plan.live_clients)],
        stdout=subprocess.PIPE, env=python_environment(), preexec_fn=child_setup(SERVER_CORE),
    )  # fmt: skip
    try:
        result: dict[str, Metrics] = parse_result(read_line(process, _TABLE_SECONDS), peer.name)
    finally:
        reap(process)
    return result
