"""The verbs that look at one thing: `info`, `connection`, `metrics`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ...control.results import ConnectionDetails, InfoResult
from ..tables import show_pairs
from ..translation import N_
from ..translation import gettext as _
from ..units import format_duration
from .readable import count_text, duration_text
from .talking import Talk, verb

__all__ = ["connection", "info", "metrics"]

# ---- info


@verb(
    title=N_("Show what a server is, since when, and what it has counted."),
    examples=("tieline ctl info", "tieline ctl --control /run/app.sock info --json"),
)
def info(talk: Talk) -> None:
    """Ask for it."""
    with talk.control() as control:
        result = control.info()
    if talk.json:
        talk.log.json_line(**result)
        return
    show_pairs(talk.log, _info_pairs(result))


def _info_pairs(result: InfoResult) -> Iterator[tuple[str, str]]:
    counted = result["counters"]
    state = _("draining") if result["draining"] else _("serving")
    yield (
        _("server"),
        _("tieline {version}, process {pid}, {state}").format(
            version=result["tieline"], pid=result["pid"], state=state
        ),
    )
    yield _("listening on"), ", ".join(result["addresses"])
    yield _("running for"), duration_text(result["uptime"])
    yield (
        _("connections"),
        _("{connections} open, of {clients} clients").format(
            connections=count_text(result["connections"]), clients=count_text(result["clients"])
        ),
    )
    yield _("accepted"), count_text(counted["accepted"])
    yield _("refused"), _by_reason(counted["refused"])
    yield _("closed"), _by_reason(counted["closed"])
    if result["dry_run"]:
        yield _("on trial"), ", ".join(result["dry_run"])
        yield _("spared"), _by_reason(counted["spared"])
    if counted["handler_errors"]:
        yield _("handler errors"), count_text(counted["handler_errors"])
    if counted["accept_errors"]:
        yield _("accept errors"), count_text(counted["accept_errors"])


def _by_reason(counts: dict[str, int]) -> str:
    """A sum, and what it is made of, the most frequent first."""
    total = count_text(sum(counts.values()))
    parts = sorted(counts.items(), key=lambda part: -part[1])
    each = ", ".join(f"{reason} {count_text(count)}" for reason, count in parts)
    return f"{total} ({each})" if each else total


# ---- connection


@verb(
    title=N_("Show all there is to know of one connection."),
    examples=("tieline ctl connection 42",),
)
@click.argument("id", type=click.IntRange(min=1))
def connection(talk: Talk, *, id: int) -> None:
    """Ask for it."""
    with talk.control() as control:
        result = control.connection(id)
    if talk.json:
        talk.log.json_line(**result)
        return
    show_pairs(talk.log, _connection_pairs(result))


def _connection_pairs(row: ConnectionDetails) -> Iterator[tuple[str, str]]:
    yield _("peer"), row["peer"]
    yield _("local"), row["local"]
    yield _("client"), row["client"]
    if row["user"] is not None:
        yield _("user"), str(row["user"])
    yield _("state"), row["state"]
    yield _("age"), duration_text(row["age"])
    yield _("idle"), _("{idle} (in {received}, out {sent})").format(
        idle=duration_text(row["idle"]), received=duration_text(row["received_idle"]),
        sent=duration_text(row["sent_idle"]),
    )  # fmt: skip
    traffic = _("in {received}, out {sent}")
    yield (
        _("bytes"),
        traffic.format(
            received=count_text(row["bytes_received"]), sent=count_text(row["bytes_sent"])
        ),
    )
    yield (
        _("messages"),
        traffic.format(
            received=count_text(row["messages_received"]), sent=count_text(row["messages_sent"])
        ),
    )
    yield _("owed"), count_text(row["owed"])
    if row["waiting"]:
        yield _("not received yet"), count_text(row["waiting"])
    if row["encoding"]:
        yield _("encoding"), row["encoding"]
    if row["handler"]:
        yield _("handler"), row["handler"]
    clocks = (f"{clock['reason']} {duration_text(clock['left'])}" for clock in row["clocks"])
    yield _("clocks"), ", ".join(clocks) or "-"
    if (tls := row["tls"]) is not None:
        yield "TLS", f"{tls['version']}, {tls['cipher']}"
    if (tcp := row["tcp"]) is not None:
        text = _("{state}, round trip {time}, {count} segments sent again")
        time = format_duration(round(tcp["round_trip"], 6))
        yield "TCP", text.format(state=tcp["state"], time=time, count=tcp["retransmitted"])


# ---- metrics


@verb(
    title=N_("Print everything as Prometheus reads it."),
    examples=("tieline ctl metrics",),
)
def metrics(talk: Talk) -> None:
    """Ask for it."""
    with talk.control() as control:
        result = control.metrics()
    talk.answer(result, result["text"].rstrip("\n"))
