"""Text on the wire: charsets, decoded so that no character is ever damaged.

`gbk` and `gb2312` are read as GB18030, which contains them, and written strictly as named.
`auto` reads UTF-8 while that is what comes and GB18030 from the first byte that is not, and
answers each peer in what it speaks.
"""

from __future__ import annotations

import codecs

from .errors import SettingError
from .framing import Codec, Delimiter, Framing, Line, Raw
from .framing.base import check_maximum
from .framing.text import LineStreamCodec, StreamTextCodec, TextCodec
from .limits import DEFAULT_MAXIMUM
from .speaker import AutoSpeaker, Speaker

__all__ = ["Charset", "Speaker", "message_codec"]

_READ_AS = {"gbk": "gb18030", "gb2312": "gb18030"}

#: The lowest byte that may stand inside a multi-byte character. A delimiter made of lower bytes
#: can be looked for among bytes; any other must be looked for among characters. 0x100: a byte of
#: a delimiter is never part of another character (UTF-8 is self-synchronizing).
_LOWEST_INNER_BYTE = {
    "utf-8": 0x100,
    "ascii": 0x100,
    "auto": 0x30,
    "gb18030": 0x30,
    "big5": 0x40,
    "big5hkscs": 0x40,
    "cp950": 0x40,
    "shift_jis": 0x40,
    "cp932": 0x40,
    "euc_jp": 0x8E,
    "euc_kr": 0xA1,
    "cp949": 0x41,
}

#: In Python's table, but no charsets of a connection: ways to write Python source or domain
#: names, and UTF-7, of which an unbounded piece may have to wait for its end.
_NO_CHARSETS = frozenset(
    {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"}
)


class Charset:
    """A named charset, and what to do with bytes that do not fit it.

    Args:
        encoding: any text encoding that Python knows but UTF-7, or `"auto"`.
        errors: `"strict"` (undecodable bytes are an error, the default) or `"replace"` (they
            become U+FFFD; what follows them is read on).

    Attributes:
        name: the charset under Python's name for it, or `"auto"`.
        errors: as given.
        read_as: the charset that is read: `name`, or one that contains it.
        on_error: the name of the error handler to decode with.
        lowest_inner_byte: see `keeps_apart`.

    Raises:
        SettingError: there is no such encoding, or no such way to treat errors.
    """

    __slots__ = ("errors", "lowest_inner_byte", "name", "on_error", "read_as")

    def __init__(self, encoding: str, errors: str = "strict") -> None:
        if errors not in ("strict", "replace"):
            raise SettingError("errors is 'strict' or 'replace', not {errors!r}", errors=errors)
        self.name = _lookup(encoding)
        self.read_as = _READ_AS.get(self.name, self.name)
        self.errors = errors
        self.on_error = errors
        # Not where a byte below 0x80 may be half of a code unit, or stand in a shifted run.
        if errors == "replace" and not self.name.startswith(("utf", "hz", "iso2022")):
            self.on_error = _SPARING_REPLACE
        inner = _LOWEST_INNER_BYTE.get(self.read_as)
        if inner is None:
            inner = 0x100 if _is_wider_ascii(self.name) else 0
        self.lowest_inner_byte = inner

    def keeps_apart(self, mark: bytes) -> bool:
        """Whether a delimiter's bytes can never be part of a character that is not it."""
        return max(mark) < self.lowest_inner_byte

    def speaker(self) -> Speaker:
        """The state of one connection's text."""
        return AutoSpeaker(self) if self.name == "auto" else Speaker(self)


def _lookup(encoding: str) -> str:
    if not isinstance(encoding, str):
        raise SettingError("an encoding is a name, not {encoding!r}", encoding=encoding)
    if encoding.lower() == "auto":
        return "auto"
    try:
        info = codecs.lookup(encoding)
        codecs.getincrementaldecoder(encoding)
    # ValueError: a name with a NUL or half a surrogate pair in it.
    except (LookupError, ValueError) as error:
        raise SettingError(
            "there is no encoding {encoding!r}",
            hint="common ones are utf-8, gbk, gb18030, big5, latin-1",
            encoding=encoding,
        ) from error
    # Python's table also holds codecs that are no charsets (base64, rot13...).
    if not getattr(info, "_is_text_encoding", True) or info.name in _NO_CHARSETS:
        raise SettingError("{encoding!r} is not a charset for connections", encoding=encoding)
    return info.name


def _is_wider_ascii(name: str) -> bool:
    """Whether every byte is a character, and the lower half is ASCII (in EBCDIC it is not)."""
    decoder = codecs.getincrementaldecoder(name)("replace")
    return all(decoder.decode(bytes([byte])) == chr(byte) for byte in range(128)) and all(
        len(decoder.decode(bytes([byte]))) == 1 for byte in range(128, 256)
    )


def _replace_sparingly(error: UnicodeError) -> tuple[str, int]:
    """U+FFFD for the bytes that are wrong, up to the next ASCII byte.

    Python's own "replace" takes everything to the end of a message that could begin a longer
    character: of the bytes 81 30 61 in GB18030 it leaves nothing, where `0a` is good.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    for at in range(error.start + 1, error.end):
        if error.object[at] < 0x80:
            return "\ufffd", at
    return "\ufffd", error.end


_SPARING_REPLACE = "tieline.replace"
codecs.register_error(_SPARING_REPLACE, _replace_sparingly)


def message_codec(
    framing: Framing,
    charset: Charset | None = None,
    maximum: int = DEFAULT_MAXIMUM,
) -> Codec:
    """The codec of one connection: framing and charset joined.

    Without a charset its messages are `bytes`, with one `str`.

    Args:
        framing: where messages end.
        charset: how their text is written, or `None` for bytes.
        maximum: the largest message in bytes (default 65,536). Where a delimiter can only be
            found among characters (UTF-16; a digit in GBK), it counts characters.

    Raises:
        SettingError: the maximum is none, or framing, charset and maximum do not go together.
    """
    if charset is None:
        return framing.codec(maximum)
    speaker = charset.speaker()
    if isinstance(framing, Raw):
        return StreamTextCodec(speaker, check_maximum(maximum))
    if isinstance(framing, Line) and not charset.keeps_apart(b"\n"):
        return LineStreamCodec(speaker, check_maximum(maximum), framing.ending)
    if isinstance(framing, Delimiter) and isinstance(framing.mark, str):
        mark = framing.mark_bytes(speaker.encoding)
        if speaker.as_read(framing.mark) != framing.mark:
            raise SettingError(
                "the delimiter {mark!r} cannot be told apart in {encoding}",
                mark=framing.mark,
                encoding=charset.name,
            )
        if not charset.keeps_apart(mark):
            return StreamTextCodec(speaker, check_maximum(maximum), framing.mark)
        framing = Delimiter(mark)
    # A delimiter given as bytes: what stands between two of them is decoded as it is.
    return TextCodec(speaker, framing.codec(maximum))
