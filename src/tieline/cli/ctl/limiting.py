"""The verb `limits`: what a server allows, and changing it while it runs."""

from __future__ import annotations

from typing import Any

import click

from ...control.results import LimitRow
from ...errors import SettingError, UsageError
from ...limits import RULES
from ..limit_values import format_limit, limit_name, parse_limit, written_name
from ..options import Setting
from ..tables import Cell, Column, show_table
from ..translation import N_
from ..translation import gettext as _
from .talking import Talk, verb

__all__ = ["limits"]


@verb(
    Setting(
        ["--evict"],
        is_flag=True,
        brief=True,
        help=N_("close connections down to caps that were lowered, the idle first"),
    ),
    Setting(
        ["--changed"],
        is_flag=True,
        brief=True,
        help=N_("only what is not as it is by default"),
    ),
    title=N_("Show limits, or change some: all of the changes are made at once, or none."),
    examples=(
        "tieline ctl limits --changed",
        "tieline ctl limits idle=30s per-client=50 max-owed=256KiB",
        "tieline ctl limits exempt-networks=10.0.0.0/8,192.168.0.0/16",
    ),
)
@click.argument("words", nargs=-1, metavar="[NAME[=VALUE]]...")
def limits(talk: Talk, *, words: tuple[str, ...], evict: bool, changed: bool) -> None:
    """Show them, or change them."""
    changes = dict(_change(word) for word in words if "=" in word)
    names = [limit_name(word) for word in words if "=" not in word]
    if changes and names:
        raise UsageError(
            "{name} has no value", hint="write it as {like}=VALUE", name=written_name(names[0]),
            like=written_name(names[0]),
        )  # fmt: skip
    if changes:
        _set(talk, changes, evict=evict)
    else:
        _show(talk, names, changed=changed)


def _change(word: str) -> tuple[str, Any]:
    """A limit and its new value.

    Raises:
        SettingError: there is none of this name, or it cannot have this value.
    """
    written, _equals, value = word.partition("=")
    name = limit_name(written)
    try:
        return name, parse_limit(name, value)
    except SettingError as error:
        if error.fields.get("name") == written_name(name):
            raise
        raise SettingError(
            "{name}: " + error.template, hint=error.hint, **{**error.fields, "name": written}
        ) from error


def _set(talk: Talk, changes: dict[str, Any], *, evict: bool) -> None:
    with talk.control() as control:
        changed = control.change_limits(evict=evict, **changes)["changed"]
    if talk.json:
        for name, each in changed.items():
            talk.log.json_line(limit=name, **each)
        return
    if not changed:
        talk.log.notice(_("nothing has changed: that is how it was"))
    for name, each in changed.items():
        old, new = (_written(name, each[when]) for when in ("old", "new"))
        talk.log.print(f"{written_name(name)}: {old} {talk.log.arrow} {new}")


def _show(talk: Talk, names: list[str], *, changed: bool) -> None:
    with talk.control() as control:
        found = control.limits()["limits"]
    rows = {
        name: row
        for name, row in found.items()
        if (not names or name in names) and not (changed and row["value"] == row["default"])
    }
    if talk.json:
        for name, row in rows.items():
            talk.log.json_line(limit=name, **row)
        return
    columns = (
        Column(_("limit")), Column(_("value"), gives=True), Column(_("default"), gives=True)
    )  # fmt: skip
    show_table(talk.log, columns, (_cells(name, row) for name, row in rows.items()))


def _cells(name: str, row: LimitRow) -> tuple[Cell, ...]:
    """A row of the table; what is not as it is by default stands out, without colours too."""
    value, default = (_written(name, each) for each in (row["value"], row["default"]))
    if row["value"] == row["default"]:
        return f"  {written_name(name)}", value, ""
    return (f"* {written_name(name)}", "bold"), (value, "bold"), default


def _written(name: str, value: Any) -> str:
    """A value as flags take it. Of a newer server's limits, as it came."""
    return format_limit(name, value) if name in RULES else str(value)
