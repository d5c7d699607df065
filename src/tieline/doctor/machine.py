"""What can be known of this machine that has to do with how many connections it can hold.

Each fact comes from one file of /proc or /sys. A file that is not there makes the fact unknown
(`None`), and nothing else.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from .groups import GroupMemory, allowed_processors, memory_of_groups, processors_of_groups
from .ports import PortRange, reserved_within
from .reading import labelled, number, numbers, text

__all__ = ["Machine", "examine"]

#: Bits of CapEff in /proc/self/status, from linux/capability.h.
_CAP_SYS_ADMIN = 21
_CAP_SYS_RESOURCE = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts of a machine, as a process that was started here would find them.

    `None` is unknown, with exceptions that say so. Sizes are bytes, times seconds.

    Attributes:
        kernel: the release of Linux.
        soft_descriptors, hard_descriptors: open files of one process: what it may have, and up to
            what it may raise that by itself (`ulimit -Sn`, `ulimit -Hn`).
        most_descriptors: up to what root may raise the hard limit (`fs.nr_open`).
        files_open, files_most: open files of all processes, and how many there may be
            (`fs.file-nr`, `fs.file-max`).
        raises_limits: whether this process may raise its hard limits.
        is_above_files_most: whether `files_most` does not hold for it, as it does not for root.
        ports: those from which connections leave.
        backlog_most: to what the kernel cuts a listener's backlog (`net.core.somaxconn`).
        half_open_most: connections that may be in the middle of their handshake.
        has_syn_cookies: whether more of them are answered all the same, at a price.
        packets_backlog: packets that may wait for a processor (`net.core.netdev_max_backlog`).
        time_wait_reuse: `net.ipv4.tcp_tw_reuse`: 0 no, 1 yes, 2 on the loopback only.
        reuse_after: seconds after which that reuses a port (`net.ipv4.tcp_tw_reuse_delay`); always
            1 before Linux 6.14.
        time_wait_most, time_wait_now: connections that may be in TIME-WAIT, and that are.
        fin_timeout: `net.ipv4.tcp_fin_timeout`, which is about FIN-WAIT-2, whatever is said of it.
        receive_buffer, send_buffer: of a connection: least, at first, most.
        buffers_most: all buffers of TCP together (`net.ipv4.tcp_mem`).
        buffers_now: what they take now.
        memory_available: what programs could still get.
        memory_group: what the control group allows beyond that; `None`: it sets no limit.
        tracked_now, tracked_most: entries of connection tracking; `None`: there is none here.
        processors: those that it may use, and how much of them.
    """

    kernel: str | None = None
    soft_descriptors: int | None = None
    hard_descriptors: int | None = None
    most_descriptors: int | None = None
    files_open: int | None = None
    files_most: int | None = None
    raises_limits: bool | None = None
    is_above_files_most: bool | None = None
    ports: PortRange | None = None
    backlog_most: int | None = None
    half_open_most: int | None = None
    has_syn_cookies: bool | None = None
    packets_backlog: int | None = None
    time_wait_reuse: int | None = None
    reuse_after: float = 1.0
    time_wait_most: int | None = None
    time_wait_now: int | None = None
    fin_timeout: int | None = None
    receive_buffer: tuple[int, ...] | None = None
    send_buffer: tuple[int, ...] | None = None
    buffers_most: int | None = None
    buffers_now: int | None = None
    memory_available: int | None = None
    memory_group: GroupMemory | None = None
    tracked_now: int | None = None
    tracked_most: int | None = None
    processors: float | None = None

    @property
    def unknown(self) -> list[str]:
        """The names of the facts that could not be found out."""
        may_be_absent = {"memory_group", "tracked_now", "tracked_most"}
        return [
            field.name
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is None and field.name not in may_be_absent
        ]

    @property
    def memory(self) -> int | None:
        """Bytes that this process could still get, of the machine's and of its group's."""
        if self.memory_group is None:
            return self.memory_available
        if self.memory_available is None:
            return self.memory_group.available
        return min(self.memory_available, self.memory_group.available)


def examine(root: Path = Path("/")) -> Machine:
    """Look at this machine. Nothing is opened but files, and nothing is changed.

    Args:
        root: where `proc` and `sys` are found; another one in tests.
    """
    kernel = root / "proc/sys"
    ipv4, core = kernel / "net/ipv4", kernel / "net/core"
    soft, hard = _descriptors(root)
    files = numbers(kernel / "fs/file-nr", 3)
    capabilities = _capabilities(root)
    sockets = _sockets(root)
    memory = {name: words[0] for name, words in labelled(root / "proc/meminfo") if words}
    page = os.sysconf("SC_PAGE_SIZE")
    buffers = numbers(ipv4 / "tcp_mem", 3)
    delay = number(ipv4 / "tcp_tw_reuse_delay")
    cookies = number(ipv4 / "tcp_syncookies")
    return Machine(
        kernel=text(kernel / "kernel/osrelease"),
        soft_descriptors=soft,
        hard_descriptors=hard,
        most_descriptors=number(kernel / "fs/nr_open"),
        files_open=None if files is None else files[0] - files[1],
        files_most=number(kernel / "fs/file-max"),
        raises_limits=_has(capabilities, _CAP_SYS_RESOURCE),
        is_above_files_most=_has(capabilities, _CAP_SYS_ADMIN),
        ports=_ports(ipv4),
        backlog_most=number(core / "somaxconn"),
        half_open_most=number(ipv4 / "tcp_max_syn_backlog"),
        has_syn_cookies=None if cookies is None else cookies > 0,
        packets_backlog=number(core / "netdev_max_backlog"),
        time_wait_reuse=number(ipv4 / "tcp_tw_reuse"),
        reuse_after=1.0 if delay is None else delay / 1000,
        time_wait_most=number(ipv4 / "tcp_max_tw_buckets"),
        time_wait_now=sockets.get("tw"),
        fin_timeout=number(ipv4 / "tcp_fin_timeout"),
        receive_buffer=numbers(ipv4 / "tcp_rmem", 3),
        send_buffer=numbers(ipv4 / "tcp_wmem", 3),
        buffers_most=None if buffers is None else buffers[2] * page,
        buffers_now=None if "mem" not in sockets else sockets["mem"] * page,
        memory_available=_kilobytes(memory.get("MemAvailable") or memory.get("MemFree")),
        memory_group=memory_of_groups(root),
        tracked_now=number(kernel / "net/netfilter/nf_conntrack_count"),
        tracked_most=number(kernel / "net/netfilter/nf_conntrack_max"),
        processors=_processors(root),
    )


def _descriptors(root: Path) -> tuple[int | None, int | None]:
    """The soft and the hard limit of open files."""
    for line in (text(root / "proc/self/limits") or "").splitlines():
        if line.startswith("Max open files"):
            soft, hard = (*line.removeprefix("Max open files").split(), "", "")[:2]
            return _decimal(soft), _decimal(hard)
    return None, None


def _capabilities(root: Path) -> int | None:
    for name, words in labelled(root / "proc/self/status"):
        if name == "CapEff" and words:
            try:
                return int(words[0], 16)
            except ValueError:
                return None
    return None


def _has(capabilities: int | None, bit: int) -> bool | None:
    return None if capabilities is None else bool(capabilities >> bit & 1)


def _ports(ipv4: Path) -> PortRange | None:
    limits = numbers(ipv4 / "ip_local_port_range", 2)
    if limits is None:
        return None
    low, high = limits
    reserved = reserved_within(text(ipv4 / "ip_local_reserved_ports") or "", low, high)
    return PortRange(low, high, reserved)


def _sockets(root: Path) -> dict[str, int]:
    """What /proc/net/sockstat says of TCP: `inuse 1 orphan 0 tw 0 alloc 1 mem 258`."""
    for name, words in labelled(root / "proc/net/sockstat"):
        if name == "TCP":
            return {
                key: int(value)
                for key, value in zip(words[::2], words[1::2], strict=False)
                if value.isdecimal()
            }
    return {}


def _processors(root: Path) -> float | None:
    allowed, quota = allowed_processors(root), processors_of_groups(root)
    if allowed is None or quota is None:
        return quota if allowed is None else float(allowed)
    return min(float(allowed), quota)


def _kilobytes(word: str | None) -> int | None:
    found = _decimal(word or "")
    return None if found is None else found * 1024


def _decimal(word: str) -> int | None:
    return int(word) if word.isdecimal() else None
