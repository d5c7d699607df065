"""Text on the wire: no character damaged, whatever the chunking, whatever the charset."""

from __future__ import annotations

import codecs
import encodings.aliases
import io
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.charset import Charset, message_codec
from tieline.errors import (
    MessageTooLargeError,
    PeerError,
    SettingError,
    TruncatedError,
    UndecodableError,
    UnencodableError,
    UnframableError,
    UsageError,
)
from tieline.framing import Codec, Delimiter, Fixed, Framing, Gap, LengthPrefix, Line, Raw

anything = settings(deadline=None, max_examples=150)

Outcome = tuple[list[Any], str]

#: Multi-byte charsets in which an ASCII byte outside a character is that character.
MULTI_BYTE = [
    *("gbk", "gb2312", "gb18030", "big5", "big5hkscs", "cp950", "shift_jis", "cp932"),
    *("euc_jp", "euc_kr", "cp949", "johab", "utf-8", "auto"),
]
STATEFUL = ["hz", "iso2022_jp", "iso2022_kr", "utf-16", "utf-32", "utf-8-sig", "utf-16-le"]
FRAMINGS = [
    *(Line(), Line("\r\n"), Delimiter("|"), Delimiter("\\"), Delimiter("@"), Delimiter("a0")),
    *(Delimiter("7"), Delimiter("\t"), LengthPrefix(2)),
]


def run(codec: Codec, pieces: Iterable[bytes]) -> Outcome:
    """The messages of a stream, and the class of the error that ended it, or "end"."""
    messages: list[Any] = []
    try:
        for piece in pieces:
            messages += codec.feed(piece)
        messages += codec.end()
    except PeerError as error:
        return messages + error.completed, type(error).__name__
    return messages, "end"


def outcome(
    framing: Framing, charset: str, data: bytes, maximum: int = 1000, errors: str = "strict"
) -> Outcome:
    """What every chunking gives alike; of `Raw` the joined text."""

    def once(pieces: list[bytes]) -> Outcome:
        messages, end = run(message_codec(framing, Charset(charset, errors), maximum), pieces)
        return (["".join(messages)] if framing == Raw() else messages), end

    first = once([data])
    assert once([data[at : at + 1] for at in range(len(data))]) == first
    for at in range(1, len(data)):
        assert once([data[:at], data[at:]]) == first, at
    return first


def written(charset: str, most: int = 6) -> st.SearchStrategy[str]:
    """Texts that the charset can write and read back."""
    sample = "ab07|\\@~^{[ \t" + "中文测试浣你好，。—·ｱ日本語かな한글조선繁體字¥‾éß€😀㐀𠀀丂ÄΩж"

    def comes_back(character: str) -> bool:
        if charset == "auto":
            return True
        try:
            data = codecs.encode(character, charset)
        except UnicodeEncodeError:
            return False
        read = {"gbk": "gb18030", "gb2312": "gb18030"}.get(charset, charset)
        return codecs.decode(data, read) == character

    return st.text(st.sampled_from([c for c in sample if comes_back(c)]), max_size=most)


@pytest.mark.parametrize("charset", [*MULTI_BYTE, *STATEFUL, "latin-1", "cp1252", "cp037"])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_packed_texts_come_back_through_any_chunking(charset: str, data: st.DataObject) -> None:
    framing = data.draw(st.sampled_from(FRAMINGS))
    texts = data.draw(st.lists(written(charset), max_size=4))
    codec = message_codec(framing, Charset(charset))
    wire, sent = b"", []
    for text in texts:
        try:
            wire += codec.pack(text)
            sent.append(text)
        except UnframableError:
            mark = framing.mark if isinstance(framing, Delimiter) else "\n"
            assert isinstance(mark, str)
            assert (text + mark).find(mark) < len(text)
    assert outcome(framing, charset, wire) == (sent, "end")


@pytest.mark.parametrize("charset", ["gbk", "gb18030", "big5", "shift_jis", "euc_jp", "utf-8"])
@pytest.mark.parametrize("errors", ["strict", "replace"])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_bytes_have_one_outcome(charset: str, errors: str, data: st.DataObject) -> None:
    pieces = st.sampled_from([b"\x81", b"\xb2\xe2", b"0", b"|", b"a", b"\n", b"\xff", b"\xe4\xbd"])
    stream = b"".join(data.draw(st.lists(pieces, max_size=14)))
    framing = data.draw(st.sampled_from([*FRAMINGS, Raw(), Delimiter(b"|")]))
    outcome(framing, charset, stream, 5, errors)


@pytest.mark.parametrize("framing", [Raw(), Delimiter("7"), Line()])
@settings(deadline=None, max_examples=100)
@given(
    parts=st.lists(
        st.sampled_from(["é".encode(), "测试".encode(), "浣".encode("gbk"), b"\xb2\xe2", b"7\n"]),
        max_size=10,
    )
)
def test_auto_has_one_outcome(framing: Framing, parts: list[bytes]) -> None:
    outcome(framing, "auto", b"".join(parts))


@anything
@given(
    texts=st.lists(st.text("a\r\n中𠀀", max_size=8), max_size=4),
    charset=st.sampled_from(["utf-16-le", "utf-32-be"]),
    mark=st.sampled_from(["\n", "aa", "中a"]),
)
def test_marks_among_characters_as_split_finds_them(
    texts: list[str], charset: str, mark: str
) -> None:
    text = mark.join(texts)
    *whole, rest = text.split(mark)
    expected = (whole, "TruncatedError" if rest else "end")
    assert outcome(Delimiter(mark), charset, text.encode(charset)) == expected


def double_bytes(charset: str) -> dict[bytes, str]:
    """Every character of two bytes."""
    found = {}
    for lead in range(0x81, 0xFF):
        for trail in range(0x40, 0xFF):
            try:
                found[bytes([lead, trail])] = bytes([lead, trail]).decode(charset)
            except UnicodeDecodeError:
                continue
    return {data: text for data, text in found.items() if len(text) == 1}


@pytest.mark.parametrize("charset", ["gbk", "gb2312", "gb18030", "auto"])
def test_every_gbk_character_through_every_split(charset: str) -> None:
    characters = double_bytes("gbk")
    assert len(characters) > 21_000
    codec = message_codec(Raw(), Charset(charset))
    codec.feed(b"\xb2\xe2")
    for data, text in characters.items():
        assert codec.feed(data) == [text]
        assert codec.feed(data[:1]) == []
        assert codec.feed(data[1:]) == [text]
    lines = message_codec(Line(), Charset(charset))
    wire = b"".join(data + b"\n" for data in characters)
    if charset != "auto":
        assert lines.feed(wire) == list(characters.values())


def test_sample_of_four_byte_characters_through_every_split() -> None:
    points = [*range(0x80, 0xD800, 97), *range(0xE000, 0x10000, 97), *range(0x10000, 0x110000, 997)]
    wires = {chr(point): chr(point).encode("gb18030") for point in points}
    wires = {text: wire for text, wire in wires.items() if len(wire) == 4}
    assert len(wires) > 1000
    for charset in ("gbk", "gb18030"):
        codec = message_codec(Raw(), Charset(charset))
        for text, wire in wires.items():
            for at in (1, 2, 3):
                assert codec.feed(wire[:at]) == []
                assert codec.pending == at
                assert codec.feed(wire[at:]) == [text]
            assert [codec.feed(wire[at : at + 1]) for at in range(4)] == [[], [], [], [text]]


def test_gbk_is_written_strictly() -> None:
    codec = message_codec(Line(), Charset("gbk"))
    assert codec.feed("😀\n".encode("gb18030")) == ["😀"]
    with pytest.raises(UnencodableError) as caught:
        codec.pack("ab😀")
    assert caught.value.fields == {"encoding": "gbk", "character": "😀", "position": 2}
    assert message_codec(Line(), Charset("gb18030")).pack("😀") == "😀\n".encode("gb18030")


@pytest.mark.parametrize("framing", [Line(), Raw(), Fixed(4)])
def test_gb2312_answers_the_dash_and_the_dot_that_it_reads(framing: Framing) -> None:
    codec = message_codec(framing, Charset("gb2312"))
    data = b"\xa1\xaa\xa1\xa4" + (b"\n" if framing == Line() else b"")
    assert codec.feed(data) == ["—·"]
    assert codec.pack("—·") == data
    with pytest.raises(UnencodableError) as caught:
        codec.pack("—鎔x")
    assert caught.value.fields == {"encoding": "gb2312", "character": "鎔", "position": 1}


@pytest.mark.parametrize("charset", ["gbk", "gb18030", "big5", "shift_jis", "johab"])
@pytest.mark.parametrize("mark", ["|", "\\", "@", "A", "z", "~", "^"])
def test_mark_never_matches_inside_a_character(charset: str, mark: str) -> None:
    inner = [
        (data, text)
        for data, text in double_bytes(charset).items()
        if data[1] == ord(mark) and text.encode(charset, "ignore") == data
    ]
    if mark.encode(charset).decode(charset) == mark and (charset, mark) != ("johab", "~"):
        assert inner or charset == "johab"
    codec = message_codec(Delimiter(mark), Charset(charset))
    for _, text in inner:
        wire = codec.pack(text)
        assert codec.feed(wire) == [text]
        assert [m for at in range(len(wire)) for m in codec.feed(wire[at : at + 1])] == [text]


@pytest.mark.parametrize("digit", "0123456789")
def test_digit_mark_never_matches_inside_a_four_byte_character(digit: str) -> None:
    codec = message_codec(Delimiter(digit), Charset("gb18030"))
    for text in ("㐀", "😀", "é", "ǅ", "\u0e01", "𠀀"):
        assert outcome(Delimiter(digit), "gb18030", codec.pack(text)) == ([text], "end")


@pytest.mark.parametrize(("mark", "smuggled"), [("\\", "a¥b"), ("~", "a‾b")])
@pytest.mark.parametrize("charset", ["shift_jis", "euc_jp"])
def test_character_that_is_written_as_the_mark_is_refused(
    mark: str, smuggled: str, charset: str
) -> None:
    codec = message_codec(Delimiter(mark), Charset(charset))
    with pytest.raises(UnframableError):
        codec.pack(smuggled)
    assert codec.feed(codec.pack("ab")) == ["ab"]


def test_utf_16_lines_write_one_byte_order_mark() -> None:
    codec = message_codec(Line("\r\n"), Charset("utf-16"))
    wire = codec.pack("中") + codec.pack("") + codec.pack("文")
    assert wire == "中\r\n\r\n文\r\n".encode("utf-16")
    assert outcome(Line(), "utf-16", wire) == (["中", "", "文"], "end")
    assert outcome(Line(), "utf-16-be", "ਊ\n".encode("utf-16-be")) == (["ਊ"], "end")


@pytest.mark.parametrize("charset", ["utf-16", "utf-32"])
def test_missing_byte_order_mark_is_read_in_the_machine_s_order(charset: str) -> None:
    order = "-le" if sys.byteorder == "little" else "-be"
    wire = "ab\n中\n".encode(charset + order)
    assert outcome(Line(), charset, wire) == (["ab", "中"], "end")
    assert outcome(Line(), charset, wire + b"\0")[1] == "TruncatedError"
    assert [wire.decode(charset)] == outcome(Raw(), charset, wire)[0]


@pytest.mark.parametrize("charset", ["utf-16", "utf-8-sig", "iso2022_jp", "hz"])
def test_refused_text_leaves_no_trace_in_what_is_written_next(charset: str) -> None:
    codec = message_codec(Line(), Charset(charset))
    bad = "中\udc80"
    with pytest.raises(UnencodableError) as caught:
        codec.pack(bad)
    assert caught.value.fields["character"] == "\udc80"
    wire = codec.pack("中") + codec.pack("文")
    assert wire.decode(charset) == "中\n文\n"


@pytest.mark.parametrize("charset", ["big5hkscs", "hz", "iso2022_jp", "euc_jis_2004"])
def test_nothing_written_is_held_back(charset: str) -> None:
    # Each could begin a longer sequence, or leave the stream shifted.
    text = {"big5hkscs": "Ê", "euc_jis_2004": "か"}.get(charset, "中")
    codec = message_codec(Raw(), Charset(charset))
    for _ in range(2):
        assert codec.pack(text) == text.encode(charset)


@pytest.mark.parametrize("charset", MULTI_BYTE)
@pytest.mark.parametrize("framing", [LengthPrefix(1), Raw()])
def test_replacing_never_swallows_ascii(charset: str, framing: Framing) -> None:
    """Every lead byte and ASCII byte: a character, or U+FFFD and that ASCII byte."""
    for lead in range(0x80, 0x100):
        for ascii_byte in range(0x80):
            data = bytes([lead, ascii_byte])
            try:
                expected = data.decode("gb18030" if charset.startswith(("gb", "au")) else charset)
            except UnicodeDecodeError:
                expected = "\ufffd" + chr(ascii_byte)
            codec = message_codec(framing, Charset(charset, "replace"))
            wire = data if framing == Raw() else b"\x02" + data
            text = "".join(codec.feed(wire) + codec.end())
            if text != expected:
                # One byte that is a whole character, before an ASCII one.
                assert text == bytes([lead]).decode(charset) + chr(ascii_byte), data


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("gb18030", b"\x810a", "\ufffd0a"),
        ("gb18030", b"\x810\x81a", "\ufffd0" + b"\x81a".decode("gbk")),
        ("gbk", b"x\x810", "x\ufffd0"),
        ("gbk", b"\xb2\xe2\xff\xb2\xe2", "测\ufffd测"),
        ("auto", b"\xff\x810ab", "\ufffd\ufffd0ab"),
        ("euc_jp", b"\x8fAb", "\ufffdAb"),
        ("euc_kr", b"\xa4\xd4abc", "\ufffdabc"),
        ("utf-8", b"\xe4\xbdab", "\ufffdab"),
        ("utf-8", b"\xff\xfe", "\ufffd\ufffd"),
        ("utf-16-le", b"\x00\xd8a\x00", "\ufffda"),
        ("latin-1", b"\xff", "ÿ"),
        ("cp1252", b"\x81a", "\ufffda"),
    ],
)
def test_replacing_known_quirks(charset: str, data: bytes, text: str) -> None:
    assert message_codec(Fixed(len(data)), Charset(charset, "replace")).feed(data) == [text]
    assert outcome(Raw(), charset, data, errors="replace") == ([text], "end")


def test_replacement_is_for_reading_only() -> None:
    with pytest.raises(UnicodeEncodeError):
        "é".encode("ascii", Charset("gbk", "replace").on_error)
    with pytest.raises(UnencodableError):
        message_codec(Line(), Charset("ascii", "replace")).pack("é")


def test_auto_answers_in_what_the_peer_speaks() -> None:
    for framing in (Line(), Delimiter("7"), LengthPrefix(1), Gap()):
        codec = message_codec(framing, Charset("auto"))
        assert codec.encoding == "utf-8"
        assert "测".encode() in codec.pack("测")
        end = {Line(): b"\n", Delimiter("7"): b"7"}.get(framing, b"")
        start = b"\x02" if isinstance(framing, LengthPrefix) else b""
        assert codec.feed(start + b"\xb2\xe2" + end) + codec.quiet_passed() == ["测"]
        assert codec.encoding == "gb18030"
        assert b"\xb2\xe2" in codec.pack("测")


def test_auto_stays_with_utf_8_and_then_with_gb18030() -> None:
    codec = message_codec(Line(), Charset("auto"))
    assert codec.feed("plain\n测试\n".encode() + b"\xb2\xe2\n") == ["plain", "测试", "测"]
    # From now on valid UTF-8 is GB18030 too.
    assert codec.feed("测试\n".encode()) == ["测试".encode().decode("gb18030")]


def test_auto_stream_goes_over_at_the_byte_that_is_not_utf_8() -> None:
    wire = "é测".encode() + b"\xb2\xe2\xca\xd4"
    assert outcome(Raw(), "auto", wire) == (["é测测试"], "end")
    assert outcome(Delimiter("|"), "auto", wire + b"|") == (["é测测试"], "end")


def test_auto_cut_off_inside_a_character() -> None:
    # Its first two bytes alone would be another character in GB18030.
    assert outcome(Raw(), "auto", "好测".encode()[:-1]) == (["好"], "TruncatedError")
    assert outcome(Raw(), "auto", "好测".encode()[:-1], errors="replace") == (["好\ufffd"], "end")
    assert outcome(Raw(), "auto", b"\xb2\xe2\xb2") == (["测"], "TruncatedError")


def test_auto_that_is_neither() -> None:
    wire = "é".encode() + b"\xb2\xe2\xff|x|"
    assert outcome(Delimiter("|"), "auto", b"ok|" + wire) == (["ok"], "UndecodableError")
    codec = message_codec(Raw(), Charset("auto"))
    with pytest.raises(UndecodableError) as caught:
        codec.feed(wire)
    assert caught.value.completed == ["é测"]
    assert caught.value.fields == {"encoding": "gb18030", "position": 4, "data": b"\xff"}


@pytest.mark.parametrize("charset", ["utf-8", "gbk", "auto", "ascii", "cp1252", "iso2022_jp"])
def test_undecodable_message_keeps_those_before_it(charset: str) -> None:
    good, bad = b"one\ntwo\n", b"ab\x81\xff\nlost\n"
    assert outcome(Line(), charset, good + bad) == (["one", "two"], "UndecodableError")
    with pytest.raises(UndecodableError) as caught:
        message_codec(LengthPrefix(1), Charset(charset)).feed(b"\x02ok\x04ab\x81\xff")
    assert caught.value.completed == ["ok"]
    assert caught.value.fields["position"] == 2
    assert caught.value.fields["data"][:1] == b"\x81"
    name = {"auto": "gb18030"}.get(charset, charset)
    assert caught.value.fields["encoding"] == name


@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_undecodable_stream_counts_bytes_from_its_beginning(step: int) -> None:
    wire = b"\xb2\xe2|\xb2\xe2|\xb2\xff|x|"
    codec = message_codec(Delimiter("|"), Charset("gbk"))
    texts: list[str] = []
    pieces = [wire[at : at + step] for at in range(0, len(wire), step)]
    with pytest.raises(UndecodableError, match="byte 6 of the stream is not gbk text") as caught:
        texts.extend(text for piece in pieces for text in codec.feed(piece))
    assert texts + caught.value.completed == ["测", "测"]


def test_undecodable_bytes_amid_a_shift_leave_what_came_before() -> None:
    wire = "中|文".encode("iso2022_jp")[:-3]
    assert outcome(Delimiter("|"), "iso2022_jp", wire + b"\xff") == (["中"], "UndecodableError")
    codec = message_codec(Raw(), Charset("iso2022_jp"))
    assert codec.feed(wire) == ["中|文"]
    with pytest.raises(UndecodableError) as caught:
        codec.feed("文".encode("iso2022_jp")[3:-3] + b"\xff")
    assert caught.value.completed == ["文"]


def test_message_too_large_keeps_decoded_messages_before_it() -> None:
    for framing in (Line(), Delimiter("7"), Delimiter("\t")):
        codec = message_codec(framing, Charset("gbk"), 4)
        mark = codec.pack("")
        with pytest.raises(MessageTooLargeError) as caught:
            codec.feed(b"\xb2\xe2" + mark + b"abcdef" + mark)
        assert caught.value.completed == ["测"]


@pytest.mark.parametrize(
    ("framing", "charset"),
    [(Line(), "utf-16-le"), (Line("\r\n"), "utf-16-le"), (Delimiter("中x"), "gbk")],
)
def test_maximum_among_characters_is_exact(framing: Framing, charset: str) -> None:
    codec = message_codec(framing, Charset(charset), 4)
    good, over = codec.pack("一二三四"), codec.pack("一二三四五")
    assert outcome(framing, charset, good, 4) == (["一二三四"], "end")
    assert outcome(framing, charset, good + over, 4) == (["一二三四"], "MessageTooLargeError")
    assert outcome(framing, charset, over[:-1], 4)[1] == "MessageTooLargeError"


def test_raw_text_is_cut_to_the_maximum() -> None:
    codec = message_codec(Raw(), Charset("gbk"), 2)
    assert codec.feed("一二三四五".encode("gbk")) == ["一二", "三四", "五"]


@pytest.mark.parametrize("step", [2, 6, 5000])
def test_endless_text_is_refused_with_bounded_memory(step: int) -> None:
    codec = message_codec(Line(), Charset("utf-16-le"), 1000)
    pending: list[int] = []
    with pytest.raises(MessageTooLargeError):
        pending.extend(codec.pending for _ in range(3000) if not codec.feed(b"x\0" * (step // 2)))
    assert max(pending, default=0) <= 1000
    assert len(pending) == 2000 // step


def test_cut_off_text_is_truncated() -> None:
    for framing, charset, data in (
        (Line(), "utf-16-le", b"a\0"),
        (Line(), "utf-16-le", b"a\0\n\0b"),
        (Delimiter("7"), "gbk", b"a7\xb2"),
        (Raw(), "gbk", b"\xb2"),
        (Raw(), "utf-8", b"\xe4\xbd"),
        (Line(), "gbk", b"\xb2"),
    ):
        codec = message_codec(framing, Charset(charset))
        codec.feed(data)
        pending = codec.pending
        assert pending > 0
        with pytest.raises(TruncatedError) as caught:
            codec.end()
        assert caught.value.fields["pending"] == pending
        assert outcome(framing, charset, data)[1] == "TruncatedError"


def test_lines_drop_a_carriage_return_and_delimiters_do_not() -> None:
    for charset in ("utf-8", "utf-16-le", "cp037", "hz"):
        wire = "a\r\n\r\nb\rc\n\r\r\n".encode(charset)
        assert outcome(Line(), charset, wire) == (["a", "", "b\rc", "\r"], "end")
        assert outcome(Delimiter("\n"), charset, wire)[0] == ["a\r", "\r", "b\rc", "\r\r"]


def test_gap_and_text() -> None:
    codec = message_codec(Gap(0.5), Charset("gbk"))
    assert codec.quiet == 0.5
    assert codec.feed(b"\xb2") + codec.feed(b"\xe2") == []
    assert codec.quiet_passed() == ["测"]
    codec.feed(b"\xb2")
    with pytest.raises(UndecodableError):
        codec.quiet_passed()


class _CountingPieces(io.StringIO):
    """Pieces of text that count how many characters were put in and taken out."""

    characters = 0

    def write(self, text: str, /) -> int:
        type(self).characters += len(text)
        return super().write(text)

    def read(self, size: int | None = -1, /) -> str:
        text = super().read(size)
        type(self).characters += len(text)
        return text

    def getvalue(self) -> str:
        text = super().getvalue()
        type(self).characters += len(text)
        return text


@pytest.mark.parametrize(
    ("framing", "charset"),
    [(Line(), "utf-16-le"), (Delimiter("77"), "gb18030"), (Delimiter("|"), "gbk")],
)
def test_byte_by_byte_is_linear(
    framing: Framing, charset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tieline.framing.text.io.StringIO", _CountingPieces)
    _CountingPieces.characters = 0
    codec = message_codec(framing, Charset(charset), 20_000)
    text = "中" * 20_000
    texts = []
    wire = codec.pack(text)
    for at in range(len(wire)):
        texts += codec.feed(wire[at : at + 1])
    assert texts == [text]
    # Once in, once out, and for a mark of two characters one more at each seam.
    assert 20_000 < _CountingPieces.characters < 20_000 * 5


@pytest.mark.parametrize("framing", [Line(), Raw(), Delimiter("7"), LengthPrefix(), Gap()])
@pytest.mark.parametrize("charset", ["gbk", "utf-16", "auto"])
@pytest.mark.parametrize("message", [b"bytes", None, 3, ["a"]])
def test_only_text_can_be_packed(framing: Framing, charset: str, message: Any) -> None:
    with pytest.raises(UsageError, match=type(message).__name__):
        message_codec(framing, Charset(charset)).pack(message)


def python_s_encodings() -> list[str]:
    """Every text encoding that this Python has."""
    names = set()
    for name in sorted(set(encodings.aliases.aliases.values())):
        try:
            "".encode(name)
            names.add(codecs.lookup(name).name)
        except LookupError:
            continue
    return sorted(names - {"utf-7", "mbcs", "oem"})


@pytest.mark.parametrize("name", python_s_encodings())
@pytest.mark.parametrize("framing", [Line(), Delimiter("ab"), LengthPrefix(), Raw()])
def test_every_encoding_of_python_carries_text(name: str, framing: Framing) -> None:
    wire = b"".join(map(message_codec(framing, Charset(name)).pack, ["Hello, 7", "x"]))
    texts, end = outcome(framing, name, wire)
    assert end == "end"
    assert "".join(texts) == "Hello, 7x"
    assert len(texts) == (1 if framing == Raw() else 2)


@pytest.mark.parametrize(
    "name",
    [
        *("no-such", "", "a\0b", "\ud800", "base64", "rot13", "hex", "bz2"),
        *("utf-7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"),
        *(None, 8),
    ],
)
def test_encodings_that_are_none(name: Any) -> None:
    with pytest.raises(SettingError):
        Charset(name)


def test_charset_settings() -> None:
    with pytest.raises(SettingError, match="ignore"):
        Charset("gbk", "ignore")
    assert Charset("AUTO").name == "auto"
    assert (Charset("CP936").name, Charset("cp936").read_as) == ("gbk", "gb18030")
    assert Charset("utf8").name == "utf-8"


@pytest.mark.parametrize(
    ("framing", "charset", "maximum"),
    [
        (Delimiter("中"), "latin-1", 10),
        (Delimiter("中"), "cp037", 10),
        (Delimiter("😀"), "gbk", 10),
        (Delimiter("¥"), "shift_jis", 10),
        (Line(), "utf-16", 0),
        (Raw(), "utf-8", 0),
        (Delimiter("7"), "gbk", -1),
        (Fixed(11), "gbk", 10),
    ],
)
def test_framing_and_charset_that_do_not_go_together(
    framing: Framing, charset: str, maximum: int
) -> None:
    with pytest.raises(SettingError):
        message_codec(framing, Charset(charset), maximum)


def test_without_a_charset_messages_are_bytes() -> None:
    codec = message_codec(Line(), None, 4)
    assert codec.feed(b"\xff\n") == [b"\xff"]
    assert codec.encoding is None


def test_idle_codecs_are_small() -> None:
    for framing, charset, most in (
        (Line(), "gbk", 48),
        (Line(), "utf-16", 72),
        (Raw(), "auto", 72),
    ):
        codec = message_codec(framing, Charset(charset))
        codec.feed(codec.pack("中\r\n" if framing == Raw() else "中"))
        assert codec.pending == 0
        assert sys.getsizeof(codec) <= most
        assert not hasattr(codec, "__dict__")
    assert getattr(message_codec(Line(), Charset("utf-16")), "_pieces", ...) is None
