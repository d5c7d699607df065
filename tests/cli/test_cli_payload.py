"""Payloads: their bytes and their text, however they arrive."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline import (
    Charset,
    Delimiter,
    Fixed,
    Framing,
    Gap,
    Line,
    MessageTooLargeError,
    Raw,
    TruncatedError,
    UndecodableError,
    UnframableError,
)
from tieline.charset import message_codec
from tieline.cli.payload import Outgoing, Payload
from tieline.cli.payload_framing import PayloadFraming


def codec(framing: Framing, encoding: str | None, errors: str = "escape", size: int = 65536) -> Any:
    charset = None if encoding is None else Charset(encoding)
    return PayloadFraming(framing, charset, errors).codec(size)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Bytes as they may arrive."""
    edges = [0, *sorted(edge % (len(data) + 1) for edge in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


def received(made: Any, pieces: list[bytes]) -> list[Payload]:
    payloads: list[Payload] = []
    for piece in pieces:
        payloads += made.feed(piece)
    return payloads


TEXTS = st.lists(st.text(st.sampled_from("ab1|\\@你好亅𠮷é"), min_size=1, max_size=8), max_size=6)
MARKS = {"line": Line(), "bar": Delimiter("|"), "digit": Delimiter("1"), "bytes": Delimiter(b"\0")}


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16", "utf-16-le", "auto"])
@pytest.mark.parametrize("mark", list(MARKS))
@given(texts=TEXTS, edges=st.lists(st.integers(0, 500), max_size=6))
def test_any_cutting_gives_the_messages_that_were_sent(
    encoding: str, mark: str, texts: list[str], edges: list[int]
) -> None:
    if mark == "bytes" and encoding.startswith("utf-16"):
        return  # a NUL byte is a part of nearly every character there
    framing = MARKS[mark]
    texts = [text.replace("|", "").replace("1", "") for text in texts]
    written = "utf-8" if encoding == "auto" else encoding
    library = message_codec(framing, Charset(written))
    stream = b"".join(library.pack(text) for text in texts)
    payloads = received(codec(framing, encoding), cut(stream, edges))
    assert [payload.text for payload in payloads] == texts
    for payload, text in zip(payloads, texts, strict=True):
        assert payload.data.decode(written) == text
    ours = codec(framing, encoding)
    sent = [Outgoing(text) for text in texts]
    assert b"".join(ours.pack(outgoing) for outgoing in sent) == stream
    assert [outgoing.payload.text for outgoing in sent] == texts


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "auto", "utf-16", None])
@given(data=st.binary(max_size=60), edges=st.lists(st.integers(0, 60), max_size=6))
def test_raw_shows_every_byte_once_and_in_order(
    encoding: str | None, data: bytes, edges: list[int]
) -> None:
    made = codec(Raw(), encoding)
    payloads = received(made, cut(data, edges)) + made.end()
    assert b"".join(payload.data for payload in payloads) == data


@given(text=st.text(st.sampled_from("a你好𠮷")), edges=st.lists(st.integers(0, 40), max_size=6))
def test_a_character_cut_in_two_is_never_damaged(text: str, edges: list[int]) -> None:
    for encoding in ("utf-8", "gb18030"):
        made = codec(Raw(), encoding)
        payloads = received(made, cut(text.encode(encoding), edges)) + made.end()
        assert "".join(payload.text or "" for payload in payloads) == text


def test_a_lone_piece_of_a_character_is_shown_after_a_while() -> None:
    made = codec(Raw(), "auto")
    assert made.feed(b"\xe4") == []
    assert made.pending == 1
    (payload,) = made.quiet_passed()
    assert (payload.data, payload.text, payload.readable) == (b"\xe4", None, r"\xe4")
    (payload,) = made.feed("你".encode())
    assert payload.text == "你"


def test_auto_follows_the_peer() -> None:
    for framing in (Line(), Delimiter("|")):
        made = codec(framing, "auto")
        end = b"\n" if framing == Line() else b"|"
        assert made.encoding == "utf-8"
        assert made.feed("亅".encode() + end)[0].text == "亅"
        assert made.feed(b"\xff\xff" + end)[0].text is None
        assert made.encoding == "utf-8"
        assert made.feed("亅亅".encode("gbk") + end)[0].text == "亅亅"
        assert made.encoding == "gb18030"
        assert made.pack(Outgoing("你")) == "你".encode("gbk") + end


def test_no_text_is_shown_replaced_or_refused() -> None:
    for framing, data in ((Line(), b"ok\na\xffb\n"), (Delimiter("a"), b"oka\xffa")):
        shown = [p.readable for p in codec(framing, "utf-8").feed(data)]
        assert shown[1] in (r"a\xffb", r"\xff")
        replaced = codec(framing, "utf-8", "replace").feed(data)
        assert "\ufffd" in replaced[1].text
        with pytest.raises(UndecodableError) as caught:
            codec(framing, "utf-8", "strict").feed(data)
        assert [payload.text for payload in caught.value.completed] == ["ok"]
    with pytest.raises(UndecodableError):
        codec(Raw(), "utf-8", "strict").feed(b"\xff")
    with pytest.raises(UndecodableError):
        codec(Line(), "auto", "strict").feed(b"\xff\xff\n")
    strict = codec(Raw(), "utf-8", "strict")
    strict.feed(b"\xe4")
    with pytest.raises(TruncatedError):
        strict.end()


def test_what_handlers_are_given() -> None:
    assert Payload(b"x", None).message == b"x"
    (payload,) = codec(Line(), "utf-8").feed(b"a\xff\x1b\n")
    assert payload.message == "a\\xff\x1b"


def test_limits_and_ends() -> None:
    for framing in (Line(), Delimiter("|")):
        end = b"\n" if framing == Line() else b"|"
        made = codec(framing, "gbk", size=4)
        assert made.feed(b"1234" + end)[0].data == b"1234"
        with pytest.raises(MessageTooLargeError) as caught:
            codec(framing, "gbk", size=4).feed(b"1234" + end + b"123456" + end)
        assert [payload.data for payload in caught.value.completed] == [b"1234"]
        made.feed(b"12")
        with pytest.raises(TruncatedError):
            made.end()
        with pytest.raises(UnframableError):
            made.pack(Outgoing("a" + end.decode() + "b"))


def test_bytes_are_left_alone() -> None:
    made = codec(Fixed(3), "gbk")
    outgoing = Outgoing("你", b"\xff")
    assert made.pack(outgoing) == "你".encode("gbk") + b"\xff"
    assert outgoing.payload.readable == r"你\xff"


def test_a_gap_ends_a_message() -> None:
    made = codec(Gap(0.01), "auto")
    assert made.quiet == 0.01
    assert made.feed("你".encode()[:2]) == []
    made.feed("你".encode()[2:])
    assert made.quiet_passed()[0].text == "你"
