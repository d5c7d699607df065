"""One control connection: its requests in order, and the streams that it has begun."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..connection import Connection
from ..errors import TielineError
from ..rules import nearest
from .arguments import Argument, check_arguments
from .outlet import Outlet
from .protocol import (
    ControlError,
    Request,
    answer,
    as_control_error,
    brief,
    decode,
    failure,
    read_request,
)

if TYPE_CHECKING:
    from ..listening import Listening
    from .watching import Statistics

__all__ = ["Operations", "Session", "Verb"]

#: Streams, and requests that take their time, of one connection at once.
_MOST_AT_ONCE = 8

#: Characters of a stream's id, which every line of it repeats.
_LONGEST_ID = 100

#: Seconds that a stream has at the end of the server to tell what waits.
_LAST_WORDS = 1.0

_log = logging.getLogger("tieline.control")


class Operations:
    """What the sessions of one control server have in common.

    Attributes:
        server: the one that is controlled.
        statistics: its measurements, for all who watch them.
        verbs: what can be asked for, by name.
    """

    __slots__ = ("_long", "server", "statistics", "verbs")

    def __init__(self, server: Listening, statistics: Statistics, verbs: dict[str, Verb]) -> None:
        self.server = server
        self.statistics = statistics
        self.verbs = verbs
        self._long: set[asyncio.Task[Any]] = set()

    async def outlive(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do what must not end with the session that asked for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._long.add(task)
        task.add_done_callback(self._long.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End what is still under way. A drain that has nothing left to do ends by itself."""
        if self._long and len(self.server) == 0:
            await asyncio.wait(self._long, timeout=_LAST_WORDS)
        for task in list(self._long):
            task.cancel()
        if self._long:
            await asyncio.wait(self._long)


class Session:
    """A client of the control socket.

    Requests are answered one after the other, in order, except for verbs that take their time:
    those do not keep the next one waiting.

    Attributes:
        operations: what it has in common with others.
        request: the one that is being answered.
    """

    def __init__(self, operations: Operations, connection: Connection) -> None:
        self.operations = operations
        self.request = Request(None, "", {})
        self._connection = connection
        user = connection.peer_user
        self.by = "unknown" if user is None else f"uid:{user}"
        self._streams: dict[Any, tuple[Outlet, Callable[[], object]]] = {}
        self._begun: list[Outlet] = []
        self._slow: set[asyncio.Task[None]] = set()

    @property
    def server(self) -> Listening:
        """The server that is controlled."""
        return self.operations.server

    # ---- Requests

    async def obey(self, line: bytes) -> None:
        """Answer one line. Whatever is wrong with it is an answer too."""
        id = None
        try:
            fields = decode(line)
            id = fields.get("id")
            request = read_request(fields)
            verb, given = self._understand(request)
            if verb.changes:
                self.note(verb.name, given)
            if verb.slow:
                self._answer_later(verb, request, given)
                return
            self.request = request
        except ControlError as error:
            await self._connection.send(failure(id, error))
            return
        await self._answer(verb, request, given)

    def note(self, verb: str, given: dict[str, Any]) -> None:
        """Put down who asked for something that changes the server."""
        _log.info("%s asked for %s %s", self.by, verb, brief(str(given)))

    def _understand(self, request: Request) -> tuple[Verb, dict[str, Any]]:
        verb = self.operations.verbs.get(request.verb)
        if verb is None:
            like = nearest(request.verb, self.operations.verbs)
            raise ControlError(
                "there is no verb {value!r}",
                hint="did you mean {like!r}?" if like else "the verb help lists them",
                code="unknown_verb",
                value=brief(request.verb),
                like=like,
            )
        return verb, check_arguments(verb.name, verb.arguments, request.arguments)

    async def _answer(self, verb: Verb, request: Request, given: dict[str, Any]) -> None:
        try:
            reply = answer(request.id, await verb.run(self, given))
        except TielineError as error:
            reply = failure(request.id, as_control_error(error))
        except Exception:
            _log.exception("the verb %s failed", verb.name)
            failed = ControlError(
                "the server failed at {verb}", hint="its log says more", verb=verb.name
            )
            reply = failure(request.id, failed)
        sent = self._connection.send(reply)
        begun, self._begun = self._begun, []
        for outlet in begun:
            outlet.start()
        await sent

    def _answer_later(self, verb: Verb, request: Request, given: dict[str, Any]) -> None:
        self._check_room(len(self._slow))
        work = self._answer(verb, request, given)
        task = asyncio.get_running_loop().create_task(work)
        self._slow.add(task)
        task.add_done_callback(self._slow_done)

    def _slow_done(self, task: asyncio.Task[None]) -> None:
        self._slow.discard(task)
        error = None if task.cancelled() else task.exception()
        # One of ours is this connection's end, which its conversation sees too.
        if error is not None and not isinstance(error, TielineError):
            _log.error("an answer failed", exc_info=error)

    def _check_room(self, count: int) -> None:
        if count >= _MOST_AT_ONCE:
            raise ControlError(
                "{most} of these may be under way at once on one connection, and they are",
                hint="stop one, or open another connection",
                code="busy",
                most=_MOST_AT_ONCE,
            )

    # ---- Streams

    def check_stream(self) -> None:
        """Whether the request that is being answered may begin a stream.

        Raises:
            ControlError: it has no id of its own, or there are too many.
        """
        id = self.request.id
        good = isinstance(id, (str, int)) and not isinstance(id, bool)
        if not good or (isinstance(id, str) and len(id) > _LONGEST_ID):
            raise ControlError(
                "{verb} needs an id, by which its events are known: a text or a whole number, "
                "not {value!r}",
                code="bad_value",
                verb=self.request.verb,
                name="id",
                value=brief(id),
            )
        if id in self._streams:
            raise ControlError(
                "the id {value!r} is that of a stream that goes on",
                hint="stop that one, or use another id",
                code="bad_value",
                name="id",
                value=id,
            )
        self._check_room(len(self._streams))

    def open_outlet(self) -> Outlet:
        """Where the events of the request that is being answered will go.

        Raises:
            ControlError: as `check_stream`.
        """
        self.check_stream()
        id = self.request.id
        return Outlet(self._connection, id, lambda: self._stream_over(id))

    def begin(self, outlet: Outlet, on_end: Callable[[], object]) -> None:
        """A stream begins, behind its answer. `on_end` is called when it ends, at least once."""
        self._streams[outlet.id] = (outlet, on_end)
        self._begun.append(outlet)

    def _stream_over(self, id: Any) -> None:
        _, on_end = self._streams.pop(id)
        on_end()

    async def stop(self, id: Any) -> int:
        """End a stream: what waits is told, then its end, and only then is this answered.

        Returns:
            How many events it has lost.

        Raises:
            ControlError: there is none with that id.
        """
        if id not in self._streams:
            raise ControlError(
                "no stream has the id {value!r}", code="not_found", name="id", value=brief(id)
            )
        outlet, on_end = self._streams[id]
        on_end()
        outlet.end("stopped")
        await outlet.finish()
        return outlet.lost

    # ---- The end

    async def finish(self) -> None:
        """The control server closes: answer what is being answered, end the streams."""
        streams = [outlet for outlet, _ in self._streams.values()]
        for outlet in streams:
            outlet.end("server_closed")
        waiting: list[Awaitable[Any]] = [outlet.finish(_LAST_WORDS) for outlet in streams]
        if self._slow:
            waiting.append(asyncio.wait(self._slow, timeout=_LAST_WORDS))
        await asyncio.gather(*waiting)

    async def end(self, *, answered: bool) -> None:
        """The client has ended its stream (`answered`: what it asked for is still answered), or
        the connection is over."""
        for outlet, _ in list(self._streams.values()):
            await outlet.cut_off()
        if answered and self._slow:
            await asyncio.wait(self._slow)
        for task in list(self._slow):
            task.cancel()


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that can be asked for.

    Attributes:
        name: its word.
        help: what it does, in a line.
        run: does it; what it returns is the result.
        arguments: what it may be given.
        stream: whether events follow its answer.
        slow: whether it may take long, so that others do not wait for it.
        changes: whether it changes the server, which is logged.
        guard: whether only a guard has it.
    """

    name: str
    help: str
    run: Callable[[Session, dict[str, Any]], Awaitable[Any]]
    arguments: tuple[Argument, ...] = ()
    stream: bool = False
    slow: bool = False
    changes: bool = False
    guard: bool = False
