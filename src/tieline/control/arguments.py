"""What a verb may be given, and one sentence for whatever else it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..rules import nearest
from .protocol import ControlError, brief

__all__ = ["Argument", "Kind", "check_arguments"]

#: `whole`: a whole number; `wholes`: one, or a list of them; `text`, `texts` alike; `place`: what
#: an answer gave as `next`.
Kind = Literal["whole", "wholes", "number", "flag", "text", "texts", "object", "place", "name"]

#: Entries of a list.
_LONGEST_LIST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a verb.

    Attributes:
        name: its key.
        kind: what it is.
        help: what it means, in a line.
        unit: of a number: `seconds`, `bytes`...
        required: whether the verb cannot do without.
        default: what it is when it is not given, or null.
        least, most: the range of a number.
        choices: the words it may be.
    """

    name: str
    kind: Kind
    help: str
    unit: str = ""
    required: bool = False
    default: Any = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, verb: str, value: Any) -> Any:
        """The value as the verb gets it.

        Raises:
            ControlError: it makes no sense.
        """
        if self.kind in ("wholes", "texts"):
            values = value if isinstance(value, list) else [value]
            if len(values) > _LONGEST_LIST:
                raise self._error(verb, f"a list of at most {_LONGEST_LIST}", value)
            for each in values:
                self._check_one(verb, each)
            return values
        self._check_one(verb, value)
        return value

    def _check_one(self, verb: str, value: Any) -> None:
        if not self._is_good(value):
            raise self._error(verb, self.wanted, value)

    def _is_good(self, value: Any) -> bool:
        kind = self.kind
        if kind == "flag":
            return isinstance(value, bool)
        if kind in ("text", "texts"):
            return isinstance(value, str) and (not self.choices or value in self.choices)
        if kind == "object":
            return isinstance(value, dict)
        if kind == "place":
            return _is_place(value)
        if kind == "name":
            return isinstance(value, (str, int)) and not isinstance(value, bool)
        allowed = (int,) if kind in ("whole", "wholes") else (int, float)
        return (
            isinstance(value, allowed)
            and not isinstance(value, bool)
            and -math.inf < value < math.inf
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
        )

    @property
    def wanted(self) -> str:
        """What it must be, in words."""
        if self.choices:
            words = "one of " + ", ".join(self.choices)
            return f"{words}, or a list of them" if self.kind == "texts" else words
        words = {
            "whole": "a whole number", "wholes": "a whole number", "number": "a number",
            "flag": "true or false", "text": "a text", "texts": "a text",
            "object": "an object", "place": "what an answer gave as next",
            "name": "the id of a request: a text or a whole number",
        }[self.kind]  # fmt: skip
        if self.unit:
            words += f" of {self.unit}"
        if self.least is not None and self.most is not None:
            words += f" from {self.least:g} to {self.most:g}"
        elif self.least is not None:
            words += f" of at least {self.least:g}"
        return words + (", or a list of them" if self.kind in ("wholes", "texts") else "")

    def _error(self, verb: str, wanted: str, value: Any) -> ControlError:
        like = nearest(value, self.choices) if isinstance(value, str) else ""
        return ControlError(
            "{name} of {verb} must be {wanted}, not {value!r}",
            hint="did you mean {like!r}?" if like else "",
            code="bad_value",
            name=self.name,
            verb=verb,
            wanted=wanted,
            value=brief(value),
            like=like,
        )

    def describe(self) -> dict[str, Any]:
        """For the verb `help`."""
        found: dict[str, Any] = {
            "name": self.name, "kind": self.kind, "help": self.help, "unit": self.unit or None,
            "required": self.required, "default": self.default,
        }  # fmt: skip
        if self.choices:
            found["choices"] = list(self.choices)
        return found


def _is_place(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(part, (str, int, float)) for part in value)
    )


def check_arguments(verb: str, known: Sequence[Argument], given: dict[str, Any]) -> dict[str, Any]:
    """Every argument of a verb: as given, or its default.

    Raises:
        ControlError: one is unknown, missing, or makes no sense.
    """
    names = [argument.name for argument in known]
    for name in given:
        if name not in names:
            like = nearest(name, names)
            raise ControlError(
                "{verb} has no argument {name!r}",
                hint="did you mean {like!r}?" if like else "",
                code="unknown_argument",
                verb=verb,
                name=brief(name),
                value=brief(given[name]),
                like=like,
            )
    checked = {}
    for argument in known:
        value = given.get(argument.name)
        if value is not None:
            checked[argument.name] = argument.check(verb, value)
        elif argument.required:
            raise ControlError(
                "{verb} needs {name}: {wanted}",
                code="missing_argument",
                verb=verb,
                name=argument.name,
                wanted=argument.wanted,
            )
        else:
            checked[argument.name] = argument.default
    return checked
