"""The codecs of `PayloadFraming`: one connection's payloads, however they are cut."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import (
    MessageTooLargeError,
    PeerError,
    TruncatedError,
    UnframableError,
)
from ..framing import Codec
from .decoding import ESCAPE, Text
from .payload import Outgoing, Payload

__all__ = ["BytesCodec", "CharacterCodec", "MessageCodec", "StreamCodec"]

#: Seconds after which a lone piece of a character is shown as the bytes it is.
_PATIENCE = 0.2


class BytesCodec(Codec):
    """No charset: the library's codec, with its messages as payloads."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Codec) -> None:
        self._inner = inner

    @property
    def quiet(self) -> float | None:
        return self._inner.quiet

    @property
    def pending(self) -> int:
        return self._inner.pending

    def feed(self, data: bytes) -> list[Payload]:
        return self._through(lambda: self._inner.feed(data))

    def quiet_passed(self) -> list[Payload]:
        return self._through(self._inner.quiet_passed)

    def end(self) -> list[Payload]:
        return self._through(self._inner.end)

    def _through(self, cut: Callable[[], list[bytes]]) -> list[Payload]:
        try:
            messages = cut()
        except PeerError as error:
            error.completed = self._payloads(error.completed)
            raise
        return self._payloads(messages)

    def _payloads(self, messages: list[bytes]) -> list[Payload]:
        return [Payload(message, None) for message in messages]

    def pack_text(self, text: str) -> bytes:
        return self.pack(Outgoing(text))

    def pack(self, message: Outgoing) -> bytes:
        data = b"".join(self._encoded(part) for part in message.parts)
        packed = self._inner.pack(data)
        message.payload = Payload(data, self._reread(message))
        return packed

    def _encoded(self, part: str | bytes) -> bytes:
        return part.encode() if isinstance(part, str) else part

    def _reread(self, message: Outgoing) -> str | None:
        return None


class MessageCodec(BytesCodec):
    """Cut among bytes by the library, then decoded each on its own."""

    __slots__ = ("_text",)

    def __init__(self, inner: Codec, text: Text) -> None:
        super().__init__(inner)
        self._text = text

    @property
    def encoding(self) -> str | None:
        return self._text.encoding

    def _payloads(self, messages: list[bytes]) -> list[Payload]:
        payloads: list[Payload] = []
        try:
            for message in messages:
                payloads.append(Payload(message, self._text.decode(message)))  # noqa: PERF401
        except PeerError as error:
            # What was whole before the offence is delivered.
            error.completed = payloads
            raise
        return payloads

    def _encoded(self, part: str | bytes) -> bytes:
        return self._text.speaker.encode(part) if isinstance(part, str) else part

    def _reread(self, message: Outgoing) -> str | None:
        return _text_of_parts(message, self._text.encoding)


class StreamCodec(MessageCodec):
    """Not cut at all: each read is a payload, and its text is what it completes."""

    __slots__ = ("_held",)

    def __init__(self, inner: Codec, text: Text) -> None:
        super().__init__(inner, text)
        #: Reads that gave no whole character yet.
        self._held = b""

    @property
    def quiet(self) -> float | None:
        return _PATIENCE

    @property
    def pending(self) -> int:
        return len(self._held)

    def _payloads(self, messages: list[bytes]) -> list[Payload]:
        payloads: list[Payload] = []
        for message in messages:
            try:
                shown = self._text.decode_stream(message)
            except PeerError as error:
                error.completed = payloads
                raise
            data, self._held = self._held + message, b""
            if shown:
                payloads.append(Payload(data, shown))
            else:
                self._held = data
        return payloads

    def quiet_passed(self) -> list[Payload]:
        return self._last() if self._held else []

    def end(self) -> list[Payload]:
        if self._text.errors == "strict" and self._text.waiting:
            raise TruncatedError(
                "the stream ended inside a character: {pending} bytes of it had come",
                pending=len(self._text.waiting),
            )
        return self._last()

    def _last(self) -> list[Payload]:
        """Nothing follows: what waits to become a character will not."""
        shown = self._text.decode_stream(b"", final=True)
        data, self._held = self._held, b""
        return [Payload(data, shown)] if shown or data else []

    def _encoded(self, part: str | bytes) -> bytes:
        return self._text.speaker.encode_stream(part) if isinstance(part, str) else part


class CharacterCodec(Codec):
    """Cut among characters, byte by byte: for a mark whose bytes other characters contain too.

    The library cuts such streams among characters as well, but forgets the bytes.
    """

    __slots__ = ("_buffer", "_ending", "_mark", "_maximum", "_scanned", "_text")

    def __init__(self, text: Text, mark: str, ending: str, maximum: int) -> None:
        self._text = text
        self._mark = mark
        self._ending = ending
        self._maximum = maximum
        #: The unfinished message: its bytes, and the characters of those looked at.
        self._buffer = bytearray()
        self._scanned = ""

    @property
    def encoding(self) -> str | None:
        return self._text.encoding

    @property
    def pending(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Payload]:
        if self._text.judge(data):
            # The unfinished message too is in what the peer is now known to speak.
            data, self._scanned = bytes(self._buffer) + data, ""
            self._buffer.clear()
            self._text.restart()
        payloads: list[Payload] = []
        try:
            for byte in data:
                self._take(byte, payloads)
        except PeerError as error:
            error.completed = list(payloads)
            raise
        return payloads

    def _take(self, byte: int, payloads: list[Payload]) -> None:
        self._buffer.append(byte)
        self._scanned += self._text.decode_next(bytes((byte,)))
        if self._scanned.endswith(self._mark):
            payloads.append(self._cut())
        elif len(self._buffer) > self._maximum + len(self._bytes_of(self._mark)):
            raise MessageTooLargeError(maximum=self._maximum, size=len(self._buffer))

    def _cut(self) -> Payload:
        mark = self._mark
        if mark == "\n" and self._scanned.endswith("\r\n"):
            mark = "\r\n"
        data = bytes(self._buffer[: len(self._buffer) - len(self._bytes_of(mark))])
        payload = Payload(data, self._scanned[: -len(mark)])
        self._buffer.clear()
        self._scanned = ""
        return payload

    def _bytes_of(self, mark: str) -> bytes:
        """A mark within a stream: without the byte order mark that begins one."""
        before = "x".encode(self._text.encoding)
        return ("x" + mark).encode(self._text.encoding)[len(before) :]

    def end(self) -> list[Payload]:
        if self._buffer:
            raise TruncatedError(pending=len(self._buffer))
        return []

    def pack_text(self, text: str) -> bytes:
        return self.pack(Outgoing(text))

    def pack(self, message: Outgoing) -> bytes:
        encode = self._text.speaker.encode_stream
        shown = _text_of_parts(message, self._text.encoding)
        if (shown + self._ending).find(self._mark) + len(self._mark) < len(shown + self._ending):
            raise UnframableError(
                "a message holds its own delimiter {mark!r}", framing="Delimiter", mark=self._mark
            )
        data = b"".join(encode(part) if isinstance(part, str) else part for part in message.parts)
        message.payload = Payload(data, shown)
        return data + encode(self._ending)


def _text_of_parts(message: Outgoing, encoding: str) -> str:
    """What was sent, as it is shown: bytes that were written as bytes are read back."""
    return "".join(
        part if isinstance(part, str) else part.decode(encoding, ESCAPE) for part in message.parts
    )
