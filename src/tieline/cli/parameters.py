"""The kinds of values that settings have, and the settings that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..charset import Charset
from ..errors import SettingError, TielineError
from ..framing import Delimiter, Fixed, Framing, Gap, LengthPrefix, Line, Raw
from ..limits import RULES
from ..rules import Rule
from . import units
from .decoding import ERRORS
from .limit_values import default_of, metavar_of, parse_limit, written_name
from .options import Setting
from .translation import LANGUAGES, N_, hint_of, sentence, with_hint
from .written import parse_escapes

if TYPE_CHECKING:
    # Generic for the type checker, and in newer releases only.
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType

__all__ = [
    "COUNT",
    "DURATION",
    "FRAMING",
    "PAUSE",
    "Written",
    "charset_of",
    "limit_settings",
    "parse_framing",
    "rule_setting",
    "shared_settings",
    "text_settings",
]


class Written(_ParamType):
    """A value that a function of ours reads from what people write.

    Args:
        name: what the value is called in help, in capitals.
        read: raises a `SettingError` for what it cannot read.
        off: whether `none` is a value, and means none.
    """

    def __init__(self, name: str, read: Callable[[str], Any], *, off: bool = False) -> None:
        self.name = name
        self.read = read
        self._off = off

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; from a settings file it may come as a number."""
        if not isinstance(value, (str, int, float)):
            return value
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if self._off and text.strip().lower() == "none":
            return None
        try:
            return self.read(text)
        except TielineError as error:
            self.fail(with_hint(sentence(error), hint_of(error)), param, ctx)


def _positive(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def read_positive(text: str) -> Any:
        value = read(text)
        if not value > 0:
            raise SettingError("{text!r} is not above zero", text=text)
        return value

    return read_positive


DURATION = Written("TIME", _positive(units.parse_duration))
PAUSE = Written("TIME", units.parse_duration)
COUNT = Written("N", units.parse_count)

_FORMS = (
    "raw, line, crlf, delimiter:TEXT, fixed:N, length:SIZE[,little][,offset=N][,adjust=N], gap:TIME"
)


def parse_framing(text: str) -> Framing:
    r"""Read a framing: `raw`, `line`, `crlf`, `delimiter:TEXT`, `fixed:N`, `gap:50ms`,
    `length:SIZE[,little][,offset=N][,adjust=N]`.

    A delimiter's text may have escapes; with `\xNN` in it, it is bytes.

    Raises:
        SettingError: it is none of these.
    """
    kind, _colon, rest = text.partition(":")
    if kind == "raw" and not rest:
        return Raw()
    if kind in ("line", "crlf") and not rest:
        return Line("\r\n" if kind == "crlf" else "\n")
    if kind == "delimiter" and rest:
        parts = parse_escapes(rest)
        if len(parts) == 1:
            return Delimiter(parts[0])
        return Delimiter(b"".join(p if isinstance(p, bytes) else p.encode() for p in parts))
    if kind == "fixed" and rest:
        return Fixed(units.parse_size(rest))
    if kind == "gap":
        return Gap(units.parse_duration(rest)) if rest else Gap()
    if kind == "length" and rest:
        return _parse_length(text, rest.split(","))
    raise SettingError("{text!r} is not a framing", hint=_FORMS, text=text)


def _parse_length(text: str, words: list[str]) -> Framing:
    fields: dict[str, Any] = {"size": units.parse_count(words[0])}
    names = {"offset": "offset", "adjust": "adjustment"}
    for word in words[1:]:
        name, _equals, value = word.partition("=")
        if word in ("little", "big"):
            fields["order"] = word
        elif name in names and value.removeprefix("-").isdecimal() and value.isascii():
            fields[names[name]] = int(value)
        else:
            raise SettingError("{text!r} is not a framing", hint=_FORMS, text=text)
    return LengthPrefix(**fields)


FRAMING = Written("FORM", parse_framing)


def text_settings() -> tuple[Setting, ...]:
    """How messages are cut, written and shown."""
    return (
        Setting(
            ["--framing"], type=FRAMING, default="raw", brief=True,
            help=N_("raw, line, crlf, delimiter:TEXT, gap:TIME, length:N"),
        ),
        Setting(
            ["--encoding"], metavar="NAME", default="auto", brief=True,
            help=N_("utf-8, gbk, gb18030...; auto finds out; none: bytes"),
        ),
        Setting(
            ["--errors"], type=click.Choice(ERRORS), default=ERRORS[0],
            help=N_("bytes that are no text: shown as \\xNN, replaced by U+FFFD, or an error"),
        ),
        _limit_setting("max_message", brief=False),
    )  # fmt: skip


def charset_of(encoding: str, errors: str) -> Charset | None:
    """The charset of `--encoding`; `None` for `none`.

    Raises:
        SettingError: there is no such encoding.
    """
    if encoding.lower() == "none":
        return None
    return Charset(encoding, "strict" if errors == "escape" else errors)


def limit_settings(brief: Iterable[str], without: Iterable[str] = ()) -> tuple[Setting, ...]:
    """A setting for each field of `Limits`: its default, its unit and its help are its rule's."""
    return tuple(_limit_setting(name, brief=name in brief) for name in RULES if name not in without)


def _limit_setting(name: str, *, brief: bool) -> Setting:
    return rule_setting(
        name, RULES[name], lambda text: parse_limit(name, text), default_of(name), brief=brief
    )


def rule_setting(
    name: str, rule: Rule, read: Callable[[str], Any], default: str, *, brief: bool
) -> Setting:
    """A setting after a rule.

    Args:
        name: what it is called, with underscores.
        rule: its unit and its help.
        read: reads a value from what people write.
        default: as people write it.
        brief: whether `-h` shows it.
    """
    several = rule.unit in ("networks", "limits")
    return Setting(
        ["--" + written_name(name)],
        type=Written(rule.unit, read),
        metavar=metavar_of(rule),
        default=None if several else default,
        multiple=several,
        callback=_joined if several else None,
        help=rule.help,
        brief=brief,
    )


def _joined(_ctx: click.Context, _param: click.Parameter, value: Any) -> tuple[Any, ...]:
    """Of a list that may be given in several flags, and several words in each: all of them."""
    return tuple(word for words in value for word in words)


def shared_settings(load: Callable[..., Any] | None = None) -> tuple[Setting, ...]:
    """What the command as a whole takes, before and after a command's name.

    Args:
        load: what reads the file of `--config`.
    """
    return (
        Setting(
            ["-q", "--quiet"], is_flag=True, help=N_("messages and errors only")
        ),
        Setting(
            ["-v", "--verbose"], is_flag=True, help=N_("more, such as where a handler failed")
        ),
        Setting(
            ["--color"], type=click.Choice(["auto", "always", "never"]), metavar="WHEN",
            default="auto",
            help=N_("colours; NO_COLOR and FORCE_COLOR are heeded"),
        ),
        Setting(
            ["--lang"], type=click.Choice(LANGUAGES), metavar="LANG",
            help=N_("the language of messages: en or zh_CN"),
        ),
        Setting(
            ["--config"], type=click.Path(path_type=Path), metavar="FILE", is_eager=True,
            callback=load, help=N_("settings from a TOML file, under the flags' names"),
        ),
    )  # fmt: skip
