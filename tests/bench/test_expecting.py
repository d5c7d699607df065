"""Which answers are right."""

from __future__ import annotations

import re

import pytest

from tieline.bench.expecting import ANY_ANSWER, Echo, Exactly, Expectation, Matching


@pytest.mark.parametrize(
    ("expectation", "message", "right", "wrong"),
    [
        (Exactly(b"pong"), b"ping", b"pong", b"pong "),
        (Exactly("pong"), "ping", "pong", "ping"),
        (Matching(re.compile(rb"^\+PONG")), b"PING", b"+PONG\r\n", b"-ERR +PONG"),
        (Matching(re.compile("né")), "x", "il est né hier", "il est ne"),
        (Echo(), b"ping", b"ping", b"pong"),
        (Echo(), "ping", "ping", "ping\n"),
    ],
)
def test_right_and_wrong(
    expectation: Expectation, message: str | bytes, right: str | bytes, wrong: str | bytes
) -> None:
    assert expectation.is_met(message, right)
    assert not expectation.is_met(message, wrong)
    only = expectation.only_answer(message)
    assert only in (None, right)


def test_a_pattern_has_no_only_answer_and_the_others_have() -> None:
    assert Matching(re.compile("a")).only_answer("a") is None
    assert Exactly("b").only_answer("a") == "b"
    assert Echo().only_answer("a") == "a"


def test_without_an_expectation_whatever_comes_is_right() -> None:
    assert ANY_ANSWER.only_answer(b"a") is None
    assert ANY_ANSWER.is_met(b"a", b"")
