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
from suite.build import HERE, PYTHON, BuildError, build_all, python_environment
from suite.cases import E1, E2, E3, FULL, QUICK, Plan, batched_lines, ping_pong, short_connections
from suite.control_cases import E10, control_socket
from suite.machine import GENERATOR_CORE, describe, raise_descriptor_limit
from suite.measure import NOT_RUN, Results, Row, say
from suite.peers import GUARDS, Peer, choose
from suite.policy_cases import E8, E9, admission_table, all_policy
from suite.quiet_cases import E4, E5, idle_limits, idle_memory
from suite.refusal_cases import E7, refusals
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
}


def parse_arguments() -> tuple[Plan, list[str], list[Peer], Path]:
    """The plan, the experiments and the peers that the command line asks for; and the report's
    folder."""
    parser = argparse.ArgumentParser(description="Measure tieline against its peers.")
    parser.add_argument("--quick", action="store_true", help="a first look, under three minutes")
    parser.add_argument("--only", default=",".join(EXPERIMENTS), metavar="E1,E3")
    parser.add_argument("--peers", metavar="NAME,...", help="a name or how names begin")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of the mode's own")
    parser.add_argument("--seconds", type=float, metavar="S", help="a window, instead of its own")
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="FOLDER")
    arguments = parser.parse_args()
    experiments = arguments.only.split(",")
    if unknown := [name for name in experiments if name not in EXPERIMENTS]:
        parser.error(f"no experiment {unknown[0]!r}; there are {', '.join(EXPERIMENTS)}")
    try:
        peers = choose(arguments.peers)
    except ValueError as error:
        parser.error(str(error))
    plan = QUICK if arguments.quick else FULL
    plan = replace(
        plan, rounds=arguments.rounds or plan.rounds, seconds=arguments.seconds or plan.seconds
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
    facts = describe(PYTHON, python_environment())
    results = Results()
    for name in experiments:
        among = [peer for peer in peers if name == E7 or peer.name not in GUARDS]
        results.add(EXPERIMENTS[name](plan, among))
        say(f"{name} is done after {time.monotonic() - begin:.0f} s")
    facts["minutes taken"] = f"{(time.monotonic() - begin) / 60:.1f}"
    path = report.write(folder, facts, plan, results, verdicts(results, plan))
    failed = [row for row in results.rows if row.error and not row.error.startswith(NOT_RUN)]
    say(f"{path}: {len(results.rows)} rows, {len(failed)} failed, {facts['minutes taken']} minutes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
