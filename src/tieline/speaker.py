"""What one peer speaks: the text of one connection, decoded and encoded."""

from __future__ import annotations

import codecs
import sys
from typing import TYPE_CHECKING

from .errors import UnencodableError
from .framing.base import not_text

if TYPE_CHECKING:
    from .charset import Charset

__all__ = ["AutoSpeaker", "Speaker"]

#: Two characters that Python's GB2312 writes under other names than its GBK and GB18030 do
#: (the dash and the middle dot): without this, a dash that was read could not be answered.
_WRITE_AS = {"gb2312": {0x2014: 0x2015, 0x00B7: 0x30FB}}

#: A decoder, its state, and the encoding that is written.
StreamState = tuple[codecs.IncrementalDecoder, tuple[bytes, int], str]


class Speaker:
    """What one peer speaks: decodes its text, encodes ours. For `auto` see `AutoSpeaker`."""

    __slots__ = ("_charset", "_stream", "_writer")

    def __init__(self, charset: Charset) -> None:
        self._charset = charset
        self._stream: codecs.IncrementalDecoder | None = None
        self._writer: codecs.IncrementalEncoder | None = None

    @property
    def encoding(self) -> str:
        """The encoding in which this peer is written to."""
        return self._charset.name

    @property
    def reads(self) -> str:
        """The encoding that bytes do not fit when they cannot be decoded."""
        return self._charset.name

    def decode(self, message: bytes) -> str:
        """One whole message, on its own.

        Raises:
            UnicodeDecodeError: it is not text in this charset.
        """
        return message.decode(self._charset.read_as, self._charset.on_error)

    def decode_stream(self, data: bytes, final: bool = False) -> str:
        """The next piece of a stream; an incomplete character waits for the next piece.

        Raises:
            UnicodeDecodeError: it is not text in this charset; positions count from the first
                byte that was waiting.
        """
        try:
            return _decode(self._decoder(), data, final)
        except UnicodeError as error:
            # UTF-16 or UTF-32 without its byte order mark (a bare UnicodeError before Python
            # 3.13): read as Python reads a whole message.
            if isinstance(error, UnicodeDecodeError) and "BOM" not in error.reason:
                raise
            data = self.waiting + data
            order = "-le" if sys.byteorder == "little" else "-be"
            self._stream = _decoder(self._charset.read_as + order, self._charset.on_error)
            return _decode(self._stream, data, final)

    def _decoder(self) -> codecs.IncrementalDecoder:
        if self._stream is None:
            self._stream = _decoder(self._charset.read_as, self._charset.on_error)
        return self._stream

    @property
    def waiting(self) -> bytes:
        """The bytes of an incomplete character."""
        return b"" if self._stream is None else self._stream.getstate()[0]

    def stream_state(self) -> StreamState:
        """Where the stream is: for `good_before`, after a piece that could not be decoded."""
        stream = self._decoder()
        return stream, stream.getstate(), self.encoding

    def good_before(
        self, error: UnicodeDecodeError, data: bytes, state: StreamState
    ) -> tuple[int, str]:
        """What could be decoded of a piece that could not.

        Args:
            error: what `decode_stream` raised for `data`.
            state: where the stream was before it.

        Returns:
            How many bytes were waiting before the piece, and the text up to the offence.
        """
        self._stream = state[0]
        self._stream.setstate(state[1])
        waiting = len(state[1][0])
        return waiting, self.decode_stream(data[: max(0, error.start - waiting)])

    def encode(self, text: str) -> bytes:
        """Text as bytes, strictly in the named charset.

        Raises:
            UnencodableError: the charset has no bytes for a character.
            UsageError: the message is not text.
        """
        encoding = self.encoding
        try:
            return text.encode(encoding)
        except UnicodeEncodeError as error:
            if (other := _other_names(text, encoding)) != text:
                return self.encode(other)
            raise UnencodableError(
                encoding=encoding, character=text[error.start], position=error.start
            ) from error
        except AttributeError as error:
            raise not_text(text) from error

    def as_read(self, text: str) -> str:
        """What a reader of this charset makes of a text when it is written: nearly always itself.

        Raises:
            UnencodableError: the charset has no bytes for a character.
        """
        return self.encode(text).decode(self._charset.read_as, "replace")

    def encode_stream(self, text: str) -> bytes:
        """The next piece of a stream of text: a byte order mark comes once, at its beginning.

        A piece is whole in itself: nothing is held back, and a shift ends with its piece.

        Raises:
            UnencodableError: the charset has no bytes for a character; nothing is written.
        """
        encoding = self.encoding
        if self._writer is None:
            self._writer = codecs.getincrementalencoder(encoding)()
        state = self._writer.getstate()
        try:
            return self._writer.encode(text, True)
        except UnicodeEncodeError as error:
            # A shift, or a byte order mark, that was never sent must be written again.
            self._writer.setstate(state)
            if (other := _other_names(text, encoding)) != text:
                return self.encode_stream(other)
            raise UnencodableError(
                encoding=encoding, character=text[error.start], position=error.start
            ) from error


def _decoder(encoding: str, errors: str) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(encoding)(errors)


def _decode(decoder: codecs.IncrementalDecoder, data: bytes, final: bool) -> str:
    text = decoder.decode(data, final)
    # Python's multi-byte decoders stop at a replaced last character, and keep what follows it.
    while final and decoder.getstate()[0]:
        text += decoder.decode(b"", final)
    return text


def _other_names(text: str, encoding: str) -> str:
    return text.translate(_WRITE_AS[encoding]) if encoding in _WRITE_AS else text


class AutoSpeaker(Speaker):
    """UTF-8 until the peer sends what is not, GB18030 from then on.

    Of a stream each character counts, of messages each message: one that is not UTF-8 is
    GB18030 as a whole.
    """

    __slots__ = ("_encoding",)

    def __init__(self, charset: Charset) -> None:
        super().__init__(charset)
        self._encoding = "utf-8"

    @property
    def encoding(self) -> str:
        return self._encoding

    @property
    def reads(self) -> str:
        return "gb18030"

    def decode(self, message: bytes) -> str:
        if self._encoding == "utf-8":
            try:
                return message.decode("utf-8")
            except UnicodeDecodeError:
                text = message.decode("gb18030", self._charset.on_error)
                self._encoding = "gb18030"
                return text
        return message.decode("gb18030", self._charset.on_error)

    def as_read(self, text: str) -> str:
        # Both charsets write every character as itself.
        return text

    def _decoder(self) -> codecs.IncrementalDecoder:
        if self._stream is None:
            self._stream = _decoder("utf-8", "strict")
        return self._stream

    def good_before(
        self, error: UnicodeDecodeError, data: bytes, state: StreamState
    ) -> tuple[int, str]:
        waiting, _ = state[1]
        if state[2] == self._encoding:
            return super().good_before(error, data, state)
        # It went over within this piece: UTF-8 up to there, GB18030 from there to the offence.
        good = (waiting + data)[: error.start]
        try:
            return len(waiting), good.decode("utf-8")
        except UnicodeDecodeError as switch:
            text = good[: switch.start].decode("utf-8")
            text += good[switch.start :].decode("gb18030", self._charset.on_error)
            return len(waiting), text

    def decode_stream(self, data: bytes, final: bool = False) -> str:
        try:
            return _decode(self._decoder(), data, final)
        except UnicodeDecodeError as error:
            if self._encoding == "gb18030":
                raise
            # Nothing of a failed piece was taken: what waited before it waits still.
            data = self.waiting + data
            if not final:
                return self._switch(data, error.start)
            # Cut off inside a character: to read its half as GB18030 would make another of it.
            text = data.decode("utf-8", self._charset.errors)
            self._decoder().reset()
            return text

    def _switch(self, data: bytes, at: int) -> str:
        """Go over to GB18030 at a byte; what stands before it is UTF-8 still."""
        text = data[:at].decode("utf-8")
        self._encoding = "gb18030"
        self._writer = None
        self._stream = _decoder("gb18030", self._charset.on_error)
        try:
            return text + self._stream.decode(data[at:])
        except UnicodeDecodeError as error:
            start, end = at + error.start, at + error.end
            raise UnicodeDecodeError("gb18030", data, start, end, error.reason) from None
