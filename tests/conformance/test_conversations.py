"""A conversation is an ordinary task: everything of asyncio's works inside it, and around it.

Its messages wake it faster than asyncio would; nothing else may tell the difference.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from support.hooks import Watch, eventually
from support.leaks import ErrorLog
from support.transports import Place
from tieline import CloseReason, Connection, EndOfStreamError, Line, ReceiveConflictError

Conversation = Callable[[Connection], Awaitable[None]]


class Talk:
    """One conversation with a peer that speaks lines, and the task it runs in."""

    def __init__(self, place: Place, conversation: Conversation) -> None:
        self.place = place
        self.watch = Watch()
        self.tasks: list[asyncio.Task[Any]] = []

        async def remember(connection: Connection) -> None:
            task = asyncio.current_task()
            assert task is not None
            self.tasks.append(task)
            await conversation(connection)

        self.server = place.serve(remember, framing=Line(), **self.watch.hooks)

    async def say(self, *lines: bytes, expect: bytes) -> None:
        """Say these lines one after the other, each once the one before has been answered."""
        async with self.server, await self.place.peer(self.server) as peer:
            answers = b""
            for line in lines:
                await peer.send(line + b"\n")
                answers += await peer.receive_line()
            await peer.end()
            answers += await peer.receive_all()
            assert answers == expect
            await self.watch.next_close()
            await asyncio.wait(self.tasks)


async def test_the_current_task_is_the_same_all_the_time(plain: Place) -> None:
    async def converse(connection: Connection) -> None:
        first = asyncio.current_task()
        async for message in connection:
            assert asyncio.current_task() is first
            await asyncio.sleep(0)
            assert asyncio.current_task() is first
            await connection.send(message)

    await Talk(plain, converse).say(b"a", b"b", b"c", expect=b"a\nb\nc\n")


async def test_between_the_conversations_no_task_is_current(plain: Place) -> None:
    seen: list[object] = []

    def look(connection: Connection, reason: CloseReason) -> None:
        seen.append(asyncio.current_task())

    async def converse(connection: Connection) -> None:
        async for message in connection:
            await connection.send(message)

    talk = Talk(plain, converse)
    talk.server._on_close = look
    async with talk.server, await plain.peer(talk.server) as peer:
        for _ in range(3):
            await peer.send(b"x\n")
            await peer.receive_line()
        peer.reset()
        await eventually(lambda: seen)
    assert seen == [None]


async def test_context_variables_keep_their_values(plain: Place) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def converse(connection: Connection) -> None:
        async for _ in connection:
            variable.set(variable.get() + 1)
            await connection.send(b"%d" % variable.get())

    await Talk(plain, converse).say(b"", b"", b"", expect=b"1\n2\n3\n")
    assert variable.get() == 0


@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_anything_may_be_awaited_between_messages(plain: Place, turns: int) -> None:
    async def add(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    async def converse(connection: Connection) -> None:
        number = 0
        async for _ in connection:
            for _ in range(turns):
                number = await add(number)
                number = await asyncio.create_task(add(number))
                future = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_soon(future.set_result, number + 1)
                number = await future
                await asyncio.gather(add(1), add(2))
                await asyncio.to_thread(int)
            await connection.send(b"%d" % number)

    await Talk(plain, converse).say(
        b"", b"", b"", expect=b"".join(b"%d\n" % (turns * 3 * times) for times in (1, 2, 3))
    )


async def test_an_asynchronous_generator_may_stand_between(plain: Place) -> None:
    async def in_pairs(connection: Connection) -> AsyncIterator[tuple[bytes, bytes]]:
        async for first in connection:
            await connection.send(b"and?")
            yield first, await connection.receive()

    async def converse(connection: Connection) -> None:
        async for first, second in in_pairs(connection):
            await connection.send(first + second)

    await Talk(plain, converse).say(
        b"a", b"b", b"c", b"d", expect=b"and?\nab\nand?\ncd\n"
    )  # fmt: skip


async def test_a_timeout_strikes_inside_a_conversation(plain: Place) -> None:
    struck: asyncio.Queue[int] = asyncio.Queue()

    async def converse(connection: Connection) -> None:
        for turn in range(6):
            await connection.send(b"%d" % turn + await connection.receive())
            try:
                async with asyncio.timeout(0.001):
                    await connection.receive()
            except TimeoutError:
                struck.put_nowait(turn)
        await connection.send(b"done")

    talk = Talk(plain, converse)
    async with talk.server, await plain.peer(talk.server) as peer:
        for turn in range(6):
            await peer.send(b"x\n")
            assert await peer.receive(3) == b"%dx\n" % turn
            await struck.get()
        assert await peer.receive_line() == b"done\n"


@pytest.mark.parametrize("wait", [asyncio.wait_for, None])
async def test_a_timeout_that_does_not_strike_does_no_harm(plain: Place, wait: Any) -> None:
    async def converse(connection: Connection) -> None:
        while True:
            if wait is None:
                async with asyncio.timeout(60):
                    message = await connection.receive()
            else:
                message = await asyncio.wait_for(connection.receive(), 60)
            await connection.send(message)

    await Talk(plain, converse).say(b"a", b"b", b"c", expect=b"a\nb\nc\n")


async def test_nested_timeouts_know_which_of_them_struck(plain: Place) -> None:
    async def converse(connection: Connection) -> None:
        await connection.send(await connection.receive())
        try:
            async with asyncio.timeout(60):
                async with asyncio.timeout(0):
                    await connection.receive()
        except TimeoutError:
            await connection.send(b"the inner one")
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await connection.send(await connection.receive())

    talk = Talk(plain, converse)
    async with talk.server, await plain.peer(talk.server) as peer:
        await peer.send(b"a\n")
        assert await peer.receive(16) == b"a\nthe inner one\n"
        await peer.send(b"b\n")
        assert await peer.receive_line() == b"b\n"


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_conversation_may_be_cancelled_and_says_so(plain: Place, after: int) -> None:
    caught: list[str] = []

    async def converse(connection: Connection) -> None:
        try:
            async for message in connection:
                await connection.send(message)
        except asyncio.CancelledError as error:
            caught.append(str(error))
            raise

    talk = Talk(plain, converse)
    async with talk.server, await plain.peer(talk.server) as peer:
        await talk.watch.next_open()
        for _ in range(after):
            await peer.send(b"x\n")
            await peer.receive_line()
        await eventually(lambda: talk.tasks)
        talk.tasks[0].cancel("enough")
        assert await talk.watch.next_close() is CloseReason.ABORTED
        assert talk.tasks[0].cancelled()
        assert await peer.is_reset()
    assert caught == ["enough"]


async def test_a_conversation_may_refuse_to_be_cancelled(plain: Place) -> None:
    async def converse(connection: Connection) -> None:
        while True:
            try:
                await connection.send(await connection.receive())
            except asyncio.CancelledError:
                await connection.send(b"not now")

    talk = Talk(plain, converse)
    async with talk.server, await plain.peer(talk.server) as peer:
        for _ in range(3):
            await peer.send(b"x\n")
            assert await peer.receive_line() == b"x\n"
            talk.tasks[0].cancel()
            assert await peer.receive_line() == b"not now\n"
        # While it works on a message it was woken for, too.
        peer.socket.send(b"y\n")
        talk.tasks[0].cancel()
        assert set((await peer.receive_exactly(10)).splitlines()) == {b"not now", b"y"}
        await peer.end()
        await talk.watch.next_close()
        assert isinstance(talk.tasks[0].exception(), EndOfStreamError)


@pytest.mark.parametrize("then", ["return", "receive", "sleep", "future", "raise"])
async def test_a_conversation_may_cancel_itself(
    plain: Place, then: str, error_log: ErrorLog
) -> None:
    futures: list[asyncio.Future[None]] = []

    async def converse(connection: Connection) -> None:
        for _ in range(2):  # the second time it is woken beside its task
            await connection.send(await connection.receive())
        await connection.receive()
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if then == "receive":
            await connection.receive()
        elif then == "sleep":
            await asyncio.sleep(3600)
        elif then == "future":
            futures.append(asyncio.get_running_loop().create_future())
            await futures[0]
        elif then == "raise":
            raise ValueError("a mistake in the application")

    async def alone() -> None:
        """What asyncio does with a task that does the same."""
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if then == "raise":
            raise ValueError("a mistake in the application")
        if then != "return":
            await asyncio.sleep(3600)

    expected = (await asyncio.gather(asyncio.create_task(alone()), return_exceptions=True))[0]
    talk = Talk(plain, converse)
    async with talk.server, await plain.peer(talk.server) as peer:
        for _ in range(2):
            await peer.send(b"x\n")
            await peer.receive_line()
        await peer.send(b"now\n")
        await talk.watch.next_close()
        got = (await asyncio.gather(talk.tasks[0], return_exceptions=True))[0]
    if not isinstance(got, asyncio.CancelledError):
        assert type(got) is type(expected)
    assert all(future.cancelled() for future in futures)
    error_log.take()


async def test_a_conversation_that_cancels_itself_may_go_on_receiving(plain: Place) -> None:
    async def converse(connection: Connection) -> None:
        task = asyncio.current_task()
        assert task is not None
        while True:
            await connection.send(await connection.receive())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connection.receive()
            task.uncancel()

    await Talk(plain, converse).say(b"a", b"b", b"c", expect=b"a\nb\nc\n")


async def test_a_conversation_may_cancel_itself_and_change_its_mind(plain: Place) -> None:
    async def converse(connection: Connection) -> None:
        task = asyncio.current_task()
        assert task is not None
        async for message in connection:
            task.cancel()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                assert task.uncancel() == 0
                await connection.send(message)

    await Talk(plain, converse).say(b"a", b"b", b"c", expect=b"a\nb\nc\n")


async def test_a_task_group_inside_a_conversation(plain: Place) -> None:
    async def converse(connection: Connection) -> None:
        async for message in connection:
            async with asyncio.TaskGroup() as group:
                for number in range(3):
                    group.create_task(_send(connection, message + b"%d" % number))

    async def _send(connection: Connection, message: bytes) -> None:
        await asyncio.sleep(0)
        await connection.send(message)

    talk = Talk(plain, converse)
    async with talk.server, await plain.peer(talk.server) as peer:
        for _ in range(3):
            await peer.send(b"x\n")
            assert await peer.receive(9) == b"x0\nx1\nx2\n"


async def test_a_task_group_that_fails_while_the_conversation_receives(plain: Place) -> None:
    async def fail(go: asyncio.Event) -> None:
        await go.wait()
        raise ValueError("a mistake in the application")

    async def converse(connection: Connection) -> None:
        for _ in range(3):
            go = asyncio.Event()
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail(go))
                    async for message in connection:
                        await connection.send(message)
                        go.set()
            await connection.send(b"failed")

    talk = Talk(plain, converse)
    async with talk.server, await plain.peer(talk.server) as peer:
        for _ in range(3):
            await peer.send(b"x\n")
            assert await peer.receive(9) == b"x\nfailed\n"


async def test_a_conversation_may_let_another_task_receive_and_go_on_itself(
    plain: Place,
) -> None:
    async def converse(connection: Connection) -> None:
        while connection.is_receiving:
            await connection.send(b"self " + await connection.receive())
            await connection.send(b"self " + await connection.receive())
            message = await asyncio.create_task(connection.receive())
            await connection.send(b"other " + message)

    lines = (b"a", b"b", b"c", b"d", b"e", b"f")
    expected = b"self a\nself b\nother c\nself d\nself e\nother f\n"
    await Talk(plain, converse).say(*lines, expect=expected)


async def test_a_second_receiver_is_a_conflict_for_itself_only(plain: Place) -> None:
    conflicts: list[BaseException] = []

    async def interfere(connection: Connection) -> None:
        try:
            await connection.receive()
        except ReceiveConflictError as error:
            conflicts.append(error)

    others: list[asyncio.Task[None]] = []

    async def converse(connection: Connection) -> None:
        async for message in connection:
            others.append(asyncio.create_task(interfere(connection)))
            await connection.send(message)

    talk = Talk(plain, converse)
    async with talk.server, await plain.peer(talk.server) as peer:
        for number in range(1, 4):
            await peer.send(b"x\n")
            await peer.receive_line()
            await others.pop()
            assert len(conflicts) == number


async def test_locks_and_queues_work_between_conversations(plain: Place) -> None:
    """A chat: each hears what the others say."""
    everybody: set[Connection] = set()
    lock = asyncio.Lock()

    async def chat(connection: Connection) -> None:
        everybody.add(connection)
        try:
            async for message in connection:
                async with lock:
                    for other in everybody - {connection}:
                        await other.send(message)
        finally:
            everybody.discard(connection)

    async with plain.serve(chat, framing=Line()) as server:
        peers = [await plain.peer(server) for _ in range(4)]
        await eventually(lambda: len(everybody) == 4)
        for turn in range(3):
            for speaker in peers:
                await speaker.send(b"%d\n" % turn)
                for listener in peers:
                    if listener is not speaker:
                        assert await listener.receive_exactly(2) == b"%d\n" % turn
        for peer in peers:
            peer.close()
        await eventually(lambda: not everybody)


@pytest.mark.parametrize("error", [ValueError, StopAsyncIteration, RuntimeError])
async def test_what_a_conversation_raises_is_what_its_task_holds(
    plain: Place, error: type[Exception], error_log: ErrorLog
) -> None:
    async def converse(connection: Connection) -> None:
        await connection.send(await connection.receive())
        await connection.send(await connection.receive())
        await connection.receive()
        raise error("a mistake in the application")

    talk = Talk(plain, converse)
    async with talk.server, await plain.peer(talk.server) as peer:
        for _ in range(2):
            await peer.send(b"x\n")
            await peer.receive_line()
        await peer.send(b"x\n")
        assert await peer.receive_all() == b""
        await peer.end()
        assert await talk.watch.next_close() is CloseReason.HANDLER_ERROR
        held = talk.tasks[0].exception()
        assert type(held) is error
        assert held.__traceback__ is not None
    [logged] = error_log.take()
    assert "in converse" in logged
    assert "a mistake in the application" in logged


async def test_debuggers_see_where_a_conversation_is(plain: Place) -> None:
    async def converse(connection: Connection) -> None:
        async for message in connection:
            await connection.send(message)

    talk = Talk(plain, converse)
    async with talk.server, await plain.peer(talk.server) as peer:
        for _ in range(2):
            await peer.send(b"x\n")
            await peer.receive_line()
            task = talk.tasks[0]
            assert "remember" in repr(task)
            assert [frame.f_code.co_name for frame in task.get_stack()] == ["remember"]
            assert not task.done()


async def test_asyncios_debug_mode_has_nothing_to_say(
    plain: Place, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.get_running_loop().set_debug(True)

    async def converse(connection: Connection) -> None:
        async for message in connection:
            await asyncio.sleep(0)
            await connection.send(message)

    await Talk(plain, converse).say(b"a", b"b", b"c", expect=b"a\nb\nc\n")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_handler_may_be_a_method_or_a_partial(plain: Place) -> None:
    class Application:
        async def converse(self, prefix: bytes, connection: Connection) -> None:
            async for message in connection:
                await connection.send(prefix + message)

    handler = functools.partial(Application().converse, b"> ")
    assert inspect.iscoroutinefunction(handler)
    async with plain.serve(handler, framing=Line()) as server:
        assert await plain.ask(server, b"hello", framing=Line()) == b"> hello"


async def test_a_conversation_that_ends_at_once_ends_its_connection(place: Place) -> None:
    async def leave(connection: Connection) -> None:
        return

    watch = Watch()
    async with place.serve(leave, **watch.hooks) as server:
        async with await place.peer(server) as peer:
            assert await peer.receive_all() == b""
            await peer.end()
            assert await watch.next_close() in (CloseReason.CLOSED, CloseReason.PEER_CLOSED)
