"""The verbs that list: `connections`, `clients`, `bans`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from ...control.columns import CLIENT_COLUMNS, CONNECTION_COLUMNS
from ...control.results import ClientRow, ConnectionRow
from ...errors import SettingError
from ...reasons import CloseReason
from ...states import State
from ..log import Log
from ..options import Setting
from ..parameters import PAUSE, Written
from ..tables import Column, show_table
from ..translation import N_
from ..translation import gettext as _
from ..units import parse_count, parse_size
from ..visible import width
from .readable import bytes_text, count_text, duration_text
from .talking import Talk, verb

__all__ = ["bans", "clients", "connections", "pages"]

#: Columns that an upstream's name may take before it gives way to others.
_LONGEST_WHOLE = 20

#: Rows of one page, and of what is shown unless more are asked for.
_PAGE, _SHOWN = 1000, "50"


def _limit(text: str) -> float:
    if text.strip().lower() == "none":
        return math.inf
    count = parse_count(text)
    if count < 1:
        raise SettingError("{text!r} is not above zero", text=text)
    return count


def _listing(columns: dict[str, str], default: str) -> tuple[Setting, ...]:
    """How a list is sorted, and how much of it is shown."""
    return (
        Setting(
            ["--sort"], type=click.Choice(tuple(columns)), default=default, brief=True,
            metavar="COLUMN", help=N_("sort by a column; numbers: the largest first"),
        ),
        Setting(["--reverse"], is_flag=True, brief=True, help=N_("the other way round")),
        Setting(
            ["--limit"], type=Written("N", _limit), default=_SHOWN, brief=True,
            help=N_("show so many (none: all)"),
        ),
    )  # fmt: skip


def _sorting(names: dict[str, str], smallest_first: frozenset[str], given: dict[str, Any]) -> Any:
    """The arguments that sort."""
    column = names[given["sort"]]
    descending = (column not in smallest_first) != given["reverse"]
    return {"sort": column, "descending": descending}


def pages(ask: Callable[..., Any], rows: str, query: Any, most: float) -> tuple[list[Any], Any]:
    """So many rows, page by page, and the last answer."""
    found: list[Any] = []
    after = None
    while True:
        page = ask(**query, limit=int(min(most - len(found), _PAGE)), after=after)
        found += page[rows]
        after = page["next"]
        if after is None or len(found) >= most:
            return found, page


def _say_how_many(log: Log, shown: int, total: int) -> None:
    if shown < total:
        text = _("{shown} of {total}; more with --limit")
        log.notice(text.format(shown=count_text(shown), total=count_text(total)))


# ---- connections

#: What can be sorted by, under the titles that the columns have here.
_CONNECTION_SORTS = {
    "in": "bytes_received", "out": "bytes_sent", "next": "left",
    **{name: name for name in CONNECTION_COLUMNS},
}  # fmt: skip
_CLIENT_SORTS = {name: name for name in CLIENT_COLUMNS}

_SMALLEST_FIRST = frozenset({
    "id", "client", "peer", "local", "upstream", "state", "encoding", "clock", "left", "host",
    "network",
})  # fmt: skip


@verb(
    Setting(
        ["--client"], metavar="KEY", brief=True, help=N_("of this client, as clients names it")
    ),
    Setting(
        ["--peer"], metavar="ADDRESS", brief=True,
        help=N_("from this address, network or HOST:PORT"),
    ),
    Setting(
        ["--upstream"], multiple=True, metavar="NAME", brief=True,
        help=N_("of a guard: relayed to this upstream; may be repeated"),
    ),
    Setting(
        ["--state"], multiple=True, metavar="STATE",
        type=click.Choice([each.value for each in State if each is not State.CLOSED]),
        help=N_("in this state; may be repeated"),
    ),
    Setting(
        ["--clock"], multiple=True, metavar="REASON",
        type=click.Choice([each.value for each in CloseReason]),
        help=N_("whose next clock stands for this close reason; may be repeated"),
    ),
    Setting(["--min-age"], type=PAUSE, help=N_("open for at least this long")),
    Setting(
        ["--min-idle"], type=PAUSE, brief=True,
        help=N_("on which no byte moved for at least this long"),
    ),
    Setting(
        ["--min-owed"], type=Written("SIZE", parse_size), brief=True,
        help=N_("whose peer is owed at least this much"),
    ),
    *_listing(_CONNECTION_SORTS, "id"),
    title=N_("List the open connections."),
    examples=(
        "tieline ctl connections --sort idle --limit 10",
        "tieline ctl connections --peer 10.0.0.0/8 --min-owed 64KiB",
    ),
)  # fmt: skip
def connections(talk: Talk, **given: Any) -> None:
    """Ask for as many pages as it takes."""
    query = _sorting(_CONNECTION_SORTS, _SMALLEST_FIRST, given) | {
        "client": given["client"], "peer": given["peer"],
        "upstream": list(given["upstream"]) or None,
        "state": list(given["state"]) or None, "clock": list(given["clock"]) or None,
        "min_age": given["min_age"], "min_idle": given["min_idle"],
        "min_owed": given["min_owed"],
    }  # fmt: skip
    with talk.control() as control:
        rows, last = pages(control.connections, "connections", query, given["limit"])
        is_guard = not talk.json and control.info().get("guard") is not None
    if talk.json:
        for row in rows:
            talk.log.json_line(**row)
        return
    if is_guard:
        _show_sessions(talk.log, rows)
    else:
        show_table(talk.log, _connection_columns(), map(_connection_cells, rows))
    _say_how_many(talk.log, len(rows), last["matched"])


def _connection_columns() -> tuple[Column, ...]:
    return (
        Column(_("id"), right=True), Column(_("peer"), gives=True), Column(_("age"), right=True),
        Column(_("idle"), right=True), Column(_("in"), right=True), Column(_("out"), right=True),
        Column(_("owed"), right=True), Column(_("next"), gives=True),
    )  # fmt: skip


def _connection_cells(row: ConnectionRow) -> tuple[str, ...]:
    return (
        str(row["id"]), row["peer"], duration_text(row["age"]), duration_text(row["idle"]),
        bytes_text(row["bytes_received"]), bytes_text(row["bytes_sent"]),
        bytes_text(row["owed"]), _next(row),
    )  # fmt: skip


#: A column of sessions, and what a row has in it.
_Field = tuple[Column, Callable[[ConnectionRow], str]]


def _show_sessions(log: Log, rows: list[ConnectionRow]) -> None:
    """The connections of a guard: where each goes on to, bytes each way, and how long ago."""
    long = any(width(row["upstream"] or "") > _LONGEST_WHOLE for row in rows)
    fields: list[_Field] = [
        (Column(_("id"), right=True), lambda row: str(row["id"])),
        (Column(_("client"), gives=True), lambda row: row["peer"]),
        (Column(f"{log.arrow} {_('upstream')}", gives=long),
         lambda row: f"{log.arrow} {row['upstream'] or '-'}"),
        (Column(_("age"), right=True), lambda row: duration_text(row["age"])),
        (Column(_("in"), right=True), lambda row: bytes_text(row["bytes_received"])),
        (Column(_("ago"), right=True), lambda row: duration_text(row["receive_idle"])),
        (Column(_("out"), right=True), lambda row: bytes_text(row["bytes_sent"])),
        (Column(_("ago"), right=True), lambda row: duration_text(row["send_idle"])),
        (Column(_("next"), gives=True), _next),
    ]  # fmt: skip
    if any(row["owed"] for row in rows):
        fields.insert(-1, (Column(_("owed"), right=True), lambda row: bytes_text(row["owed"])))
    columns = [column for column, _cell in fields]
    show_table(log, columns, ([cell(row) for _column, cell in fields] for row in rows))


def _next(row: ConnectionRow) -> str:
    """What will end it, and when; its state too, unless it is plainly open."""
    state = "" if row["state"] == State.OPEN.value else row["state"]
    left = row["left"]
    clock = "" if left is None else f"{row['clock']} {duration_text(left)}"
    return " · ".join(filter(None, (state, clock)))


# ---- clients


@verb(
    Setting(
        ["--min-connections"],
        type=Written("N", parse_count),
        brief=True,
        help=N_("that hold at least so many"),
    ),
    *_listing(_CLIENT_SORTS, "connections"),
    title=N_("List the client machines that hold connections."),
    examples=("tieline ctl clients", "tieline ctl clients --sort refused --limit 10"),
)
def clients(talk: Talk, **given: Any) -> None:
    """Ask for as many pages as it takes."""
    query = _sorting(_CLIENT_SORTS, _SMALLEST_FIRST, given)
    query["min_connections"] = given["min_connections"]
    with talk.control() as control:
        rows, last = pages(control.clients, "clients", query, given["limit"])
    if talk.json:
        for row in rows:
            talk.log.json_line(**row)
        return
    columns = (
        Column(_("client"), gives=True), Column(_("connections"), right=True),
        Column(_("refused"), right=True), Column(_("network"), gives=True), Column(""),
    )  # fmt: skip
    show_table(talk.log, columns, map(_client_cells, rows))
    if given["min_connections"] is None:
        _say_how_many(talk.log, len(rows), last["total"])


def _client_cells(row: ClientRow) -> tuple[str, ...]:
    return (
        row["client"], count_text(row["connections"]), count_text(row["refused"]),
        row["network"] or "-", _("exempt") if row["exempt"] else "",
    )  # fmt: skip


# ---- bans


@verb(
    title=N_("List who is banned, and who owes penalties."),
    examples=("tieline ctl bans", "tieline ctl bans --json"),
)
def bans(talk: Talk) -> None:
    """Ask for them."""
    log = talk.log
    with talk.control() as control:
        result = control.bans()
    if talk.json:
        for ban in result["bans"]:
            log.json_line(kind="ban", **ban)
        for penalty in result["penalties"]:
            log.json_line(kind="penalty", **penalty)
        return
    if not result["bans"] and not result["penalties"]:
        log.notice(_("nobody is banned, and nobody owes penalties"))
    if result["bans"]:
        columns = (
            Column(_("banned")), Column(_("for another")), Column(_("refused"), right=True),
            Column(_("why"), gives=True),
        )  # fmt: skip
        show_table(log, columns, [
            (ban["network"], _("ever") if ban["left"] is None else duration_text(ban["left"]),
             count_text(ban["refusals"]), ban["why"])
            for ban in result["bans"]
        ])  # fmt: skip
    if result["penalties"]:
        columns = (
            Column(_("client")), Column(_("owes"), right=True), Column(_("refused"), right=True),
            Column(_("why"), gives=True),
        )  # fmt: skip
        show_table(log, columns, [
            (each["client"], duration_text(each["owed"]),
             count_text(each["refusals"]) if each["refused"] else "-", each["why"])
            for each in result["penalties"]
        ])  # fmt: skip
    if result["more"]:
        log.notice(_("there are more"))
