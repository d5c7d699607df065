"""The facts of a machine, read from a tree of files that stands for /proc and /sys."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tieline.doctor import Machine, PortRange, examine

PAGE = os.sysconf("SC_PAGE_SIZE")

#: A machine of which all is known.
WHOLE = {
    "proc/sys/kernel/osrelease": "6.1.0-13-amd64\n",
    "proc/self/limits": (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max processes             95934                95934                processes \n"
        "Max open files            1024                 524288               files     \n"
    ),
    "proc/self/status": "Name:\tx\nCapEff:\t000001ffffffffff\nCpus_allowed_list:\t0-3,8\n",
    "proc/sys/fs/nr_open": "1048576\n",
    "proc/sys/fs/file-max": "9223372036854775807\n",
    "proc/sys/fs/file-nr": "1504\t0\t9223372036854775807\n",
    "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
    "proc/sys/net/ipv4/ip_local_reserved_ports": "8080,40000-40009,60990-61010\n",
    "proc/sys/net/ipv4/tcp_max_syn_backlog": "1024\n",
    "proc/sys/net/ipv4/tcp_syncookies": "1\n",
    "proc/sys/net/ipv4/tcp_tw_reuse": "2\n",
    "proc/sys/net/ipv4/tcp_tw_reuse_delay": "500\n",
    "proc/sys/net/ipv4/tcp_max_tw_buckets": "65536\n",
    "proc/sys/net/ipv4/tcp_fin_timeout": "60\n",
    "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
    "proc/sys/net/ipv4/tcp_wmem": "4096\t16384\t4194304\n",
    "proc/sys/net/ipv4/tcp_mem": "94116\t125490\t188232\n",
    "proc/sys/net/core/somaxconn": "4096\n",
    "proc/sys/net/core/netdev_max_backlog": "1000\n",
    "proc/sys/net/netfilter/nf_conntrack_count": "12\n",
    "proc/sys/net/netfilter/nf_conntrack_max": "65536\n",
    "proc/net/sockstat": "sockets: used 177\nTCP: inuse 9 orphan 0 tw 17 alloc 11 mem 3\n",
    "proc/meminfo": "MemTotal: 8000000 kB\nMemFree: 100 kB\nMemAvailable: 4000000 kB\n",
    "proc/self/cgroup": "0::/\n",
}


def planted(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_all_facts(tmp_path: Path) -> None:
    assert examine(planted(tmp_path, WHOLE)) == Machine(
        kernel="6.1.0-13-amd64",
        soft_descriptors=1024,
        hard_descriptors=524_288,
        most_descriptors=1_048_576,
        files_open=1504,
        files_most=2**63 - 1,
        raises_limits=True,
        is_above_files_most=True,
        ports=PortRange(32_768, 60_999, reserved=20),
        backlog_most=4096,
        half_open_most=1024,
        has_syn_cookies=True,
        packets_backlog=1000,
        time_wait_reuse=2,
        reuse_after=0.5,
        time_wait_most=65_536,
        time_wait_now=17,
        fin_timeout=60,
        receive_buffer=(4096, 131_072, 6_291_456),
        send_buffer=(4096, 16_384, 4_194_304),
        buffers_most=188_232 * PAGE,
        buffers_now=3 * PAGE,
        memory_available=4_000_000 * 1024,
        memory_group=None,
        tracked_now=12,
        tracked_most=65_536,
        processors=5.0,
    )


def test_nothing_is_known_of_an_empty_tree(tmp_path: Path) -> None:
    machine = examine(tmp_path)
    assert machine == Machine()
    assert "hard_descriptors" in machine.unknown
    # That there is no connection tracking, or no limit of a group, is no lack of knowledge.
    assert "tracked_most" not in machine.unknown
    assert "memory_group" not in machine.unknown


@pytest.mark.parametrize("missing", list(WHOLE))
def test_a_missing_file_makes_its_own_facts_unknown(tmp_path: Path, missing: str) -> None:
    whole = examine(planted(tmp_path, WHOLE))
    (tmp_path / missing).unlink()
    machine = examine(tmp_path)
    changed = [
        name for name in Machine.__dataclass_fields__
        if getattr(machine, name) != getattr(whole, name)
    ]  # fmt: skip
    assert len(changed) <= 3
    for name in changed:
        value = getattr(machine, name)
        assert value is None or name in ("ports", "reuse_after", "memory_available")


@pytest.mark.parametrize("damaged", list(WHOLE))
@pytest.mark.parametrize("content", ["", "x\n", "max\n", "\xff\x00: :\n", "-", "1 2 3\n"])
def test_a_file_that_makes_no_sense_is_no_end(tmp_path: Path, damaged: str, content: str) -> None:
    planted(tmp_path, WHOLE)
    (tmp_path / damaged).write_bytes(content.encode("latin-1"))
    examine(tmp_path)


def test_a_folder_in_the_place_of_a_file_is_no_end(tmp_path: Path) -> None:
    planted(tmp_path, WHOLE)
    (tmp_path / "proc/meminfo").unlink()
    (tmp_path / "proc/meminfo").mkdir()
    assert examine(tmp_path).memory_available is None


def test_an_older_kernel_says_less_of_its_memory(tmp_path: Path) -> None:
    planted(tmp_path, {"proc/meminfo": "MemTotal: 8000000 kB\nMemFree: 100 kB\n"})
    assert examine(tmp_path).memory == 100 * 1024


def test_what_it_says_of_the_process_is_what_the_system_says() -> None:
    machine = examine()
    assert (machine.soft_descriptors, machine.hard_descriptors) == resource.getrlimit(
        resource.RLIMIT_NOFILE
    )
    assert machine.kernel == os.uname().release
    assert machine.processors is not None
    assert 0 < machine.processors <= len(os.sched_getaffinity(0))
    assert machine.memory


# ---- Control groups


def grouped(root: Path, files: dict[str, str]) -> Machine:
    return examine(planted(root, {**WHOLE, **files}))


def test_the_tightest_group_of_version_2_counts(tmp_path: Path) -> None:
    machine = grouped(
        tmp_path,
        {
            "proc/self/cgroup": "0::/shop/till\n",
            "sys/fs/cgroup/shop/till/memory.max": "max\n",
            "sys/fs/cgroup/shop/till/cpu.max": "max 100000\n",
            "sys/fs/cgroup/shop/memory.max": "1000000\n",
            "sys/fs/cgroup/shop/memory.current": "700000\n",
            "sys/fs/cgroup/shop/memory.stat": "anon 500000\ninactive_file 200000\n",
            "sys/fs/cgroup/shop/cpu.max": "150000 100000\n",
        },
    )
    assert machine.memory_group is not None
    assert machine.memory_group == (1_000_000, 500_000, "/sys/fs/cgroup/shop/memory.max")
    assert machine.memory == 500_000
    assert machine.processors == 1.5


def test_version_1(tmp_path: Path) -> None:
    machine = grouped(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/shop\n3:cpu,cpuacct:/shop\n0::/\n",
            "sys/fs/cgroup/memory/shop/memory.limit_in_bytes": "1000000\n",
            "sys/fs/cgroup/memory/shop/memory.usage_in_bytes": "700000\n",
            "sys/fs/cgroup/memory/shop/memory.stat": "total_inactive_file 100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63 - PAGE}\n",
            "sys/fs/cgroup/cpu,cpuacct/shop/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/shop/cpu.cfs_period_us": "100000\n",
        },
    )
    assert machine.memory_group is not None
    assert machine.memory_group.available == 400_000
    assert machine.processors == 0.5


def test_in_a_container_the_path_may_be_the_one_outside(tmp_path: Path) -> None:
    machine = grouped(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/0123abcd\n1:cpu:/docker/0123abcd\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert machine.memory == 1_000_000
    assert machine.processors == 5.0


# ---- Ports


@pytest.mark.parametrize(
    ("ports", "count"),
    [
        (PortRange(32_768, 60_999), 28_232),
        (PortRange(40_000, 40_100), 100),
        (PortRange(40_000, 40_000), 1),
        (PortRange(40_000, 39_999), 0),
        (PortRange(40_000, 40_099, reserved=11), 89),
    ],
)
def test_how_many_ports_a_range_has(ports: PortRange, count: int) -> None:
    assert ports.count == count


def test_a_range_is_widened_to_its_end_first() -> None:
    ports = PortRange(32_768, 60_999)
    assert ports.widened(28_232) == ports
    assert ports.widened(30_000) == PortRange(32_768, 65_535)
    wide = ports.widened(60_001)
    assert wide is not None
    assert 60_001 <= wide.count <= 60_002
    assert wide.high == 65_535
    widest = ports.widened(64_512)
    assert widest == PortRange(1024, 65_535)
    assert ports.widened(64_513) is None
    odd = PortRange(32_769, 60_999).widened(30_000)
    assert odd is not None
    assert odd.count >= 30_000
