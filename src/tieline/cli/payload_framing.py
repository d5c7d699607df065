"""The framing with which the command opens its connections: payloads in, payloads out."""

from __future__ import annotations

from dataclasses import dataclass

from ..charset import Charset
from ..framing import Codec, Delimiter, Framing, Line, Raw
from ..limits import DEFAULT_MAXIMUM
from .decoding import text_of
from .payload_codecs import BytesCodec, CharacterCodec, MessageCodec, StreamCodec

__all__ = ["PayloadFraming"]


@dataclass(frozen=True, slots=True)
class PayloadFraming(Framing):
    """A framing whose received messages are `Payload`s, and whose sent ones are `Outgoing`s.

    Args:
        framing: where messages end.
        charset: how their text is written; `None` where they are bytes only.
        errors: one of `decoding.ERRORS`.
    """

    framing: Framing
    charset: Charset | None
    errors: str = "escape"

    def codec(self, maximum: int = DEFAULT_MAXIMUM) -> Codec:
        framing, charset = self.framing, self.charset
        if charset is None:
            return BytesCodec(framing.codec(maximum))
        text = text_of(charset, self.errors)
        if isinstance(framing, Raw):
            return StreamCodec(framing.codec(maximum), text)
        written = "utf-8" if charset.name == "auto" else charset.name
        mark = _text_mark(framing)
        if mark and not charset.keeps_apart(mark.encode(written)):
            ending = framing.ending if isinstance(framing, Line) else mark
            return CharacterCodec(text, mark, ending, maximum)
        if isinstance(framing, Delimiter):
            framing = Delimiter(framing.mark_bytes(written))
        return MessageCodec(framing.codec(maximum), text)


def _text_mark(framing: Framing) -> str:
    """The mark that ends a message, if it is text; else an empty string."""
    if isinstance(framing, Line):
        return "\n"
    if isinstance(framing, Delimiter) and isinstance(framing.mark, str):
        return framing.mark
    return ""
