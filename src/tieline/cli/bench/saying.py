"""What a bench sends, and which answers are right, as the settings have them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ...bench import Expectation, Messages
from ...bench.expecting import ANY_ANSWER, Echo, Exactly, Matching
from ...bench.messages import Constant, InTurn, Template
from ...charset import Charset
from ...errors import SettingError, UsageError
from ..written import parse_escapes, parse_hex

__all__ = ["default_message", "expectation_of", "messages_of"]

#: What is sent where nothing else is said.
_DEFAULT = "ping"

#: A message: text on a connection with a charset, else bytes.
_Message = str | bytes


def messages_of(
    written: str | None, given: dict[str, Any], charset: Charset | None
) -> Messages | None:
    """What is sent; `None` where nothing was asked for.

    Args:
        written: the message on the command line.
        given: the settings `MESSAGE`.
        charset: what text is written in; `None` for bytes.

    Raises:
        SettingError, UsageError: the settings make no sense.
    """
    file, lines = given["file"], given["lines"]
    sources = [each for each in (written, file, lines) if each is not None]
    if len(sources) > 1:
        raise UsageError("give the message, --file or --lines, and only one of them")
    if given["template"] and lines is not None:
        raise UsageError("--template and --lines exclude each other")
    if given["seed"] is not None and not given["template"]:
        raise UsageError("--seed is for --template")
    _check_hex(given, charset)
    if lines is not None:
        return _lines(lines, given, charset)
    if file is not None:
        data = _contents(file)
        if given["template"]:
            return _template(_decoded(data, file, charset or Charset("utf-8")), given, charset)
        return Constant(data if charset is None else _decoded(data, file, charset))
    if written is None:
        return None
    if given["template"]:
        return _template(written if given["hex"] else _text(written), given, charset)
    return Constant(_message(written, given, charset))


def default_message(given: dict[str, Any], charset: Charset | None) -> Messages:
    """What is sent where something must be, and nothing was said."""
    return Constant(_message(_DEFAULT, {**given, "hex": False}, charset))


def _check_hex(given: dict[str, Any], charset: Charset | None) -> None:
    if given["hex"] and charset is not None:
        raise UsageError("--hex is for bytes, and --encoding for text")
    if given["hex"] and given["file"] is not None:
        raise UsageError("--file sends what a file holds, byte by byte: --hex means nothing to it")


def _message(written: str, given: dict[str, Any], charset: Charset | None) -> _Message:
    """A message from what people write."""
    if given["hex"]:
        return parse_hex(written)
    if charset is None:
        parts = parse_escapes(written)
        return b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return _text(written)


def _text(written: str) -> str:
    """Text from what people write."""
    parts = parse_escapes(written)
    if any(isinstance(part, bytes) for part in parts):
        raise UsageError(
            "\\xNN is a byte, and with --encoding and --template messages are text",
            hint="write the character, or the whole message with --hex",
        )
    return "".join(part for part in parts if isinstance(part, str))


def _template(text: str, given: dict[str, Any], charset: Charset | None) -> Messages:
    if given["hex"]:
        return Template.parse_hex(text, given["seed"])
    return Template.parse(text, charset, given["seed"])


def _lines(file: Path, given: dict[str, Any], charset: Charset | None) -> Messages:
    """Messages, one a line, as they are; their ends are the framing's business."""
    found = [line.removesuffix(b"\r") for line in _contents(file).split(b"\n")]
    if found[-1] == b"":
        found.pop()
    if not found:
        raise SettingError("{file} has no lines", file=str(file))
    messages: list[_Message] = [
        parse_hex(line.decode("ascii", "backslashreplace")) if given["hex"]
        else line if charset is None else _decoded(line, file, charset)
        for line in found
    ]  # fmt: skip
    return InTurn(messages) if len(messages) > 1 else Constant(messages[0])


def _decoded(data: bytes, file: Path, charset: Charset) -> str:
    """A file's text."""
    name = "utf-8" if charset.name == "auto" else charset.name
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        raise SettingError(
            "{file} is not {encoding} text (byte {position})",
            file=str(file), encoding=name, position=error.start,
        ) from error  # fmt: skip


def _contents(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingError(
            "{file} cannot be read: {detail}", file=str(file), detail=error.strerror or str(error)
        ) from error


def expectation_of(given: dict[str, Any], charset: Charset | None) -> Expectation:
    """What an answer must be.

    Raises:
        SettingError, UsageError: the settings make no sense.
    """
    text, expression, echo = given["expect"], given["expect_regex"], given["expect_echo"]
    if (text is not None) + (expression is not None) + echo > 1:
        raise UsageError("--expect, --expect-regex and --expect-echo exclude each other")
    if echo:
        return Echo()
    if text is not None:
        return Exactly(_message(text, given, charset))
    if expression is None:
        return ANY_ANSWER
    try:
        # Bytes are matched with bytes; what is not ASCII in an expression is UTF-8, as in messages.
        pattern = re.compile(expression if charset is not None else expression.encode())
    except re.error as error:
        raise SettingError(
            "{expression!r} is not a regular expression: {detail}",
            expression=expression, detail=str(error),
        ) from error  # fmt: skip
    return Matching(pattern)
