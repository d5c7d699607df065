"""What bounds the number of connections: how many each thing allows, and by which arithmetic."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import SettingError
from .descriptors import OF_A_GUARD, OF_A_PROCESS, OF_A_SERVER
from .machine import Machine

__all__ = [
    "GUARD_MEMORY",
    "KERNEL_MEMORY",
    "TIELINE_MEMORY",
    "Ceiling",
    "Load",
    "Role",
    "What",
    "ceilings",
]

#: Bytes of kernel memory of one end of an idle connection that has been talked over: socket, file,
#: inode, directory entry and place in an epoll. Measured on Linux 6.18, x86-64, by Slab in
#: /proc/meminfo: 8.3 KB a pair on the loopback for 5,000 bare pairs, 8.9 KB for 18,000 of a server.
KERNEL_MEMORY = 4_400

#: Bytes of an idle connection in tieline: a conversation's, the most that one takes (a responder's
#: is 870). From the benchmarks in the README.
TIELINE_MEMORY = 2_200

#: Bytes of an idle session in a guard; from the same.
GUARD_MEMORY = 1_330


class Role(enum.StrEnum):
    """Who holds the connections."""

    SERVER = "server"
    CLIENT = "client"  #: towards one address and port
    GUARD = "guard"  #: towards one upstream; what it holds is sessions

    @property
    def ends(self) -> int:
        """Sockets of each: a session's are the client's and the upstream's."""
        return 2 if self is Role.GUARD else 1

    @property
    def own_descriptors(self) -> int:
        """Open files that a process has beside them."""
        return _OWN[self]


_OWN = {Role.SERVER: OF_A_SERVER, Role.CLIENT: OF_A_PROCESS, Role.GUARD: OF_A_GUARD}


class What(enum.StrEnum):
    """What ends."""

    DESCRIPTORS = "descriptors"  #: open files of one process
    FILES = "files"  #: open files of the whole machine
    MEMORY = "memory"
    PORTS = "ports"  #: towards one address and port
    TRACKING = "tracking"  #: entries of the firewall's connection tracking


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the connections are like.

    Attributes:
        per_connection: bytes that the application keeps for each, beside what tieline does; a
            guard has none.
        sources: addresses of this machine from which a client connects in turn.

    Raises:
        SettingError: either makes no sense.
    """

    per_connection: int = 1024
    sources: int = 1

    def __post_init__(self) -> None:
        if self.per_connection < 0:
            raise SettingError(
                "per-connection must not be below zero: {size}", size=self.per_connection
            )
        if self.sources < 1:
            raise SettingError(
                "at least one source is needed, and not {sources}", sources=self.sources
            )

    def memory(self, role: Role) -> int:
        """Bytes of an idle connection: the kernel's, tieline's and the application's."""
        kernel = role.ends * KERNEL_MEMORY
        return kernel + (
            GUARD_MEMORY if role is Role.GUARD else TIELINE_MEMORY + self.per_connection
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """One thing that ends.

    Attributes:
        what: the thing.
        role: for whom it ends.
        connections: how many it allows.
        setting: what it is set by; empty: by nothing.
        parts: the numbers of which `connections` was made, by name.
    """

    what: What
    role: Role
    connections: int
    setting: str
    parts: dict[str, int] = field(default_factory=dict)


def ceilings(machine: Machine, role: Role, load: Load) -> list[Ceiling]:
    """All that bounds the connections of one process in this role; what ends first is first."""
    found = [
        *_descriptors(machine, role),
        *_files(machine, role),
        *_memory(machine, role, load),
        *_tracking(machine, role),
    ]
    if role is not Role.SERVER:
        found += _ports(machine, role, load)
    # What is as low is in the order of the list: what is easiest to change comes first.
    return sorted(found, key=lambda ceiling: ceiling.connections)


def _descriptors(machine: Machine, role: Role) -> Iterator[Ceiling]:
    hard, most = machine.hard_descriptors, machine.most_descriptors
    if hard is None:
        return
    # The kernel heeds the lower one: the other may have been lowered after a process began.
    of_kernel = most is not None and most < hard
    allowed = most if most is not None and of_kernel else hard
    own = role.own_descriptors
    yield Ceiling(
        what=What.DESCRIPTORS, role=role, setting="fs.nr_open" if of_kernel else "RLIMIT_NOFILE",
        connections=max(0, allowed - own) // role.ends,
        parts={"allowed": allowed, "own": own, "ends": role.ends},
    )  # fmt: skip


def _files(machine: Machine, role: Role) -> Iterator[Ceiling]:
    if machine.files_most is None or machine.files_open is None or machine.is_above_files_most:
        return
    yield Ceiling(
        what=What.FILES, role=role, setting="fs.file-max",
        connections=max(0, machine.files_most - machine.files_open) // role.ends,
        parts={"allowed": machine.files_most, "open": machine.files_open, "ends": role.ends},
    )  # fmt: skip


def _memory(machine: Machine, role: Role, load: Load) -> Iterator[Ceiling]:
    available = machine.memory
    if available is None:
        return
    group = machine.memory_group
    of_group = group is not None and group.available == available
    yield Ceiling(
        what=What.MEMORY, role=role, setting=group.file if group is not None and of_group else "",
        connections=available // load.memory(role),
        parts={"available": available, "each": load.memory(role)},
    )  # fmt: skip


def _tracking(machine: Machine, role: Role) -> Iterator[Ceiling]:
    # A table that is empty while the machine is in use is one that no firewall rule fills.
    if not machine.tracked_most or not machine.tracked_now:
        return
    yield Ceiling(
        what=What.TRACKING, role=role, setting="net.netfilter.nf_conntrack_max",
        connections=max(0, machine.tracked_most - machine.tracked_now) // role.ends,
        parts={"allowed": machine.tracked_most, "tracked": machine.tracked_now, "ends": role.ends},
    )  # fmt: skip


def _ports(machine: Machine, role: Role, load: Load) -> Iterator[Ceiling]:
    if machine.ports is None:
        return
    # A guard lets the kernel choose where its connections leave from.
    sources = 1 if role is Role.GUARD else load.sources
    yield Ceiling(
        what=What.PORTS, role=role, setting="net.ipv4.ip_local_port_range",
        connections=machine.ports.count * sources,
        parts={
            "low": machine.ports.low, "high": machine.ports.high,
            "reserved": machine.ports.reserved, "ports": machine.ports.count,
            "sources": sources,
        },
    )  # fmt: skip
