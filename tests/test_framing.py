"""Framing of bytes: any chunking gives the same messages, and the same end."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Literal, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.errors import (
    MalformedError,
    MessageTooLargeError,
    PeerError,
    SettingError,
    TruncatedError,
    UnframableError,
    UsageError,
)
from tieline.framing import Codec, Delimiter, Fixed, Framing, Gap, LengthPrefix, Line, Raw

Outcome = tuple[list[Any], str]

anything = settings(deadline=None, max_examples=150)


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


def chunkings(data: bytes) -> list[list[bytes]]:
    """Whole, byte by byte, and in two at every boundary (with an empty read between)."""
    ways = [[data], [data[at : at + 1] for at in range(len(data))]]
    return ways + [[data[:at], b"", data[at:]] for at in range(len(data) + 1)]


def outcome(framing: Framing, data: bytes, maximum: int = 8) -> Outcome:
    """What every chunking gives alike."""
    outcomes = [run(framing.codec(maximum), pieces) for pieces in chunkings(data)]
    for pieces, other in zip(chunkings(data), outcomes, strict=True):
        assert other == outcomes[0], pieces
    return outcomes[0]


def reference_delimited(data: bytes, mark: bytes, maximum: int, drop_cr: bool) -> Outcome:
    *messages, rest = data.split(mark)
    if drop_cr:
        messages = [message.removesuffix(b"\r") for message in messages]
    for index, message in enumerate(messages):
        if len(message) > maximum:
            return messages[:index], "MessageTooLargeError"
    slack = int(rest.endswith(b"\r")) if drop_cr else len(mark) - 1
    if len(rest) > maximum + slack:
        return messages, "MessageTooLargeError"
    return messages, "TruncatedError" if rest else "end"


def reference_prefixed(data: bytes, framing: LengthPrefix, maximum: int) -> Outcome:
    messages: list[bytes] = []
    while data:
        lead, field = data[: framing.offset], data[framing.offset :][: framing.size]
        if len(lead) + len(field) < framing.offset + framing.size:
            return messages, "TruncatedError"
        size = framing.adjustment
        for place, byte in enumerate(field if framing.order == "little" else field[::-1]):
            size += byte * 256**place
        if size < 0:
            return messages, "MalformedError"
        if size + framing.offset > maximum:
            return messages, "MessageTooLargeError"
        body = data[framing.offset + framing.size :]
        if len(body) < size:
            return messages, "TruncatedError"
        messages.append(lead + body[:size])
        data = body[size:]
    return messages, "end"


few_bytes = st.lists(st.sampled_from([b"a", b"b", b"|", b"\r", b"\n", b"\x00"]), max_size=24).map(
    b"".join
)


@anything
@given(few_bytes)
def test_lines_of_any_chunking(data: bytes) -> None:
    assert outcome(Line(), data, 4) == reference_delimited(data, b"\n", 4, drop_cr=True)


@anything
@given(few_bytes, st.sampled_from([b"|", b"||", b"a|a", b"aab", b"\r\n", b"\n"]))
def test_delimiters_of_any_chunking(data: bytes, mark: bytes) -> None:
    assert outcome(Delimiter(mark), data, 4) == reference_delimited(data, mark, 4, drop_cr=False)


@anything
@given(st.binary(max_size=24), st.integers(1, 5))
def test_fixed_sizes_of_any_chunking(data: bytes, size: int) -> None:
    whole = [data[at : at + size] for at in range(0, len(data), size)]
    cut = bool(len(data) % size)
    expected = (whole[:-1], "TruncatedError") if cut else (whole, "end")
    assert outcome(Fixed(size), data) == expected


prefixes = st.builds(
    LengthPrefix,
    size=cast("st.SearchStrategy[Literal[1, 2, 4, 8]]", st.sampled_from([1, 2, 4, 8])),
    order=cast('st.SearchStrategy[Literal["big", "little"]]', st.sampled_from(["big", "little"])),
    offset=st.integers(0, 3),
    adjustment=st.integers(-4, 4),
)


@anything
@given(st.lists(st.sampled_from([b"\x00", b"\x01", b"\x03", b"\xff"]), max_size=30), prefixes)
def test_length_prefixes_of_any_chunking(parts: list[bytes], framing: LengthPrefix) -> None:
    data = b"".join(parts)
    assert outcome(framing, data) == reference_prefixed(data, framing, 8)


@anything
@given(st.lists(st.binary(max_size=6), max_size=6), prefixes)
def test_packed_length_prefixes_come_back(messages: list[bytes], framing: LengthPrefix) -> None:
    codec = framing.codec(8)
    data, sent = b"", []
    for message in messages:
        value = len(message) - framing.offset - framing.adjustment
        if len(message) < framing.offset or value < 0:
            with pytest.raises(UnframableError):
                codec.pack(message)
        else:
            data += codec.pack(message)
            sent.append(message)
    assert outcome(framing, data) == (sent, "end")


@anything
@given(st.binary(max_size=40), st.integers(1, 7))
def test_raw_and_gap_lose_nothing(data: bytes, maximum: int) -> None:
    for pieces in chunkings(data):
        messages, end = run(Raw().codec(maximum), pieces)
        assert b"".join(messages) == data
        assert end == "end"
        assert all(0 < len(message) <= maximum for message in messages)
    assert outcome(Gap(), data, 40) == ([data] if data else [], "end")


@anything
@given(
    st.lists(few_bytes, max_size=5),
    st.sampled_from([Line(), Line("\r\n"), Delimiter(b"||"), Delimiter("a|a")]),
)
def test_packed_messages_come_back_or_are_refused(messages: list[bytes], framing: Framing) -> None:
    codec = framing.codec(24)
    mark = framing.mark_bytes("ascii") if isinstance(framing, Delimiter) else b"\n"
    data, sent = b"", []
    for message in messages:
        if framing == Line() and message.endswith(b"\r"):
            continue
        try:
            data += codec.pack(message)
            sent.append(message)
        except UnframableError:
            assert (message + mark).find(mark) < len(message)
    assert outcome(framing, data, 24) == (sent, "end")


@pytest.mark.parametrize("mark", [b"||", b"\r\n", b"=====", "|"])
def test_first_read_shorter_than_its_mark(mark: bytes | str) -> None:
    codec = Delimiter(mark).codec()
    wire = codec.pack(b"")
    for at in range(len(wire) - 1):
        assert codec.feed(wire[at : at + 1]) == []
        assert codec.pending == at + 1
    assert codec.feed(wire[-1:]) == [b""]
    assert codec.feed(b"") == []
    assert codec.pending == 0


@pytest.mark.parametrize(
    ("framing", "wire"),
    [
        (Line(), b"%b\n"),
        (Line(), b"%b\r\n"),
        (Line("\r\n"), b"%b\r\n"),
        (Delimiter(b"||"), b"%b||"),
        (LengthPrefix(1), b"\x04%b"),
    ],
)
def test_maximum_is_exact(framing: Framing, wire: bytes) -> None:
    assert outcome(framing, wire % b"1234", 4) == ([b"1234"], "end")
    over = wire.replace(b"\x04", b"\x05") % b"12345"
    good = wire.replace(b"\x04", b"\x02") % b"ok"
    assert outcome(framing, good + over, 4) == ([b"ok"], "MessageTooLargeError")


def test_gap_maximum_is_exact() -> None:
    assert outcome(Gap(), b"1234", 4) == ([b"1234"], "end")
    assert outcome(Gap(), b"12345", 4) == ([], "MessageTooLargeError")


def test_gap_message_ends_with_silence() -> None:
    codec = Gap(0.25).codec()
    assert codec.quiet == 0.25
    assert codec.quiet_passed() == []
    assert codec.feed(b"a") + codec.feed(b"b") == []
    assert codec.pending == 2
    assert codec.quiet_passed() == [b"ab"]
    assert (codec.pending, codec.end()) == (0, [])


@pytest.mark.parametrize("framing", [Line(), Delimiter(b"\r\n"), Delimiter(b"||"), Gap()])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_endless_message_is_refused_with_bounded_memory(framing: Framing, step: int) -> None:
    codec = framing.codec(1000)
    pending: list[int] = []
    with pytest.raises(MessageTooLargeError) as caught:
        pending.extend(codec.pending for _ in range(2000) if not codec.feed(b"x" * step))
    assert max(pending) <= 1001
    assert len(pending) in (1000 // step, 1001 // step)
    assert caught.value.fields["maximum"] == 1000
    assert caught.value.completed == []


@pytest.mark.parametrize("field", [9, 2**31, 2**32 - 1])
def test_length_over_the_maximum_is_refused_before_its_body(field: int) -> None:
    codec = LengthPrefix(4).codec(8)
    with pytest.raises(MessageTooLargeError) as caught:
        codec.feed(b"\0\0\0\x02ok" + field.to_bytes(4, "big"))
    assert caught.value.completed == [b"ok"]
    assert caught.value.fields == {"maximum": 8, "size": field}


@pytest.mark.parametrize("order", ["big", "little"])
def test_length_prefix_boundaries(order: Literal["big", "little"]) -> None:
    for body in (b"", b"12345678"):
        wire = len(body).to_bytes(2, order) + body
        assert outcome(LengthPrefix(2, order), wire) == ([body], "end")
        assert LengthPrefix(2, order).codec(8).pack(body) == wire
    assert outcome(LengthPrefix(2, order), (9).to_bytes(2, order))[1] == "MessageTooLargeError"
    counts_itself = LengthPrefix(2, order, offset=1, adjustment=-2)
    wire = b"T" + (5).to_bytes(2, order) + b"abc"
    assert outcome(counts_itself, wire) == ([b"Tabc"], "end")
    assert counts_itself.codec().pack(b"Tabc") == wire
    assert outcome(counts_itself, b"T" + (1).to_bytes(2, order))[1] == "MalformedError"


def test_malformed_length_says_both_numbers() -> None:
    with pytest.raises(MalformedError) as caught:
        LengthPrefix(1, adjustment=-3).codec().feed(b"\x03\x01")
    assert caught.value.fields == {"size": -2, "adjustment": -3}
    assert caught.value.completed == [b""]


def test_length_that_does_not_fit_its_field() -> None:
    codec = LengthPrefix(1).codec()
    assert codec.pack(b"x" * 255)[0] == 255
    with pytest.raises(UnframableError, match="256 bytes"):
        codec.pack(b"x" * 256)
    with pytest.raises(UnframableError, match="shorter than the 3"):
        LengthPrefix(1, offset=3).codec().pack(b"ab")


@pytest.mark.parametrize("framing", [Line(), Fixed(4), LengthPrefix(1), Delimiter(b"||")])
def test_cut_off_message_tells_what_had_come(framing: Framing) -> None:
    codec = framing.codec()
    codec.feed(b"\x04a")
    with pytest.raises(TruncatedError) as caught:
        codec.end()
    assert caught.value.fields["pending"] == codec.pending == 2


@pytest.mark.parametrize("framing", [Line(), Delimiter(b"||"), Fixed(9000), LengthPrefix(4)])
def test_byte_by_byte_keeps_one_buffer_that_grows_in_place(framing: Framing) -> None:
    # What makes it linear: a buffer made anew at each feed would copy all that is held.
    codec = framing.codec(9000)
    buffers = []
    for byte in codec.pack(b"x" * 9000)[:8000]:
        assert codec.feed(bytes([byte])) == []
        buffers.append(getattr(codec, "_pending", None))
    assert codec.pending == 8000
    assert all(buffer is buffers[0] for buffer in buffers)
    assert isinstance(buffers[0], bytearray)


@pytest.mark.parametrize(
    "framing", [Line(), Delimiter(b"|"), Fixed(2), LengthPrefix(), Gap(), Raw()]
)
@pytest.mark.parametrize("message", ["te", None, 2, [1, 2], object()])
def test_only_bytes_can_be_packed(framing: Framing, message: Any) -> None:
    with pytest.raises(UsageError, match=type(message).__name__):
        framing.codec().pack(message)


@pytest.mark.parametrize(
    "framing", [Line(), Delimiter(b"|"), Fixed(2), LengthPrefix(), Gap(), Raw()]
)
def test_bytes_like_messages_are_packed_as_bytes(framing: Framing) -> None:
    codec = framing.codec()
    packed = codec.pack(b"ab")
    for message in (bytearray(b"ab"), memoryview(b"ab")):
        again = codec.pack(cast("bytes", message))
        assert again == packed
        assert type(again) is bytes


def test_fixed_refuses_another_size() -> None:
    for message in (b"", b"abc", b"abcde"):
        with pytest.raises(UnframableError, match=f"{len(message)} bytes is not of the fixed 4"):
            Fixed(4).codec().pack(message)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Line("\r"), "'\\\\r'"),
        (lambda: Line(cast("str", b"\n")), "LF or CRLF"),
        (lambda: Delimiter(""), "empty"),
        (lambda: Delimiter(b""), "empty"),
        (lambda: Delimiter(cast("str", 7)), "7"),
        (lambda: Delimiter("§").codec(), "ascii"),
        (lambda: Fixed(0), "0"),
        (lambda: Fixed(True), "True"),
        (lambda: Fixed(cast("int", 1.5)), "1.5"),
        (lambda: Fixed(9).codec(8), "9 bytes are over the maximum of 8"),
        (lambda: LengthPrefix(cast("Any", 3)), "3"),
        (lambda: LengthPrefix(cast("Any", True)), "True"),
        (lambda: LengthPrefix(order=cast("Any", "middle")), "middle"),
        (lambda: LengthPrefix(offset=-1), "-1"),
        (lambda: LengthPrefix(1, adjustment=-256), "-256"),
        (lambda: LengthPrefix(1, adjustment=cast("int", 0.5)), "0.5"),
        (lambda: LengthPrefix(1, offset=5, adjustment=4).codec(8), "9 bytes, over .* of 8"),
        (lambda: Gap(0), "0"),
        (lambda: Gap(float("nan")), "nan"),
        (lambda: Gap(3601), "3601"),
        (lambda: Line().codec(0), "0"),
        (lambda: Raw().codec(-1), "-1"),
        (lambda: Gap().codec(True), "True"),
        (lambda: Line().codec(cast("int", 1.5)), "1.5"),
    ],
)
def test_settings_that_make_no_sense(make: Any, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        make()


def test_settings_at_their_edges() -> None:
    assert Fixed(8).codec(8).pack(b"12345678") == b"12345678"
    assert outcome(LengthPrefix(1, adjustment=-255), b"\xff") == ([b""], "end")
    assert (
        outcome(LengthPrefix(1, offset=4, adjustment=4), b"headX", 8)[1] == "MessageTooLargeError"
    )
    assert outcome(LengthPrefix(1, offset=4, adjustment=4), b"head\0body") == (
        [b"headbody"],
        "end",
    )


def test_codecs_of_bytes_name_no_encoding_and_no_quiet_time() -> None:
    codec = Line().codec()
    assert codec.encoding is None
    assert codec.quiet is None
    assert codec.quiet_passed() == []


def test_idle_codec_is_small() -> None:
    codec = Line().codec()
    codec.feed(b"a" * 1000)
    codec.feed(b"\n")
    assert getattr(codec, "_pending", ...) is None
    assert sys.getsizeof(codec) <= 80
    assert not hasattr(codec, "__dict__")
