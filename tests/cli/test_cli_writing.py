"""Units, escapes, hexadecimal and framings as people write them; and what is shown."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline import SettingError
from tieline.cli import units
from tieline.cli.help_screen import wrap
from tieline.cli.parameters import parse_framing
from tieline.cli.visible import RAW_BYTE, visible, width
from tieline.cli.written import parse_escapes, parse_hex
from tieline.framing import Delimiter, Fixed, Framing, Gap, LengthPrefix, Line, Raw


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5), ("10s", 10), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1.5m", 90),
        ("3", 3), ("0.2", 0.2), ("20us", 2e-5), (" 7 s ", 7), ("1MIN", 60),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("64KiB", 65536),
        ("64k", 64000),
        ("1.5MiB", 1572864),
        ("1GB", 10**9),
        ("2B", 2),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(("text", "count"), [("20", 20), ("10k", 10_000), ("1.5M", 1_500_000)])
def test_counts(text: str, count: int) -> None:
    assert units.parse_count(text) == count


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20", 20), ("20/s", 20), ("30/m", 0.5), (" 1.5k / h ", 1500 / 3600), ("1/d", 1 / 86400)],
)
def test_rates(text: str, rate: float) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize(("text", "rate"), [("100", 100), ("64KiB/s", 65536), ("1.5k", 1500)])
def test_rates_of_bytes(text: str, rate: float) -> None:
    assert units.parse_byte_rate(text) == rate


@pytest.mark.parametrize(("text", "share"), [("0.1", 0.1), ("10%", 0.1), (" 1 ", 1), ("0", 0)])
def test_shares(text: str, share: float) -> None:
    assert units.parse_share(text) == share


@pytest.mark.parametrize("text", ["", "/s", "5/", "5/x", "5/s/s", "1 2", "5%%", "%", "1k%", "k"])
@pytest.mark.parametrize("read", [units.parse_rate, units.parse_byte_rate, units.parse_share])
def test_no_rates_and_no_shares(read: Any, text: str) -> None:
    with pytest.raises(SettingError):
        read(text)


@pytest.mark.parametrize("text", ["", "5x", "-1s", "s", "1e3", "1 2", "٣", "0x10", "nan", "inf"])
@pytest.mark.parametrize("read", [units.parse_duration, units.parse_size, units.parse_count])
def test_no_units(read: Any, text: str) -> None:
    with pytest.raises(SettingError):
        read(text)


def test_half_a_byte_is_no_size() -> None:
    with pytest.raises(SettingError):
        units.parse_size("1.5")


@given(st.integers(0, 10**12))
def test_sizes_and_counts_are_read_back(number: int) -> None:
    assert units.parse_size(units.format_size(number)) == number
    assert units.parse_count(units.format_count(number)) == number


@given(st.integers(1, 10**6), st.sampled_from([1e-3, 1.0, 60.0, 3600.0]))
def test_durations_are_read_back(number: int, unit: float) -> None:
    seconds = round(number * unit, 3)
    assert units.parse_duration(units.format_duration(seconds)) == pytest.approx(seconds, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("plain 你好", ("plain 你好",)),
        (r"a\n\r\t\0\\b", ("a\n\r\t\0\\b",)),
        (r"\x01\xFFa", (b"\x01\xff", "a")),
        (r"\u4f60\U0001F600", ("你\N{GRINNING FACE}",)),
    ],
)
def test_escapes(text: str, parts: tuple[str | bytes, ...]) -> None:
    assert parse_escapes(text) == parts


@pytest.mark.parametrize("text", ["\\", r"\q", r"\x1", r"\xgg", r"\ud800", r"\U00110000", "\\\n"])
def test_no_escapes(text: str) -> None:
    with pytest.raises(SettingError):
        parse_escapes(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_shown_can_be_typed(text: str) -> None:
    typed = visible(text.replace("\\", "\\\\"))
    read = parse_escapes(typed)
    assert b"".join(part.encode() if isinstance(part, str) else part for part in read) == (
        text.encode()
    )


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("01 03", b"\x01\x03"), ("0x01,0x03", b"\x01\x03"), ("0103", b"\x01\x03"),
        (r"\x01\x03", b"\x01\x03"), ("0x1, 0x3", b"\x01\x03"), ("01:03:fF", b"\x01\x03\xff"),
        ("01-03", b"\x01\x03"), ("", b""), (" \n", b""), ("0X010203", b"\x01\x02\x03"),
    ],
)  # fmt: skip
def test_hexadecimal(text: str, data: bytes) -> None:
    assert parse_hex(text) == data


@pytest.mark.parametrize("text", ["x", "0g", "123", "01 0 3x", "你"])
def test_no_hexadecimal(text: str) -> None:
    with pytest.raises(SettingError):
        parse_hex(text)


@given(st.binary())
def test_any_hexadecimal_is_read_back(data: bytes) -> None:
    assert parse_hex(data.hex(" ")) == parse_hex(data.hex()) == data


@pytest.mark.parametrize(
    ("text", "framing"),
    [
        ("raw", Raw()),
        ("line", Line()),
        ("crlf", Line("\r\n")),
        ("delimiter:|", Delimiter("|")),
        (r"delimiter:\r\n", Delimiter("\r\n")),
        (r"delimiter:\x0d\x0a", Delimiter(b"\r\n")),
        (r"delimiter:a\xff", Delimiter(b"a\xff")),
        ("fixed:8", Fixed(8)),
        ("length:2", LengthPrefix(2)),
        ("length:4,little,offset=2,adjust=-6", LengthPrefix(4, "little", 2, -6)),
        ("gap:50ms", Gap(0.05)),
        ("gap", Gap()),
    ],
)
def test_framings(text: str, framing: Framing) -> None:
    assert parse_framing(text) == framing


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lines",
        "raw:1",
        "delimiter:",
        "fixed",
        "fixed:x",
        "length:3",
        "length:2,middle",
        "gap:0s",
    ],
)
def test_no_framings(text: str) -> None:
    with pytest.raises(SettingError):
        parse_framing(text)


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_ever_shown(text: str) -> None:
    for character in visible(text):
        assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("你好 　!", "你好 　!"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b\x85", r"\u009b\u0085"),
        ("\u202e\u2066\u200f\ufeff", r"\u202e\u2066\u200f\ufeff"),
        ("\U000e0041", r"\U000e0041"),
        (chr(RAW_BYTE + 0x1B) + chr(RAW_BYTE + 0xFF), r"\x1b\xff"),
    ],
)
def test_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(
    st.lists(st.sampled_from(["ab ", "word ", "你好", "（好）", "是，"])).map("".join),
    st.integers(4, 20),
)
def test_wrapped_lines_fit_and_lose_nothing(text: str, columns: int) -> None:
    lines = wrap(text, columns)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    words = max((width(word) for line in lines for word in line.split()), default=0)
    assert all(width(line) <= max(columns, words) for line in lines)
