"""When `tieline send` has its reply: the ways to end, of which one is chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..connection import Connection
from ..errors import DeadlineError, EndOfStreamError, UsageError
from .payload import Payload
from .translation import N_
from .written import Parts

__all__ = ["Ending", "ending_of", "gather"]


Kind = Literal["reply", "delimiter", "close", "quiet", "none"]


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends the reply.

    Attributes:
        kind: one message by the framing; a delimiter; the peer's end; silence; or no reply.
        delimiter: what ends it, for `delimiter`.
        quiet: seconds of silence that end it, for `quiet`.
    """

    kind: Kind = "reply"
    delimiter: Parts = ()
    quiet: float = 0.0


def ending_of(given: dict[str, Any]) -> Ending:
    """The one that was chosen; one message without a choice.

    Raises:
        UsageError: several were.
    """
    choices: tuple[tuple[Kind, bool], ...] = (
        ("reply", given["until_reply"]),
        ("delimiter", given["until_delimiter"] is not None),
        ("close", given["until_close"]),
        ("quiet", given["until_quiet"] is not None),
        ("none", given["no_reply"]),
    )
    chosen = [
        Ending(kind, given["until_delimiter"] or (), given["until_quiet"] or 0.0)
        for kind, wanted in choices
        if wanted
    ]
    if len(chosen) > 1:
        raise UsageError(
            "a reply has one end",
            hint="choose one of --until-reply, --until-delimiter, --until-close, --until-quiet "
            "and --no-reply",
        )
    return chosen[0] if chosen else Ending()


async def gather(
    connection: Connection,
    ending: Ending,
    mark: bytes,
    seconds: float | None,
    take: Callable[[Payload], object],
) -> None:
    """Receive until the end that was chosen.

    Args:
        connection: on which the message has been sent.
        ending: what ends the reply.
        mark: the delimiter's bytes, as this peer writes them.
        seconds: how long it may take; `None`: as long as it likes.
        take: called with each message that comes.

    Raises:
        DeadlineError: it took longer.
        EndOfStreamError: the peer ended its stream before that.
        PeerError, ConnectionClosedError, TlsError: as of `Connection.receive`.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            await _gather(connection, ending, mark, take)
    except TimeoutError as error:
        if not limit.expired():
            raise
        doing, peer = N_("waiting for a reply from"), str(connection.peer)
        raise DeadlineError(doing=doing, seconds=seconds, address=peer) from error


async def _gather(
    connection: Connection, ending: Ending, mark: bytes, take: Callable[[Payload], object]
) -> None:
    if ending.kind == "none":
        return
    # The end of what has come: as much as may be the beginning of the mark.
    tail, quiet = b"", None
    while True:
        try:
            async with asyncio.timeout(quiet) as silence:
                payload = await connection.receive()
        except TimeoutError:
            if silence.expired():
                return
            raise
        except EndOfStreamError:
            if ending.kind == "close" or quiet is not None:
                return
            raise
        take(payload)
        if ending.kind == "reply" or (ending.kind == "delimiter" and mark in tail + payload.data):
            return
        tail = (tail + payload.data)[-len(mark) :]
        quiet = ending.quiet if ending.kind == "quiet" else None
