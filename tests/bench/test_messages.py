"""What is sent: counters, chance that can be repeated, and templates that are no good."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline import SettingError
from tieline.bench.messages import Constant, InTurn, Messages, Template
from tieline.charset import Charset

TEXT = Charset("utf-8")


def made(messages: Messages, count: int, connection: int = 1) -> list[Any]:
    """The first messages of a connection."""
    return [messages.make(connection, number) for number in range(1, count + 1)]


def test_one_message_is_that_message() -> None:
    messages = Constant(b"ping")
    assert messages.only == b"ping"
    assert made(messages, 3) == [b"ping"] * 3
    assert messages.divided(1, 2).only == b"ping"


def test_several_come_in_turn_over_all_connections() -> None:
    messages = InTurn(["a", "b", "c"])
    assert messages.only is None
    assert [messages.make(number, 1) for number in range(1, 6)] == ["a", "b", "c", "a", "b"]


def test_several_that_are_alike_are_one() -> None:
    assert InTurn([b"x", b"x"]).only == b"x"


def test_there_must_be_one() -> None:
    with pytest.raises(SettingError, match="there is no message to send"):
        InTurn([])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_processes_send_together_what_one_would(size: int, processes: int) -> None:
    texts = [str(number) for number in range(size)]
    divided = [InTurn(texts).divided(index, processes) for index in range(processes)]
    together = [part.make(1, 1) for _ in range(6) for part in divided]
    assert together == made(InTurn(texts), 6 * processes)


def test_counters_of_run_connection_and_message() -> None:
    template = Template.parse("{n} {c} {i} {n:4}")
    assert template.make(7, 1) == b"1 7 1 0001"
    assert template.make(8, 1) == b"2 8 1 0002"
    assert template.make(7, 2) == b"3 7 2 0003"


def test_a_counter_wider_than_its_width_is_written_whole() -> None:
    assert Template.parse("{i:2}").make(1, 12345) == b"12345"


def test_processes_count_on_together() -> None:
    divided = [Template.parse("{n}").divided(index, 3) for index in range(3)]
    assert sorted(int(part.make(1, 1)) for _ in range(4) for part in divided) == [*range(1, 13)]


def test_text_is_text_and_without_a_charset_its_bytes() -> None:
    assert Template.parse("é {i}", TEXT).make(1, 2) == "é 2"
    assert Template.parse("é {i}").make(1, 2) == "é 2".encode()


def test_a_template_without_fields_is_one_message() -> None:
    assert Template.parse("a {{b}} }}{{", TEXT).only == "a {b} }{"
    assert Template.parse("").only == b""
    assert Template.parse("{n}").only is None


@given(st.text(st.characters(codec="utf-8")))
def test_text_with_doubled_braces_comes_back(text: str) -> None:
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert Template.parse(doubled, TEXT).only == text


@pytest.mark.parametrize(
    ("template", "pattern"),
    [
        ("{random:5-7}", r"[567]"),
        ("{random:5-5}", r"5"),
        ("{random: 0 - 9 }", r"\d"),
        ("{hex:8}", r"[0-9a-f]{8}"),
        ("{digits:4}", r"\d{4}"),
        ("{letters:12}", r"[A-Za-z]{12}"),
        ("{epoch}", r"\d+\.\d{3}"),
    ],
)
def test_fields_look_as_they_say(template: str, pattern: str) -> None:
    found = made(Template.parse(template, TEXT), 50)
    assert all(re.fullmatch(pattern, message) for message in found)


def test_every_number_of_a_range_comes() -> None:
    assert {*made(Template.parse("{random:5-7}", TEXT, seed=1), 200)} == {"5", "6", "7"}


def test_a_uuid_is_one_of_version_4_and_no_two_are_alike() -> None:
    found = [uuid.UUID(text) for text in made(Template.parse("{uuid}", TEXT), 100)]
    assert {(each.version, each.variant) for each in found} == {(4, uuid.RFC_4122)}
    assert len(set(found)) == 100


def test_the_time_is_iso_8601_in_utc() -> None:
    (text,) = made(Template.parse("{time}", TEXT), 1)
    told = datetime.fromisoformat(text)
    assert told.utcoffset() is not None
    assert not told.utcoffset()
    assert told.isoformat(timespec="milliseconds") == text


def test_a_seed_gives_the_same_messages_again() -> None:
    text = "{random:1-1000000} {hex:9} {uuid} {letters:3}"
    assert made(Template.parse(text, seed=7), 20) == made(Template.parse(text, seed=7), 20)
    assert made(Template.parse(text, seed=7), 20) != made(Template.parse(text, seed=8), 20)
    assert made(Template.parse(text), 20) != made(Template.parse(text), 20)


@pytest.mark.parametrize("seed", [None, 7])
def test_processes_have_chance_apart(seed: int | None) -> None:
    whole = Template.parse("{uuid}", seed=seed)
    first, second = (made(whole.divided(index, 2), 50) for index in range(2))
    assert not {*first} & {*second}
    if seed is not None:
        assert made(whole.divided(1, 2), 50) == second


@pytest.mark.parametrize(
    "text", ["01 03 {i:2} ff", "0103{i:2}FF", "0x01,0x3 {i:2} 0xff", r"\x01\x03{i:2}\xff"]
)
def test_hexadecimal_as_people_write_it(text: str) -> None:
    template = Template.parse_hex(text)
    assert made(template, 2) == [b"\x01\x03\x00\x01\xff", b"\x01\x03\x00\x02\xff"]


def test_hexadecimal_counts_and_begins_again() -> None:
    template = Template.parse_hex("{n:4}{c:1}{i:1}")
    assert template.make(0x102, 0xFF) == b"\0\0\0\1\x02\xff"
    assert template.make(1, 0x100) == b"\0\0\0\2\x01\0"


def test_hexadecimal_has_chance_and_time() -> None:
    found = made(Template.parse_hex("{random:8}", seed=3), 20)
    assert {len(message) for message in found} == {8}
    assert len({*found}) == 20
    assert len(made(Template.parse_hex("{epoch:4}"), 1)[0]) == 4
    assert Template.parse_hex("de ad").only == b"\xde\xad"


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("{uid}", "{uid} is no field of a template", "did you mean {uuid}?"),
        ("{}", "{} is no field of a template", "{random}"),
        ("{N}", "{N} is no field of a template", ""),
        ("{colour}", "{colour} is no field of a template", ""),
        ("a { b", "{ in a template begins or ends a field", "{{ or }}"),
        ("a } b", "} in a template begins or ends a field", "{{ or }}"),
        ("{n", "{ in a template begins or ends a field", "{{ or }}"),
        ("{n:{i}}", "in a template begins or ends a field", "{{ or }}"),
        ("{n:0}", "{n} needs a width from 1 to 65536", "{n:4}"),
        ("{n:-3}", "{n} needs a width", "{n:4}"),
        ("{n:x}", "{n} needs a width", "{n:4}"),
        ("{n:²}", "{n} needs a width", "{n:4}"),
        ("{hex}", "{hex} needs a width", "{hex:4}"),
        ("{hex:70000}", "{hex} needs a width", "{hex:4}"),
        ("{digits:" + "9" * 5000 + "}", "{digits} needs a width", "{digits:4}"),
        ("{uuid:4}", "{uuid} has no width", ""),
        ("{time:4}", "{time} has no width", ""),
        ("{epoch:4}", "{epoch} has no width", ""),
        ("{random}", "'' is no range of whole numbers", "{random:1-100}"),
        ("{random:7}", "'7' is no range", "{random:1-100}"),
        ("{random:7-5}", "'7-5' is no range", "{random:1-100}"),
        ("{random:1-" + "9" * 5000 + "}", "is no range", "{random:1-100}"),
    ],
)
def test_a_template_that_is_none(text: str, said: str, hint: str) -> None:
    with pytest.raises(SettingError) as caught:
        Template.parse(text)
    assert said in str(caught.value)
    assert hint in caught.value.hint.format(**caught.value.fields)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("01 0", None),
        ("01 123", "'123' is not hexadecimal"),
        ("01 xy", "'xy' is not hexadecimal"),
        ("{{", "'{' is not hexadecimal"),
        ("0{i:1}0", None),
        ("012{i:1}", "'012' is not hexadecimal"),
        ("{i}", "{i} needs a width"),
        ("{random:1-5}", "{random} needs a width"),
        ("{uuid}", "{uuid} is no field of a template"),
        ("{hex:4}", "{hex} is no field of a template"),
        ("{epoch}", "{epoch} needs a width"),
    ],
)
def test_hexadecimal_that_is_none(text: str, said: str | None) -> None:
    if said is None:
        Template.parse_hex(text)
        return
    with pytest.raises(SettingError) as caught:
        Template.parse_hex(text)
    assert said in str(caught.value)


@given(st.text(), st.booleans())
def test_whatever_is_written_is_a_template_or_a_sentence(text: str, hexadecimal: bool) -> None:
    try:
        template = Template.parse_hex(text) if hexadecimal else Template.parse(text, TEXT)
    except SettingError as error:
        told = str(error) + error.hint.format(**error.fields)
        assert told
    else:
        assert isinstance(template.make(1, 1), bytes if hexadecimal else str)
