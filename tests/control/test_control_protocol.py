"""The language of the control socket: lines, requests, arguments, and what is said to nonsense."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from tieline import SettingError, UsageError
from tieline.control import VERSION, ControlError
from tieline.control.arguments import Argument, check_arguments
from tieline.control.protocol import (
    as_control_error,
    brief,
    decode,
    encode,
    failure,
    read_greeting,
    read_reply,
    read_request,
    request_line,
)


def _error(act: Any, *arguments: Any) -> ControlError:
    with pytest.raises(ControlError) as raised:
        act(*arguments)
    return raised.value


@pytest.mark.parametrize(
    "line",
    [
        b"", b"hello", b"[1]", b"42", b"null", b'"text"', b"\xff\xfe", b'{"verb": NaN}',
        b"{" * 50_000, b"[" * 50_000, b'{"id": ' + b"9" * 5_000 + b"}", b'{"a": 1',
    ],
)  # fmt: skip
def test_what_is_no_object_is_malformed(line: bytes) -> None:
    error = _error(decode, line)
    assert error.code == "malformed"
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({}, "malformed", "a request needs a verb, and None is none"),
        ({"verb": 3}, "malformed", "a request needs a verb, and 3 is none"),
        ({"verb": "info", "args": []}, "malformed", "the args of info must be an object, not []"),
        ({"verb": "info", "argz": {}}, "malformed", "a request has no key 'argz'"),
        ({"v": 2, "verb": "info"}, "unknown_version", "version 1 of the protocol, not 2"),
    ],
)
def test_what_is_no_request_is_said_in_a_sentence(
    fields: dict[str, Any], code: str, said: str
) -> None:
    error = _error(read_request, fields)
    assert error.code == code
    assert said in str(error)


def test_a_request_is_read_as_it_was_written() -> None:
    request = read_request(decode(request_line(7, "ban", {"network": "10.0.0.7", "why": None})))
    assert (request.id, request.verb, request.arguments) == (7, "ban", {"network": "10.0.0.7"})
    assert read_request({"verb": "info"}).arguments == {}
    assert read_request({"verb": "info", "v": VERSION, "args": None, "id": [1]}).id == [1]


def test_a_line_is_utf_8_whatever_is_in_it() -> None:
    assert encode({"text": "你好"}) == '{"text": "你好"}'.encode()
    # The path of a Unix peer that is no text.
    assert json.loads(encode({"path": "\udcff"})) == {"path": "\udcff"}
    assert b"\n" not in encode({"text": "a\nb\u2028"})


def test_a_value_that_is_long_is_repeated_in_part() -> None:
    assert brief("x" * 100) == "x" * 100
    assert brief("x" * 101) == "x" * 100 + "…"
    assert len(brief(list(range(1_000)))) == 101
    assert brief([1, 2]) == [1, 2]


# ---- Errors on the wire


def test_an_error_arrives_as_it_was_raised() -> None:
    error = ControlError(
        "there is no verb {value!r}", hint="did you mean {like!r}?",
        code="unknown_verb", value="inof", like="info",
    )  # fmt: skip
    told = json.loads(failure(3, error))
    assert told["error"]["message"] == "there is no verb 'inof'"
    assert told["error"]["hint"] == "did you mean 'info'?"
    reply = read_reply(failure(3, error))
    assert reply.id == 3
    assert reply.error is not None
    assert str(reply.error) == str(error)
    assert (reply.error.code, reply.error.template) == (error.code, error.template)
    assert reply.error.fields == {"value": "inof", "like": "info"}
    assert reply.error.hint == "did you mean {like!r}?"


def test_a_hint_without_anything_like_it_has_no_field_for_it() -> None:
    error = SettingError("no", hint="{detail}", like="", detail="because")
    told = json.loads(failure(None, as_control_error(error)))["error"]
    assert told["hint"] == "because"
    assert told["fields"] == {"detail": "because"}


def test_errors_of_other_parts_keep_their_sentence() -> None:
    error = as_control_error(UsageError("{name} is no good", name="that"))
    assert (str(error), error.code, error.fields) == (
        "that is no good", "bad_value", {"name": "that"},
    )  # fmt: skip
    assert as_control_error(error) is error


@pytest.mark.parametrize(
    "template",
    [
        "{value:>1000000000}", "{value.__class__}", "{value[0]}", "{}", "{0}", "{other}", "{value",
        "{value!a}", "",
    ],
)  # fmt: skip
def test_a_template_from_outside_may_name_its_fields_and_nothing_else(template: str) -> None:
    told = {"code": "x", "message": "said {so}", "template": template, "fields": {"value": "1"}}
    reply = read_reply(encode({"v": 1, "id": 1, "ok": False, "error": told}))
    assert reply.error is not None
    assert str(reply.error) == "said {so}"


def test_errors_survive_copying_and_pickling() -> None:
    error = ControlError("no {value}", hint="try", code="bad_value", value=3)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(twin), twin.hint, twin.code, twin.fields) == (
            "no 3", "try", "bad_value", {"value": 3},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.9", "malformed", "here is not a control socket of tieline"),
        (b'{"v": 1}', "malformed", "here is not a control socket of tieline"),
        (b'{"v": 9, "tieline": "9.0"}', "unknown_version", "here speaks version 9"),
        (b'{"v": 1, "error": {"code": "not_allowed", "message": "no"}}', "not_allowed", "no"),
        (b'{"v": 1, "error": "no"}', "failed", ""),
    ],
)
def test_a_greeting_that_is_none(line: bytes, code: str, said: str) -> None:
    error = _error(read_greeting, line, "here")
    assert error.code == code
    assert said in str(error)


def test_a_reply_that_is_none() -> None:
    assert _error(read_reply, b'{"v": 1, "id": 1}').code == "malformed"
    assert _error(read_reply, b"what?").code == "malformed"


# ---- Arguments

_KNOWN = (
    Argument(name="count", kind="whole", least=1, most=9, default=3, unit="rows", help=""),
    Argument(name="seconds", kind="number", least=0, unit="seconds", help=""),
    Argument(name="color", kind="text", choices=("red", "green"), help=""),
    Argument(name="colors", kind="texts", choices=("red", "green"), help=""),
    Argument(name="ids", kind="wholes", least=1, help=""),
    Argument(name="flag", kind="flag", default=False, help=""),
    Argument(name="changes", kind="object", help=""),
    Argument(name="after", kind="place", help=""),
    Argument(name="stream", kind="name", help=""),
)


def test_arguments_come_as_given_or_with_their_default() -> None:
    checked = check_arguments("paint", _KNOWN, {"seconds": 0, "colors": "red", "count": None})
    assert checked == {
        "count": 3, "seconds": 0, "color": None, "colors": ["red"], "ids": None, "flag": False,
        "changes": None, "after": None, "stream": None,
    }  # fmt: skip
    assert check_arguments("paint", _KNOWN, {"ids": 4})["ids"] == [4]
    assert check_arguments("paint", _KNOWN, {"ids": [4, 5]})["ids"] == [4, 5]
    assert check_arguments("paint", _KNOWN, {"colors": []})["colors"] == []
    assert check_arguments("paint", _KNOWN, {"after": ["x", 3]})["after"] == ["x", 3]
    assert check_arguments("paint", _KNOWN, {"stream": "mine"})["stream"] == "mine"


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("count", 0, "a whole number of rows from 1 to 9"),
        ("count", 10, "a whole number of rows from 1 to 9"),
        ("count", 2.0, "a whole number of rows from 1 to 9"),
        ("count", True, "a whole number of rows from 1 to 9"),
        ("count", "2", "a whole number of rows from 1 to 9"),
        ("seconds", -1, "a number of seconds of at least 0"),
        ("seconds", 1e999, "a number of seconds of at least 0"),
        ("seconds", False, "a number of seconds of at least 0"),
        ("color", 3, "one of red, green"),
        ("color", ["red"], "one of red, green"),
        ("colors", ["red", 3], "one of red, green, or a list of them"),
        ("ids", [0], "a whole number of at least 1, or a list of them"),
        ("ids", list(range(1, 1_002)), "a list of at most 1000"),
        ("flag", 1, "true or false"),
        ("changes", [], "an object"),
        ("after", [1], "what an answer gave as next"),
        ("after", [1, []], "what an answer gave as next"),
        ("stream", 1.5, "the id of a request: a text or a whole number"),
    ],
)
def test_a_value_that_makes_no_sense_is_named_with_what_is_wanted(
    name: str, value: Any, wanted: str
) -> None:
    error = _error(check_arguments, "paint", _KNOWN, {name: value})
    assert error.code == "bad_value"
    assert f"{name} of paint must be {wanted}, not " in str(error)
    assert error.fields["name"] == name


def test_what_is_misspelled_gets_the_nearest_known_name() -> None:
    error = _error(check_arguments, "paint", _KNOWN, {"colour": "red"})
    assert (error.code, error.fields["like"]) == ("unknown_argument", "color")
    error = _error(check_arguments, "paint", _KNOWN, {"color": "gren"})
    assert (error.code, error.fields["like"]) == ("bad_value", "green")
    error = _error(check_arguments, "paint", _KNOWN, {"zzz": 1})
    assert (error.code, error.hint) == ("unknown_argument", "")


def test_what_is_required_is_asked_for() -> None:
    known = (Argument(name="id", kind="whole", required=True, help=""),)
    for given in ({}, {"id": None}):
        error = _error(check_arguments, "tap", known, given)
        assert (error.code, str(error)) == ("missing_argument", "tap needs id: a whole number")
