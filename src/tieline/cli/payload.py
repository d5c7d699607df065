"""Messages of which both the bytes and the text are known.

The library gives a handler bytes or text. The command shows both, and shows what is no text
instead of closing the connection: so it opens its connections with `PayloadFraming`, whose
messages these are.
"""

from __future__ import annotations

from dataclasses import dataclass

from .visible import RAW_BYTE, hexadecimal, visible
from .written import Parts

__all__ = ["Outgoing", "Payload"]


@dataclass(frozen=True, slots=True)
class Payload:
    """One message, without its framing.

    Attributes:
        data: its bytes, exactly. Where a read ended inside a character, that character's text
            comes with the rest of it.
        shown: its text, with U+DC00 + N for a byte N that is no text; `None` where messages
            are bytes.
    """

    data: bytes
    shown: str | None

    @property
    def text(self) -> str | None:
        """Its text, or `None` where its bytes are none."""
        if self.shown is None or any(map(_is_raw_byte, self.shown)):
            return None
        return self.shown

    @property
    def message(self) -> str | bytes:
        """What a handler is given: text in which a byte that is none is spelled `\\xNN`."""
        if self.shown is None:
            return self.data
        return "".join(visible(c) if _is_raw_byte(c) else c for c in self.shown)

    @property
    def readable(self) -> str:
        """Safe to show: its text made visible, or hexadecimal where messages are bytes."""
        return hexadecimal(self.data) if self.shown is None else visible(self.shown)


def _is_raw_byte(character: str) -> bool:
    return RAW_BYTE <= ord(character) <= RAW_BYTE + 0xFF


class Outgoing:
    """A message to send. Once sent, `payload` is what went out.

    Args:
        parts: text, which is put into the peer's charset, and bytes, which are left alone.
    """

    __slots__ = ("parts", "payload")

    def __init__(self, *parts: str | bytes) -> None:
        self.parts: Parts = parts
        self.payload = Payload(b"", None)

    @property
    def data(self) -> bytes:
        """The bytes that went out, without their framing. A tap asks for them, and for `text`."""
        return self.payload.data

    @property
    def text(self) -> str | None:
        """Their text, or `None` where they are none."""
        return self.payload.text
