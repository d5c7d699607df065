"""Active checks against real sockets: who answers is up, who does not is down, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tieline
from support.clock import TICK, Clock
from support.transports import Secrets
from tieline.events import Event, UpstreamDown, UpstreamUp
from tieline.guard.checking import Checks
from tieline.guard.pool import Pool
from tieline.guard.settings import GuardSettings
from tieline.guard.spec import parse_upstream
from tieline.guard.upstream import Upstream

INTERVAL = 2.0


class Checked:
    """A pool of upstreams that are checked, on a clock that only the test moves."""

    def __init__(self, *texts: str, **settings: Any) -> None:
        self.clock = Clock()
        self.told: list[Event] = []
        self._news = asyncio.Event()
        given: dict[str, Any] = {"rise": 1, "fall": 1, "check_timeout": 10.0, **settings}
        self.pool = Pool(
            GuardSettings(**given),
            map(parse_upstream, texts),
            clock=lambda: self.clock.time,
            announce=self._hear,
        )
        self.checks = Checks(self.pool, chance=lambda: 0.5)

    def _hear(self, event: Event) -> None:
        self.told.append(event)
        self._news.set()

    async def __aenter__(self) -> Checked:
        self.checks.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.checks.stop()

    async def check_now(self) -> None:
        """Let the time for the next check come, once the last one is done."""
        while any(check._task for check in self.checks._checks.values()):
            await asyncio.sleep(0)
        self.clock.advance(INTERVAL + TICK)

    async def next_event(self) -> Event:
        while not self.told:
            self._news.clear()
            await self._news.wait()
        return self.told.pop(0)

    async def down(self) -> str:
        """Check until it is told that an upstream is down, and why."""
        await self.check_now()
        event = await self.next_event()
        assert isinstance(event, UpstreamDown), event
        return event.why

    async def up(self) -> None:
        """Check until it is told that an upstream is up."""
        await self.check_now()
        event = await self.next_event()
        assert isinstance(event, UpstreamUp), event

    async def passes(self, upstream: Upstream) -> None:
        """Check, and see that it passes, which is no event: it is out before, and back after."""
        upstream.health.passes_checks = False
        self.pool.change_settings(self.pool.settings)
        assert isinstance(await self.next_event(), UpstreamDown)
        await self.up()


class Server:
    """Somebody who listens, and does what a test wants with whoever comes.

    Attributes:
        connected: everybody who has come.
        heard: what they have sent.
    """

    def __init__(self, listening: socket.socket, answer: Callable[[bytes], bytes | None]) -> None:
        self.listening = listening
        self.text = place_of(listening)
        self.answer = answer
        self.connected: list[socket.socket] = []
        self.heard = bytearray()
        self.gone = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connected, _ = await loop.sock_accept(self.listening)
            self.connected.append(connected)
            task = loop.create_task(self._serve(connected))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connected: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connected, contextlib.suppress(OSError):
            connected.setblocking(False)
            reply: bytes | None = self.answer(b"")
            while reply is not None:
                if reply:
                    await loop.sock_sendall(connected, reply)
                data = await loop.sock_recv(connected, 4096)
                self.heard += data
                if not data:
                    break
                reply = self.answer(data)
        self.gone.set()

    async def all_gone(self) -> None:
        """Wait until a connection has ended."""
        await self.gone.wait()
        self.gone.clear()


def listen(host: str = "127.0.0.1") -> socket.socket:
    listening = socket.create_server((host, 0))
    listening.setblocking(False)
    return listening


@contextlib.asynccontextmanager
async def serving(
    answer: Callable[[bytes], bytes | None] = lambda data: b"",
    listening: socket.socket | None = None,
) -> AsyncIterator[Server]:
    """A server whose `answer` makes replies: b"" is silence, `None` closes."""
    with listening or listen() as own:
        server = Server(own, answer)
        task = asyncio.create_task(server.run())
        try:
            yield server
        finally:
            task.cancel()
            left = [task, *server._tasks]
            for each in left:
                each.cancel()
            await asyncio.wait(left)


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    """A socket with an address that nobody else can take, which does not listen yet."""
    with socket.socket() as closed:
        closed.setblocking(False)
        closed.bind(("127.0.0.1", 0))
        yield closed


def place_of(listening: socket.socket) -> str:
    return "{}:{}".format(*listening.getsockname()[:2])


# ---- Connecting is enough


async def test_refused_is_down_and_answering_is_up_again(bound: socket.socket) -> None:
    async with Checked(place_of(bound)) as checked:
        assert "nothing listens" in await checked.down()
        bound.listen()
        async with serving(listening=bound) as server:
            await checked.up()
            await server.all_gone()
            assert server.heard == b""
        assert "nothing listens" in await checked.down()


async def test_a_check_is_no_session_and_leaves_its_connection_at_once() -> None:
    async with serving() as server, Checked(server.text) as checked:
        [upstream] = checked.pool.upstreams
        await checked.passes(upstream)
        await server.all_gone()
        assert (upstream.sessions, upstream.connected, upstream.failed) == (0, 0, 0)


async def test_it_takes_fall_to_go_and_rise_to_come_back(bound: socket.socket) -> None:
    async with Checked(place_of(bound), rise=2, fall=3) as checked:
        [upstream] = checked.pool.upstreams
        for _ in range(2):
            failed = upstream.checks_failed
            await checked.check_now()
            while upstream.checks_failed == failed:
                await asyncio.sleep(0)
            assert upstream.state.value == "up"
        await checked.down()
        assert upstream.checks_failed == 3
        bound.listen()
        async with serving(listening=bound) as server:
            await checked.check_now()
            await server.all_gone()
            assert upstream.state.value == "down"
            await checked.up()
            assert len(server.connected) == 2


async def test_one_that_does_not_take_connections_is_down() -> None:
    """Its backlog is full: packets are dropped."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        crowd = [socket.socket() for _ in range(3)]
        try:
            for each in crowd:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            async with Checked(f"127.0.0.1:{port}", check_timeout=0.1) as checked:
                assert "did not answer its check within 0.1 s" in await checked.down()
        finally:
            for each in crowd:
                each.close()


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "db.sock"
    async with Checked(f"unix:{path}") as checked:
        assert "no socket" in await checked.down()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()
            await checked.up()


async def test_a_unix_socket_that_is_full(tmp_path: Path) -> None:
    path = str(tmp_path / "db.sock")
    with (
        socket.socket(socket.AF_UNIX) as listening,
        socket.socket(socket.AF_UNIX) as first,
        socket.socket(socket.AF_UNIX) as second,
    ):
        listening.bind(path)
        listening.listen(0)
        first.connect(path)
        second.setblocking(False)
        assert second.connect_ex(path) == errno.EAGAIN
        async with Checked(f"unix:{path}", check_timeout=0.1) as checked:
            assert "within 0.1 s" in await checked.down()


# ---- What is said


async def test_an_answer_as_expected_is_up() -> None:
    async with serving(lambda data: b"+PONG\r\n" if data else b"") as server:
        async with Checked(server.text, check_send=b"PING\r\n", check_expect=b"PONG") as checked:
            await checked.passes(checked.pool.upstreams[0])
            await server.all_gone()
            assert server.heard == b"PING\r\n"


async def test_an_answer_may_come_in_pieces() -> None:
    async with serving() as server, Checked(server.text, check_expect=b"SSH-2.0") as checked:
        [upstream] = checked.pool.upstreams
        passing = asyncio.ensure_future(checked.passes(upstream))
        while not server.connected:
            await asyncio.sleep(0)
        for piece in (b"xSSH", b"-2", b".0-x"):
            assert not passing.done()
            await asyncio.get_running_loop().sock_sendall(server.connected[0], piece)
        await passing


async def test_one_that_greets_first() -> None:
    async with serving(lambda data: None if data else b"220 mail ready\r\n") as server:
        async with Checked(server.text, check_expect=b"220 ") as checked:
            await checked.passes(checked.pool.upstreams[0])


async def test_what_is_sent_may_be_all() -> None:
    async with serving() as server, Checked(server.text, check_send=b"hello") as checked:
        await checked.passes(checked.pool.upstreams[0])
        await server.all_gone()
        assert server.heard == b"hello"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda data: b"", "did not answer its check within 0.1 s"),
        (lambda data: b"-ERR\r\n" if data else b"", "did not answer its check within 0.1 s"),
        (lambda data: None, "ended its answer to the check before what is expected"),
        (lambda data: b"x" * 70_000 if data else b"", "did not answer its check as expected"),
    ],
    ids=["silent", "wrong", "closes early", "endless"],
)
async def test_any_other_answer_is_down(answer: Callable[[bytes], bytes | None], why: str) -> None:
    texts = {"check_send": b"PING\r\n", "check_expect": b"PONG", "check_timeout": 0.1}
    if "expected" in why:
        texts["check_timeout"] = 10.0
    async with serving(answer) as server, Checked(server.text, **texts) as checked:
        said = await checked.down()
        # Nothing of the answer itself is repeated.
        assert said == f"{server.text} {why}" or "reset" in said


async def test_one_that_answers_again_is_back() -> None:
    well = False

    def answer(data: bytes) -> bytes | None:
        if not data:
            return b""
        return b"PONG" if well else None

    async with serving(answer) as server:
        async with Checked(server.text, check_send=b"PING", check_expect=b"PONG") as checked:
            await checked.down()
            well = True
            await checked.up()


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_upstreams_that_want_a_header_get_one(version: str) -> None:
    async with serving() as server, Checked(server.text, send_proxy=version) as checked:
        await checked.passes(checked.pool.upstreams[0])
        await server.all_gone()
        if version == "v1":
            assert server.heard == b"PROXY UNKNOWN\r\n"
        else:
            assert server.heard == b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


# ---- TLS


async def test_with_tls_connecting_is_enough_unless_something_is_said(secrets: Secrets) -> None:
    async with serving() as server:
        checked = Checked(server.text)
        checked.checks = Checks(checked.pool, secrets.client, chance=lambda: 0.5)
        async with checked:
            await checked.passes(checked.pool.upstreams[0])
            await server.all_gone()
            assert server.heard == b""


def pong(connection: tieline.Connection, message: object) -> bytes:
    return b"PONG"


async def test_what_is_said_is_said_in_tls(secrets: Secrets) -> None:
    async with tieline.serve(
        pong, "127.0.0.1:0", framing=tieline.Line(), tls=secrets.server
    ) as server:
        settings = {"check_send": b"PING\n", "check_expect": b"PONG\n"}
        checked = Checked(f"127.0.0.1:{server.addresses[0].port}", **settings)
        checked.checks = Checks(checked.pool, secrets.client, chance=lambda: 0.5)
        async with checked:
            await checked.passes(checked.pool.upstreams[0])
        checked.checks = Checks(
            checked.pool, secrets.client, server_name="other.example", chance=lambda: 0.5
        )
        async with checked:
            assert "cannot be trusted" in await checked.down()


async def test_one_that_speaks_no_tls_is_down(secrets: Secrets) -> None:
    async with serving(lambda data: b"hello\r\n" if data else b"") as server:
        checked = Checked(server.text, check_expect=b"hello")
        checked.checks = Checks(checked.pool, secrets.client, chance=lambda: 0.5)
        async with checked:
            assert "TLS with" in await checked.down()


async def test_one_that_is_silent_in_tls_is_down(secrets: Secrets) -> None:
    async with serving() as server:
        checked = Checked(server.text, check_expect=b"hello", check_timeout=0.1)
        checked.checks = Checks(checked.pool, secrets.client, chance=lambda: 0.5)
        async with checked:
            assert "within 0.1 s" in await checked.down()
        await server.all_gone()


async def test_a_name_that_no_certificate_has(secrets: Secrets) -> None:
    async with serving() as server:
        checked = Checked(server.text, check_expect=b"hello")
        checked.checks = Checks(
            checked.pool, secrets.client, server_name=".example", chance=lambda: 0.5
        )
        async with checked:
            assert "cannot be the name of a TLS server" in await checked.down()


# ---- Several addresses


async def test_one_of_its_addresses_is_enough_and_the_others_come_last() -> None:
    listening = listen("127.0.0.2")
    port = listening.getsockname()[1]
    async with Checked(f"db.example:{port}") as checked:
        [upstream] = checked.pool.upstreams
        found = [(socket.AF_INET, (f"127.0.0.{number}", port)) for number in (1, 2, 3)]
        checked.pool.resolved(upstream, found)
        async with serving(listening=listening):
            await checked.passes(upstream)
            assert {upstream.candidates()[0] for _ in range(3)} == {found[1]}
        await checked.down()


async def test_a_check_of_an_old_place_says_nothing_about_the_new_one(
    bound: socket.socket,
) -> None:
    settings = {"check_expect": b"never", "check_timeout": 0.1}
    async with serving() as server, Checked("db.example:1", **settings) as checked:
        [upstream] = checked.pool.upstreams
        checked.pool.resolved(upstream, [(socket.AF_INET, server.listening.getsockname())])
        await checked.check_now()
        while not server.connected:
            await asyncio.sleep(0)
        checked.pool.resolved(upstream, [(socket.AF_INET, bound.getsockname())])
        await server.all_gone()
        assert upstream.checks_failed == 0
        assert "nothing listens" in await checked.down()


async def test_a_name_that_is_not_known_yet_is_not_checked() -> None:
    async with Checked("db.example:1") as checked:
        await checked.check_now()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_one_that_leads_back_is_not_checked() -> None:
    async with serving() as server, Checked(server.text) as checked:
        [upstream] = checked.pool.upstreams
        checked.pool.resolved(upstream, upstream.addresses, is_own=True)
        await checked.check_now()
        assert asyncio.all_tasks() - {asyncio.current_task()} != set()  # the server's own
        assert not any("check" in str(task.get_coro()) for task in asyncio.all_tasks())


# ---- When


async def test_first_checks_are_spread_over_the_interval_and_later_ones_drift() -> None:
    chances = iter([0.0, 0.25, 0.5, 0.75, 0.0, 1.0, 0.5, 0.25])
    pool = Pool(GuardSettings(), [parse_upstream(f"db{n}.example:1") for n in range(4)])
    checks = Checks(pool, chance=lambda: next(chances))
    now = Clock().time
    checks.start()
    # In tenths of a second.
    assert [check.slot / 10 - now for check in checks._checks.values()] == [0.0, 0.5, 1.0, 1.5]
    assert [checks.next_at(0.0, 2.0) for _ in range(4)] == pytest.approx([1.8, 2.2, 2.0, 1.9])
    await checks.stop()


async def test_one_check_of_an_upstream_at_a_time() -> None:
    async with serving() as server:
        async with Checked(server.text, check_expect=b"never") as checked:
            for _ in range(5):
                checked.clock.advance(INTERVAL + TICK)
            while not server.connected:
                await asyncio.sleep(0)
            assert len(server.connected) == 1


async def test_who_comes_is_checked_and_who_goes_is_not() -> None:
    async with serving() as server, Checked() as checked:
        await checked.check_now()
        upstream = checked.pool.add(parse_upstream(server.text))
        await checked.next_event()
        await checked.passes(upstream)
        await server.all_gone()
        checked.pool.remove(server.text)
        await checked.check_now()
        await checked.check_now()
        assert len(server.connected) == 1


async def test_checks_that_are_off_and_on(bound: socket.socket) -> None:
    async with Checked(place_of(bound), check_interval=None) as checked:
        settings = checked.pool.settings
        await checked.check_now()
        [upstream] = checked.pool.upstreams
        assert upstream.checks_failed == 0
        checked.pool.change_settings(settings.replace(check_interval=2.0))
        await checked.down()
        checked.pool.change_settings(settings)
        failed = upstream.checks_failed
        await checked.check_now()
        assert upstream.checks_failed == failed


async def test_another_interval_holds_at_once(bound: socket.socket) -> None:
    async with Checked(place_of(bound), check_interval=3600.0) as checked:
        checked.pool.change_settings(checked.pool.settings.replace(check_interval=INTERVAL))
        await checked.down()


async def test_stopped_in_the_middle_of_a_check_it_leaves_nothing() -> None:
    async with serving() as server:
        async with Checked(server.text, check_expect=b"never") as checked:
            await checked.check_now()
            while not server.connected:
                await asyncio.sleep(0)
        [upstream] = checked.pool.upstreams
        assert upstream.checks_failed == 0
        await checked.checks.stop()
        await server.all_gone()


async def test_what_this_machine_is_short_of_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = asyncio.Event()

    class Short(socket.socket):
        def __init__(self, *arguments: object) -> None:
            tried.set()
            raise OSError(errno.EMFILE, "Too many open files")

    async with serving() as server, Checked(server.text) as checked:
        [upstream] = checked.pool.upstreams
        with monkeypatch.context() as patch:
            patch.setattr("tieline.guard.probing.socket.socket", Short)
            await checked.check_now()
            await tried.wait()
            while len(asyncio.all_tasks()) > 2:
                await asyncio.sleep(0)
        assert (upstream.checks_failed, upstream.state.value) == (0, "up")
        await checked.passes(upstream)
