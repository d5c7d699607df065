"""Streams without marks: whatever a read gives, or whatever comes before a quiet time."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import MessageTooLargeError, SettingError
from ..limits import DEFAULT_MAXIMUM
from .base import Codec, Framing, as_bytes, check_maximum

__all__ = ["Gap", "Raw"]


@dataclass(frozen=True, slots=True)
class Raw(Framing):
    """No framing: a message is what one read gave, as with `recv`.

    TCP is a stream: what one side sent at once may come in several messages, and what it sent
    in several may come in one.
    """

    def codec(self, maximum: int = DEFAULT_MAXIMUM) -> Codec:
        return _RawCodec(check_maximum(maximum))


class _RawCodec(Codec):
    __slots__ = ("_maximum",)

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum

    def feed(self, data: bytes) -> list[bytes]:
        maximum = self._maximum
        if len(data) <= maximum:
            return [data] if data else []
        # A read may be larger than the maximum; nothing is wrong with the peer then.
        return [data[at : at + maximum] for at in range(0, len(data), maximum)]

    def end(self) -> list[bytes]:
        return []

    def pack(self, message: bytes) -> bytes:
        return as_bytes(message)

    @property
    def pending(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Gap(Framing):
    """A message ends when nothing has come for a while, as serial-style devices do it.

    Args:
        quiet: seconds of silence that end a message (default 0.05).
    """

    quiet: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.quiet <= 3600:
            raise SettingError(
                "a quiet time is above 0 and at most 3600 seconds, not {quiet}", quiet=self.quiet
            )

    def codec(self, maximum: int = DEFAULT_MAXIMUM) -> Codec:
        return _GapCodec(self.quiet, check_maximum(maximum))


class _GapCodec(Codec):
    __slots__ = ("_maximum", "_pending", "_quiet")

    def __init__(self, quiet: float, maximum: int) -> None:
        self._quiet = quiet
        self._maximum = maximum
        self._pending: bytearray | None = None

    @property
    def quiet(self) -> float:
        return self._quiet

    def feed(self, data: bytes) -> list[bytes]:
        if self._pending is None:
            self._pending = bytearray(data)
        else:
            self._pending += data
        if len(self._pending) > self._maximum:
            raise MessageTooLargeError(maximum=self._maximum, size=len(self._pending))
        return []

    def quiet_passed(self) -> list[bytes]:
        pending, self._pending = self._pending, None
        return [bytes(pending)] if pending else []

    def end(self) -> list[bytes]:
        return self.quiet_passed()

    def pack(self, message: bytes) -> bytes:
        return as_bytes(message)

    @property
    def pending(self) -> int:
        return 0 if self._pending is None else len(self._pending)
