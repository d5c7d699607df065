"""Upstreams as people write them: `HOST:PORT`, then options such as `weight=2` behind commas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..address import Address, parse_address
from ..errors import AddressError, SettingError
from ..rules import Rule, nearest

__all__ = ["RULES", "UpstreamSpec", "check_names", "parse_upstream"]

#: What the numbers of an upstream may be.
RULES = {
    "weight": Rule("connections", "its share, beside those of the others", least=0, most=256),
    "max": Rule("connections", "sessions that it may have at once", off=True),
}

_KEYS = ("weight", "max", "backup", "name", "sni")

#: The longest name of an upstream, in characters.
_LONGEST_NAME = 128

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class UpstreamSpec:
    """An upstream as it is wished for. `str` gives the text that `parse_upstream` reads.

    Attributes:
        address: where it is.
        name: what it is called; by default, the address as text.
        weight: its share beside the others', 0 to 256 (default 1); with 0 it gets no sessions.
        max: sessions that it may have at once; `None`: any number.
        backup: whether it is for the time when no other is up.
        names: the names (SNI) it is for, lower-case, `*.` before one for all names below it;
            none: for all names that no other upstream has.

    Raises:
        AddressError: nobody can be connected to there.
        SettingError: another field makes no sense.
    """

    address: Address
    name: str = ""
    weight: int = 1
    max: int | None = None
    backup: bool = False
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        written = str(self.address)
        if not self.address.is_unix and not self.address.port:
            raise AddressError(
                "{text!r} has no port that can be connected to",
                hint="write it as HOST:PORT, for example 127.0.0.1:7788",
                text=written,
            )
        if "," in written:
            raise AddressError("the address of an upstream has no commas: {text!r}", text=written)
        if not self.name:
            object.__setattr__(self, "name", written)
        elif self.name != written:
            _check_name(self.name)
        for field, rule in RULES.items():
            rule.check(field, getattr(self, field))
        names = dict.fromkeys(_checked_server_name(name) for name in self.names)
        object.__setattr__(self, "names", tuple(names))

    def __str__(self) -> str:
        parts = [str(self.address)]
        if self.weight != 1:
            parts.append(f"weight={self.weight}")
        if self.max is not None:
            parts.append(f"max={self.max}")
        if self.backup:
            parts.append("backup")
        if self.name != parts[0]:
            parts.append(f"name={self.name}")
        parts.extend(f"sni={name}" for name in self.names)
        return ",".join(parts)


def _check_name(name: str) -> None:
    plain = name.isprintable() and " " not in name and "," not in name
    if not plain or len(name) > _LONGEST_NAME:
        raise SettingError(
            "{name!r} cannot be the name of an upstream",
            hint="up to {most} visible characters, without spaces and commas",
            name=name,
            most=_LONGEST_NAME,
        )


def _checked_server_name(name: str) -> str:
    lower = name.lower()
    labels = lower.removeprefix("*.").split(".")
    if len(lower) <= 253 and all(map(_LABEL.fullmatch, labels)):
        return lower
    raise SettingError(
        "{name!r} is not a name that a TLS client asks for",
        hint="write it as db.example or *.example; an international name in its xn-- form",
        name=name,
    )


def parse_upstream(text: str | Address | UpstreamSpec) -> UpstreamSpec:
    """Read an upstream as people write it.

    Args:
        text: `HOST:PORT` or `unix:PATH`, then any of `weight=N`, `max=N`, `backup`, `name=NAME`
            and `sni=NAME` (several times), each behind a comma; an `Address` is one without any
            of these, and an `UpstreamSpec` comes back as it is.

    Raises:
        AddressError: it does not begin with an address that can be connected to.
        SettingError: what follows makes no sense.
    """
    if isinstance(text, UpstreamSpec):
        return text
    if isinstance(text, Address):
        return UpstreamSpec(text)
    if not isinstance(text, str):
        raise AddressError(text=text)
    written, *words = text.split(",")
    address = parse_address(written.strip())
    found: dict[str, Any] = {}
    names: list[str] = []
    for word in words:
        key, equals, value = word.strip().partition("=")
        key, value = key.strip(), value.strip()
        if key not in _KEYS:
            raise _unknown_key(key, text)
        if key == "backup" and equals:
            raise SettingError("backup in {text!r} takes no value", text=text)
        if key != "backup" and not value:
            raise SettingError(
                "{key} in {text!r} needs a value", hint="write {key}=...", key=key, text=text
            )
        if key == "sni":
            names.append(value)
        elif key in found:
            raise SettingError("{key} is in {text!r} twice", key=key, text=text)
        else:
            found[key] = _value(key, value)
    return UpstreamSpec(address, names=tuple(names), **found)


def _value(key: str, value: str) -> Any:
    if key == "backup":
        return True
    if key == "name":
        return value
    # The length first: Python refuses to read numbers of thousands of digits.
    if len(value) <= 9 and value.isascii() and value.isdigit():
        return int(value)
    return RULES[key].check(key, value)


def _unknown_key(key: str, text: str) -> SettingError:
    like = nearest(key, _KEYS)
    return SettingError(
        "there is no {key!r} of an upstream, in {text!r}",
        hint="did you mean {like!r}?" if like else "there are {keys}",
        key=key,
        text=text,
        like=like,
        keys=", ".join(_KEYS),
    )


def check_names(specs: Iterable[UpstreamSpec]) -> None:
    """See that no two upstreams have the same name.

    Raises:
        SettingError: two have.
    """
    seen: set[str] = set()
    for spec in specs:
        if spec.name in seen:
            raise SettingError(
                "two upstreams are called {name!r}",
                hint="give one of them another name: {address},name=...",
                name=spec.name,
                address=str(spec.address),
            )
        seen.add(spec.name)
