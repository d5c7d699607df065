"""What is sent: one message, several in turn, or a template that is filled in each time."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Constant", "Messages"]


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


class Constant:
    """The same message again and again.

    Args:
        only: it.
    """

    __slots__ = ("only",)

    def __init__(self, only: Any) -> None:
        self.only = only

    def make(self, connection: int, number: int) -> Any:
        return self.only
