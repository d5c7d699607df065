"""The verbs that look at one thing: `info`, `connection`, `metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import click

from ...control.results import ClockRow, ConnectionDetails, InfoResult, UpstreamSide
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
    # An older server does not say.
    if (guard := result.get("guard")) is not None:
        text = _("{up} of {upstreams} up; {waiting} sessions wait")
        yield _("upstreams"), text.format(**{key: count_text(guard[key]) for key in _GUARD})
    if result["dry_run"]:
        yield _("on trial"), ", ".join(result["dry_run"])
        yield _("spared"), _by_reason(counted["spared"])
    if counted["handler_errors"]:
        yield _("handler errors"), count_text(counted["handler_errors"])
    if counted["accept_errors"]:
        yield _("accept errors"), count_text(counted["accept_errors"])


_GUARD: tuple[Literal["upstreams", "up", "waiting"], ...] = ("upstreams", "up", "waiting")


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
    if (side := result.get("upstream_side")) is not None:
        talk.log.print("")
        show_pairs(talk.log, _upstream_pairs(str(result["upstream"]), side))


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
    yield _("bytes"), _traffic(row["bytes_received"], row["bytes_sent"])
    if row.get("upstream_side") is None:
        yield _("messages"), _traffic(row["messages_received"], row["messages_sent"])
    yield _("owed"), count_text(row["owed"])
    if row["waiting"]:
        yield _("not received yet"), count_text(row["waiting"])
    if row["encoding"]:
        yield _("encoding"), row["encoding"]
    if row["handler"]:
        yield _("handler"), row["handler"]
    yield _("clocks"), _clocks(row["clocks"])
    yield from _transport_pairs(row["tls"], row["tcp"])


def _upstream_pairs(name: str, side: UpstreamSide) -> Iterator[tuple[str, str]]:
    """What is between a guard and the upstream of a session."""
    yield _("upstream"), name
    yield _("local"), side["local"]
    yield _("address"), side["peer"]
    yield _("state"), side["state"]
    yield (
        _("idle"),
        _traffic_text(duration_text(side["receive_idle"]), duration_text(side["send_idle"])),
    )
    yield _("bytes"), _traffic(side["bytes_received"], side["bytes_sent"])
    yield _("owed"), count_text(side["owed"])
    if side["clocks"]:
        yield _("clocks"), _clocks(side["clocks"])
    yield from _transport_pairs(side["tls"], side["tcp"])


def _clocks(clocks: list[ClockRow]) -> str:
    return ", ".join(f"{each['reason']} {duration_text(each['left'])}" for each in clocks) or "-"


def _traffic(received: int, sent: int) -> str:
    return _traffic_text(count_text(received), count_text(sent))


def _traffic_text(received: str, sent: str) -> str:
    return _("in {received}, out {sent}").format(received=received, sent=sent)


def _transport_pairs(
    tls: dict[str, Any] | None, tcp: dict[str, Any] | None
) -> Iterator[tuple[str, str]]:
    if tls is not None:
        yield "TLS", f"{tls['version']}, {tls['cipher']}"
    if tcp is not None:
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
