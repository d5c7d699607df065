"""Both clients of the control socket: what they give, and what becomes of them at the end."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tieline
from control.controlled import controlled
from support.hooks import Watch, echo, eventually
from support.peers import Peer
from tieline import ConnectError, ConnectionClosedError, DeadlineError
from tieline.control import Control, ControlError, blocking, connect, serve
from tieline.control.backlog import Backlog
from tieline.tap import Tap


def _methods(kind: type) -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(method).parameters)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_offer_the_same() -> None:
    asynchronous, plain = _methods(Control), _methods(blocking.Control)
    not_for_applications = {"ask_as", "receive_event", "take", "follow", "forget", "new_id"}
    assert asynchronous.keys() - not_for_applications == plain.keys() - not_for_applications
    for name in asynchronous.keys() - not_for_applications - {"watch", "tap"}:
        assert asynchronous[name] == plain[name], name
    for name in ("watch", "tap"):
        assert [*asynchronous[name], "timeout"] == plain[name]


# ---- On asyncio


async def test_several_tasks_ask_at_once(path: Path) -> None:
    async with controlled(path) as (_, control):
        for number in range(20):
            await control.ban(f"10.0.0.{number}", why=str(number))
        answers = await asyncio.gather(*(control.bans(limit=n) for n in range(1, 21)))
        assert [len(answer["bans"]) for answer in answers] == list(range(1, 21))


async def test_an_error_of_one_is_not_anothers(path: Path) -> None:
    async with controlled(path) as (_, control):
        found = await asyncio.gather(
            control.info(), control.kick(99), control.info(), return_exceptions=True
        )
        assert isinstance(found[1], ControlError)
        assert not isinstance(found[0], BaseException)
        assert not isinstance(found[2], BaseException)


async def test_a_cancelled_request_leaves_the_others_alone(path: Path) -> None:
    async with controlled(path) as (_, control):
        asking = asyncio.create_task(control.info())
        await asyncio.sleep(0)
        asking.cancel()
        assert (await control.bans())["bans"] == []
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_awaited_instead_of_entered(path: Path) -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server, serve(server, path):
        control = await connect(path)
        await control.info()
        await control.close()
        await control.close()
        with pytest.raises(ConnectionClosedError):
            await control.info()
        with pytest.raises(ConnectionClosedError):
            await anext(control.watch())


async def test_nobody_there_is_said_as_for_any_connection(path: Path) -> None:
    with pytest.raises(ConnectError, match="there is no socket at"):
        await connect(path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        with pytest.raises(ConnectError):
            await connect(path)


@pytest.mark.parametrize(
    ("said", "code", "what"),
    [
        (b"220 mail.example.com\r\n", "malformed", "is not a control socket of tieline"),
        (b'{"v": 2, "tieline": "9"}\n', "unknown_version", "speaks version 2"),
        (b"", "unavailable", "closed the connection without a word"),
    ],
)
async def test_something_else_at_the_path_is_noticed(
    path: Path, said: bytes, code: str, what: str
) -> None:
    async def say(connection: tieline.Connection) -> None:
        if said:
            await connection.send(said)

    async with tieline.serve(say, f"unix:{path}"):
        with pytest.raises(ControlError, match=what) as raised:
            await connect(path)
        assert raised.value.code == code
        with pytest.raises(ControlError, match=what):
            await asyncio.to_thread(blocking.connect, path)


async def test_a_server_that_never_greets_is_not_waited_for(path: Path) -> None:
    async def say_nothing(connection: tieline.Connection) -> None:
        await asyncio.Event().wait()

    async with tieline.serve(say_nothing, f"unix:{path}"):
        with pytest.raises(DeadlineError, match=r"took longer than 0\.05 s"):
            await connect(path, timeout=0.05)
        with pytest.raises(DeadlineError, match=r"took longer than 0\.05 s"):
            await asyncio.to_thread(blocking.connect, path, timeout=0.05)


async def test_a_server_that_leaves_ends_everything(path: Path) -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        control_server = serve(server, path)
        await control_server.start()
        async with connect(path) as control:
            watched = control.watch(stats=False)
            async with watched:
                await control_server.close()
                assert [event async for event in watched] == []
                assert watched.ended == {"event": "stream_ended", "why": "server_closed"}
            with pytest.raises(ConnectionClosedError):
                await control.info()


async def test_a_connection_that_breaks_is_an_error_to_all_who_wait(path: Path) -> None:
    async def greet(connection: tieline.Connection) -> None:
        await connection.send(b'{"v": 1, "tieline": "0", "pid": 1}\n')
        async for data in connection:
            if data.count(b"\n") == 2 or b"tap" in data:
                await connection.send(b'{"v": 1, "id": 2, "ok": true, "result": {}}\nwhat?\n')

    async with tieline.serve(greet, f"unix:{path}"), connect(path) as control:
        asking = asyncio.create_task(control.info())
        await asyncio.sleep(0)
        tapped = control.tap(1)
        waiting = asyncio.create_task(anext(tapped))
        for task in (asking, waiting):
            with pytest.raises(ControlError, match=r"'what\?' is not JSON"):
                await task
        with pytest.raises(ControlError, match=r"'what\?' is not JSON"):
            await control.info()


async def test_events_begin_with_the_first_look(path: Path) -> None:
    async with controlled(path) as (server, control):
        watched = control.watch(stats=False)
        assert not server.events.wanted
        async with asyncio.timeout(10):
            waiting = asyncio.create_task(anext(watched))
            await eventually(lambda: server.events.wanted)
            await control.ban("10.0.0.7")
            assert (await waiting)["network"] == "10.0.0.7"
        await watched.close()
        await watched.close()
        assert not server.events.wanted


async def test_a_cancelled_wait_for_an_event_loses_nothing(path: Path) -> None:
    async with controlled(path) as (_, control):
        async with control.watch(stats=False) as watched:
            waiting = asyncio.create_task(anext(watched))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await control.ban("10.0.0.7")
            assert (await anext(watched))["event"] == "client_banned"


async def test_leaving_while_a_drain_goes_on_does_not_wait_for_it(path: Path) -> None:
    async def never_done(connection: tieline.Connection) -> None:
        async for _ in connection:
            await asyncio.Event().wait()

    async with controlled(path, never_done) as (server, _):
        async with await Peer.connect(server.addresses[0]) as peer:
            await peer.send(b"job\n")
            await eventually(lambda: [each.messages_received for each in server.connections] == [1])
            async with connect(path) as control:
                draining = asyncio.create_task(control.drain(1_000))
                await eventually(lambda: server.is_draining)
            with pytest.raises(ConnectionClosedError):
                await draining


# ---- Without asyncio


async def _blocking(path: Path, act: Callable[[blocking.Control], Any]) -> Any:
    def run() -> Any:
        with blocking.connect(path, timeout=10) as control:
            return act(control)

    return await asyncio.to_thread(run)


async def test_the_blocking_client_asks_the_same(path: Path) -> None:
    watch = Watch()
    async with controlled(path, **watch.hooks) as (server, _):
        async with await Peer.connect(server.addresses[0]) as peer:
            id = (await watch.next_open()).id

            def act(control: blocking.Control) -> None:
                assert control.greeting["v"] == 1
                assert control.info()["connections"] == 1
                assert control.connections(sort="peer")["connections"][0]["id"] == id
                assert control.connection(id)["id"] == id
                assert control.clients(min_connections=1)["clients"][0]["connections"] == 1
                assert control.ban("10.0.0.7", 60, "a test")["closed"] == 0
                assert control.bans()["bans"][0]["why"] == "a test"
                assert control.unban("10.0.0.7")["network"] == "10.0.0.7"
                assert control.change_limits(idle=20)["changed"]["idle"]["new"] == 20
                assert control.limits()["limits"]["idle"]["value"] == 20
                assert "tieline_" in control.metrics()["text"]
                assert control.help()["verbs"]
                with pytest.raises(ControlError, match="there is no verb 'inof'"):
                    control.ask("inof")
                assert control.kick(id)["kicked"] == 1
                assert control.drain(5) == {"connections": 0, "clean": True}

            await _blocking(path, act)
            assert await peer.is_reset()


async def test_the_blocking_client_watches_and_asks_in_between(path: Path) -> None:
    async with controlled(path) as (server, _):

        def act(control: blocking.Control) -> list[Any]:
            with control.watch(stats=False, timeout=10) as watched:
                control.ban("10.0.0.7")
                control.ban("10.0.0.8")
                seen = [next(watched)["network"]]
                control.unban("10.0.0.7")
                seen += [next(watched)["network"], next(watched)["event"]]
                watched.timeout = 0.05
                with pytest.raises(DeadlineError):
                    next(watched)
                control.unban("10.0.0.8")
            assert watched.ended == {"event": "stream_ended", "why": "stopped"}
            return [*seen, *(event["network"] for event in watched)]

        assert await _blocking(path, act) == [
            "10.0.0.7", "10.0.0.8", "client_unbanned", "10.0.0.8",
        ]  # fmt: skip
        assert not server.events.wanted


async def test_the_blocking_client_taps_until_the_connection_ends(path: Path) -> None:
    async with controlled(path) as (server, _):
        peer = await Peer.connect(server.addresses[0])
        await eventually(lambda: len(server) == 1)
        [connection] = server.connections

        def act(control: blocking.Control) -> Any:
            tapped = control.tap(connection.id, timeout=10)
            texts = [event["text"] for event in tapped]
            return texts, tapped.ended

        tapping = asyncio.create_task(_blocking(path, act))
        await eventually(lambda: isinstance(connection._codec, Tap))
        await peer.send(b"hello\n")
        await peer.receive_line()
        peer.reset()
        texts, ended = await tapping
        assert texts == ["hello", "hello"]
        assert ended["reason"] == "peer_reset"


async def test_a_request_that_takes_too_long_can_be_followed_by_another(path: Path) -> None:
    async def never_done(connection: tieline.Connection) -> None:
        async for _ in connection:
            await asyncio.Event().wait()

    async with controlled(path, never_done) as (server, _):
        async with await Peer.connect(server.addresses[0]) as peer:
            await peer.send(b"job\n")
            await eventually(lambda: [each.messages_received for each in server.connections] == [1])

            def act(control: blocking.Control) -> None:
                with pytest.raises(DeadlineError, match=r"asking .* took longer than 0\.1 s"):
                    control.ask_as(control.new_id(), "drain", {"seconds": 0.5}, 0.1)
                while control.info()["connections"]:
                    pass
                assert control.info()["draining"] is True

            await _blocking(path, act)


def test_nobody_there_is_said_to_the_blocking_client_too(path: Path) -> None:
    with pytest.raises(ConnectError, match="there is no socket at"):
        blocking.connect(path)


# ---- What waits in a client


def test_a_backlog_is_bounded_and_says_what_is_missing() -> None:
    backlog = Backlog()
    for number in range(1_030):
        backlog.put({"n": number})
    taken = [backlog.take() for _ in range(3)]
    backlog.put({"n": 2_000})
    backlog.put({"event": "stream_ended", "why": "most"})
    while (event := backlog.take()) is not None:
        taken.append(event)
    assert taken[:1024] == [{"n": number} for number in range(1024)]
    lost, last = taken[1024:]
    assert lost is not None
    assert (lost["event"], lost["count"]) == ("events_lost", 6)
    assert last == {"n": 2_000}
    assert backlog.lost == 6
    assert backlog.last == {"event": "stream_ended", "why": "most"}
