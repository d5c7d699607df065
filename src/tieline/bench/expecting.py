"""What an answer must be: anything, one thing, a pattern, or what was sent."""

from __future__ import annotations

import re
from typing import Any, Protocol

__all__ = ["ANY_ANSWER", "Echo", "Exactly", "Expectation", "Matching"]


class Expectation(Protocol):
    """What an answer must be."""

    def only_answer(self, message: Any) -> Any | None:
        """The one right answer to a message, where there is just one (then it is compared byte by
        byte, at no cost); else `None`."""

    def is_met(self, message: Any, answer: Any) -> bool:
        """Whether this is a right answer to that message."""


class _AnyAnswer:
    __slots__ = ()

    def only_answer(self, message: Any) -> Any | None:
        return None

    def is_met(self, message: Any, answer: Any) -> bool:
        return True


#: Whatever comes is right.
ANY_ANSWER: Expectation = _AnyAnswer()


class Exactly:
    """One answer, and no other.

    Args:
        answer: text on a connection with a charset, else bytes.
    """

    __slots__ = ("_answer",)

    def __init__(self, answer: str | bytes) -> None:
        self._answer = answer

    def only_answer(self, message: Any) -> Any:
        return self._answer

    def is_met(self, message: Any, answer: Any) -> bool:
        return bool(answer == self._answer)


class Matching:
    """An answer in which a pattern is found.

    Args:
        pattern: of text on a connection with a charset, else of bytes.
    """

    __slots__ = ("_search",)

    def __init__(self, pattern: re.Pattern[str] | re.Pattern[bytes]) -> None:
        self._search: Any = pattern.search

    def only_answer(self, message: Any) -> Any | None:
        return None

    def is_met(self, message: Any, answer: Any) -> bool:
        return self._search(answer) is not None


class Echo:
    """What was sent."""

    __slots__ = ()

    def only_answer(self, message: Any) -> Any:
        return message

    def is_met(self, message: Any, answer: Any) -> bool:
        return bool(answer == message)
