"""The control socket itself: who may connect, what becomes of nonsense, how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from pathlib import Path

import pytest

import tieline
from control.controlled import Wire, controlled
from support.clock import Clock
from support.hooks import echo, eventually
from support.leaks import ErrorLog
from tieline import BindError, CloseReason, Connection, SettingError
from tieline.control import ControlServer, connect, serve
from tieline.control.server import own_user_or_root


def _server() -> tieline.Server:
    return tieline.serve(echo("responder"), "127.0.0.1:0")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- The file


async def test_the_socket_is_its_owners_alone_before_anybody_can_connect(path: Path) -> None:
    modes: list[int] = []

    class Listening(socket.socket):
        def listen(self, backlog: int = 0, /) -> None:
            modes.append(_mode(path))
            super().listen(backlog)

    before = os.umask(0)
    try:
        control = serve(_server(), path)
        control._own.make_socket = Listening
        async with control:
            assert modes == [0o600]
            assert _mode(path) == 0o600
    finally:
        os.umask(before)


async def test_what_a_dead_server_left_is_replaced_and_the_end_leaves_nothing(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.exists()
    async with _server() as server:
        async with serve(server, path):
            async with connect(path) as control:
                assert (await control.info())["connections"] == 0
        assert not path.exists()


async def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(BindError):
        await serve(_server(), path).start()
    assert path.read_text() == "precious"


async def test_a_server_that_lives_is_not_replaced(path: Path) -> None:
    async with _server() as server, serve(server, path):
        with pytest.raises(BindError):
            await serve(server, path).start()
        async with connect(path) as control:
            await control.info()


@pytest.mark.parametrize("path_that_is_none", ["", "@abstract", "\0abstract"])
def test_a_control_socket_needs_a_file(path_that_is_none: str) -> None:
    with pytest.raises(SettingError, match="needs a file"):
        serve(_server(), path_that_is_none)


def test_a_path_may_be_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(tieline.AddressError, match="at most 107"):
        serve(_server(), tmp_path / ("x" * 120))


async def test_starting_and_closing_by_hand(path: Path) -> None:
    async with _server() as server:
        control = serve(server, path)
        await control.start()
        with pytest.raises(tieline.UsageError, match="starts once"):
            await control.start()
        await control.close()
        await control.close()
        assert not path.exists()
        await serve(server, path).close()  # never started


# ---- Who may


def test_only_the_own_user_and_root_may() -> None:
    assert own_user_or_root(os.geteuid())
    assert own_user_or_root(0)
    assert not own_user_or_root(os.geteuid() + 1)
    assert not own_user_or_root(None)


async def test_another_user_is_told_so_and_can_do_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int | None] = []

    def nobody(user: int | None) -> bool:
        asked.append(user)
        return False

    async with _server() as server, serve(server, path, may_control=nobody):
        async with await Wire.connect(path) as wire:
            await wire.say({"verb": "limits", "args": {"changes": {"idle": 1}}})
            said = await wire.hear()
            assert said["error"]["code"] == "not_allowed"
            assert "may not control this server" in said["error"]["message"]
            assert await wire.is_closed()
        with caplog.at_level(logging.WARNING, "tieline.control"):
            with pytest.raises(tieline.control.ControlError, match="may not control") as raised:
                await connect(path)
        assert raised.value.code == "not_allowed"
        assert asked == [os.getuid()] * 2
        assert server.limits.idle == 300
    assert "may not control this server" in caplog.text


# ---- Talking


async def test_the_greeting_says_who_is_there(path: Path) -> None:
    async with _server() as server, serve(server, path), await Wire.connect(path) as wire:
        assert await wire.hear() == {"v": 1, "tieline": tieline.__version__, "pid": os.getpid()}


@pytest.mark.parametrize(
    ("line", "id", "code", "said"),
    [
        (b"hello", None, "malformed", "'hello' is not JSON"),
        (b"\xff\xfe\x00", None, "malformed", "is not JSON"),
        (b"[]", None, "malformed", "'[]' is not a JSON object"),
        (b'{"id": 1}', 1, "malformed", "a request needs a verb"),
        (b'{"id": 1, "verb": "conections"}', 1, "unknown_verb", "no verb 'conections'"),
        (
            b'{"id": [1], "verb": "kick", "args": {"idd": 3}}', [1], "unknown_argument",
            "kick has no argument 'idd'",
        ),
        (
            b'{"id": "a", "verb": "connection", "args": {"id": "3"}}', "a", "bad_value",
            "id of connection must be a whole number of at least 1, not '3'",
        ),
        (
            b'{"id": 0, "verb": "connections", "args": {"sort": "aeg"}}', 0, "bad_value",
            "sort of connections must be one of id, ",
        ),
        (b'{"verb": "tap"}', None, "missing_argument", "tap needs id: a whole number"),
    ],
)  # fmt: skip
async def test_nonsense_is_answered_and_changes_nothing(
    path: Path, line: bytes, id: object, code: str, said: str
) -> None:
    async with _server() as server, serve(server, path), await Wire.connect(path) as wire:
        await wire.hear()
        limits = server.limits
        answer = await wire.ask(line)
        assert (answer["v"], answer["id"], answer["ok"]) == (1, id, False)
        assert answer["error"]["code"] == code
        assert said in answer["error"]["message"]
        assert (await wire.ask({"id": 9, "verb": "info"}))["ok"] is True
        assert server.limits is limits


async def test_the_nearest_known_name_is_the_hint(path: Path) -> None:
    async with _server() as server, serve(server, path), await Wire.connect(path) as wire:
        await wire.hear()
        for request, like in (
            ({"verb": "conections"}, "connections"),
            ({"verb": "connections", "args": {"srot": "id"}}, "sort"),
            ({"verb": "connections", "args": {"sort": "idel"}}, "idle"),
            ({"verb": "limits", "args": {"changes": {"idel": 3}}}, "idle"),
            ({"vreb": "info"}, "verb"),
        ):
            error = (await wire.ask(request))["error"]
            assert error["hint"] == f"did you mean {like!r}?"
            assert error["fields"]["like"] == like


async def test_empty_lines_are_nothing(path: Path) -> None:
    async with _server() as server, serve(server, path), await Wire.connect(path) as wire:
        await wire.hear()
        assert (await wire.ask(b'\n\r\n  \n{"id": 1, "verb": "info"}'))["id"] == 1


async def test_requests_sent_together_are_answered_in_order(path: Path) -> None:
    async with _server() as server, serve(server, path), await Wire.connect(path) as wire:
        await wire.hear()
        lines = b"\n".join(b'{"id": %d, "verb": "info"}' % number for number in range(100))
        await wire.say(lines)
        assert [(await wire.hear())["id"] for _ in range(100)] == list(range(100))


async def test_a_request_that_is_too_long_ends_the_connection_with_a_word(path: Path) -> None:
    async with _server() as server, serve(server, path), await Wire.connect(path) as wire:
        await wire.hear()
        answer = await wire.ask(b'{"verb": "info", "id": "%s"}' % (b"x" * 70_000))
        assert answer["error"]["message"] == "a request has at most 65536 bytes"
        assert await wire.is_closed()


async def test_who_says_all_at_once_and_leaves_gets_the_answers(path: Path) -> None:
    """As `printf '...' | nc -NU` does."""
    async with _server() as server, serve(server, path), await Wire.connect(path) as wire:
        lines = b'{"id": 1, "verb": "info"}\n{"id": 2, "verb": "drain"}\n{"verb"'
        await wire.peer.send(lines)
        await wire.peer.end()
        assert "tieline" in await wire.hear()
        assert (await wire.hear())["id"] == 1
        unfinished, drained = await wire.hear(), await wire.hear()
        assert unfinished["error"]["message"] == "the last request has no end: a line ends with LF"
        assert (drained["id"], drained["result"]["clean"]) == (2, True)
        assert await wire.is_closed()


async def test_a_verb_that_fails_is_logged_and_the_next_is_answered(
    path: Path, error_log: ErrorLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _server() as server, serve(server, path), await Wire.connect(path) as wire:
        await wire.hear()
        monkeypatch.delattr(server, "started_at")
        answer = await wire.ask({"id": 1, "verb": "info"})
        assert answer["error"]["code"] == "failed"
        assert answer["error"]["message"] == "the server failed at info"
        assert "AttributeError" in error_log.take()[0]
        assert (await wire.ask({"id": 2, "verb": "bans"}))["ok"] is True


async def test_a_client_that_reads_no_answers_is_waited_for_and_costs_little(path: Path) -> None:
    async with _server() as server, serve(server, path) as control:
        async with await Wire.connect(path, receive_buffer=4096) as wire:
            await wire.hear()
            request = b'{"verb": "help"}'
            asking = asyncio.create_task(wire.say(b"\n".join([request] * 5_000)))
            [own] = control._own.connections
            await eventually(lambda: own.owed > 65_536)
            for _ in range(100):
                await asyncio.sleep(0)
            assert own.owed < 200_000
            async with connect(path) as other:
                await other.info()  # nobody else notices
            for _ in range(5_000):
                assert (await wire.hear()).keys() in ({"v", "id", "ok", "result"},)
            await asking


async def test_a_newcomer_finds_a_place_among_those_that_forgot_to_leave(path: Path) -> None:
    clock = Clock()
    async with _server() as server, serve(server, path) as control:
        forgotten = [await Wire.connect(path) for _ in range(64)]
        for wire in forgotten:
            await wire.hear()
        clock.advance(61)
        await forgotten[0].ask({"verb": "bans"})
        async with connect(path) as newcomer:
            await newcomer.info()
            assert len(control._own) <= 64
            assert control._own.counters.closed.keys() == {CloseReason.EVICTED}
        await forgotten[0].ask({"verb": "bans"})
        for wire in forgotten:
            wire.peer.close()


# ---- Beside the server


async def test_its_own_connections_are_not_the_servers(path: Path) -> None:
    async with controlled(path, limits=tieline.Limits(total=1)) as (server, control):
        async with connect(path) as other:
            assert (await other.info())["connections"] == 0
            assert (await control.connections())["total"] == 0
            assert (await control.clients())["total"] == 0
        async with tieline.connect(server.addresses[0]):
            await eventually(lambda: len(server) == 1)
            assert (await control.connections())["total"] == 1
    assert server.counters.accepted == 1
    assert server.counters.closed.total() == 1


async def test_it_answers_while_the_server_drains_and_after(path: Path) -> None:
    go_on = asyncio.Event()

    async def work(connection: Connection) -> None:
        async for line in connection:
            await go_on.wait()
            await connection.send(line)

    async with controlled(path, work) as (server, control):
        async with tieline.connect(server.addresses[0], framing=tieline.Line()) as client:
            await client.send(b"job")
            await eventually(lambda: server.counters.accepted and not _idle(server))
            draining = asyncio.create_task(control.drain(20))
            await eventually(lambda: server.is_draining)
            info = await control.info()
            assert (info["draining"], info["connections"]) == (True, 1)
            async with connect(path) as newcomer:
                assert (await newcomer.connections())["total"] == 1
            go_on.set()
            assert await client.receive() == b"job"
        assert await draining == {"connections": 1, "clean": True}
        assert (await control.info())["connections"] == 0


def _idle(server: tieline.Server) -> bool:
    return all(connection.is_idle for connection in server.connections)


async def test_the_answer_to_a_drain_leaves_before_the_program_does(path: Path) -> None:
    """Whoever serves until the server is closed, and then leaves, still says that it is done."""
    server = _server()
    listens = asyncio.Event()

    async def program() -> None:
        async with server, serve(server, path):
            listens.set()
            await server.wait_closed()

    running = asyncio.create_task(program())
    await listens.wait()
    async with connect(path) as control:
        assert await control.drain(20) == {"connections": 0, "clean": True}
        await running
        assert not path.exists()


async def test_a_drain_goes_on_when_whoever_asked_for_it_is_gone(path: Path) -> None:
    async def never_done(connection: Connection) -> None:
        async for _ in connection:
            await asyncio.Event().wait()

    async with controlled(path, never_done) as (server, _):
        async with tieline.connect(server.addresses[0], framing=tieline.Line()) as client:
            await client.send(b"job")
            await eventually(lambda: server.counters.accepted and not _idle(server))
            async with await Wire.connect(path) as wire:
                await wire.hear()
                await wire.say({"verb": "drain", "args": {"seconds": 0.2}})
                await eventually(lambda: server.is_draining)
                wire.peer.reset()
            with pytest.raises(tieline.ConnectionClosedError):
                await client.receive()
            await server.wait_closed()
    assert server.counters.closed == {tieline.CloseReason.DRAIN_TIMEOUT: 1}


async def test_closing_it_leaves_the_server_alone_even_while_that_drains(path: Path) -> None:
    async def never_done(connection: Connection) -> None:
        async for _ in connection:
            await asyncio.Event().wait()

    async with tieline.serve(never_done, "127.0.0.1:0", framing=tieline.Line()) as server:
        async with tieline.connect(server.addresses[0], framing=tieline.Line()) as client:
            await client.send(b"job")
            async with serve(server, path):
                wire = await Wire.connect(path)
                await wire.hear()
                await wire.ask({"id": 1, "verb": "watch", "args": {"stats": False}})
                await wire.say({"id": 2, "verb": "drain", "args": {"seconds": 1_000}})
                assert (await wire.hear())["event"]["event"] == "drain_begun"
            assert len(server) == 1
            assert (await wire.hear())["event"]["why"] == "server_closed"
            assert await wire.is_closed()
            wire.peer.close()
            client.abort()


async def test_closing_ends_streams_with_a_word(path: Path) -> None:
    async with _server() as server:
        control: ControlServer = serve(server, path)
        await control.start()
        async with await Wire.connect(path) as wire:
            await wire.hear()
            await wire.ask({"id": 7, "verb": "watch", "args": {"stats": False}})
            await control.close()
            last = await wire.hear()
            assert (last["id"], last["event"]) == (
                7, {"event": "stream_ended", "why": "server_closed"},
            )  # fmt: skip
            assert await wire.is_closed()
        assert not server.events.wanted


async def test_closing_does_not_wait_long_for_a_client_that_does_not_read(path: Path) -> None:
    async with _server() as server:
        async with serve(server, path) as control:
            wire = await Wire.connect(path, receive_buffer=4096)
            await wire.hear()
            asking = asyncio.create_task(wire.say(b"\n".join([b'{"verb": "help"}'] * 5_000)))
            [own] = control._own.connections
            await eventually(lambda: own.owed > 65_536)
        assert len(control._own) == 0
        asking.cancel()
        wire.peer.close()


async def test_slow_requests_are_bounded(path: Path) -> None:
    async def never_done(connection: Connection) -> None:
        async for _ in connection:
            await asyncio.Event().wait()

    async with controlled(path, never_done) as (server, _):
        async with tieline.connect(server.addresses[0], framing=tieline.Line()) as client:
            await client.send(b"job")
            await eventually(lambda: server.counters.accepted and not _idle(server))
            async with await Wire.connect(path) as wire:
                await wire.hear()
                for number in range(9):
                    await wire.say({"id": number, "verb": "drain", "args": {"seconds": 1_000}})
                answer = await wire.hear()
                assert (answer["id"], answer["error"]["code"]) == (8, "busy")
                assert (await wire.ask({"id": 9, "verb": "info"}))["id"] == 9
            client.abort()
