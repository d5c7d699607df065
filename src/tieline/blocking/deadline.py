"""A moment by which something must be done, for all the waits on the way to it."""

from __future__ import annotations

import math
import threading
import time
from typing import Any, Self

from ..errors import DeadlineError, SettingError

__all__ = ["Deadline", "check_timeout"]

#: Seconds of the longest single wait: the kernel counts milliseconds in an `int`.
_LONGEST_WAIT = 3600.0


class Deadline:
    """The end of a time limit, and the words for having missed it.

    Args:
        seconds: from now; `None`: no limit.
        doing: what takes so long, for the error: "connecting to", "sending to"...
        address: whom it is done with, for the error.
    """

    __slots__ = ("_address", "_at", "_doing", "_seconds")

    def __init__(self, seconds: float | None, doing: str, address: object) -> None:
        self._at = math.inf if seconds is None else time.monotonic() + seconds
        self._seconds = seconds
        self._doing = doing
        self._address = address

    @property
    def left(self) -> float:
        """Seconds, 0 once it has passed, infinite without a limit."""
        return max(0.0, self._at - time.monotonic())

    @property
    def milliseconds(self) -> int:
        """How long to poll in one go. Rounded up: rounded down, the last one would spin."""
        return math.ceil(min(self.left, _LONGEST_WAIT) * 1000)

    @property
    def for_lock(self) -> float:
        """The same for acquiring a lock, where -1 is "no limit"."""
        left = self.left
        return -1 if left == math.inf else min(left, threading.TIMEOUT_MAX)

    def sooner(self, seconds: float) -> Self:
        """This deadline, or that many seconds from now, whichever comes first."""
        other = type(self)(self._seconds, self._doing, self._address)
        other._at = min(self._at, time.monotonic() + seconds)
        return other

    def error(self, template: str = "", /, **fields: Any) -> DeadlineError:
        """The error for having missed it; a template of its own may say more."""
        return DeadlineError(
            template,
            doing=self._doing,
            seconds=self._seconds,
            address=str(self._address),
            **fields,
        )


def check_timeout(seconds: float | None, *, or_zero: bool = False) -> None:
    """Refuse what is no time limit.

    Args:
        seconds: `None` is no limit, and always good.
        or_zero: whether 0 ("do not wait") makes sense.

    Raises:
        SettingError: it is not above zero.
    """
    if seconds is None or seconds > 0 or (or_zero and seconds == 0):
        return
    raise SettingError(
        "a timeout is above zero{or_zero}, not {timeout!r}",
        timeout=seconds,
        or_zero=" or zero" if or_zero else "",
    )
