"""What would raise a ceiling: the setting, its value, the command, and how it is made to last."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass

from .ceilings import Ceiling, Role, What
from .machine import Machine
from .ports import HIGHEST_PORT, LOWEST_PORT, PortRange

__all__ = ["TRACKING_MEMORY", "Kind", "Remedy", "remedies"]

#: Bytes of kernel memory of a tracked connection: 256 by /proc/slabinfo of Linux 6.18, and some
#: more for what extends it and for its places in the table.
TRACKING_MEMORY = 320

#: To what fs.nr_open can be raised at most on Linux (sysctl_nr_open_max).
_MOST_OF_ALL = 2**31 - 64

#: The file for settings that last.
_LASTING = "/etc/sysctl.d/90-tieline.conf"


class Kind(enum.StrEnum):
    """What a remedy is."""

    HARD_LIMIT = "hard_limit"
    MOST_DESCRIPTORS = "most_descriptors"
    FILES = "files"
    PORT_RANGE = "port_range"
    SOURCES = "sources"
    UPSTREAMS = "upstreams"
    TRACKING = "tracking"
    GROUP_MEMORY = "group_memory"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One change that raises a ceiling; where a ceiling has several, all are needed, unless they
    are alternatives.

    Attributes:
        kind: what it is.
        setting: what is to be set; empty: nothing that a command sets.
        value: to what.
        command: what sets it until the next start; empty: there is none.
        unit: the line in a systemd unit that does it for a service; empty: there is none.
        lasting: what makes it last for all others, as `FILE: LINE`; empty: nothing does.
        needs_root: whether only root may.
        memory: bytes of memory that it costs, once all is in use.
        is_alternative: whether it is another way to what the remedy before it reaches.
    """

    kind: Kind
    setting: str
    value: str
    command: str = ""
    unit: str = ""
    lasting: str = ""
    needs_root: bool = True
    memory: int = 0
    is_alternative: bool = False


def remedies(ceiling: Ceiling, machine: Machine, aim: int) -> list[Remedy]:
    """What would raise this ceiling to the aim; empty where it is as high, or nothing would."""
    if ceiling.connections >= aim:
        return []
    return list(_OF[ceiling.what](ceiling, machine, aim))


def _sysctl(kind: Kind, name: str, value: str, memory: int = 0) -> Remedy:
    quoted = f'"{value}"' if " " in value else value
    return Remedy(
        kind=kind, setting=name, value=value, command=f"sysctl -w {name}={quoted}",
        lasting=f"{_LASTING}: {name} = {value}", memory=memory,
    )  # fmt: skip


def _descriptors(ceiling: Ceiling, machine: Machine, aim: int) -> Iterator[Remedy]:
    needed = aim * ceiling.parts["ends"] + ceiling.parts["own"]
    if needed > _MOST_OF_ALL:
        return
    if machine.most_descriptors is not None and needed > machine.most_descriptors:
        most = min(_rounded(needed), _MOST_OF_ALL)
        yield _sysctl(Kind.MOST_DESCRIPTORS, "fs.nr_open", str(most))
    if machine.hard_descriptors is not None and needed <= machine.hard_descriptors:
        return
    yield Remedy(
        kind=Kind.HARD_LIMIT, setting="RLIMIT_NOFILE", value=str(needed),
        command=f"ulimit -Hn {needed}", unit=f"LimitNOFILE={needed}",
        lasting=f"/etc/security/limits.d/90-tieline.conf: * - nofile {needed}",
    )  # fmt: skip


def _files(ceiling: Ceiling, machine: Machine, aim: int) -> Iterator[Remedy]:
    yield _sysctl(Kind.FILES, "fs.file-max", str(_rounded(_with(ceiling, aim, "open"))))


def _memory(ceiling: Ceiling, machine: Machine, aim: int) -> Iterator[Remedy]:
    needed = aim * ceiling.parts["each"]
    group = machine.memory_group
    if group is not None and group.available < needed:
        limit = group.used + needed
        yield Remedy(
            kind=Kind.GROUP_MEMORY, setting=group.file, value=str(limit),
            command=f"echo {limit} > {group.file}", unit=f"MemoryMax={limit}",
            memory=needed,
        )  # fmt: skip
    if machine.memory_available is not None and machine.memory_available < needed:
        more = needed - machine.memory_available
        yield Remedy(kind=Kind.MEMORY, setting="", value=str(more), needs_root=False, memory=more)


def _ports(ceiling: Ceiling, machine: Machine, aim: int) -> Iterator[Remedy]:
    assert machine.ports is not None
    sources = ceiling.parts["sources"]
    wider = machine.ports.widened(math.ceil(aim / sources))
    if wider is not None:
        yield _sysctl(Kind.PORT_RANGE, "net.ipv4.ip_local_port_range", f"{wider.low} {wider.high}")
    # Without a single port, no number of addresses is enough.
    each = machine.ports.count or PortRange(LOWEST_PORT, HIGHEST_PORT).count
    is_guard = ceiling.role is Role.GUARD
    yield Remedy(
        kind=Kind.UPSTREAMS if is_guard else Kind.SOURCES,
        setting="--upstream" if is_guard else "--sources",
        value=str(math.ceil(aim / each)), needs_root=False, is_alternative=wider is not None,
    )  # fmt: skip


def _tracking(ceiling: Ceiling, machine: Machine, aim: int) -> Iterator[Remedy]:
    most = _rounded(_with(ceiling, aim, "tracked"))
    added = most - ceiling.parts["allowed"]
    yield _sysctl(Kind.TRACKING, ceiling.setting, str(most), memory=added * TRACKING_MEMORY)


_OF = {
    What.DESCRIPTORS: _descriptors,
    What.FILES: _files,
    What.MEMORY: _memory,
    What.PORTS: _ports,
    What.TRACKING: _tracking,
}


def _with(ceiling: Ceiling, aim: int, others: str) -> int:
    """What the aim takes, and what others have already."""
    return aim * ceiling.parts["ends"] + ceiling.parts[others]


def _rounded(number: int) -> int:
    """Up to two digits that count: what others need meanwhile should fit too."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step
