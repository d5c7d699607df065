"""Messages that end with a mark: lines, and any other delimiter."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import MessageTooLargeError, SettingError, TruncatedError, UnframableError
from ..limits import DEFAULT_MAXIMUM
from .base import Codec, Framing, check_maximum, cut_short, not_bytes

__all__ = ["Delimiter", "Line"]


@dataclass(frozen=True, slots=True)
class Line(Framing):
    """Lines. Reads LF and CRLF alike; the line comes without them.

    A CR at the very end of a line is therefore read as part of its ending, unless lines are
    sent with CRLF.

    Args:
        ending: what is written after each line, `"\\n"` (default) or `"\\r\\n"`.

    Raises:
        SettingError: the ending is neither of these.
    """

    ending: str = "\n"

    def __post_init__(self) -> None:
        if self.ending not in ("\n", "\r\n"):
            raise SettingError(
                "a line ends with LF or CRLF, not {ending!r}",
                hint="use Delimiter for other marks",
                ending=self.ending,
            )

    def codec(self, maximum: int = DEFAULT_MAXIMUM) -> Codec:
        return LineCodec(
            b"\n", check_maximum(maximum), ending=self.ending.encode("ascii"), drop_cr=True
        )


@dataclass(frozen=True, slots=True)
class Delimiter(Framing):
    """Messages that end with a mark of one or more bytes; they come without it.

    Args:
        mark: bytes, or text. Text is written in the connection's charset, and is looked for
            among characters, never inside one: in GBK the second byte of a character may be
            `|`, `\\`, `@` or a letter.

    Raises:
        SettingError: the mark is empty, or neither bytes nor text.
    """

    mark: bytes | str

    def __post_init__(self) -> None:
        if not isinstance(self.mark, (bytes, str)):
            raise SettingError("a delimiter is bytes or text, not {mark!r}", mark=self.mark)
        if not self.mark:
            raise SettingError("a delimiter cannot be empty")

    def codec(self, maximum: int = DEFAULT_MAXIMUM) -> Codec:
        return DelimitedCodec(self.mark_bytes("ascii"), check_maximum(maximum))

    def mark_bytes(self, encoding: str) -> bytes:
        """The mark as bytes in a charset.

        Raises:
            SettingError: the charset has no bytes for it.
        """
        if isinstance(self.mark, bytes):
            return self.mark
        try:
            return self.mark.encode(encoding)
        except UnicodeEncodeError as error:
            raise SettingError(
                "the delimiter {mark!r} cannot be written in {encoding}",
                hint="give the connection an encoding, or the delimiter as bytes",
                mark=self.mark,
                encoding=encoding,
            ) from error


class DelimitedCodec(Codec):
    """Cuts at a mark. Each byte is looked at once, however it arrives."""

    __slots__ = ("_drop_cr", "_ending", "_mark", "_maximum", "_pending", "incomplete")

    incomplete: bool

    def __init__(
        self, mark: bytes, maximum: int, *, ending: bytes | None = None, drop_cr: bool = False
    ) -> None:
        self._mark = mark
        self._ending = ending or mark
        self._maximum = maximum
        self._drop_cr = drop_cr
        # Allocated while a message is incomplete only: an idle connection holds no buffer.
        self._pending: bytearray | None = None
        self.incomplete = False

    def feed(self, data: bytes) -> list[bytes]:
        mark = self._mark
        if self._pending is None:
            # One whole message and nothing else: what nearly every read of a ping-pong is.
            end = len(data) - len(mark)
            if 0 <= data.find(mark) == end <= self._maximum:
                # With lines `data` is not empty here, and a lone LF is its own predecessor.
                if self._drop_cr and data[end - 1] == 13:
                    end -= 1
                return [data[:end]]
        elif (whole := self._join(data)) is None:
            return []
        else:
            data = whole
        messages = data.split(mark)
        rest = messages.pop()
        if self._drop_cr and b"\r\n" in data:
            messages = [line[:-1] if line.endswith(b"\r") else line for line in messages]
        if len(data) > self._maximum:
            self._check_sizes(messages, rest)
        if rest:
            self._pending = bytearray(rest)
            self.incomplete = True
        return messages

    def _join(self, data: bytes) -> bytes | None:
        """Add to what is pending; all of it, once it has a mark, else `None`."""
        pending = self._pending
        assert pending is not None
        # A mark may lie across the seam, so look again at its length less one.
        seam = max(0, len(pending) - len(self._mark) + 1)
        pending += data
        if pending.find(self._mark, seam) < 0:
            self._check_sizes([], pending)
            return None
        self._pending = None
        self.incomplete = False
        return bytes(pending)

    def _check_sizes(self, messages: list[bytes], rest: bytes | bytearray) -> None:
        maximum = self._maximum
        for index, message in enumerate(messages):
            if len(message) > maximum:
                error = MessageTooLargeError(maximum=maximum, size=len(message))
                raise cut_short(error, messages[:index])
        # The rest may end with the beginning of its mark (or a CR), which is no part of it.
        slack = len(self._mark) - 1
        if self._drop_cr and rest.endswith(b"\r"):
            slack = 1
        if len(rest) > maximum + slack:
            raise cut_short(MessageTooLargeError(maximum=maximum, size=len(rest)), messages)

    def end(self) -> list[bytes]:
        if self._pending is not None:
            raise TruncatedError(pending=len(self._pending))
        return []

    def pack(self, message: bytes) -> bytes:
        try:
            packed = b"".join((message, self._ending))
        except TypeError as error:
            raise not_bytes(message) from error
        if packed.find(self._mark) + len(self._mark) != len(packed):
            raise UnframableError(
                "a message holds its own delimiter {mark!r}", framing="Delimiter", mark=self._mark
            )
        return packed

    @property
    def pending(self) -> int:
        return 0 if self._pending is None else len(self._pending)


class LineCodec(DelimitedCodec):
    """Lines, with the common case written out: the hot path of most servers."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[bytes]:
        if self._pending is None:
            # One whole line and nothing else: what nearly every read of a ping-pong is.
            end = len(data) - 1
            if data.find(b"\n") == end and 0 <= end <= self._maximum:
                # A lone LF is its own predecessor.
                if data[end - 1] == 13:
                    end -= 1
                return [data[:end]]
        return super().feed(data)

    def pack(self, message: bytes) -> bytes:
        if type(message) is bytes and message.find(b"\n") < 0:
            return message + self._ending
        return super().pack(message)
