"""What every framing and every codec promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ..errors import PeerError, SettingError, UsageError
from ..limits import DEFAULT_MAXIMUM

__all__ = ["Codec", "Framing"]


class Codec(ABC):
    """One connection's messages: bytes that came in, cut into messages; messages made bytes.

    Not for two connections. After `feed` or `end` has raised, the stream cannot be read on;
    `pack` still works.
    """

    __slots__ = ()

    @property
    def quiet(self) -> float | None:
        """Seconds of silence that end a message; `None` where silence means nothing."""
        return None

    @property
    def encoding(self) -> str | None:
        """The charset in which this peer is written to; `None` where messages are bytes."""
        return None

    @abstractmethod
    def feed(self, data: bytes) -> list[Any]:
        """Take what came, return the messages it completed, in order.

        Raises:
            PeerError: `MessageTooLargeError`, `MalformedError` or `UndecodableError`; its
                `completed` holds the messages that were whole before the offence.
        """

    @abstractmethod
    def end(self) -> list[Any]:
        """The peer has ended its stream: return what that completes.

        Raises:
            TruncatedError: the stream ended inside a message or a character; its `completed`
                holds the messages that were whole before.
            UndecodableError: the message that the end completes is not text.
        """

    @abstractmethod
    def pack(self, message: Any) -> bytes:
        """The bytes that carry a message.

        Raises:
            UsageError: `UnframableError` or `UnencodableError`, or a message of the wrong type.
        """

    def pack_text(self, text: str) -> bytes:
        """The bytes that carry a text, whatever its messages are otherwise (UTF-8 where they are
        bytes).

        Raises:
            UsageError: as `pack`.
        """
        return self.pack(text if self.encoding is not None else text.encode())

    def quiet_passed(self) -> list[Any]:
        """Silence of `quiet` seconds has passed: return the message that it ends, if any.

        Raises:
            UndecodableError: that message is not text.
        """
        return []

    @property
    def incomplete(self) -> bool:
        """Whether a message has begun and is not whole yet."""
        return self.pending > 0

    @property
    @abstractmethod
    def pending(self) -> int:
        """Bytes held of a message that is not whole yet; above 0 while one has begun.

        A codec that looks for its delimiter among characters counts characters.
        """


class Framing(ABC):
    """An immutable description of where messages end. `codec()` makes a connection's state."""

    __slots__ = ()

    @abstractmethod
    def codec(self, maximum: int = DEFAULT_MAXIMUM) -> Codec:
        """The codec of one connection.

        Args:
            maximum: the largest message in bytes, without its framing.

        Raises:
            SettingError: this framing cannot work with that maximum.
        """


def check_maximum(maximum: int) -> int:
    """Refuse a maximum that is none.

    Raises:
        SettingError: it is not a whole number above zero.
    """
    if not is_whole(maximum) or maximum < 1:
        raise SettingError(
            "the largest message is a whole number of bytes above zero, not {maximum!r}",
            maximum=maximum,
        )
    return maximum


def is_whole(value: object) -> bool:
    """Whether a setting is a whole number; `True` is nobody's number."""
    return isinstance(value, int) and not isinstance(value, bool)


def cut_short(error: PeerError, completed: list[Any]) -> PeerError:
    """Give an error the messages that were whole before it."""
    error.completed = completed
    return error


def not_bytes(message: object) -> UsageError:
    """The error for a message that is not bytes, on a connection without a charset."""
    return UsageError(
        "a message here is bytes, not {kind}",
        hint="give the connection an encoding to send text",
        kind=type(message).__name__,
    )


def not_text(message: object) -> UsageError:
    """The error for a message that is not text, on a connection with a charset."""
    return UsageError(
        "a message here is text, not {kind}",
        hint="open the connection without an encoding to send bytes",
        kind=type(message).__name__,
    )


def as_bytes(message: bytes) -> bytes:
    """The message as `bytes`, whatever bytes-like object it is.

    Raises:
        UsageError: it is none.
    """
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    raise not_bytes(message)
