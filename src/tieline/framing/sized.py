"""Messages whose length is known before they come: fixed, or told by a prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import (
    MalformedError,
    MessageTooLargeError,
    SettingError,
    TruncatedError,
    UnframableError,
)
from ..limits import DEFAULT_MAXIMUM
from .base import Codec, Framing, as_bytes, check_maximum, cut_short, is_whole

__all__ = ["Fixed", "LengthPrefix"]


@dataclass(frozen=True, slots=True)
class Fixed(Framing):
    """Messages of one size.

    Args:
        size: bytes in every message; a message of another size cannot be sent.

    Raises:
        SettingError: the size is not a whole number above zero.
    """

    size: int

    def __post_init__(self) -> None:
        if not is_whole(self.size) or self.size < 1:
            raise SettingError(
                "a fixed size is a whole number of bytes above zero, not {size!r}", size=self.size
            )

    def codec(self, maximum: int = DEFAULT_MAXIMUM) -> Codec:
        if self.size > check_maximum(maximum):
            raise SettingError(
                "messages of {size} bytes are over the maximum of {maximum}",
                size=self.size,
                maximum=maximum,
            )
        return _FixedCodec(self.size)


class _FixedCodec(Codec):
    __slots__ = ("_pending", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._pending: bytearray | None = None

    def feed(self, data: bytes) -> list[bytes]:
        if self._pending is not None:
            self._pending += data
            if len(self._pending) < self._size:
                return []
            data = bytes(self._pending)
            self._pending = None
        size = self._size
        whole = len(data) - len(data) % size
        if whole < len(data):
            self._pending = bytearray(data[whole:])
        return [data[at : at + size] for at in range(0, whole, size)]

    def end(self) -> list[bytes]:
        if self._pending is not None:
            raise TruncatedError(pending=len(self._pending))
        return []

    def pack(self, message: bytes) -> bytes:
        message = as_bytes(message)
        if len(message) != self._size:
            raise UnframableError(
                "a message of {actual} bytes is not of the fixed {size}",
                framing="Fixed",
                actual=len(message),
                size=self._size,
            )
        return message

    @property
    def pending(self) -> int:
        return 0 if self._pending is None else len(self._pending)


@dataclass(frozen=True, slots=True)
class LengthPrefix(Framing):
    """Messages that are preceded by their length, as an unsigned whole number.

    Args:
        size: bytes of the length field: 1, 2, 4 or 8.
        order: `"big"` (network order, the default) or `"little"`.
        offset: bytes before the length field. They are part of the message: it comes as those
            bytes followed by the body, and is sent in the same form.
        adjustment: added to the field's value to give the bytes that follow it. A length that
            counts its own 2 bytes has an adjustment of -2; one that leaves out a 2-byte
            checksum behind the body has 2.

    Raises:
        SettingError: a size or an order that there is not, a negative offset, or an adjustment
            that leaves no length the field could tell.
    """

    size: Literal[1, 2, 4, 8] = 4
    order: Literal["big", "little"] = "big"
    offset: int = 0
    adjustment: int = 0

    def __post_init__(self) -> None:
        if not is_whole(self.size) or self.size not in (1, 2, 4, 8):
            raise SettingError(
                "a length field has 1, 2, 4 or 8 bytes, not {size!r}", size=self.size
            )
        if self.order not in ("big", "little"):
            raise SettingError("the order is 'big' or 'little', not {order!r}", order=self.order)
        if not is_whole(self.offset) or self.offset < 0:
            raise SettingError(
                "an offset is a whole number of bytes, 0 or more, not {offset!r}",
                offset=self.offset,
            )
        if not is_whole(self.adjustment) or (1 << 8 * self.size) - 1 + self.adjustment < 0:
            raise SettingError(
                "an adjustment of {adjustment!r} leaves no length that {size} bytes could tell",
                adjustment=self.adjustment,
                size=self.size,
            )

    def codec(self, maximum: int = DEFAULT_MAXIMUM) -> Codec:
        smallest = self.offset + max(0, self.adjustment)
        if smallest > check_maximum(maximum):
            raise SettingError(
                "the smallest message has {smallest} bytes, over the maximum of {maximum}",
                smallest=smallest,
                maximum=maximum,
            )
        return _LengthPrefixCodec(self, maximum)


class _LengthPrefixCodec(Codec):
    __slots__ = ("_framing", "_maximum", "_pending")

    def __init__(self, framing: LengthPrefix, maximum: int) -> None:
        self._framing = framing
        self._maximum = maximum
        self._pending: bytearray | None = None

    def feed(self, data: bytes) -> list[bytes]:
        pending = self._pending
        if pending is not None:
            pending += data
            if len(pending) < self._wanted(pending):
                return []
            data = bytes(pending)
            self._pending = None
        offset = self._framing.offset
        header = offset + self._framing.size
        messages: list[bytes] = []
        at = 0
        while len(data) - at >= header:
            try:
                body = self._body_size(data, at)
            except (MalformedError, MessageTooLargeError) as error:
                raise cut_short(error, messages) from None
            end = at + header + body
            if end > len(data):
                break
            messages.append(data[at : at + offset] + data[at + header : end])
            at = end
        if at < len(data):
            self._pending = bytearray(data[at:])
        return messages

    def _wanted(self, pending: bytearray) -> int:
        """Bytes up to the end of the pending header, or of the pending message."""
        header = self._framing.offset + self._framing.size
        return header if len(pending) < header else header + self._body_size(pending, 0)

    def _body_size(self, data: bytes | bytearray, at: int) -> int:
        framing = self._framing
        field = data[at + framing.offset : at + framing.offset + framing.size]
        size = int.from_bytes(field, framing.order) + framing.adjustment
        if size < 0:
            raise MalformedError(
                "a length field says {size} bytes after its adjustment of {adjustment}",
                size=size,
                adjustment=framing.adjustment,
            )
        if framing.offset + size > self._maximum:
            raise MessageTooLargeError(maximum=self._maximum, size=framing.offset + size)
        return size

    def end(self) -> list[bytes]:
        if self._pending is not None:
            raise TruncatedError(pending=len(self._pending))
        return []

    def pack(self, message: bytes) -> bytes:
        message = as_bytes(message)
        framing = self._framing
        if len(message) < framing.offset:
            raise UnframableError(
                "a message of {actual} bytes is shorter than the {offset} before its length field",
                framing="LengthPrefix",
                actual=len(message),
                offset=framing.offset,
            )
        value = len(message) - framing.offset - framing.adjustment
        if not 0 <= value < 1 << 8 * framing.size:
            raise UnframableError(
                "a message of {actual} bytes does not fit a length field of {size}",
                framing="LengthPrefix",
                actual=len(message),
                size=framing.size,
            )
        length = value.to_bytes(framing.size, framing.order)
        return b"".join((message[: framing.offset], length, message[framing.offset :]))

    @property
    def pending(self) -> int:
        return 0 if self._pending is None else len(self._pending)
