"""What an event says in one line: text for people, attributes for programs."""

from __future__ import annotations

import datetime
import ipaddress
import logging
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ..address import Address
from ..events import (
    AcceptPaused,
    ClientPenalized,
    ConnectionRefused,
    Event,
    HandlerFailed,
    LimitSpared,
    TableOverflowed,
    UpstreamDown,
)
from ..reasons import CloseReason

__all__ = ["LinesLeftOut", "LinesLost", "attributes", "date", "level_of", "text"]

#: No text in a line is longer: an error may quote a whole message.
_LONGEST = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesLeftOut(Event):
    """In the log only: a crowd has gone. `count`: lines that were left out; `of`: what event."""

    name: ClassVar[str] = "lines_left_out"

    of: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesLost(Event):
    """In the log only: `count` lines could not be written: the sink was stuck, or full."""

    name: ClassVar[str] = "lines_lost"

    count: int


_LEVELS: dict[type[Event], int] = {
    HandlerFailed: logging.ERROR,
    ConnectionRefused: logging.WARNING,
    LimitSpared: logging.WARNING,
    ClientPenalized: logging.WARNING,
    TableOverflowed: logging.WARNING,
    UpstreamDown: logging.WARNING,
    AcceptPaused: logging.WARNING,
    LinesLeftOut: logging.WARNING,
    LinesLost: logging.WARNING,
}


def level_of(event: Event) -> int:
    """How much it matters, as `logging` counts it."""
    return _LEVELS.get(type(event), logging.INFO)


def attributes(event: Event) -> dict[str, Any]:
    """What an event says, under OpenTelemetry's names where it has them, else `tieline.*`."""
    found: dict[str, Any] = {"event.name": event.name}
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name == "time" or (value is None and field.default is None):
            continue
        if field.name == "peer":
            found |= _end("client", value)
            found |= _network(value)
        elif field.name == "local":
            found |= _end("server", value)
        elif field.name == "id":
            found["tieline.connection"] = value
        elif field.name == "error":
            found["error.type"], _, message = value.partition(": ")
            found["exception.message"] = _sendable(message)
        elif isinstance(value, Address):
            found[f"tieline.{field.name}"] = _sendable(str(value))
        elif isinstance(value, tuple):
            found[f"tieline.{field.name}"] = [_sendable(str(part)) for part in value]
        else:
            found[f"tieline.{field.name}"] = _sendable(value) if isinstance(value, str) else value
        if isinstance(value, CloseReason):
            found["tieline.reason"] = value.value
            if not value.in_good_order:
                found["error.type"] = value.value
    return found


def _end(side: str, address: Address) -> dict[str, Any]:
    if address.is_unix:
        return {f"{side}.address": _sendable(str(address).removeprefix("unix:"))}
    return {f"{side}.address": address.host, f"{side}.port": address.port}


def _network(address: Address) -> dict[str, str]:
    if address.is_unix:
        return {"network.transport": "unix"}
    try:
        version = ipaddress.ip_address(address.host).version
    except ValueError:
        return {"network.transport": "tcp"}
    return {"network.transport": "tcp", "network.type": f"ipv{version}"}


def _sendable(value: str) -> str:
    """Without bytes that were no text, as in a path, which have no place in JSON."""
    return value[:_LONGEST].encode("utf-8", "backslashreplace").decode()


def text(event: Event, left_out: int = 0) -> str:
    """An event as a line for people: its name, then `field=value` for each that it has.

    What could come from a peer cannot break the line, or move a terminal's cursor.
    """
    said = event.as_dict()
    del said["event"], said["time"]
    for field in fields(event):
        if field.default is None and said[field.name] is None:
            del said[field.name]
    if left_out:
        said["left_out"] = left_out
    return " ".join([event.name, *(f"{name}={_value(value)}" for name, value in said.items())])


def _value(value: Any) -> str:
    if isinstance(value, float):
        value = f"{value:.3f}".rstrip("0").rstrip(".")
    elif isinstance(value, list):
        value = ",".join(map(str, value))
    word = "none" if value is None else str(value)[:_LONGEST]
    if word and all(each.isprintable() and each not in ' "=\\' for each in word):
        return word
    return '"' + "".join(map(_character, word)) + '"'


def _character(each: str) -> str:
    if each in '"\\':
        return "\\" + each
    return each if each.isprintable() else each.encode("unicode_escape").decode()


def date(moment: float) -> str:
    """A moment, in UTC with milliseconds."""
    there = datetime.datetime.fromtimestamp(moment, datetime.UTC)
    return there.isoformat(timespec="milliseconds").replace("+00:00", "Z")
