"""`tieline guard --check`: what is wrong, without listening anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import click

from ..address import Address
from ..errors import DeadlineError, TielineError
from ..guard.resolving import look_up
from ..guard.splicing import MOST_PIPES
from ..guard.upstream import known_at_once
from ..resolve import Candidate
from .exits import Exit
from .guard_making import try_out
from .guard_settings import ListenerSettings, check_complete, listeners_of
from .guard_telling import where_to
from .guard_together import circles, wrong_together
from .log import Log
from .running import descriptors_allowed
from .translation import N_, hint_of, sentence, with_hint
from .translation import gettext as _

__all__ = ["check_all", "check_listeners", "shortage"]

#: Seconds that the resolver has.
_PATIENCE = 5.0

_LOOKING_UP = N_("looking up")

#: Descriptors of a session: the client's and the upstream's.
_OF_A_SESSION = 2

#: Descriptors that a listener needs beside those of sessions: pipes for bulk, at most; and its
#: sockets, its control socket and those who use it, checks, the log.
_OF_A_LISTENER = 2 * MOST_PIPES + 32


def shortage(listeners: Sequence[ListenerSettings], allowed: int) -> str:
    """What to say of totals that cannot be reached with so many open files; empty: they can.

    Args:
        listeners: all of the process.
        allowed: how many files it may have open; 0: nobody knows.
    """
    totals = [listener.given["total"] for listener in listeners]
    if None in totals or allowed <= 0:
        return ""
    needed = _OF_A_SESSION * sum(totals) + _OF_A_LISTENER * len(listeners)
    if needed <= allowed:
        return ""
    possible = max(0, (allowed - _OF_A_LISTENER * len(listeners)) // _OF_A_SESSION)
    text = _(
        "this machine allows {allowed} open files, and {total} sessions need {needed}: there is "
        "room for {possible} (tieline doctor --guard --for {total} says what to change)"
    )
    return text.format(allowed=allowed, total=sum(totals), needed=needed, possible=possible)


def check_all(ctx: click.Context) -> Iterator[TielineError]:
    """What makes no sense in the settings of a command, or between its listeners.

    What a command line has yet to say is not missed.
    """
    try:
        listeners = listeners_of(ctx)
    except TielineError as error:
        yield error
        return
    wrong = False
    for listener in listeners:
        if not listener.upstreams and not listener.name:
            continue
        try:
            check_complete(listener, has_sockets=True)
            try_out(listener)
        except TielineError as error:
            wrong = True
            yield error
    if not wrong:
        yield from wrong_together(listeners)


async def check_listeners(listeners: Sequence[ListenerSettings], log: Log) -> int:
    """Say what is wrong with listeners, or of each that it is all right.

    Args:
        listeners: all of the process.
        log: where it is said.

    Returns:
        The exit code.
    """
    problems = list(_wrong(listeners))
    if not problems:
        found, unknown = await _look_up(listeners)
        problems = [
            *_nowhere(listeners, unknown),
            *circles(listeners, lambda address: found.get(address, ())),
        ]
        _warn(listeners, unknown, log)
    for problem in problems:
        log.error(problem)
    if problems:
        return Exit.USAGE
    for listener in listeners:
        _approve(listener, log)
    return Exit.DONE


def _wrong(listeners: Sequence[ListenerSettings]) -> Iterator[TielineError]:
    wrong = False
    for listener in listeners:
        try:
            # Systemd may hand its sockets over: that is warned of.
            check_complete(listener, has_sockets=bool(listener.upstreams))
            try_out(listener)
        except TielineError as error:
            wrong = True
            yield error
    if not wrong:
        yield from wrong_together(listeners)


async def _look_up(
    listeners: Sequence[ListenerSettings],
) -> tuple[dict[Address, Sequence[Candidate]], dict[Address, TielineError]]:
    """Where each address leads, and what is wrong with the names that lead nowhere."""
    addresses = {
        address
        for listener in listeners
        for address in (*listener.addresses, *(spec.address for spec in listener.upstreams))
        if address.is_unix or address.host
    }
    found: dict[Address, Sequence[Candidate]] = {}
    unknown: dict[Address, TielineError] = {}

    async def look_up_one(address: Address) -> None:
        found[address] = known_at_once(address)
        if found[address]:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                found[address] = await look_up(address)
        except TimeoutError:
            unknown[address] = DeadlineError(
                doing=_LOOKING_UP, seconds=_PATIENCE, address=str(address)
            )
        except TielineError as error:
            unknown[address] = error

    await asyncio.gather(*map(look_up_one, addresses))
    return found, unknown


def _nowhere(
    listeners: Sequence[ListenerSettings], unknown: dict[Address, TielineError]
) -> Iterator[TielineError]:
    """Names to listen on that lead nowhere."""
    for listener in listeners:
        for address in listener.addresses:
            if address in unknown:
                yield listener.placed(unknown[address], "listen")


def _warn(
    listeners: Sequence[ListenerSettings], unknown: dict[Address, TielineError], log: Log
) -> None:
    """Say what may be right all the same."""
    for listener in listeners:
        if not listener.addresses:
            log.notice(
                listener.head
                + _("it does not say where to listen: right only if systemd hands sockets over")
            )
        for spec in listener.upstreams:
            if spec.address in unknown:
                error = unknown[spec.address]
                text = with_hint(sentence(error), hint_of(error))
                log.notice(
                    listener.head
                    + _("upstream {name}: {detail}").format(name=spec.name, detail=text)
                )
    if text := shortage(listeners, descriptors_allowed()):
        log.notice(text)


def _approve(listener: ListenerSettings, log: Log) -> None:
    addresses = [str(address) for address in listener.addresses]
    if log.form == "json":
        log.json_line(
            listener=listener.name or None, addresses=addresses,
            upstreams=[str(spec) for spec in listener.upstreams], ok=True,
        )  # fmt: skip
        return
    text = _("{addresses} {arrow} {upstreams}: all right")
    log.print(
        listener.head
        + text.format(
            addresses=", ".join(addresses) or "-", arrow=log.arrow,
            upstreams=where_to(listener.upstreams),
        )
    )  # fmt: skip
