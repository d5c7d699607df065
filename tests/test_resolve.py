"""Happy Eyeballs on a loop: the order, the race, and what is left of it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tieline import Address, parse_address
from tieline.errors import ConnectError, ResolveError
from tieline.resolve import (
    ATTEMPT_DELAY,
    all_failed,
    interleave,
    lookup_name,
    open_connection,
)

IPV6, IPV4 = socket.AF_INET6, socket.AF_INET


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Every test gives back its descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run it, and see that no task is left behind."""

    async def watched() -> None:
        try:
            await coroutine
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(watched())


@contextmanager
def listening(
    family: int = socket.AF_INET, name: Any = ("127.0.0.1", 0), backlog: int = 8
) -> Iterator[socket.socket]:
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(name)
        listener.listen(backlog)
        yield listener


@contextmanager
def silent() -> Iterator[tuple[str, int]]:
    """An address that answers nothing: a listener whose backlog is full."""
    filling: list[socket.socket] = []
    with listening(backlog=0) as listener:
        try:
            for _ in range(4):
                filling.append(socket.socket())
                filling[-1].setblocking(False)
                filling[-1].connect_ex(listener.getsockname())
            yield listener.getsockname()
        finally:
            for connecting in filling:
                connecting.close()


def unused() -> tuple[str, int]:
    """An address that refuses."""
    with listening() as listener:
        name: tuple[str, int] = listener.getsockname()
    return name


def found(*names: Any) -> list[tuple[Any, ...]]:
    return [(IPV6 if ":" in name[0] else IPV4, socket.SOCK_STREAM, 6, "", name) for name in names]


@pytest.fixture
def resolve_to(monkeypatch: pytest.MonkeyPatch) -> Any:
    def resolve(*names: Any) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found(*names))

    return resolve


# ---- The order


def test_families_take_turns_and_the_first_family_begins() -> None:
    ordered = interleave(
        found(("::1", 1), ("::2", 1), ("::3", 1), ("1.1.1.1", 1), ("2.2.2.2", 1), ("::1", 1))
    )
    assert [name[0] for _, name in ordered] == ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
    assert ordered[0] == (IPV6, ("::1", 1))
    assert interleave([]) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (":1", "localhost"),
        ("example.org:1", "example.org"),
        ("[::1]:1", "::1"),
        ("[fe80::1%2]:1", "fe80::1%2"),
        ("[fe80::1%eth0]:1", "fe80::1%eth0"),
    ],
)
def test_what_the_resolver_is_asked(text: str, name: str) -> None:
    assert lookup_name(parse_address(text)) == name


def test_the_error_tells_of_every_attempt() -> None:
    address = Address("both", 1)
    first = ConnectionRefusedError(111, "Connection refused")
    last = OSError(113, "No route to host")
    error = all_failed(address, [((IPV6, ("::1", 1, 0, 0)), first), ((IPV4, ("1.1.1.1", 1)), last)])
    assert isinstance(error, ConnectError)
    assert str(error) == "no route to both:1"
    assert error.fields["attempts"] == [
        ("[::1]:1", "Connection refused"),
        ("1.1.1.1:1", "No route to host"),
    ]
    assert error.__cause__ is last


# ---- One address


def test_one_address() -> None:
    async def connect() -> None:
        with listening() as listener:
            connected = await open_connection(Address(*listener.getsockname()))
            with connected:
                assert connected.getpeername() == listener.getsockname()
                assert connected.getblocking() is False
                assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(connect())


def test_nobody_there() -> None:
    async def connect() -> None:
        with pytest.raises(ConnectError, match="refused"):
            await open_connection(Address(*unused()))

    run(connect())


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_what_cannot_be_a_hosts_name(host: str) -> None:
    async def connect() -> None:
        with pytest.raises(ResolveError, match="not the name of a host"):
            await open_connection(Address(host, 1))

    run(connect())


def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    async def connect() -> None:
        with pytest.raises(ResolveError, match="no address is known for nobody"):
            await open_connection(Address("nobody", 1))

    run(connect())


def test_no_address_at_all(resolve_to: Any) -> None:
    async def connect() -> None:
        with pytest.raises(ConnectError):
            await open_connection(Address("none", 1))

    resolve_to()
    run(connect())


# ---- Several addresses


def test_the_next_is_tried_as_soon_as_one_has_failed(resolve_to: Any) -> None:
    async def connect() -> None:
        with listening() as listener:
            resolve_to(unused(), unused(), listener.getsockname())
            loop = asyncio.get_running_loop()
            before = loop.time()
            with await open_connection(Address("many", 1)) as connected:
                assert connected.getpeername() == listener.getsockname()
            assert loop.time() - before < 2 * ATTEMPT_DELAY

    run(connect())


def test_one_that_does_not_answer_holds_nothing_up(resolve_to: Any) -> None:
    async def connect() -> None:
        with silent() as dead, listening() as listener:
            resolve_to(dead, listener.getsockname())
            with await open_connection(Address("many", 1)) as connected:
                assert connected.getpeername() == listener.getsockname()

    run(connect())


def test_all_of_them_fail(resolve_to: Any) -> None:
    async def connect() -> None:
        names = [unused(), unused()]
        resolve_to(*names)
        with pytest.raises(ConnectError) as caught:
            await open_connection(Address("many", 1))
        attempts = caught.value.fields["attempts"]
        assert [where for where, _ in attempts] == [f"{host}:{port}" for host, port in names]

    run(connect())


def test_two_answer_at_once_and_one_is_kept(
    resolve_to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect() -> None:
        with silent() as dead, listening() as first, listening() as second:
            resolve_to(dead, first.getsockname(), second.getsockname())
            loop = asyncio.get_running_loop()
            both = asyncio.Barrier(2)
            sock_connect = loop.sock_connect

            async def together(connecting: socket.socket, name: Any) -> None:
                await sock_connect(connecting, name)
                await both.wait()

            monkeypatch.setattr(loop, "sock_connect", together)
            with await open_connection(Address("many", 1)) as connected:
                assert connected.getpeername() != dead

    run(connect())


# ---- Cancelling


@pytest.mark.parametrize("count", [1, 3])
def test_cancelling_leaves_nothing_behind(
    count: int, resolve_to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect() -> None:
        with silent() as dead:
            resolve_to(dead, *(("127.0.0.2", dead[1]), ("127.0.0.3", dead[1]))[: count - 1])
            loop = asyncio.get_running_loop()
            sock_connect = loop.sock_connect
            begun = asyncio.Event()

            async def begin(connecting: socket.socket, name: Any) -> None:
                begun.set()
                await sock_connect(connecting, name)

            monkeypatch.setattr(loop, "sock_connect", begin)
            task = asyncio.create_task(open_connection(Address("many", 1)))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(connect())


def test_cancelled_while_the_losers_are_ended(
    resolve_to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancellation is neither lost nor does it cost the winner's descriptor."""

    async def connect() -> None:
        with silent() as dead, listening() as listener:
            resolve_to(dead, listener.getsockname())
            loop = asyncio.get_running_loop()
            sock_connect = loop.sock_connect

            async def cancelling(connecting: socket.socket, name: Any) -> None:
                try:
                    await sock_connect(connecting, name)
                except asyncio.CancelledError:
                    task.cancel()
                    raise

            monkeypatch.setattr(loop, "sock_connect", cancelling)
            task = asyncio.create_task(open_connection(Address("many", 1)))
            with pytest.raises(asyncio.CancelledError):
                await task

    run(connect())


# ---- Unix sockets


def test_unix(tmp_path: Path) -> None:
    name = str(tmp_path / "s")

    async def connect() -> None:
        with pytest.raises(ConnectError, match="there is no socket"):
            await open_connection(Address(path=name))
        with listening(socket.AF_UNIX, name), await open_connection(Address(path=name)) as one:
            assert one.getpeername() == name

    run(connect())


def test_unix_a_full_backlog_is_waited_for(tmp_path: Path) -> None:
    name = str(tmp_path / "s")

    async def connect() -> None:
        with (
            listening(socket.AF_UNIX, name, backlog=0) as listener,
            await open_connection(Address(path=name)),
        ):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await open_connection(Address(path=name))
            task = asyncio.create_task(open_connection(Address(path=name)))
            await asyncio.sleep(0)
            listener.accept()[0].close()
            with await task as second:
                assert second.getpeername() == name

    run(connect())
