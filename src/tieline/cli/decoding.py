"""What a peer speaks, with a way on where its bytes are no text.

The library's own speakers refuse or replace such bytes. Here they can also be kept: a byte that
is no text becomes U+DC00 + byte, a code point that no decoder gives, and is shown as `\\xNN`.
"""

from __future__ import annotations

import codecs
import sys

from ..charset import Charset, Speaker
from ..errors import UndecodableError
from .visible import RAW_BYTE

__all__ = ["ERRORS", "ESCAPE", "AutoText", "Text", "text_of"]

#: What may be done with bytes that are no text; the first is the default.
ERRORS = ("escape", "replace", "strict")

_BYTE_ORDER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)

#: The name of the error handler that keeps bytes that are no text.
ESCAPE = "tieline.escape"


def _escape_bytes(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: each byte that is no text becomes U+DC00 + byte."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(chr(RAW_BYTE + byte) for byte in wrong), error.end


codecs.register_error(ESCAPE, _escape_bytes)


def text_of(charset: Charset, errors: str) -> Text:
    """The text of one connection."""
    return AutoText(charset, errors) if charset.name == "auto" else Text(charset, errors)


class Text:
    """One connection's text in a named charset.

    Args:
        charset: how the peer is read and written.
        errors: one of `ERRORS`.
    """

    def __init__(self, charset: Charset, errors: str) -> None:
        self.errors = ESCAPE if errors == "escape" else errors
        self.speaker: Speaker = self.first_speaker(charset)
        self._read_as = charset.read_as
        self._stream = self.decoder()

    def first_speaker(self, charset: Charset) -> Speaker:
        """Writes to a peer that has said nothing yet."""
        return charset.speaker()

    @property
    def encoding(self) -> str:
        """The charset in which this peer is written to."""
        return self.speaker.encoding

    @property
    def waiting(self) -> bytes:
        """The bytes of an incomplete character of the stream."""
        return self._stream.getstate()[0]

    def decoder(self) -> codecs.IncrementalDecoder:
        """A decoder for what the peer speaks now."""
        return codecs.getincrementaldecoder(self._read_as)(self.errors)

    def judge(self, data: bytes) -> bool:
        """Take notice of what came. True if the peer is found to speak something else."""
        return False

    def decode(self, message: bytes) -> str:
        """One whole message.

        Raises:
            UndecodableError: it is no text, and `errors` is strict.
        """
        try:
            return message.decode(self._read_as, self.errors)
        except UnicodeDecodeError as error:
            raise undecodable(error) from error

    def decode_stream(self, data: bytes, final: bool = False) -> str:
        """Take notice of the next piece of a stream, and decode it as `decode_next` does."""
        return self.decode_next(data, final)

    def decode_next(self, data: bytes, final: bool = False) -> str:
        """The next piece of a stream; an incomplete character waits for the next piece.

        Raises:
            UndecodableError: it is no text, and `errors` is strict.
        """
        try:
            text = self._decode_unless_unmarked(data, final)
            # Python's multi-byte decoders stop at a wrong last character and keep what follows.
            while final and self.waiting:
                text += self._stream.decode(b"", True)
        except UnicodeDecodeError as error:
            raise undecodable(error) from error
        return text

    def _decode_unless_unmarked(self, data: bytes, final: bool) -> str:
        try:
            return self._stream.decode(data, final)
        except UnicodeError:
            data = self.waiting + data
            if self._read_as not in ("utf-16", "utf-32") or data.startswith(_BYTE_ORDER_MARKS):
                raise
            # No byte order mark, without which a stream is refused: which error it is differs
            # between releases of Python. Read as Python reads a whole message.
            self._read_as += "-le" if sys.byteorder == "little" else "-be"
            self.restart()
            return self._stream.decode(data, final)

    def restart(self) -> None:
        """Read on in what the peer speaks now; what was waiting is forgotten."""
        self._stream = self.decoder()


class AutoText(Text):
    """UTF-8 until the peer sends what is only GB18030; what is neither changes nothing."""

    def __init__(self, charset: Charset, errors: str) -> None:
        self._judged = codecs.getincrementaldecoder("utf-8")()
        super().__init__(charset, errors)

    def first_speaker(self, charset: Charset) -> Speaker:
        return Charset("utf-8").speaker()

    def decoder(self) -> codecs.IncrementalDecoder:
        return codecs.getincrementaldecoder(self.encoding)(self.errors)

    def judge(self, data: bytes) -> bool:
        if self.encoding != "utf-8":
            return False
        data = self._judged.getstate()[0] + data
        self._judged.reset()
        try:
            self._judged.decode(data)
        except UnicodeDecodeError:
            self._judged.reset()
            return self._take_for_gb18030(data, whole=False)
        return False

    def _take_for_gb18030(self, data: bytes, *, whole: bool) -> bool:
        """Whether bytes that are no UTF-8 are GB18030; if so, the peer speaks it from now on."""
        try:
            codecs.getincrementaldecoder("gb18030")().decode(data, whole)
        except UnicodeDecodeError:
            return False
        self.speaker = Charset("gb18030").speaker()
        return True

    def decode(self, message: bytes) -> str:
        try:
            return message.decode(self.encoding)
        except UnicodeDecodeError as error:
            if self.encoding == "utf-8" and self._take_for_gb18030(message, whole=True):
                return message.decode("gb18030")
            if self.errors == "strict":
                raise undecodable(error) from error
            return message.decode(self.encoding, self.errors)

    def decode_stream(self, data: bytes, final: bool = False) -> str:
        if self.judge(data):
            data = self.waiting + data
            self.restart()
        if final:
            # What waited for the rest of its character is over and done with.
            self._judged.reset()
        return self.decode_next(data, final)


def undecodable(error: UnicodeDecodeError) -> UndecodableError:
    """The library's error for what a decoder refused."""
    wrong = bytes(error.object[error.start : error.end])
    return UndecodableError(encoding=error.encoding, position=error.start, data=wrong)
