"""Where the messages of `tieline connect` come from when there is no editor."""

from __future__ import annotations

import asyncio

from ..errors import ConnectionClosedError
from .plain_input import PlainInput
from .session import Left, Session, Typing
from .written import Parts, parse_hex

__all__ = ["chunks_of", "lines_of", "nothing"]


async def nothing(session: Session) -> Left:
    """Type nothing, ever."""
    await asyncio.Event().wait()
    return Left.DONE


def lines_of(source: PlainInput, *, hexadecimal: bool) -> Typing:
    """Each line is a message: as it is, or hexadecimal."""

    async def typing(session: Session) -> Left:
        async for line in source.lines():
            await _send(session, _parts(line, hexadecimal=hexadecimal))
        return Left.INPUT_ENDED

    return typing


def chunks_of(source: PlainInput) -> Typing:
    """What comes is sent as it comes, byte by byte."""

    async def typing(session: Session) -> Left:
        async for chunk in source.chunks():
            await _send(session, (chunk,))
        return Left.INPUT_ENDED

    return typing


def _parts(line: bytes, *, hexadecimal: bool) -> Parts:
    if hexadecimal:
        return (parse_hex(line.decode("ascii", "backslashreplace")),)
    try:
        return (line.decode(),)
    except UnicodeDecodeError:
        # Not text as this machine writes it: it is sent as it is.
        return (line,)


async def _send(session: Session, parts: Parts) -> None:
    while True:
        await session.connected()
        try:
            await session.send(*parts)
        except ConnectionClosedError:
            if not session.reconnects:
                raise
            # Let the session notice the end before asking for a connection again.
            await asyncio.sleep(0)
        else:
            return
