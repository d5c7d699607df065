"""What is sent: one message, several in turn, or a template that is filled in each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..charset import Charset
from ..errors import SettingError
from .fields import Field, Filling, parse_fields

__all__ = ["Constant", "InTurn", "Messages", "Template"]


class Messages(Protocol):
    """What is sent. A message is text on a connection with a charset, else bytes."""

    @property
    def only(self) -> Any | None:
        """The message, where all of them are the same; else `None`."""

    def make(self, connection: int, number: int) -> Any:
        """The next message.

        Args:
            connection: which connection it is for, counted from 1 over the whole run.
            number: which message of that connection it is, from 1.
        """

    def divided(self, index: int, of: int) -> Messages:
        """The same from the beginning, for one of several processes that share the run: together
        they send what one would, each message once.

        Args:
            index: which of them, from 0.
            of: how many there are.
        """


class Constant:
    """The same message again and again.

    Args:
        only: it.
    """

    __slots__ = ("only",)

    def __init__(self, only: str | bytes) -> None:
        self.only: Any = only

    def make(self, connection: int, number: int) -> Any:
        return self.only

    def divided(self, index: int, of: int) -> Constant:
        return self


class InTurn:
    """Several messages, one after the other and again from the first, over all connections.

    Args:
        messages: at least one.
        begin: which of them is the first, from 0.
        step: how far it is to the next.

    Raises:
        SettingError: there is none.
    """

    __slots__ = ("_messages", "_next", "_step", "only")

    def __init__(self, messages: Sequence[str | bytes], begin: int = 0, step: int = 1) -> None:
        if not messages:
            raise SettingError("there is no message to send")
        self._messages = tuple(messages)
        self._next = begin % len(messages)
        self._step = step
        self.only: Any | None = messages[0] if len(set(messages)) == 1 else None

    def make(self, connection: int, number: int) -> Any:
        message = self._messages[self._next]
        self._next = (self._next + self._step) % len(self._messages)
        return message

    def divided(self, index: int, of: int) -> InTurn:
        return InTurn(self._messages, begin=index, step=of)


class Template:
    """A message with fields that are filled in each time. `fields` says which there are.

    Made by `parse` or `parse_hex`.
    """

    __slots__ = ("_filling", "_pieces", "only")

    def __init__(self, pieces: Sequence[str | bytes | Field], filling: Filling) -> None:
        self._pieces = tuple(pieces)
        self._filling = filling
        fixed = not any(isinstance(piece, Field) for piece in pieces)
        self.only: Any | None = self._joined([*pieces]) if fixed else None

    @classmethod
    def parse(cls, text: str, charset: Charset | None = None, seed: int | None = None) -> Template:
        """Read a template of text.

        Args:
            text: with fields in braces; `{{` and `}}` are braces.
            charset: of the connection; with `None` messages are bytes, text in them UTF-8.
            seed: what random fields begin from: the same gives the same messages. `None`: from
                chance.

        Raises:
            SettingError: a field is none, or a brace is not closed.
        """
        pieces = parse_fields(text, hexadecimal=False)
        if charset is None:
            pieces = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
        return cls(pieces, Filling(seed, as_bytes=charset is None, hexadecimal=False))

    @classmethod
    def parse_hex(cls, text: str, seed: int | None = None) -> Template:
        """Read a template of hexadecimal, whose messages are bytes: `01 03 {i:2} {random:1}`.

        Args:
            text: bytes as `01 03`, and fields in braces; what follows a colon is bytes.
            seed: as in `parse`.

        Raises:
            SettingError: a field is none, or has no width in bytes; something is no hexadecimal.
        """
        pieces = parse_fields(text, hexadecimal=True)
        return cls(pieces, Filling(seed, as_bytes=True, hexadecimal=True))

    def make(self, connection: int, number: int) -> Any:
        self._filling.begin(connection, number)
        return self._joined(
            [
                self._filling.fill(piece) if isinstance(piece, Field) else piece
                for piece in self._pieces
            ]
        )

    def divided(self, index: int, of: int) -> Template:
        return Template(self._pieces, self._filling.divided(index, of))

    def _joined(self, pieces: list[Any]) -> Any:
        return (b"" if self._filling.as_bytes else "").join(pieces)
