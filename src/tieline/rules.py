"""What a setting may be: its unit, its range, and whether it may be off."""

from __future__ import annotations

import difflib
import ipaddress
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from .errors import SettingError

__all__ = ["Rule", "nearest"]

#: What a number of each unit is called, and whether it is a whole one.
_NUMBERS = {
    "seconds": ("a number of seconds", False),
    "share": ("a share", False),
    "bytes a second": ("a number of bytes a second", False),
    "connections a second": ("a number of connections a second", False),
    "bytes": ("a whole number", True),
    "connections": ("a whole number", True),
    "clients": ("a whole number", True),
    "bits": ("a whole number", True),
}


def nearest(name: str, known: Collection[str]) -> str:
    """The known name that is most like this one; empty if none is."""
    found = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return found[0] if found else ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one setting may be.

    Attributes:
        unit: `seconds`, `bytes`, `connections`, `clients`, `bits`, `share`, `bytes a second`,
            `connections a second`; `choice`, `limits` (some of `choices`), `networks`, `text`.
        help: what it does, in a line.
        off: whether it may be `None`.
        least, most: the range of a number; without `least` it is above zero, or at least one.
        choices: the words it may be.
    """

    unit: str
    help: str
    off: bool = False
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> Any:
        """The value, as it is kept.

        Raises:
            SettingError: `name` cannot have this value.
        """
        if value is None and self.off:
            return None
        if self.unit in _NUMBERS:
            return self._check_number(name, value)
        if self.unit == "choice":
            if value not in self.choices:
                raise self._error(name, value, "one of " + ", ".join(self.choices), value)
            return value
        if self.unit == "text":
            # Lone surrogates have no bytes: better said now than to the first client.
            if not isinstance(value, str) or any("\ud800" <= each <= "\udfff" for each in value):
                raise self._error(name, value, "a text")
            return value
        return self._check_list(name, value)

    def _check_number(self, name: str, value: Any) -> Any:
        called, whole = _NUMBERS[self.unit]
        most = 32 if self.most is None and self.unit == "bits" else self.most
        least = self.least if self.least is not None or not whole else 1
        if most is not None:
            wanted = f"{called} from {least or 0:g} to {most:g}"
        elif whole:
            wanted = f"{called} of at least {least:g}"
        else:
            wanted = f"{called} " + ("above zero" if least is None else f"of at least {least:g}")
        # bool is an int, and `idle=True` is nobody's intent; NaN and infinity are no limits.
        if (
            isinstance(value, bool)
            or not isinstance(value, int if whole else (int, float))
            or not -math.inf < value < math.inf
            or (value <= 0 if least is None else value < least)
            or (most is not None and value > most)
        ):
            raise self._error(name, value, wanted)
        return value

    def _check_list(self, name: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, str) or not isinstance(value, Collection):
            raise self._error(name, value, f"a list of {self.unit}")
        words = tuple(value)
        for word in words:
            if self.unit == "limits":
                if word not in self.choices:
                    raise self._error(name, word, "limits that can be tried", word)
                continue
            try:
                if not isinstance(word, str):  # a number would be read as an address
                    raise TypeError(f"{word!r} is not a text")
                if "%" in word:
                    raise ValueError(f"{word!r} has a scope")
                ipaddress.ip_network(word)
            except (ValueError, TypeError) as error:
                raise self._error(
                    name, word, "networks, such as 10.0.0.0/8 or 2001:db8::/32", error=error
                ) from error
        return words

    def _error(
        self, name: str, value: Any, wanted: str, like: Any = None, error: object = None
    ) -> SettingError:
        close = nearest(like, self.choices) if isinstance(like, str) else ""
        return SettingError(
            "{name} must be {wanted}{or_none}, not {value!r}",
            hint="did you mean {like!r}?" if close else "{detail}" if error else "",
            name=name,
            value=value,
            wanted=wanted,
            or_none=" or None" if self.off else "",
            like=close,
            detail=str(error or ""),
        )
