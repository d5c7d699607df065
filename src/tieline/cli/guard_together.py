"""What several listeners of one process must not do to each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from ..address import Address
from ..errors import SettingError, TielineError
from ..guard.own_addresses import leads_back
from ..guard.upstream import known_at_once
from ..resolve import Candidate
from .guard_settings import ListenerSettings

__all__ = ["check_together", "circles", "overlap", "wrong_together"]

#: Finds where an address leads, as far as it is known.
Leads = Callable[[Address], Sequence[Candidate]]


def check_together(listeners: Sequence[ListenerSettings]) -> None:
    """See that no listener is in another's way, as far as nobody need be asked.

    Raises:
        SettingError: one is.
    """
    for error in wrong_together(listeners):
        raise error


def wrong_together(listeners: Sequence[ListenerSettings]) -> Iterator[TielineError]:
    """What is wrong with listeners beside each other, as far as nobody need be asked."""
    for one, other in combinations(listeners, 2):
        for address in other.addresses:
            if any(overlap(address, each) for each in one.addresses):
                error = SettingError(
                    "listener {one} listens on {address} already", one=one.title, address=address
                )
                yield other.placed(error, "listen")
        for name, template in _SHARED_TEMPLATES.items():
            value = other.given[name]
            if value and value == one.given[name] and not (name == "metrics" and not value.port):
                error = SettingError(template, one=one.title, value=value)
                yield other.placed(error, name)
    yield from circles(listeners, known_at_once)


#: What two listeners cannot share, and what is said of it.
_SHARED_TEMPLATES = {
    "control": "listener {one} has its control socket at {value} already",
    "metrics": "listener {one} serves its metrics on {value} already",
}


def overlap(one: Address, other: Address) -> bool:
    """Whether nobody could listen on both."""
    if one.is_unix or other.is_unix:
        return one.path == other.path
    if one.port != other.port or not one.port:
        return False
    hosts = one.host, other.host
    return hosts[0] == hosts[1] or _takes_in(*hosts) or _takes_in(*reversed(hosts))


def _takes_in(every: str, host: str) -> bool:
    """Whether listening on `every` takes up `host` too."""
    if every in ("", "*"):
        return True
    try:
        one, other = ipaddress.ip_address(every), ipaddress.ip_address(host)
    except ValueError:
        return False
    return one.is_unspecified and one.version == other.version


# ---- Circles


def circles(listeners: Sequence[ListenerSettings], leads: Leads) -> Iterator[TielineError]:
    """Listeners that lead to each other, or to themselves: each session would make others, until
    there is room for none.

    Args:
        listeners: all of the process.
        leads: finds where an address leads.
    """
    own = {each.name: _own_addresses(each, leads) for each in listeners}
    ways = {
        each.name: {
            other: str(spec.address)
            for spec in each.upstreams
            for other in own
            if leads_back(leads(spec.address), own[other])
        }
        for each in listeners
    }
    by_name = {each.name: each for each in listeners}
    seen: set[str] = set()
    for name in ways:
        path = _find_circle(name, ways)
        if path is None or seen & set(path):
            continue
        seen.update(path)
        error = _circle([by_name[each] for each in path], ways[name].get(name, ""))
        yield by_name[name].placed(error, "upstream")


def _own_addresses(listener: ListenerSettings, leads: Leads) -> list[Address]:
    """Where it listens, names looked up."""
    found = []
    for address in listener.addresses:
        if address.is_unix or not address.host:
            found.append(address)
        elif address.port:
            found += [Address.from_socket_name(*candidate) for candidate in leads(address)]
    return found


def _find_circle(start: str, ways: Mapping[str, Mapping[str, Any]]) -> list[str] | None:
    """A way from a listener back to itself."""
    paths = [[start]]
    seen = {start}
    for path in paths:
        for follows in ways[path[-1]]:
            if follows == start:
                return path
            if follows not in seen:
                seen.add(follows)
                paths.append([*path, follows])
    return None


def _circle(path: Sequence[ListenerSettings], through: str) -> SettingError:
    if len(path) == 1:
        return SettingError(
            "upstream {upstream} leads back to where it comes from: a circle",
            hint="an upstream is the service itself, at another address",
            upstream=through,
        )
    return SettingError(
        "listeners lead to each other in a circle: {path}",
        path=" -> ".join(each.title for each in (*path, path[0])),
    )
