"""The control socket's language: JSON Lines in UTF-8, one request or one answer a line.

On connecting, the server greets: `{"v": 1, "tieline": VERSION, "pid": PROCESS}`. A request is
`{"id": ANYTHING, "verb": NAME, "args": {...}}`; its answer `{"v": 1, "id": ..., "ok": true,
"result": {...}}` or `{"v": 1, "id": ..., "ok": false, "error": {...}}`. Some verbs go on after
their answer with `{"v": 1, "id": ..., "event": {...}}`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import string
from dataclasses import dataclass
from typing import Any

from .._version import __version__
from ..client import CLIENT_LIMITS
from ..errors import TielineError, UsageError
from ..rules import nearest

__all__ = [
    "CONTROL_LIMITS",
    "LARGEST_REQUEST",
    "VERSION",
    "ControlError",
    "Reply",
    "Request",
    "answer",
    "as_control_error",
    "brief",
    "decode",
    "encode",
    "event_line",
    "failure",
    "greeting",
    "read_greeting",
    "read_reply",
    "read_request",
    "request_line",
    "silent_server",
]

#: Changed when a program that speaks the one before would misunderstand. Keys are added without.
VERSION = 1

#: Bytes of a request, without the end of the line.
LARGEST_REQUEST = 65_536

#: Of a client's connection. A page of a thousand rows is half a megabyte.
CONTROL_LIMITS = dataclasses.replace(CLIENT_LIMITS, max_message=16_777_216, closing=2.0)

#: Characters of a value that an error repeats.
_BRIEF = 100

_REQUEST_KEYS = ("v", "id", "verb", "args")


class ControlError(TielineError):
    """The control socket said no. The connection goes on, and the server is unchanged.

    Attributes:
        code: what is wrong, one word for programs: `malformed`, `unknown_version`,
            `unknown_verb`, `unknown_argument`, `missing_argument`, `bad_value`, `not_found`,
            `unsupported`, `busy`, `not_allowed`, `unavailable`, `failed`.
        fields: what the sentence speaks of: `name` of an argument, its `value`, what it is
            `like`...
        hint: what to do about it, or an empty string.
    """

    default_template = "the control socket said no"

    def __init__(
        self, template: str = "", /, hint: str = "", *, code: str = "failed", **fields: Any
    ) -> None:
        super().__init__(template, hint=hint, **fields)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for.

    Attributes:
        id: whatever it wants to know the answer by.
        verb: what to do.
        arguments: as they were given.
    """

    id: Any
    verb: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A line from the server: one of `result`, `error` and `event` is there.

    Attributes:
        id: that of the request.
    """

    id: Any
    result: dict[str, Any] | None = None
    error: ControlError | None = None
    event: dict[str, Any] | None = None


# ---- Lines


def encode(fields: dict[str, Any]) -> bytes:
    """One line, without its end."""
    try:
        return json.dumps(fields, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        # The path of a Unix peer need not be text.
        return json.dumps(fields, default=str).encode("ascii")


def decode(line: bytes) -> dict[str, Any]:
    """The object in a line.

    Raises:
        ControlError: there is none.
    """
    try:
        found = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ControlError(
            "{line!r} is not JSON: it is nested too deeply", code="malformed", line=_start(line)
        ) from None
    except ValueError as error:
        raise ControlError(
            "{line!r} is not JSON: {detail}",
            hint='a request is one line such as {"verb": "info"}',
            code="malformed",
            line=_start(line),
            detail=str(error),
        ) from None
    if not isinstance(found, dict):
        raise ControlError(
            "{line!r} is not a JSON object",
            hint='a request is one line such as {"verb": "info"}',
            code="malformed",
            line=_start(line),
        )
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON's")


def _start(line: bytes) -> str:
    return str(brief(line.decode("utf-8", "replace")))


def brief(value: Any) -> Any:
    """A value to be repeated in an error: as it is, or the beginning of its text."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return value if len(text) <= _BRIEF else text[:_BRIEF] + "…"


# ---- What a server reads and writes


def greeting() -> bytes:
    """The server's first line."""
    return encode({"v": VERSION, "tieline": __version__, "pid": os.getpid()})


def read_request(fields: dict[str, Any]) -> Request:
    """A request in what a line held.

    Raises:
        ControlError: it is none.
    """
    for name in fields:
        if name not in _REQUEST_KEYS:
            like = nearest(name, _REQUEST_KEYS)
            raise ControlError(
                "a request has no key {name!r}",
                hint="did you mean {like!r}?" if like else "its keys are id, verb and args",
                code="malformed",
                name=brief(name),
                like=like,
            )
    version = fields.get("v", VERSION)
    if version != VERSION:
        raise ControlError(
            "this server speaks version {version} of the protocol, not {value!r}",
            code="unknown_version",
            version=VERSION,
            value=brief(version),
        )
    verb = fields.get("verb")
    if not isinstance(verb, str):
        raise ControlError(
            "a request needs a verb, and {value!r} is none",
            hint="the verb help lists them",
            code="malformed",
            value=brief(verb),
        )
    given = fields.get("args")
    if given is not None and not isinstance(given, dict):
        raise ControlError(
            "the args of {verb} must be an object, not {value!r}",
            code="malformed",
            verb=brief(verb),
            value=brief(given),
        )
    return Request(fields.get("id"), verb, given or {})


def answer(id: Any, result: dict[str, Any]) -> bytes:
    """The line that grants a request."""
    return encode({"v": VERSION, "id": id, "ok": True, "result": result})


def failure(id: Any, error: ControlError) -> bytes:
    """The line that turns a request down.

    `template` is there for translations: the sentence with the names of `fields` in braces.
    """
    # Hints speak of nothing but the name that is like the one given, where they do at all.
    fields = {name: value for name, value in error.fields.items() if name != "like" or value}
    hint = error.hint.format(**error.fields) if "like" in error.fields else error.hint
    told = {"code": error.code, "message": str(error), "hint": hint}
    return encode({
        "v": VERSION, "id": id, "ok": False,
        "error": {**told, "template": error.template, "fields": fields},
    })  # fmt: skip


def event_line(id: Any, event: dict[str, Any]) -> bytes:
    """A line of a stream."""
    return encode({"v": VERSION, "id": id, "event": event})


def as_control_error(error: TielineError) -> ControlError:
    """What another part of tieline said, in this one's words."""
    if isinstance(error, ControlError):
        return error
    code = "bad_value" if isinstance(error, UsageError) else "failed"
    told = ControlError(error.template, hint=error.hint, code=code)
    told.fields = error.fields
    return told


# ---- What a client reads and writes


def request_line(id: int, verb: str, arguments: dict[str, Any]) -> bytes:
    """A request. Arguments that are `None` were not given."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return encode({"v": VERSION, "id": id, "verb": verb, "args": given})


def read_greeting(line: bytes, path: str) -> dict[str, Any]:
    """The server's first line.

    Raises:
        ControlError: the server turns this client away, speaks another version, or is something
            else altogether.
    """
    try:
        fields = decode(line)
    except ControlError:
        fields = {}
    if "error" in fields:
        raise _read_error(fields["error"])
    if "tieline" not in fields:
        raise ControlError(
            "{path} is not a control socket of tieline",
            hint="is it the socket of another program?",
            code="malformed",
            path=path,
        )
    if fields.get("v") != VERSION:
        raise ControlError(
            "the server at {path} speaks version {theirs} of the protocol, and this is {ours}",
            hint="use the tieline that the server uses",
            code="unknown_version",
            path=path,
            theirs=brief(fields.get("v")),
            ours=VERSION,
        )
    return fields


def silent_server(path: str) -> ControlError:
    """The error for one that closes without a greeting."""
    return ControlError(
        "{path} closed the connection without a word",
        hint="is it the socket of another program, or has the server just ended?",
        code="unavailable",
        path=path,
    )


def read_reply(line: bytes) -> Reply:
    """A line that is not the greeting.

    Raises:
        ControlError: it is no line of this protocol.
    """
    fields = decode(line)
    id = fields.get("id")
    for kind in ("event", "result"):
        if isinstance(fields.get(kind), dict):
            return Reply(id, **{kind: fields[kind]})
    if "error" in fields:
        return Reply(id, error=_read_error(fields["error"]))
    raise ControlError(
        "the server said something that is not of this protocol: {line!r}",
        code="malformed",
        line=_start(line),
    )


def _read_error(told: Any) -> ControlError:
    if not isinstance(told, dict):
        told = {}
    code, message, hint, template = (
        str(told.get(name, "")) for name in ("code", "message", "hint", "template")
    )
    fields = told.get("fields")
    if not isinstance(fields, dict) or not _is_plain(template, fields):
        template, fields = "{message}", {"message": message}
    if fields.get("like") and hint:
        hint = "did you mean {like!r}?"
    error = ControlError(template, hint=hint, code=code or "failed")
    error.fields = fields
    return error


def _is_plain(template: str, fields: dict[str, Any]) -> bool:
    """Whether a template that came from outside names its fields, and does nothing else: a
    format may ask for a gigabyte of spaces, and for what is inside an object."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return False
    named = [(name, form, kind) for _, name, form, kind in parts if name is not None]
    return bool(template) and all(
        name in fields and name.isidentifier() and not form and kind in (None, "r", "s")
        for name, form, kind in named
    )
