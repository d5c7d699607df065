"""What ends first, and what would raise it: decisions on facts that are made up."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tieline import SettingError
from tieline.doctor import (
    Load,
    Machine,
    PortRange,
    Remedy,
    Role,
    Verdict,
    What,
    examine,
    judge,
    short_rate,
)
from tieline.doctor.groups import GroupMemory

#: A machine with room for much; each test makes one thing scarce.
AMPLE = Machine(
    soft_descriptors=1024,
    hard_descriptors=1_000_000,
    most_descriptors=1_048_576,
    files_open=1_000,
    files_most=10_000_000,
    is_above_files_most=False,
    ports=PortRange(1024, 65_535),
    memory_available=1 << 36,
    tracked_now=100,
    tracked_most=10_000_000,
    time_wait_reuse=2,
)


def having(**facts: Any) -> Machine:
    return dataclasses.replace(AMPLE, **facts)


def first(verdict: Verdict) -> tuple[What, int]:
    assert verdict.first is not None
    return verdict.first.what, verdict.first.connections


def remedies(machine: Machine, role: Role, aim: int, **load: int) -> dict[What, list[Remedy]]:
    found = judge(machine, role, aim=aim, load=Load(**load)).remedies
    return {what: list(each) for what, each in found.items()}


@pytest.mark.parametrize(
    ("facts", "server", "client", "guard"),
    [
        (
            {"hard_descriptors": 4096},
            (What.DESCRIPTORS, 4085), (What.DESCRIPTORS, 4089), (What.DESCRIPTORS, 1968),
        ),
        (
            {"files_most": 3000},
            (What.FILES, 2000), (What.FILES, 2000), (What.FILES, 1000),
        ),
        (
            {"tracked_most": 1100},
            (What.TRACKING, 1000), (What.TRACKING, 1000), (What.TRACKING, 500),
        ),
        (
            {"memory_available": 7624 * 10},
            (What.MEMORY, 10), (What.MEMORY, 10), (What.MEMORY, 7),
        ),
        (
            {"ports": PortRange(40_000, 40_099)},
            (What.DESCRIPTORS, 999_989), (What.PORTS, 100), (What.PORTS, 100),
        ),
        (
            {"hard_descriptors": 5},
            (What.DESCRIPTORS, 0), (What.DESCRIPTORS, 0), (What.DESCRIPTORS, 0),
        ),
    ],
)  # fmt: skip
def test_what_ends_first(
    facts: dict[str, Any],
    server: tuple[What, int],
    client: tuple[What, int],
    guard: tuple[What, int],
) -> None:
    machine = having(**facts)
    assert first(judge(machine, Role.SERVER)) == server
    assert first(judge(machine, Role.CLIENT)) == client
    assert first(judge(machine, Role.GUARD)) == guard


def test_ceilings_are_in_order_and_the_first_is_the_answer() -> None:
    for role in Role:
        verdict = judge(AMPLE, role)
        rooms = [each.connections for each in verdict.ceilings]
        assert rooms == sorted(rooms)
        assert verdict.connections == rooms[0]
        assert verdict.is_met
        assert verdict.remedies == {}


def test_the_soft_limit_is_no_ceiling() -> None:
    assert judge(having(soft_descriptors=10), Role.SERVER) == judge(AMPLE, Role.SERVER)


def test_what_does_not_hold_is_no_ceiling() -> None:
    whats = {each.what for each in judge(AMPLE, Role.SERVER).ceilings}
    assert whats == {What.DESCRIPTORS, What.FILES, What.MEMORY, What.TRACKING}
    root = judge(having(is_above_files_most=True), Role.SERVER)
    assert What.FILES not in {each.what for each in root.ceilings}
    # The module is loaded, but no rule of the firewall fills the table.
    idle = judge(having(tracked_now=0), Role.SERVER)
    assert What.TRACKING not in {each.what for each in idle.ceilings}


def test_what_is_unknown_is_no_ceiling() -> None:
    for role in Role:
        verdict = judge(Machine(), role, aim=10)
        assert verdict.ceilings == ()
        assert (verdict.first, verdict.connections, verdict.is_met) == (None, None, True)
    assert short_rate(Machine(), Load()) is None


def test_several_sources_have_the_ports_of_each() -> None:
    machine = having(ports=PortRange(40_000, 40_099))
    assert judge(machine, Role.CLIENT, load=Load(sources=3)).connections == 300
    assert judge(machine, Role.GUARD, load=Load(sources=3)).connections == 100


def test_what_a_connection_keeps_costs_memory() -> None:
    machine = having(memory_available=1_000_000)
    small = judge(machine, Role.SERVER, load=Load(per_connection=0)).connections
    large = judge(machine, Role.SERVER, load=Load(per_connection=100_000)).connections
    assert (small, large) == (1_000_000 // 6600, 1_000_000 // 106_600)


@pytest.mark.parametrize("aim", [-1, 0])
def test_an_aim_that_is_none(aim: int) -> None:
    with pytest.raises(SettingError, match="is not above zero"):
        judge(AMPLE, Role.SERVER, aim=aim)


def test_a_load_that_makes_no_sense() -> None:
    with pytest.raises(SettingError, match="at least one source"):
        Load(sources=0)
    with pytest.raises(SettingError, match="below zero"):
        Load(per_connection=-1)


# ---- Remedies


def test_only_what_is_below_the_aim_needs_a_remedy() -> None:
    verdict = judge(having(hard_descriptors=4096), Role.CLIENT, aim=5000)
    assert set(verdict.remedies) == {What.DESCRIPTORS}
    assert not verdict.is_met
    assert judge(having(hard_descriptors=4096), Role.CLIENT, aim=4089).is_met


def test_descriptors() -> None:
    (limit,) = remedies(having(hard_descriptors=4096), Role.SERVER, 100_000)[What.DESCRIPTORS]
    assert (limit.setting, limit.value) == ("RLIMIT_NOFILE", "100011")
    assert limit.command == "ulimit -Hn 100011"
    most, limit = remedies(AMPLE, Role.SERVER, 2_000_000)[What.DESCRIPTORS]
    assert (most.setting, most.value) == ("fs.nr_open", "2100000")
    assert limit.value == "2000011"
    assert remedies(AMPLE, Role.SERVER, 3_000_000_000)[What.DESCRIPTORS] == []


def test_descriptors_that_the_kernel_allows_no_process_any_more() -> None:
    machine = having(hard_descriptors=4096, most_descriptors=1024)
    assert first(judge(machine, Role.SERVER)) == (What.DESCRIPTORS, 1013)
    (most,) = remedies(machine, Role.SERVER, 2000)[What.DESCRIPTORS]
    assert (most.setting, most.value) == ("fs.nr_open", "2100")
    found = remedies(machine, Role.SERVER, 5000)[What.DESCRIPTORS]
    assert [each.setting for each in found] == ["fs.nr_open", "RLIMIT_NOFILE"]


def test_files_of_the_machine() -> None:
    (files,) = remedies(having(files_most=3000), Role.GUARD, 100_000)[What.FILES]
    assert files.command == "sysctl -w fs.file-max=210000"
    assert files.lasting.endswith(": fs.file-max = 210000")


def test_ports() -> None:
    machine = having(ports=PortRange(32_768, 60_999))
    wider, sources = remedies(machine, Role.CLIENT, 40_000)[What.PORTS]
    assert wider.command == 'sysctl -w net.ipv4.ip_local_port_range="25536 65535"'
    assert (sources.value, sources.is_alternative, sources.needs_root) == ("2", True, False)
    # No range is that wide.
    (sources,) = remedies(machine, Role.CLIENT, 100_000)[What.PORTS]
    assert (sources.value, sources.is_alternative) == ("4", False)
    wider, sources = remedies(machine, Role.CLIENT, 100_000, sources=2)[What.PORTS]
    assert wider.value == "15536 65535"
    (upstreams,) = remedies(machine, Role.GUARD, 100_000)[What.PORTS]
    assert (upstreams.setting, upstreams.value) == ("--upstream", "4")
    none = having(ports=PortRange(40_000, 39_999))
    wider, sources = remedies(none, Role.CLIENT, 100)[What.PORTS]
    assert (wider.value, sources.value) == ("40000 65535", "1")


def test_memory() -> None:
    (more,) = remedies(having(memory_available=7624), Role.SERVER, 3)[What.MEMORY]
    assert (more.command, more.value) == ("", str(2 * 7624))
    group = GroupMemory(limit=10_000, used=5_000, file="/sys/fs/cgroup/memory.max")
    (limit,) = remedies(having(memory_group=group), Role.SERVER, 3)[What.MEMORY]
    assert limit.setting == "/sys/fs/cgroup/memory.max"
    assert int(limit.value) == 5_000 + 3 * 7624
    both = remedies(having(memory_group=group, memory_available=8_000), Role.SERVER, 3)
    assert [each.kind.value for each in both[What.MEMORY]] == ["group_memory", "memory"]


def test_tracking() -> None:
    (most,) = remedies(having(tracked_most=1100), Role.SERVER, 100_000)[What.TRACKING]
    assert (most.setting, most.value) == ("net.netfilter.nf_conntrack_max", "110000")
    assert most.memory > 0


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("aim", [1, 5_000, 60_000, 2_000_000])
@pytest.mark.parametrize("sources", [1, 7])
@pytest.mark.parametrize("left", [1_000, 40_000, 90_000])
def test_an_aim_is_met_by_what_is_said_to_meet_it(
    role: Role, aim: int, sources: int, left: int
) -> None:
    """What is suggested, done: then nothing is in the way any more."""
    group = GroupMemory(limit=left + 5_000, used=5_000, file="f")
    machine = having(
        hard_descriptors=100, files_most=1_100, tracked_most=150, memory_available=50_000,
        memory_group=group, ports=PortRange(32_768, 32_999, reserved=3),
    )  # fmt: skip
    load = Load(sources=sources)
    verdict = judge(machine, role, aim=aim, load=load)
    destinations = 1
    for each in (one for several in verdict.remedies.values() for one in several):
        if each.is_alternative:
            continue
        value = int(each.value.split()[0])
        match each.kind.value:
            case "hard_limit":
                machine = dataclasses.replace(machine, hard_descriptors=value)
            case "most_descriptors":
                machine = dataclasses.replace(machine, most_descriptors=value)
            case "files":
                machine = dataclasses.replace(machine, files_most=value)
            case "tracking":
                machine = dataclasses.replace(machine, tracked_most=value)
            case "group_memory":
                machine = dataclasses.replace(machine, memory_group=group._replace(limit=value))
            case "memory":
                machine = dataclasses.replace(machine, memory_available=50_000 + value)
            case "port_range":
                low, high = map(int, each.value.split())
                ports = PortRange(low, high, reserved=3)
                machine = dataclasses.replace(machine, ports=ports)
            case "sources":
                load = Load(sources=value)
            case "upstreams":
                destinations = value
    again = judge(machine, role, aim=aim, load=load)
    for ceiling in again.ceilings:
        if ceiling.what is What.PORTS:
            assert ceiling.connections * destinations >= aim
        else:
            assert ceiling.connections >= aim


# ---- Short connections


@pytest.mark.parametrize(
    ("reuse", "elsewhere", "loopback"), [(0, 10, 10), (1, 600, 600), (2, 10, 600)]
)
def test_how_fast_short_connections_may_follow(reuse: int, elsewhere: int, loopback: int) -> None:
    machine = having(ports=PortRange(40_000, 40_599), time_wait_reuse=reuse)
    found = short_rate(machine, Load())
    assert found is not None
    assert (found.elsewhere, found.loopback) == (elsewhere, loopback)
    three = short_rate(machine, Load(sources=3))
    assert three is not None
    assert three.elsewhere == 3 * elsewhere


def test_this_machine_has_an_answer() -> None:
    machine = examine()
    for role in Role:
        assert judge(machine, role).connections
