"""The verbs `limits` and `settings`: what a server allows, how a guard relays, and changing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from ...control.results import Change, LimitRow
from ...errors import SettingError, UsageError
from ...guard import SETTINGS
from ...limits import RULES
from ..limit_values import format_limit, limit_name, parse_limit
from ..options import Setting
from ..rule_values import written_name
from ..setting_values import format_setting, parse_setting, setting_name
from ..tables import Cell, Column, show_table
from ..translation import N_
from ..translation import gettext as _
from .talking import Talk, verb

__all__ = ["limits", "settings"]

_CHANGED = Setting(
    ["--changed"], is_flag=True, brief=True, help=N_("only what is not as it is by default")
)
_WORDS = click.argument("words", nargs=-1, metavar="[NAME[=VALUE]]...")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What tells limits and settings apart here.

    Attributes:
        word: what one is called, in JSON and, translated, as a title.
        known: those that there are.
        name_of: the name that is meant, as it was written.
        parse: a value of that name, as it was written.
        format: the other way round.
    """

    word: str
    known: Mapping[str, Any]
    name_of: Callable[[str], str]
    parse: Callable[[str, str], Any]
    format: Callable[[str, Any], str]

    def written(self, name: str, value: Any) -> str:
        """A value as flags take it. Of what a newer server has, as it came."""
        return self.format(name, value) if name in self.known else str(value)


_LIMITS = _Kind(N_("limit"), RULES, limit_name, parse_limit, format_limit)
_SETTINGS = _Kind(N_("setting"), SETTINGS, setting_name, parse_setting, format_setting)


@verb(
    Setting(
        ["--evict"],
        is_flag=True,
        brief=True,
        help=N_("close connections down to caps that were lowered, the idle first"),
    ),
    _CHANGED,
    title=N_("Show limits, or change some: all of the changes are made at once, or none."),
    examples=(
        "tieline ctl limits --changed",
        "tieline ctl limits idle=30s per-client=50 max-owed=256KiB",
        "tieline ctl limits exempt-networks=10.0.0.0/8,192.168.0.0/16",
    ),
)
@_WORDS
def limits(talk: Talk, *, words: tuple[str, ...], evict: bool, changed: bool) -> None:
    """Show them, or change them."""
    changes, names = _read(_LIMITS, words)
    with talk.control() as control:
        if changes:
            _say(talk, _LIMITS, control.change_limits(evict=evict, **changes)["changed"])
        else:
            _show(talk, _LIMITS, control.limits()["limits"], names, changed=changed)


@verb(
    _CHANGED,
    title=N_("Show how a guard relays, or change it: all of the changes are made, or none."),
    examples=(
        "tieline ctl settings --changed",
        "tieline ctl settings balance=least queue-timeout=5s",
        r"tieline ctl settings check-send='PING\r\n' check-expect=+PONG",
    ),
)
@_WORDS
def settings(talk: Talk, *, words: tuple[str, ...], changed: bool) -> None:
    """Show them, or change them."""
    changes, names = _read(_SETTINGS, words)
    # As text, which JSON has.
    changes = {
        name: value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        for name, value in changes.items()
    }
    with talk.control() as control:
        if changes:
            _say(talk, _SETTINGS, control.change_settings(**changes)["changed"])
        else:
            _show(talk, _SETTINGS, control.settings()["settings"], names, changed=changed)


def _read(kind: _Kind, words: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """What is to be changed, or else what is to be shown.

    Raises:
        SettingError: there is none of this name, or it cannot have this value.
        UsageError: it is left open which of the two is wanted.
    """
    changes = dict(_change(kind, word) for word in words if "=" in word)
    names = [kind.name_of(word) for word in words if "=" not in word]
    if changes and names:
        raise UsageError(
            "{name} has no value", hint="write it as {like}=VALUE", name=written_name(names[0]),
            like=written_name(names[0]),
        )  # fmt: skip
    return changes, names


def _change(kind: _Kind, word: str) -> tuple[str, Any]:
    """A name and its new value."""
    written, _equals, value = word.partition("=")
    name = kind.name_of(written)
    try:
        return name, kind.parse(name, value)
    except SettingError as error:
        if error.fields.get("name") == written_name(name):
            raise
        raise SettingError(
            "{name}: " + error.template, hint=error.hint, **{**error.fields, "name": written}
        ) from error


def _say(talk: Talk, kind: _Kind, changed: dict[str, Change]) -> None:
    if talk.json:
        for name, each in changed.items():
            talk.log.json_line(**{kind.word: name}, **each)
        return
    if not changed:
        talk.log.notice(_("nothing has changed: that is how it was"))
    for name, each in changed.items():
        old, new = (kind.written(name, value) for value in (each["old"], each["new"]))
        talk.log.print(f"{written_name(name)}: {old} {talk.log.arrow} {new}")


def _show(
    talk: Talk, kind: _Kind, found: dict[str, LimitRow], names: list[str], *, changed: bool
) -> None:
    rows = {
        name: row
        for name, row in found.items()
        if (not names or name in names) and not (changed and row["value"] == row["default"])
    }
    if talk.json:
        for name, row in rows.items():
            talk.log.json_line(**{kind.word: name}, **row)
        return
    columns = (
        Column(_(kind.word)), Column(_("value"), gives=True), Column(_("default"), gives=True)
    )  # fmt: skip
    show_table(talk.log, columns, (_cells(kind, name, row) for name, row in rows.items()))


def _cells(kind: _Kind, name: str, row: LimitRow) -> tuple[Cell, ...]:
    """A row of the table; what is not as it is by default stands out, without colours too."""
    value, default = (kind.written(name, each) for each in (row["value"], row["default"]))
    if row["value"] == row["default"]:
        return f"  {written_name(name)}", value, ""
    return (f"* {written_name(name)}", "bold"), (value, "bold"), default
