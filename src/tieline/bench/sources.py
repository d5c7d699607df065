"""Addresses to call from, and whether ports and descriptors will do for a plan."""

from __future__ import annotations

import ipaddress
import math
import resource
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..doctor import OF_A_PROCESS, Load, Machine, examine, short_rate
from ..errors import SettingError
from .plan import Ending, Mode, Plan

__all__ = ["Shortage", "expand", "shortages"]

#: Addresses that one range may have.
_MOST = 4096

_LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


@dataclass(frozen=True, slots=True)
class Shortage:
    """Something that will not do, said beforehand.

    Attributes:
        template: the sentence, with the arithmetic, and the names of fields in braces.
        hint: what to do; a template too.
        fields: what both speak of.
    """

    template: str
    hint: str
    fields: dict[str, Any] = field(default_factory=dict)


def expand(words: Iterable[str]) -> tuple[str, ...]:
    """The addresses in `127.0.0.2`, `127.0.0.2-127.0.0.9`, `10.0.0.0/29`, in order, once each.

    Raises:
        SettingError: a word is none of these, or an address is not this machine's.
    """
    found: dict[str, None] = {}
    for word in words:
        for address in _addresses(word.strip()):
            found[address] = None
    for address in found:
        _check(address)
    return tuple(found)


def _addresses(word: str) -> list[str]:
    first, dash, last = word.partition("-")
    try:
        if "/" in word:
            network = ipaddress.ip_network(word, strict=False)
            if network.num_addresses > _MOST:
                raise _too_many(word)
            return [str(address) for address in network.hosts()]
        begin = ipaddress.ip_address(first)
        end = ipaddress.ip_address(last) if dash else begin
        if begin.version != end.version or int(begin) > int(end):
            raise ValueError
    except ValueError:
        raise SettingError(
            "{word!r} is no address of this machine, nor a range of them",
            hint="write 127.0.0.2, 127.0.0.2-127.0.0.9 or 10.0.0.0/29", word=word,
        ) from None  # fmt: skip
    if int(end) - int(begin) >= _MOST:
        raise _too_many(word)
    kind = type(begin)
    return [str(kind(number)) for number in range(int(begin), int(end) + 1)]


def _too_many(word: str) -> SettingError:
    return SettingError("{word!r} has more than {most} addresses", word=word, most=_MOST)


def _check(address: str) -> None:
    """See whether an address is this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise SettingError(
                "{address} is no address of this machine: {detail}",
                address=address, detail=error.strerror or str(error),
            ) from error  # fmt: skip


def shortages(plan: Plan, machine: Machine | None = None) -> list[Shortage]:
    """What will run out if a plan is carried out here, as far as it can be known beforehand.

    Args:
        plan: what is to be done.
        machine: its facts; `None`: they are read.

    Raises:
        SettingError: there can be no descriptors for so many connections.
    """
    machine = machine or examine()
    found = _descriptors(plan)
    if plan.address.is_unix or machine.ports is None:
        return found
    sources = max(1, len(plan.sources))
    ports = machine.ports.count
    if plan.connections > ports * sources:
        found.append(
            Shortage(
                "{connections} connections to {address} need as many ports of this machine, and "
                "one address of it has {ports}",
                "call from {needed} addresses, with --source; or widen "
                "net.ipv4.ip_local_port_range",
                {
                    "connections": plan.connections, "address": str(plan.address), "ports": ports,
                    "needed": math.ceil(plan.connections / ports) if ports else "?",
                },
            )
        )  # fmt: skip
    if plan.mode in (Mode.SHORT, Mode.MIXED) and plan.ending is Ending.FIN:
        found += _short(plan, machine, sources)
    return found


def _short(plan: Plan, machine: Machine, sources: int) -> list[Shortage]:
    """Short connections that this side ends first leave their ports in TIME-WAIT."""
    rate = short_rate(machine, Load(sources=sources))
    if rate is None or not rate.ports:
        return []
    local = _is_loopback(plan.address.host)
    lasting, rest = (rate.loopback, rate.rest_loopback) if local else (rate.elsewhere, rate.rest)
    if plan.rate is not None and plan.rate <= lasting:
        return []
    if plan.rate is None and (rest <= 1.0 or (plan.count or math.inf) <= rate.ports):
        # At a second's rest a server is the limit before the ports are.
        return []
    return [
        Shortage(
            "a port that this side has closed first rests for {rest} s: {ports} ports are "
            "{lasting} short connections a second in the long run, and more run out of ports",
            "call from more addresses, with --source; or end them with --close reset",
            {"rest": f"{rest:g}", "ports": rate.ports, "lasting": int(lasting)},
        )
    ]


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host or "127.0.0.1")
    except ValueError:
        return host == "localhost"
    return address in _LOOPBACK if address.version == 4 else address.is_loopback


def _descriptors(plan: Plan) -> list[Shortage]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    each = math.ceil(plan.connections / plan.processes)
    if hard == resource.RLIM_INFINITY or each + OF_A_PROCESS <= hard:
        return []
    raise SettingError(
        "{connections} connections in {processes} processes need {needed} open files in each, and "
        "this machine allows {allowed}",
        hint="raise the limit (see ulimit -n), or use more --processes",
        connections=plan.connections, processes=plan.processes, needed=each + OF_A_PROCESS,
        allowed=hard,
    )  # fmt: skip
