"""Errors: the tree, what they say, and what the operating system's become."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import re
import socket
import ssl
from typing import Any

import pytest

from tieline import errors
from tieline.errors import (
    BindError,
    ConnectError,
    ConnectionClosedError,
    DeadlineError,
    EndOfStreamError,
    MalformedError,
    MessageTooLargeError,
    PeerError,
    ProxyHeaderError,
    ResolveError,
    SettingError,
    TielineError,
    TlsError,
    TruncatedError,
    UndecodableError,
    translate_os_error,
)
from tieline.reasons import CloseReason

FUNCTIONS = {"reason_of", "translate_os_error"}
ALL = [getattr(errors, name) for name in errors.__all__ if name not in FUNCTIONS]

#: What each class's own sentence speaks of.
FIELDS: dict[str, Any] = {
    "address": "h:1",
    "character": "é",
    "detail": "no",
    "doing": "connecting to",
    "encoding": "ascii",
    "maximum": 8,
    "pending": 3,
    "position": 2,
    "reason": CloseReason.IDLE_TIMEOUT,
    "seconds": 5,
    "text": "x",
}


def documented_tree() -> dict[str, str]:
    """Each class of the module's docstring, and the class above it."""
    above: list[str] = []
    tree = {}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ([│ ]*(?:[├└]── )?)(\w+Error)\b", line):
            depth = len(match[1]) // 4
            above[depth:] = [match[2]]
            if depth:
                tree[match[2]] = above[depth - 1]
    return tree


def test_docstring_s_tree_is_the_real_one() -> None:
    real = {}
    for kind in ALL:
        if kind is not TielineError:
            parents = [base.__name__ for base in kind.__bases__ if issubclass(base, TielineError)]
            assert len(parents) == 1
            real[kind.__name__] = parents[0]
    assert documented_tree() == real
    assert len(real) == len(ALL) - 1 > 15


def test_all_is_complete() -> None:
    public = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, TielineError)
    }
    assert {kind.__name__ for kind in ALL} == public


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_sentence_and_fields(kind: type[TielineError]) -> None:
    error = kind(**FIELDS)
    assert "{" not in str(error)
    assert len(str(error)) > 5
    assert error.fields == FIELDS
    assert repr(error).startswith(f"{kind.__name__}({str(error)!r}, address='h:1'")
    assert len(kind.__doc__ or "") > 20


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_errors_are_pickled_whole(kind: type[TielineError], protocol: int) -> None:
    error = kind("{text} of {maximum}", hint="try again", **FIELDS)
    if isinstance(error, PeerError):
        error.completed = [b"one", "two"]
    error.add_note("seen in a test")
    for other in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(other) is kind
        assert str(other) == "x of 8"
        assert vars(other) == vars(error)
        assert other.args == error.args


def test_repr_without_fields() -> None:
    assert repr(MalformedError()) == "MalformedError('the bytes do not fit the framing')"


def test_completed_is_nobody_else_s() -> None:
    error = TruncatedError(pending=1)
    error.completed = ["mine"]
    assert TruncatedError(pending=1).completed == []


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(SettingError, ValueError)
    assert issubclass(DeadlineError, TimeoutError)
    error = DeadlineError(doing="connecting to", address="h:1", seconds=5, hint="wait")
    assert str(error) == "connecting to h:1 took longer than 5 s"
    assert error.errno is None
    assert error.strerror is None


def test_peer_errors_carry_their_close_reason() -> None:
    assert {kind: kind.reason for kind in ALL if issubclass(kind, PeerError)} == {
        PeerError: CloseReason.MALFORMED,
        MessageTooLargeError: CloseReason.MESSAGE_TOO_LARGE,
        TruncatedError: CloseReason.TRUNCATED,
        MalformedError: CloseReason.MALFORMED,
        ProxyHeaderError: CloseReason.BAD_PREAMBLE,
        UndecodableError: CloseReason.UNDECODABLE,
    }
    assert EndOfStreamError(reason=CloseReason.PEER_CLOSED).reason is CloseReason.PEER_CLOSED


def test_close_reasons_are_their_words() -> None:
    for reason in CloseReason:
        assert str(reason) == reason.value == reason.name.lower()
    good = {reason for reason in CloseReason if reason.in_good_order}
    assert good == {
        CloseReason.PEER_CLOSED, CloseReason.CLOSED, CloseReason.SHUTDOWN,
        CloseReason.UPSTREAM_CLOSED,
    }  # fmt: skip


CONNECT_WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "cannot be reached",
    errno.ENOENT: "no socket at",
    errno.EADDRNOTAVAIL: "no local port",
    errno.ECONNRESET: "reset the connection at once",
    errno.EACCES: "may not connect",
    errno.ETIMEDOUT: "did not answer",
}
BIND_WORDS = {
    errno.EADDRINUSE: "in use",
    errno.EACCES: "may not listen",
    errno.EPERM: "may not listen",
    errno.EADDRNOTAVAIL: "not an address of this machine",
    errno.ENOENT: "folder",
    errno.EAFNOSUPPORT: "no support",
}


def test_every_table_entry_is_tested() -> None:
    assert errors._CONNECT_TEMPLATES.keys() == CONNECT_WORDS.keys()
    assert errors._BIND_TEMPLATES.keys() == BIND_WORDS.keys()


@pytest.mark.parametrize(
    ("doing", "kind", "code", "words"),
    [
        *(("connect", ConnectError, code, words) for code, words in CONNECT_WORDS.items()),
        *(("bind", BindError, code, words) for code, words in BIND_WORDS.items()),
        *(
            (doing, kind, errno.EMFILE, os.strerror(errno.EMFILE))
            for doing, kind in (("connect", ConnectError), ("bind", BindError))
        ),
    ],
)
def test_connecting_and_listening(
    doing: str, kind: type[TielineError], code: int, words: str
) -> None:
    error = translate_os_error(OSError(code, "as the system says"), doing, "h:1")
    assert type(error) is kind
    assert words in str(error)
    assert "h:1" in str(error)
    assert error.fields["address"] == "h:1"
    assert error.fields["errno"] == code
    assert error.fields["detail"] == os.strerror(code)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ECONNRESET, CloseReason.PEER_RESET),
        (errno.EPIPE, CloseReason.PEER_RESET),
        (errno.ECONNABORTED, CloseReason.PEER_RESET),
        (errno.ETIMEDOUT, CloseReason.NETWORK_ERROR),
        (errno.EHOSTUNREACH, CloseReason.NETWORK_ERROR),
    ],
)
def test_established_connections(code: int, reason: CloseReason) -> None:
    error = translate_os_error(OSError(code, ""), "transfer", "h:1")
    assert type(error) is ConnectionClosedError
    assert error.reason is reason
    reset = reason is CloseReason.PEER_RESET
    assert ("peer reset" in str(error)) is reset
    assert (os.strerror(code) in str(error)) is not reset


def test_names_without_an_address() -> None:
    for cause, doing in (
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "connect"),
        (OSError(errno.EIO, ""), "resolve"),
    ):
        error = translate_os_error(cause, doing, "nowhere:1")
        assert type(error) is ResolveError
        assert "nowhere:1" in str(error)
        assert error.hint


@pytest.mark.parametrize("doing", ["connect", "bind", "transfer"])
def test_errors_without_a_code_say_something(doing: str) -> None:
    assert str(translate_os_error(OSError("odd"), doing, "h:1")).endswith("odd")
    assert str(translate_os_error(TimeoutError(), doing, "h:1")).endswith("TimeoutError")


def test_secure_connections() -> None:
    plain = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    error = translate_os_error(plain, "connect", "h:1")
    assert type(error) is TlsError
    assert "WRONG_VERSION_NUMBER" in str(error)
    assert "h:1" in str(error)
    plain.reason = "WRONG_VERSION_NUMBER"
    assert translate_os_error(plain, "connect", "h:1").fields["detail"] == "WRONG_VERSION_NUMBER"
    distrusted = ssl.SSLCertVerificationError(1, "certificate verify failed")
    assert "verify failed" in str(translate_os_error(distrusted, "connect", "h:1"))
    distrusted.verify_message = "self-signed certificate"
    error = translate_os_error(distrusted, "connect", "h:1")
    assert type(error) is TlsError
    assert "self-signed certificate" in str(error)
    assert "authority" in error.hint
