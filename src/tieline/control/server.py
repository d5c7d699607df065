"""The control socket: a server beside the one it controls, in the same loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from ..address import parse_address
from ..connection import Connection
from ..errors import MessageTooLargeError, SettingError, TruncatedError
from ..framing import Line
from ..limits import Limits
from ..server import serve as serve_messages
from .protocol import LARGEST_REQUEST, ControlError, failure, greeting
from .session import Operations, Session
from .verbs import VERBS
from .watching import Statistics

if TYPE_CHECKING:
    from ..listening import Listening

__all__ = ["ControlServer", "serve"]

#: An operator may think for as long as he likes, and need not read; what may wait for one is
#: bounded by `session` and `outlet`.
_LIMITS = Limits(
    idle=None, first_byte=None, write_stall=None, min_send_rate=None, half_closed=None,
    per_client=None, total=64, total_full="evict", evict_idle=60.0,
    max_message=LARGEST_REQUEST, max_owed=8_388_608, closing=2.0,
)  # fmt: skip

#: The owner only. (The superuser may do as he likes.)
_MODE = 0o600

#: Seconds that control connections have to take their last answers.
_LAST_ANSWERS = 1.0

_log = logging.getLogger("tieline.control")


def own_user_or_root(user: int | None) -> bool:
    """Who may control a server unless its program says otherwise."""
    return user is not None and user in (0, os.geteuid())


class ControlServer:
    """Answers on a control socket. Made by `tieline.control.serve`.

    Use it as an asynchronous context (leaving it closes it), or call `start` and `close`. Its own
    connections are no connections of the server that it controls: no limit and no figure of that
    one knows them, and it goes on answering while that one drains.

    Attributes:
        path: the socket's file.
    """

    def __init__(
        self,
        server: Listening,
        path: str | os.PathLike[str],
        may_control: Callable[[int | None], bool] = own_user_or_root,
        stats_interval: float = 1.0,
    ) -> None:
        self.path = os.fspath(path)
        if not self.path or self.path.startswith(("@", "\0")):
            raise SettingError(
                "a control socket needs a file, whose permissions say who may connect, and "
                "{path!r} names none",
                path=self.path,
            )
        self._may_control = may_control
        self._operations = Operations(server, Statistics(server, stats_interval), VERBS)
        self._sessions: set[Session] = set()
        self._own = serve_messages(
            self._converse, parse_address(f"unix:{self.path}"),
            framing=Line(), limits=_LIMITS, unix_mode=_MODE,
        )  # fmt: skip

    async def start(self) -> None:
        """Listen.

        Raises:
            BindError: the path cannot be used, or another server answers there. What a server
                that died left behind is replaced; a file that is no socket is not.
            UsageError: it was started before.
        """
        await self._own.start()

    async def close(self) -> None:
        """End the streams, give the last answers a second to leave, remove the socket.

        Idempotent. The server that was controlled is left alone.
        """
        self._own.close_listeners()
        await self._operations.close()
        await asyncio.gather(*(session.finish() for session in list(self._sessions)))
        await self._own.drain(_LAST_ANSWERS)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        await self.close()

    async def _converse(self, connection: Connection) -> None:
        user = connection.peer_user
        if not self._may_control(user):
            _log.warning("user %s may not control this server", user)
            await connection.send(failure(None, _not_allowed(user)))
            return
        await connection.send(greeting())
        session = Session(self._operations, connection)
        self._sessions.add(session)
        answered = False
        try:
            async for line in connection:
                if line.strip():
                    await session.obey(line)
            answered = True
        except MessageTooLargeError:
            await connection.send(failure(None, _too_long()))
        except TruncatedError:
            answered = True
            await connection.send(failure(None, _unfinished()))
        finally:
            self._sessions.discard(session)
            await session.end(answered=answered)


def _not_allowed(user: int | None) -> ControlError:
    return ControlError(
        "user {value} may not control this server",
        hint="use the account that it runs under",
        code="not_allowed",
        value=user,
    )


def _too_long() -> ControlError:
    return ControlError(
        "a request has at most {most} bytes", code="malformed", most=LARGEST_REQUEST
    )


def _unfinished() -> ControlError:
    return ControlError("the last request has no end: a line ends with LF", code="malformed")


def serve(
    server: Listening,
    path: str | os.PathLike[str],
    *,
    may_control: Callable[[int | None], bool] = own_user_or_root,
) -> ControlServer:
    """Make a control socket for a server; it listens once it is entered or started::

        async with tieline.serve(thank, "127.0.0.1:7788") as server:
            async with tieline.control.serve(server, "/run/thank.sock"):
                await server.wait_closed()

    Args:
        server: what it controls.
        path: the socket's file, readable and writable by its owner only. What a server that died
            left there is replaced. It is removed at the end.
        may_control: told the user id at the other end, says whether it may control the server
            (default: the user that this program runs as, and root).

    Raises:
        SettingError, AddressError: the path names no file, or is too long for a socket.
    """
    return ControlServer(server, path, may_control)
