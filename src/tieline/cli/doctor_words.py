"""The sentences of `tieline doctor`."""

from __future__ import annotations

from ..doctor import Ceiling, Remedy, What
from ..doctor.remedies import Kind
from .translation import N_
from .translation import gettext as _

__all__ = ["arithmetic", "cost_of", "count", "name_of", "size", "what_to_do"]

_NAMES = {
    What.DESCRIPTORS: N_("descriptors"),
    What.FILES: N_("open files"),
    What.MEMORY: N_("memory"),
    What.PORTS: N_("ports"),
    What.TRACKING: N_("connection tracking"),
}

_WHAT_TO_DO = {
    Kind.HARD_LIMIT: N_("allow a process {value} open files"),
    Kind.MOST_DESCRIPTORS: N_("let processes be allowed up to {value} open files"),
    Kind.FILES: N_("allow {value} open files in all"),
    Kind.PORT_RANGE: N_("let connections leave from the ports {value}"),
    Kind.SOURCES: N_("connect from {value} addresses of this machine in turn"),
    Kind.UPSTREAMS: N_(
        "reach the service at {value} addresses or ports, as upstreams of their own"
    ),
    Kind.TRACKING: N_("let the firewall track {value} connections"),
    Kind.GROUP_MEMORY: N_("allow the control group {size}"),
    Kind.MEMORY: N_("{size} more of memory, or less for each connection"),
}

_COSTS = {
    Kind.HARD_LIMIT: N_("nothing until they are open"),
    Kind.MOST_DESCRIPTORS: N_("nothing"),
    Kind.FILES: N_("nothing until they are open"),
    Kind.PORT_RANGE: N_(
        "a service that listens on one of them may find it taken when it starts: reserve its port "
        "(net.ipv4.ip_local_reserved_ports)"
    ),
    Kind.SOURCES: N_("the addresses; of 127.0.0.0/8 there are all already"),
    Kind.UPSTREAMS: "",
    Kind.TRACKING: N_("{memory} of the kernel's memory"),
    Kind.GROUP_MEMORY: N_("{memory} of memory, once all are there"),
    Kind.MEMORY: "",
}

_UNITS = ("KiB", "MiB", "GiB", "TiB")

#: The part of what is allowed that is taken already.
_TAKEN = {What.DESCRIPTORS: "own", What.FILES: "open", What.TRACKING: "tracked"}


def count(number: int) -> str:
    """With commas between thousands."""
    return f"{number:,}"


def size(number: float) -> str:
    """Memory in the unit that fits: `512 B`, `7.3 KiB`, `22.7 GiB`."""
    if number < 1024:
        return f"{number:.0f} B"
    power = 1
    while power < len(_UNITS) and number / 1024**power >= 1023.95:
        power += 1
    return f"{number / 1024**power:,.1f} {_UNITS[power - 1]}"


def name_of(ceiling: Ceiling) -> str:
    """What ends."""
    return _(_NAMES[ceiling.what])


def arithmetic(ceiling: Ceiling) -> str:
    """How a ceiling was worked out: `20,000 - 11`, `23.0 GiB / 7.2 KiB`, `32768-60999`."""
    parts = ceiling.parts
    if ceiling.what is What.MEMORY:
        return f"{size(parts['available'])} / {size(parts['each'])}"
    if ceiling.what is What.PORTS:
        text = f"{parts['low']}-{parts['high']}"
        if parts["reserved"]:
            text += f" - {count(parts['reserved'])}"
        sources = parts["sources"]
        return text if sources == 1 else f"({text}) x {count(sources)}"
    text = f"{count(parts['allowed'])} - {count(parts[_TAKEN[ceiling.what]])}"
    return text if parts["ends"] == 1 else f"({text}) / {parts['ends']}"


def what_to_do(remedy: Remedy) -> str:
    """A remedy, in a sentence that has no end."""
    text = _(_WHAT_TO_DO[remedy.kind])
    if "{size}" in text:
        return text.format(size=size(int(remedy.value)))
    numbers = [count(int(word)) for word in remedy.value.split()]
    if remedy.kind is Kind.PORT_RANGE:
        return text.format(value="-".join(remedy.value.split()))
    return text.format(value=numbers[0])


def cost_of(remedy: Remedy) -> str:
    """What it costs; empty: that has been said."""
    return _(_COSTS[remedy.kind]).format(memory=size(remedy.memory))
