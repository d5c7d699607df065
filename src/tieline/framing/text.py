"""Text messages: a charset joined to a framing."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, ClassVar

from ..errors import (
    MessageTooLargeError,
    PeerError,
    TruncatedError,
    UndecodableError,
    UnframableError,
)
from .base import Codec, cut_short, not_text

if TYPE_CHECKING:
    from ..speaker import Speaker

__all__ = ["LineStreamCodec", "StreamTextCodec", "TextCodec"]


class TextCodec(Codec):
    """Cuts among bytes, then decodes each message whole."""

    __slots__ = ("_inner", "_speaker")

    def __init__(self, speaker: Speaker, inner: Codec) -> None:
        self._speaker = speaker
        self._inner = inner

    @property
    def quiet(self) -> float | None:
        return self._inner.quiet

    @property
    def encoding(self) -> str:
        return self._speaker.encoding

    def feed(self, data: bytes) -> list[str]:
        try:
            return self._decode(self._inner.feed(data))
        except UndecodableError:
            raise
        except PeerError as error:
            raise cut_short(error, self._decode(error.completed)) from None

    def _decode(self, messages: list[bytes]) -> list[str]:
        decode = self._speaker.decode
        texts: list[str] = []
        try:
            for message in messages:
                texts.append(decode(message))  # noqa: PERF401 - what came before an error counts
        except UnicodeDecodeError as error:
            undecodable = UndecodableError(
                encoding=self._speaker.reads,
                position=error.start,
                data=bytes(error.object[error.start : error.end]),
            )
            raise cut_short(undecodable, texts) from error
        return texts

    def quiet_passed(self) -> list[str]:
        return self._decode(self._inner.quiet_passed())

    def end(self) -> list[str]:
        return self._decode(self._inner.end())

    def pack(self, message: str) -> bytes:
        return self._inner.pack(self._speaker.encode(message))

    @property
    def incomplete(self) -> bool:
        return self._inner.incomplete

    @property
    def pending(self) -> int:
        return self._inner.pending


class StreamTextCodec(Codec):
    """Decodes the stream, then cuts among characters; without a mark, does not cut at all.

    Each character is looked at once, however it arrives.
    """

    __slots__ = ("_ending", "_maximum", "_pieces", "_speaker", "_taken")

    drops_cr: ClassVar[bool] = False

    def __init__(self, speaker: Speaker, maximum: int, ending: str = "") -> None:
        self._speaker = speaker
        self._maximum = maximum
        self._ending = ending
        #: Bytes of the pieces before this one.
        self._taken = 0
        # Allocated while a message is incomplete only. Not a list of the pieces: one-character
        # pieces would cost twenty times the text.
        self._pieces: io.StringIO | None = None

    @property
    def _mark(self) -> str:
        return self._ending

    @property
    def encoding(self) -> str:
        return self._speaker.encoding

    def feed(self, data: bytes) -> list[str]:
        speaker = self._speaker
        state = speaker.stream_state()
        try:
            text = speaker.decode_stream(data)
        except UnicodeDecodeError as error:
            # Everything up to the offence is good, and belongs to the peer's messages.
            before, good = speaker.good_before(error, data, state)
            undecodable = UndecodableError(
                "byte {position} of the stream is not {encoding} text",
                encoding=speaker.reads,
                position=self._taken - before + error.start,
                data=bytes(error.object[error.start : error.end]),
            )
            raise cut_short(undecodable, self._cut(good)) from error
        self._taken += len(data)
        return self._cut(text)

    def _cut(self, text: str) -> list[str]:
        maximum = self._maximum
        mark = self._mark
        if not mark:
            return [text[at : at + maximum] for at in range(0, len(text), maximum)]
        if self._pieces is None:
            whole = text
        elif mark in self._before_seam() + text:
            whole = self._pieces.getvalue() + text
            self._pieces = None
        else:
            self._hold(text)
            return []
        texts = whole.split(mark)
        rest = texts.pop()
        if self.drops_cr:
            texts = [line[:-1] if line.endswith("\r") else line for line in texts]
        for index, message in enumerate(texts):
            if len(message) > maximum:
                error = MessageTooLargeError(maximum=maximum, size=len(message))
                raise cut_short(error, texts[:index])
        try:
            self._hold(rest)
        except MessageTooLargeError as error:
            raise cut_short(error, texts) from None
        return texts

    def _hold(self, text: str) -> None:
        """Keep the text of a message that is not whole yet."""
        if not text:
            return
        if self._pieces is None:
            self._pieces = io.StringIO()
        self._pieces.write(text)
        # What is held may end with the beginning of its mark (or a CR), which is no part of it.
        slack = 1 if self.drops_cr and text.endswith("\r") else len(self._mark) - 1
        if self._pieces.tell() > self._maximum + slack:
            raise MessageTooLargeError(maximum=self._maximum, size=self._pieces.tell())

    def _before_seam(self) -> str:
        """The last characters held, as many as a mark across the seam may begin with."""
        pieces = self._pieces
        assert pieces is not None
        pieces.seek(max(0, pieces.tell() - len(self._mark) + 1))
        return pieces.read()

    def end(self) -> list[str]:
        waiting = self._speaker.waiting
        try:
            texts = self._cut(self._speaker.decode_stream(b"", final=True))
        except UnicodeDecodeError as error:
            raise TruncatedError(
                "the stream ended inside a character: {pending} bytes of it had come",
                pending=len(waiting),
            ) from error
        if self.pending:
            raise cut_short(TruncatedError(pending=self.pending), texts)
        return texts

    def pack(self, message: str) -> bytes:
        if not isinstance(message, str):
            raise not_text(message)
        if mark := self._mark:
            # What counts is what will be read: Shift JIS writes a yen sign as a backslash.
            read = message if message.isascii() else self._speaker.as_read(message)
            if (read + mark).find(mark) != len(read):
                raise UnframableError(
                    "a message holds its own delimiter {mark!r}", framing="Delimiter", mark=mark
                )
        return self._speaker.encode_stream(message + self._ending)

    @property
    def pending(self) -> int:
        held = 0 if self._pieces is None else self._pieces.tell()
        return held + len(self._speaker.waiting)


class LineStreamCodec(StreamTextCodec):
    """Lines among characters: LF and CRLF alike."""

    __slots__ = ()

    drops_cr = True

    @property
    def _mark(self) -> str:
        return "\n"
