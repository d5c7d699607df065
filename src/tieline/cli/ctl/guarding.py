"""The verbs for a guard's upstreams: `upstreams` lists them, `upstream` changes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import click

from ...control.results import UpstreamRow
from ...guard import UpstreamState
from ..tables import Cell, Column, show_table
from ..translation import N_, ngettext
from ..translation import gettext as _
from ..visible import visible, width
from .readable import bytes_text, count_text, duration_text
from .talking import Talk, verb

__all__ = ["upstream", "upstreams"]

#: Columns that a name may take before it gives way to other columns.
_LONGEST_WHOLE = 20

_STYLES = {UpstreamState.DOWN.value: "red", UpstreamState.DRAINING.value: "yellow"}


@verb(
    title=N_("List a guard's upstreams: whether they are up, and what they have."),
    examples=("tieline ctl upstreams", "tieline ctl upstreams --json | jq .last_error"),
)
def upstreams(talk: Talk) -> None:
    """Ask for them."""
    with talk.control() as control:
        result = control.upstreams()
    if talk.json:
        for row in result["upstreams"]:
            talk.log.json_line(**row)
        return
    _show(talk, result["upstreams"])
    for row in result["upstreams"]:
        # What has failed long ago is no news of one that is up.
        if row["state"] == UpstreamState.DOWN.value and row["last_error"]:
            text = _("{name} is down: {why}").format(name=row["name"], why=row["last_error"])
            talk.log.notice(visible(text))
    if result["waiting"]:
        text = ngettext(
            "{count} session waits for an upstream", "{count} sessions wait for an upstream",
            result["waiting"],
        )  # fmt: skip
        talk.log.notice(text.format(count=count_text(result["waiting"])))


#: A column, and what a row has in it.
_Field = tuple[Column, Callable[[UpstreamRow], Cell]]


def _show(talk: Talk, rows: Sequence[UpstreamRow]) -> None:
    long = any(width(row["name"]) > _LONGEST_WHOLE for row in rows)
    fields: list[_Field] = [(Column(_("upstream"), gives=long), lambda row: row["name"])]
    if any(row["address"] != row["name"] for row in rows):
        fields.append((Column(_("address"), gives=True), lambda row: row["address"]))
    if any(row["names"] for row in rows):
        fields.append((Column(_("names"), gives=True), lambda row: ", ".join(row["names"])))
    fields += [
        (Column(_("state")), _state),
        (Column(_("since"), right=True), lambda row: duration_text(time.time() - row["since"])),
        (Column(_("sessions"), right=True), _sessions),
        (Column(_("failed"), right=True), lambda row: count_text(row["failed"])),
        (Column(_("in"), right=True), lambda row: bytes_text(row["bytes_received"])),
        (Column(_("out"), right=True), lambda row: bytes_text(row["bytes_sent"])),
    ]
    if any(row["weight"] != 1 for row in rows):
        fields.append((Column(_("weight"), right=True), lambda row: str(row["weight"])))
    columns = [column for column, _cell in fields]
    show_table(talk.log, columns, ([cell(row) for _column, cell in fields] for row in rows))


def _state(row: UpstreamRow) -> Cell:
    text = row["state"]
    if row["backup"]:
        text = _("{state}, backup").format(state=text)
    return text, _STYLES.get(row["state"], "")


def _sessions(row: UpstreamRow) -> str:
    count = count_text(row["sessions"])
    return count if row["max"] is None else f"{count}/{count_text(row['max'])}"


@verb(
    title=N_("Give a guard an upstream more, drain one, enable it again, or remove it."),
    examples=(
        "tieline ctl upstream add 10.0.0.8:5432,name=db3,weight=2",
        "tieline ctl upstream drain db1",
        "tieline ctl upstream enable db1",
        "tieline ctl upstream remove db1",
    ),
)
@click.argument(
    "action",
    type=click.Choice(("add", "drain", "enable", "remove")),
    metavar="add|drain|enable|remove",
)
@click.argument("upstream", metavar="UPSTREAM")
def upstream(talk: Talk, *, action: str, upstream: str) -> None:
    """Change one."""
    with talk.control() as control:
        change = {
            "add": control.upstream_add, "drain": control.upstream_drain,
            "enable": control.upstream_enable, "remove": control.upstream_remove,
        }[action]  # fmt: skip
        row = change(upstream)["upstream"]
    talk.answer(row, _done(action, row))


def _done(action: str, row: UpstreamRow) -> str:
    """What has come of it, in a sentence."""
    count = row["sessions"]
    if action == "drain":
        text = ngettext(
            "{name} gets no new sessions; {count} session goes on",
            "{name} gets no new sessions; {count} sessions go on",
            count,
        )
    elif action == "remove":
        text = ngettext(
            "{name} is no upstream any more; {count} session goes on",
            "{name} is no upstream any more; {count} sessions go on",
            count,
        )
    else:
        text = _("{name} is an upstream now, and {state}")
    return text.format(name=row["name"], count=count_text(count), state=row["state"])
