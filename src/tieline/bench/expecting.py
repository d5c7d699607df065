"""What an answer must be: anything, one thing, a pattern, or what was sent."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["ANY_ANSWER", "Echo", "Expectation"]


class Expectation(Protocol):
    """What an answer must be."""

    def only_answer(self, message: Any) -> Any | None:
        """The one right answer to a message, where there is just one (then it is compared byte by
        byte, at no cost); else `None`."""

    def is_met(self, message: Any, answer: Any) -> bool:
        """Whether this is a right answer to that message."""


class _AnyAnswer:
    def only_answer(self, message: Any) -> Any | None:
        return None

    def is_met(self, message: Any, answer: Any) -> bool:
        return True


#: Whatever comes is right.
ANY_ANSWER: Expectation = _AnyAnswer()


class Echo:
    """What was sent."""

    __slots__ = ()

    def only_answer(self, message: Any) -> Any:
        return message

    def is_met(self, message: Any, answer: Any) -> bool:
        return bool(message == answer)
