"""Measure tieline against its peers. See README.md.

python benchmarks/run.py [--quick] [--only E1,E3] [--peers tieline,c_epoll]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from suite import report
from suite.build import ENVOY, HERE, PYTHON, BuildError, build_all, python_environment
from suite.bulk_cases import P2, bulk
from suite.cases import E1, E2, E3, FULL, QUICK, Plan, batched_lines, ping_pong, short_connections
from suite.control_cases import E10, control_socket
from suite.held_cases import L3, generator_memory
from suite.honesty_cases import L2, honesty
from suite.load_cases import L1, generators
from suite.machine import GENERATOR_CORE, describe, raise_descriptor_limit
from suite.measure import NOT_RUN, Results, Row, say
from suite.pace_cases import P3, added_latency
from suite.peers import CAPPED, LOADS, PROXIES, Peer, choose
from suite.policy_cases import E8, E9, admission_table, all_policy
from suite.proxy_cases import P1, P4, P5, proxy_memory, proxy_ping_pong, proxy_short
from suite.quiet_cases import E4, E5, idle_limits, idle_memory
from suite.refusal_cases import E7, refusals
from suite.stall_cases import P6, stalled_readers
from suite.storm_cases import E6, storms
from suite.targets import verdicts

EXPERIMENTS: dict[str, Callable[[Plan, Sequence[Peer]], list[Row]]] = {
    E1: ping_pong,
    E2: batched_lines,
    E3: short_connections,
    E4: idle_memory,
    E5: idle_limits,
    E6: storms,
    E7: refusals,
    E8: all_policy,
    E9: admission_table,
    E10: control_socket,
    P1: proxy_ping_pong,
    P2: bulk,
    P3: added_latency,
    P4: proxy_short,
    P5: proxy_memory,
    P6: stalled_readers,
    L1: generators,
    L2: honesty,
    L3: generator_memory,
}

#: Those in which proxies take part; nobody else does, except in E7.
FOR_PROXIES = (P1, P2, P3, P4, P5, P6)

#: Those in which load generators take part; nobody else does.
FOR_LOADS = (L1, L2, L3)


def entrants(experiment: str, peers: Sequence[Peer]) -> list[Peer]:
    """Who may take part in an experiment."""
    if experiment in FOR_LOADS:
        return [peer for peer in peers if peer.name in LOADS]
    peers = [peer for peer in peers if peer.name not in LOADS]
    if experiment == E7:
        return list(peers)
    if experiment in FOR_PROXIES:
        return [peer for peer in peers if peer.name in PROXIES]
    return [peer for peer in peers if peer.name not in CAPPED | PROXIES]


def choose_experiments(names: str) -> list[str]:
    """Those named; a name that is none's own stands for all that it begins.

    Raises:
        ValueError: a name stands for none.
    """
    chosen: dict[str, None] = {}
    for name in names.split(","):
        found = [name] if name in EXPERIMENTS else []
        found = found or [one for one in EXPERIMENTS if name and one.startswith(name)]
        if not found:
            raise ValueError(f"no experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def parse_arguments() -> tuple[Plan, list[str], list[Peer], Path]:
    """The plan, the experiments and the peers that the command line asks for; and the report's
    folder."""
    parser = argparse.ArgumentParser(description="Measure tieline against its peers.")
    parser.add_argument("--quick", action="store_true", help="a first look, nine minutes")
    parser.add_argument("--only", default=",".join(EXPERIMENTS), metavar="E1,P")
    parser.add_argument("--peers", metavar="NAME,...", help="a name or how names begin")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of the mode's own")
    parser.add_argument("--seconds", type=float, metavar="S", help="a window, instead of its own")
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="FOLDER")
    arguments = parser.parse_args()
    try:
        experiments = choose_experiments(arguments.only)
        peers = choose(arguments.peers)
    except ValueError as error:
        parser.error(str(error))
    plan = QUICK if arguments.quick else FULL
    plan = replace(
        plan,
        rounds=arguments.rounds or plan.rounds,
        seconds=arguments.seconds or plan.seconds,
        proxy_seconds=arguments.seconds or plan.proxy_seconds,
        load_seconds=arguments.seconds or plan.load_seconds,
    )
    return plan, experiments, peers, arguments.results


def main() -> int:
    """Run what was asked for and write the report; 1 if a server or generator failed."""
    plan, experiments, peers, folder = parse_arguments()
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are reaped
    raise_descriptor_limit()
    try:
        build_all()
    except BuildError as error:
        say(str(error))
        return 2
    os.sched_setaffinity(0, {GENERATOR_CORE})
    facts = describe(PYTHON, ENVOY, python_environment())
    results = Results()
    for name in experiments:
        results.add(EXPERIMENTS[name](plan, entrants(name, peers)))
        say(f"{name} is done after {time.monotonic() - begin:.0f} s")
    facts["minutes taken"] = f"{(time.monotonic() - begin) / 60:.1f}"
    path = report.write(folder, facts, plan, results, verdicts(results, plan))
    failed = [row for row in results.rows if row.error and not row.error.startswith(NOT_RUN)]
    say(f"{path}: {len(results.rows)} rows, {len(failed)} failed, {facts['minutes taken']} minutes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
