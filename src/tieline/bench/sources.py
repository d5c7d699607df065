"""Addresses to call from, and whether ports and descriptors will do for a plan."""

from __future__ import annotations

import ipaddress
import math
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

_BROADCAST = ipaddress.ip_address("255.255.255.255")

#: Open files that one of several processes has beside: its pipe, an empty stdin; and the ends of
#: pipes by which each is seen to end.
_OF_ONE_OF_SEVERAL = 2
_OF_EACH_OTHER = 2

#: Short connections a second that are out of reach, so that a rate above needs no warning.
_FASTEST = 20_000

#: Sentences of `Shortage`, and what to do.
_AT_ONCE_TEMPLATES = (
    "{connections} connections to {address} need as many ports of this machine, and one address "
    "of it has {ports}",
    "call from {needed} addresses, with --source; or widen net.ipv4.ip_local_port_range",
)
_IN_TURN_TEMPLATES = (
    "a port that this side has closed first rests for {rest} s: {ports} ports are {lasting} short "
    "connections a second in the long run, and more run out of ports",
    "call from more addresses, with --source; or end them with --close reset",
)
_AT_A_RATE_TEMPLATES = (
    "{rate} connections a second use up {ports} ports in {after} s, and a port that this side has "
    "closed first rests for {rest} s: only {lasting} a second can go on",
    "call from more addresses, with --source; or end them with --close reset",
)


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
            size = network.num_addresses
        else:
            begin = ipaddress.ip_address(first.strip())
            end = ipaddress.ip_address(last.strip()) if dash else begin
            size = int(end) - int(begin) + 1
            if begin.version != end.version or size < 1 or (dash and "%" in word):
                raise ValueError(word)
    except ValueError:
        raise SettingError(
            "{word!r} is no address of this machine, nor a range of them",
            hint="write 127.0.0.2, 127.0.0.2-127.0.0.9 or 10.0.0.0/29", word=word,
        ) from None  # fmt: skip
    if size > _MOST:
        raise SettingError("{word!r} has more than {most} addresses", word=word, most=_MOST)
    if "/" in word:
        return [str(address) for address in network.hosts()]
    kind = type(begin)
    # One on its own may have a scope, as fe80::1%eth0 has.
    return [str(kind(int(begin) + at)) for at in range(size)] if dash else [str(begin)]


def _check(address: str) -> None:
    """See whether an address is this machine's, and one to call from."""
    given = ipaddress.ip_address(address)
    if given.is_multicast or given.is_unspecified or given == _BROADCAST:
        raise SettingError("nothing can be called from {address}", address=address)
    family = socket.AF_INET if given.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family) as probe:
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
        SettingError: it cannot be done at all: there can be no descriptors for so many connections,
            or a source is of another kind than the address.
    """
    machine = machine or examine()
    _check_descriptors(plan, machine)
    _check_kinds(plan)
    if plan.address.is_unix or machine.ports is None:
        return []
    return [*_too_many_at_once(plan, machine.ports.count), *_too_many_in_turn(plan, machine)]


def _check_descriptors(plan: Plan, machine: Machine) -> None:
    allowed = machine.hard_descriptors
    own = OF_A_PROCESS
    if plan.processes > 1:
        own += _OF_ONE_OF_SEVERAL + _OF_EACH_OTHER * plan.processes
    needed = math.ceil(plan.connections / plan.processes) + own
    if allowed is not None and needed > allowed:
        raise SettingError(
            "{connections} connections in {processes} processes need {needed} open files in each, "
            "and {allowed} are allowed",
            hint="raise the limit (see ulimit -Hn), or use more --processes",
            connections=plan.connections, processes=plan.processes, needed=needed, allowed=allowed,
        )  # fmt: skip


def _check_kinds(plan: Plan) -> None:
    """See whether the address can be called from every source: IPv4 from IPv4, IPv6 from IPv6."""
    sources = [(text, ipaddress.ip_address(text).version) for text in plan.sources]
    wanted = _version(plan.address.host) or (sources[0][1] if sources else 0)
    for text, version in sources:
        if version != wanted:
            raise SettingError(
                "{address} speaks IPv{wanted} and cannot be called from {source}"
                if _version(plan.address.host)
                else "some sources are IPv4 and some IPv6: {source} is not like the first",
                address=str(plan.address), wanted=wanted, source=text,
            )  # fmt: skip


def _version(host: str) -> int | None:
    """4 or 6, of an address; `None` of a name."""
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


def _too_many_at_once(plan: Plan, ports: int) -> list[Shortage]:
    """Connections that are open together need a port each."""
    if plan.connections <= ports * max(1, len(plan.sources)):
        return []
    return [
        Shortage(
            *_AT_ONCE_TEMPLATES,
            {
                "connections": plan.connections, "address": str(plan.address), "ports": ports,
                "needed": math.ceil(plan.connections / ports) if ports else "?",
            },
        )
    ]  # fmt: skip


def _too_many_in_turn(plan: Plan, machine: Machine) -> list[Shortage]:
    """Connections that this side ends first leave their ports in TIME-WAIT."""
    rate = short_rate(machine, Load(sources=max(1, len(plan.sources))))
    per_second = _opened_per_second(plan)
    if plan.ending is not Ending.FIN or rate is None or per_second == 0.0:
        return []
    local = _is_loopback(plan.address.host)
    lasting, rest = (rate.loopback, rate.rest_loopback) if local else (rate.elsewhere, rate.rest)
    seconds = plan.warmup + (math.inf if plan.duration is None else plan.duration)
    # What is opened in all, if it is known; no more than the ports is no matter how fast.
    in_all = min(
        math.inf if per_second is None else per_second * seconds,
        math.inf if plan.count is None else plan.count / (plan.exchanges or 1),
    )
    if in_all <= rate.ports or lasting >= (_FASTEST if per_second is None else per_second):
        return []
    fields = {"rest": f"{rest:g}", "ports": rate.ports, "lasting": int(lasting)}
    if per_second is None:
        return [Shortage(*_IN_TURN_TEMPLATES, fields)]
    # Until the first port has rested none comes back, and at such a rate none is left by then.
    fields |= {"rate": f"{per_second:g}", "after": f"{rate.ports / per_second:.2g}"}
    return [Shortage(*_AT_A_RATE_TEMPLATES, fields)]


def _opened_per_second(plan: Plan) -> float | None:
    """Connections that a plan opens and ends in a second; `None`: as many as it can."""
    if plan.mode is Mode.LONG:
        if plan.exchanges is None or plan.rate is None:
            # Without a rate it depends on the server; connections that carry more than one
            # exchange are ended a good deal more slowly than short ones.
            return 0.0
        return plan.rate / plan.exchanges
    share = {Mode.SHORT: 1.0, Mode.MIXED: plan.short_share}.get(plan.mode, 0.0)
    if plan.rate is None:
        return None if share else 0.0
    return share * plan.rate


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host or "127.0.0.1").is_loopback
    except ValueError:
        return host == "localhost"
