"""The fields of a template: counters, chance, time.

========================  ==========================================================
`{n}`                     the message's number in the run, from 1
`{i}`                     its number on its connection, from 1
`{c}`                     the connection's number, from 1
`{n:6}`                   any of these with at least so many digits: `000001`
`{random:1-100}`          a whole number from the first to the last
`{hex:8}`                 so many random hexadecimal digits; `{digits:4}`, `{letters:12}` likewise
`{uuid}`                  a random UUID (RFC 9562, version 4)
`{time}`                  the time of day, UTC, to the millisecond (ISO 8601)
`{epoch}`                 seconds since 1970, to the millisecond
========================  ==========================================================

In hexadecimal there are `{n:4}`, `{i:2}`, `{c:2}`, `{random:8}` and `{epoch:4}`: so many bytes, a
number's highest first; a number that is too large begins again from 0.
"""

from __future__ import annotations

import random
import re
import string
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..errors import SettingError
from ..rules import nearest

__all__ = ["Field", "Filling", "parse_fields"]

_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([{}])")
_COUNTERS = ("n", "i", "c")
_IN_TEXT = (*_COUNTERS, "random", "hex", "digits", "letters", "uuid", "time", "epoch")
_IN_HEX = (*_COUNTERS, "random", "epoch")

#: Characters of a random piece.
_ALPHABETS = {"hex": "0123456789abcdef", "digits": string.digits, "letters": string.ascii_letters}

#: The most characters or bytes that a field may have.
_WIDEST = 65_536

#: Between bytes, and the 0x or \\x before one.
_HEX_SEPARATORS = re.compile(r"[\s,;:_-]+|0[xX]|\\[xX]")


@dataclass(frozen=True, slots=True)
class Field:
    """A field.

    Attributes:
        name: what it is.
        width: digits, characters or bytes; 0 for as many as it takes.
        least, most: of a random number.
    """

    name: str
    width: int = 0
    least: int = 0
    most: int = 0


def parse_fields(text: str, *, hexadecimal: bool) -> list[str | bytes | Field]:
    """Cut a template into what is fixed and what is filled in.

    Raises:
        SettingError: a field is none, or a brace is not closed.
    """
    pieces: list[str | bytes | Field] = []
    fixed: list[str] = []
    at = 0

    def keep() -> None:
        whole = "".join(fixed)
        fixed.clear()
        if whole:
            pieces.append(_from_hex(whole) if hexadecimal else whole)

    for match in _PIECES.finditer(text):
        fixed.append(text[at : match.start()])
        at = match.end()
        if match[2]:
            raise SettingError(
                "{brace} in a template begins or ends a field, and this one has no other end",
                hint="write {{{{ or }}}} for a brace", brace=match[2],
            )  # fmt: skip
        if match[1] is None:
            fixed.append(match[0][0])
            continue
        keep()
        pieces.append(_field(match[1], hexadecimal))
    fixed.append(text[at:])
    keep()
    return pieces


def _from_hex(text: str) -> bytes:
    data = b""
    for run in filter(None, _HEX_SEPARATORS.split(text)):
        try:
            # `0x3` on its own is a byte; a longer odd run leaves it open where the half one is.
            data += bytes.fromhex(run.zfill(2))
        except ValueError:
            raise SettingError(
                "{text!r} is not hexadecimal",
                hint="write bytes as 01 03, 0x01,0x03, 0103 or \\x01\\x03", text=run,
            ) from None  # fmt: skip
    return data


def _field(words: str, hexadecimal: bool) -> Field:
    name, _colon, rest = words.partition(":")
    name, rest = name.strip(), rest.strip()
    known = _IN_HEX if hexadecimal else _IN_TEXT
    if name not in known:
        like = nearest(name, known)
        raise SettingError(
            "{{{name}}} is no field of a template",
            hint="did you mean {like}?" if like else "there are {known}",
            name=name, like=f"{{{like}}}", known=", ".join(f"{{{each}}}" for each in known),
        )  # fmt: skip
    if name == "random" and not hexadecimal:
        return _range(rest)
    if name in ("uuid", "time") or (name == "epoch" and not hexadecimal):
        if rest:
            raise SettingError("{{{name}}} has no width", name=name)
        return Field(name)
    width = int(rest) if re.fullmatch("[0-9]{1,9}", rest) else 0
    optional = name in _COUNTERS and not hexadecimal
    if not (0 < width <= _WIDEST) and (rest or not optional):
        raise SettingError(
            "{{{name}}} needs a width from 1 to {widest}", hint="write {example}",
            name=name, widest=_WIDEST, example=f"{{{name}:4}}",
        )  # fmt: skip
    return Field(name, width)


def _range(rest: str) -> Field:
    match = re.fullmatch(r"([0-9]{1,18})\s*-\s*([0-9]{1,18})", rest)
    if match is None or int(match[1]) > int(match[2]):
        raise SettingError(
            "{range!r} is no range of whole numbers", hint="write {{random:1-100}}", range=rest
        )
    return Field("random", 0, int(match[1]), int(match[2]))


class Filling:
    """What fields are filled with.

    Args:
        seed: what chance begins from; `None` for chance.
        index, of: which of several processes this is for, from 0. Their messages' numbers are
            interleaved, and chance is another's in each.
        as_bytes: whether pieces are bytes, and not text.
        hexadecimal: whether fields are so many bytes, and not characters.
    """

    __slots__ = (
        "_chance", "_connection", "_fill", "_hexadecimal", "_number", "_run", "_seed", "_step",
        "as_bytes",
    )  # fmt: skip

    def __init__(
        self, seed: int | None, *, as_bytes: bool, hexadecimal: bool, index: int = 0, of: int = 1
    ) -> None:
        self._seed = seed
        self._chance = random.Random(None if seed is None else f"{seed}/{index}")
        self.as_bytes = as_bytes
        self._hexadecimal = hexadecimal
        self._step = of
        self._run = index + 1 - of
        self._connection = self._number = 0
        self._fill: dict[str, Callable[[Field], str]] = {
            "n": lambda field: str(self._run).zfill(field.width),
            "i": lambda field: str(self._number).zfill(field.width),
            "c": lambda field: str(self._connection).zfill(field.width),
            "random": lambda field: str(self._chance.randint(field.least, field.most)),
            "uuid": lambda _: str(uuid.UUID(int=self._chance.getrandbits(128), version=4)),
            "time": lambda _: datetime.now(UTC).isoformat(timespec="milliseconds"),
            "epoch": lambda _: f"{time.time():.3f}",
            **dict.fromkeys(_ALPHABETS, self._characters),
        }

    def divided(self, index: int, of: int) -> Filling:
        """The same from the beginning, for one of several processes."""
        return Filling(
            self._seed, as_bytes=self.as_bytes, hexadecimal=self._hexadecimal, index=index, of=of
        )

    def begin(self, connection: int, number: int) -> None:
        """Another message is made."""
        self._run += self._step
        self._connection, self._number = connection, number

    def fill(self, field: Field) -> Any:
        """What stands in a field's place."""
        if self._hexadecimal:
            return self._bytes(field)
        text = self._fill[field.name](field)
        return text.encode("ascii") if self.as_bytes else text

    def _characters(self, field: Field) -> str:
        return "".join(self._chance.choices(_ALPHABETS[field.name], k=field.width))

    def _bytes(self, field: Field) -> bytes:
        width = field.width
        if field.name == "random":
            return self._chance.randbytes(width)
        numbers = {"n": self._run, "i": self._number, "c": self._connection}
        number = numbers.get(field.name, int(time.time()))
        return (number % (1 << 8 * width)).to_bytes(width, "big")
