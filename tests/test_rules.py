"""What one setting may be: kept as it is, or refused in a sentence that names it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.errors import SettingError
from tieline.rules import Rule, nearest

WHOLE = ["bytes", "connections", "clients", "bits"]
PARTS = ["seconds", "share", "bytes a second", "connections a second"]

#: What is no number for anybody.
NO_NUMBERS = [None, True, False, "7", "", [7], math.nan, math.inf, -math.inf, -1, 1j, object()]


def said(rule: Rule, value: Any) -> str:
    """What the rule says against a value."""
    with pytest.raises(SettingError) as caught:
        rule.check("setting", value)
    error = caught.value
    assert str(error).startswith("setting must be ")
    assert error.fields["name"] == "setting"
    # The hint is a template too: it must fill in from the same fields.
    return f"{error} ({error.hint.format(**error.fields)})" if error.hint else str(error)


@pytest.mark.parametrize("unit", WHOLE + PARTS)
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number(unit: str, value: Any) -> None:
    assert said(Rule(unit, "help"), value).endswith(f"not {value!r}")


@pytest.mark.parametrize("unit", WHOLE + PARTS)
def test_without_a_range_a_number_is_above_zero(unit: str) -> None:
    rule = Rule(unit, "help")
    assert rule.check("setting", 1) == 1
    assert said(rule, 0).endswith("not 0")


@pytest.mark.parametrize("unit", WHOLE)
def test_whole_numbers(unit: str) -> None:
    assert "a whole number" in said(Rule(unit, "help"), 1.5)
    assert "a whole number" in said(Rule(unit, "help"), 2.0)


@pytest.mark.parametrize("unit", PARTS)
def test_numbers_with_parts(unit: str) -> None:
    for value in (0.25, 1e-9, 1):
        assert Rule(unit, "help").check("setting", value) is value


@given(
    st.integers(-50, 50),
    st.one_of(st.none(), st.integers(-40, 40)),
    st.one_of(st.none(), st.integers(-40, 40)),
)
def test_a_number_is_kept_exactly_where_it_is_in_its_range(
    value: int, least: int | None, most: int | None
) -> None:
    """The sentence and the decision are of one mind, for every range there can be."""
    rule = Rule("seconds", "help", least=least, most=most)
    inside = (value > 0 if least is None else value >= least) and (most is None or value <= most)
    if inside:
        assert rule.check("setting", value) == value
    else:
        text = said(rule, value)
        assert (f"to {most:g}" in text) if most is not None else ("to " not in text)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (Rule("seconds", ""), "a number of seconds above zero"),
        (Rule("seconds", "", off=True), "a number of seconds above zero or None"),
        (Rule("seconds", "", least=0), "a number of seconds of at least 0"),
        (Rule("share", "", least=0, most=1), "a share from 0 to 1"),
        (Rule("connections", ""), "a whole number of at least 1"),
        (Rule("connections", "", least=0), "a whole number of at least 0"),
        (Rule("bits", ""), "a whole number from 1 to 32"),
        (Rule("bits", "", most=128), "a whole number from 1 to 128"),
        (Rule("bytes a second", ""), "a number of bytes a second above zero"),
    ],
)
def test_the_sentence_says_the_range(rule: Rule, wanted: str) -> None:
    assert said(rule, -7) == f"setting must be {wanted}, not -7"


@pytest.mark.parametrize("unit", [*WHOLE, *PARTS, "choice", "text", "networks", "limits"])
def test_off(unit: str) -> None:
    assert Rule(unit, "help", off=True, choices=("one",)).check("setting", None) is None
    assert "or None" not in said(Rule(unit, "help", choices=("one",)), None)


def test_a_choice() -> None:
    rule = Rule("choice", "help", choices=("wait", "evict"))
    assert rule.check("setting", "evict") == "evict"
    assert said(rule, "evitc") == (
        "setting must be one of wait, evict, not 'evitc' (did you mean 'evict'?)"
    )
    others: list[Any] = ["", 1, True, ["wait"], {}]
    for value in others:
        assert said(rule, value) == f"setting must be one of wait, evict, not {value!r}"


def test_a_text() -> None:
    rule = Rule("text", "help")
    for text in ("", "sorry: 满了\n"):
        assert rule.check("setting", text) == text
    others: list[Any] = [b"sorry", 7, ["sorry"], True]
    for value in others:
        assert said(rule, value) == f"setting must be a text, not {value!r}"


def test_a_text_that_cannot_be_sent_is_none() -> None:
    assert said(Rule("text", "help"), "no \udc80").startswith("setting must be a text, not")


def test_some_of_the_limits() -> None:
    rule = Rule("limits", "help", choices=("idle", "per_client"))
    assert rule.check("setting", ["idle"]) == ("idle",)
    assert rule.check("setting", ()) == ()
    assert said(rule, ["idle", "per_cleint"]) == (
        "setting must be limits that can be tried, not 'per_cleint' (did you mean 'per_client'?)"
    )
    assert said(rule, [7]).endswith("not 7")
    assert said(rule, "idle") == "setting must be a list of limits, not 'idle'"


def test_networks() -> None:
    rule = Rule("networks", "help")
    some = ["10.0.0.0/8", "10.0.0.7", "2001:db8::/32", "::1"]
    assert rule.check("setting", some) == tuple(some)
    assert rule.check("setting", set(some[:1])) == ("10.0.0.0/8",)
    assert rule.check("setting", []) == ()
    others: list[Any] = ["10.0.0.0/8", None, 10, iter(some)]
    for value in others:
        assert said(rule, value) == f"setting must be a list of networks, not {value!r}"


@pytest.mark.parametrize(
    ("word", "detail"),
    [
        ("10.0.0.7/8", "has host bits set"),
        ("10.0.0.0/33", ""),
        ("example.com", ""),
        ("", ""),
        # A number would be read as an address, and be nobody's intent.
        (167_772_160, "is not a text"),
        (b"\n\0\0\0", "is not a text"),
        (None, "is not a text"),
    ],
)
def test_what_is_no_network(word: Any, detail: str) -> None:
    text = said(Rule("networks", "help"), ["::1", word])
    assert f"networks, such as 10.0.0.0/8 or 2001:db8::/32, not {word!r}" in text
    assert detail in text


def test_the_nearest_name() -> None:
    known = {"idle", "first_byte", "per_client", "per_network"}
    assert nearest("idel", known) == "idle"
    assert nearest("per-client", known) == "per_client"
    assert nearest("zzz", known) == ""
    assert nearest("idle", []) == ""


def test_a_rule_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Rule("seconds", "help").unit = "bytes"  # type: ignore[misc]
