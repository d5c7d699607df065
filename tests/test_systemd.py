"""What systemd hands over is taken or named; what it wants to hear, it hears."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tieline
from support.hooks import echo
from support.service_manager import NoticeSocket, start_service
from tieline import SettingError, systemd
from tieline.systemd import Notifier, listening_sockets, notifying

SOURCE = Path(tieline.__file__).parents[1]


def listening(family: int = socket.AF_INET, name: Any = ("127.0.0.1", 0)) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.bind(name)
    made.listen()
    return made


# ---- Sockets

#: Says what it was handed.
_PROGRAM = """
import json, os
from tieline.systemd import listening_sockets
taken = listening_sockets()
print(json.dumps({
    "taken": [
        [name, each.fileno(), str(each.getsockname()), each.get_inheritable()]
        for name, each in taken
    ],
    "left": sorted(name for name in os.environ if name.startswith("LISTEN")),
    "again": listening_sockets(),
}))
for _, each in taken:
    each.close()
"""


class TestHandedOver:
    def told(self, folder: Path, *sockets: socket.socket, **given: str) -> Any:
        names = given.pop("names", "")
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), **given}
        child = start_service(
            "-c", _PROGRAM, sockets=sockets, names=names, environment=environment, at=folder
        )
        out, err = child.communicate(timeout=20)
        return json.loads(out) if child.returncode == 0 else err.splitlines()[-1]

    def test_they_are_taken_in_their_order(self, tmp_path: Path) -> None:
        with listening() as one, listening(socket.AF_UNIX, str(tmp_path / "two")) as two:
            told = self.told(tmp_path, one, two, names="web:local")
            assert told["taken"] == [
                ["web", 3, str(one.getsockname()), False],
                ["local", 4, str(tmp_path / "two"), False],
            ]
            assert told["left"] == []
            assert told["again"] == []

    def test_without_names_they_are_unknown(self, tmp_path: Path) -> None:
        with listening() as one:
            told = self.told(tmp_path, one, LISTEN_PIDFDID="7")
            assert [each[0] for each in told["taken"]] == ["unknown"]
            assert told["left"] == []

    def test_what_is_meant_for_another_process_is_not_taken(self, tmp_path: Path) -> None:
        with listening() as one:
            told = self.told(tmp_path, one, LISTEN_PID="1")
            assert told == {"taken": [], "left": [], "again": []}

    def test_what_does_not_listen_is_named(self, tmp_path: Path) -> None:
        with listening() as one, socket.socket() as idle:
            said = self.told(tmp_path, one, idle, names="web:idle")
            assert "SettingError: descriptor 4 ('idle'), which was handed over, is no" in said

    def test_a_descriptor_that_is_missing_is_named(self, tmp_path: Path) -> None:
        with listening() as one:
            said = self.told(tmp_path, one, LISTEN_FDS="2")
            assert "descriptor 4 ('unknown'), which was handed over, is no socket: Bad" in said


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hand descriptors to this process, though they do not begin at 3."""

    def hand(first: int, **changes: str) -> dict[str, str]:
        monkeypatch.setattr(systemd, "_FIRST", first)
        return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", **changes}

    return hand


def refused(environment: dict[str, str]) -> str:
    with pytest.raises(SettingError) as caught:
        listening_sockets(environment)
    assert not [name for name in environment if name.startswith("LISTEN")]
    return str(caught.value)


class TestWhatCannotBeTaken:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: socket.socket(),
            lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
            lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
        ],
    )
    def test_sockets_that_do_not_listen(self, handed: Any, make: Any) -> None:
        with make() as other:
            said = refused(handed(other.fileno(), LISTEN_FDNAMES="x"))
            assert said.endswith("('x'), which was handed over, is no socket that listens for "
                                 "connections")  # fmt: skip
            # It is still whoever's it was.
            assert other.getsockname() is not None

    def test_a_socket_that_listens_for_other_than_streams(self, handed: Any) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            other.bind("")
            other.listen()
            assert "is no socket that listens" in refused(handed(other.fileno()))

    def test_a_connection(self, handed: Any) -> None:
        """What Accept=yes hands over."""
        one, other = socket.socketpair()
        with one, other:
            assert "is no socket that listens" in refused(handed(one.fileno()))

    def test_a_file(self, handed: Any, tmp_path: Path) -> None:
        with (tmp_path / "x").open("w") as file:
            assert "is no socket: Socket operation" in refused(handed(file.fileno()))

    def test_those_before_it_are_closed(self, handed: Any) -> None:
        with socket.socket() as idle, listening() as one:
            first = 200
            os.dup2(one.fileno(), first)
            os.dup2(idle.fileno(), first + 1)
            refused(handed(first, LISTEN_FDS="2"))
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(first)
            os.close(first + 1)
            # The one that it was made of is not.
            socket.create_connection(one.getsockname(), 5).close()

    def test_names_that_do_not_fit(self, handed: Any) -> None:
        said = refused(handed(200, LISTEN_FDNAMES="a:b"))
        assert said == "LISTEN_FDNAMES names 2 descriptors, and LISTEN_FDS says 1"

    @pytest.mark.parametrize("text", ["x", "-1", " 1", "1" * 11, "1.0", "²"])
    def test_numbers_that_are_none(self, handed: Any, text: str) -> None:
        assert refused(handed(200, LISTEN_FDS=text)) == f"LISTEN_FDS is no number: {text!r}"
        assert refused(handed(200, LISTEN_PID=text)) == f"LISTEN_PID is no number: {text!r}"

    def test_nothing_is_nothing(self, handed: Any) -> None:
        assert listening_sockets({}) == []
        assert listening_sockets({"LISTEN_PID": str(os.getpid())}) == []
        assert listening_sockets({"LISTEN_FDS": "1"}) == []
        assert listening_sockets(handed(200, LISTEN_FDS="0")) == []

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                name: st.text(max_size=12) | st.integers().map(str) | st.just(str(os.getpid()))
                for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
            },
        )
    )
    def test_whatever_is_said_is_understood_or_refused(self, environment: dict[str, str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(systemd, "_FIRST", 1_000_000)  # where nothing is
            with contextlib.suppress(SettingError):
                assert listening_sockets(environment) == []
        assert environment == {}


async def test_a_server_listens_on_them(handed: Any) -> None:
    with listening() as ours:
        descriptor = os.dup(ours.fileno())
        sockets = [each for _, each in listening_sockets(handed(descriptor))]
        async with tieline.serve(echo("responder"), sockets=sockets) as server:
            assert await tieline.ask(str(server.addresses[0]), b"x") == b"x"
        # Ours is still open, and holds those who come until it is handed over again.
        with socket.create_connection(ours.getsockname(), 5):
            accepted, _ = ours.accept()
            accepted.close()


# ---- Notifications


@pytest.fixture(params=["path", "abstract"])
def notices(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NoticeSocket]:
    path = str(tmp_path / "notify") if request.param == "path" else f"@tieline-{os.getpid()}-x"
    with NoticeSocket(path) as made:
        yield made


@contextlib.contextmanager
def notifier_for(notices: NoticeSocket, **more: str) -> Iterator[Notifier]:
    notifier = Notifier({**notices.environment, **more})
    try:
        yield notifier
    finally:
        notifier.close()


def test_a_life(notices: NoticeSocket) -> None:
    with notifier_for(notices) as notifier:
        assert notifier.wanted
        assert notifier.watchdog is None
        assert not notifier.is_ready
        notifier.ready("2 connections")
        assert notifier.is_ready
        assert notices.next() == {"READY": "1", "STATUS": "2 connections"}
        assert notifier.status("3 connections")
        assert notices.next() == {"STATUS": "3 connections"}
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        with notifier.reload():
            notice = notices.next()
            after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert notice.keys() == {"RELOADING", "MONOTONIC_USEC"}
        assert before <= int(notice["MONOTONIC_USEC"]) <= after
        assert notices.next() == {"READY": "1"}
        notifier.stopping()
        assert not notifier.is_ready
        notifier.stopping()
        with notifier.reload():
            pass
        assert notices.next() == {"STOPPING": "1"}
        assert notices.waiting() == []


def test_a_reload_that_fails_is_over_too(tmp_path: Path) -> None:
    with NoticeSocket(str(tmp_path / "n")) as notices, notifier_for(notices) as notifier:
        with pytest.raises(ZeroDivisionError):
            with notifier.reload():
                raise ZeroDivisionError
        assert [set(notice) & {"RELOADING", "READY"} for notice in notices.waiting()] == [
            {"RELOADING"}, {"READY"},
        ]  # fmt: skip


@given(st.text())
def test_a_status_is_one_line_that_fits(text: str) -> None:
    with NoticeSocket(f"@tieline-{os.getpid()}-y") as notices, notifier_for(notices) as notifier:
        assert notifier.status(text + "\nREADY=1")
        (notice,) = notices.waiting()
        assert notice.keys() == {"STATUS"}
        assert len(notice["STATUS"].encode()) <= 1024


def test_a_long_status_is_cut_between_characters(tmp_path: Path) -> None:
    with NoticeSocket(str(tmp_path / "n")) as notices, notifier_for(notices) as notifier:
        notifier.status("连接" * 1000)
        assert notices.next() == {"STATUS": "连接" * 170 + "连"}


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": "1000"}])
def test_where_nobody_wants_to_know_nothing_happens(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    assert not notifier.wanted
    assert notifier.watchdog is None
    notifier.ready("x")
    with notifier.reload():
        pass
    assert notifier.status("x")
    notifier.stopping()
    notifier.close()
    notifier.close()


@pytest.mark.parametrize(
    "where",
    [
        "vsock:2:1234", "relative", "/" + "x" * 200, "@" + "x" * 200, "/nowhere/notify", "@nobody-",
        "/", "/\ud800",
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_once_and_never_raised(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": where, "WATCHDOG_USEC": "100000"})
    notifier.ready("x")
    notifier.status("x")
    with notifier.reload():
        pass
    notifier.stopping()
    notifier.close()
    assert [record.getMessage()[:45] for record in caplog.records] == [
        "systemd cannot be told how this service is do"
    ]


def test_a_service_manager_that_was_restarted_is_found_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with NoticeSocket(str(tmp_path / "n")) as notices, notifier_for(notices) as notifier:
        notifier.ready()
        notices.replace()
        notifier.status("here")
        assert notices.next() == {"STATUS": "here"}
    assert caplog.records == []


def fill(notifier: Notifier) -> int:
    """Tell until there is no room for more."""
    for count in range(100_000):
        if not notifier.status(f"{count}"):
            return count
    raise AssertionError("there is always room")


async def test_nothing_waits_for_a_service_manager_that_hangs(tmp_path: Path) -> None:
    with NoticeSocket(str(tmp_path / "n")) as notices:
        with notifier_for(notices, WATCHDOG_USEC="100000000") as notifier:
            told = fill(notifier)
            notifier.ready()
            for _ in range(100):
                with notifier.reload():
                    pass
            assert len(notices.waiting()) == told
            # What did not fit comes later by itself: the last of it, in its order.
            said = [next(iter(await notices.notice())) for _ in range(17)]
            said.remove("WATCHDOG")
            assert said == ["RELOADING", "READY"] * 8


async def test_signs_of_life_come_twice_in_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[tuple[float, Callable[[], object]]] = []

    def noted(seconds: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        timers.append((seconds, call))
        return asyncio.get_running_loop().call_later(3600, call)

    monkeypatch.setattr(systemd, "_call_later", noted)
    with NoticeSocket(str(tmp_path / "n")) as notices:
        pid = str(os.getpid())
        with notifier_for(notices, WATCHDOG_USEC="200000", WATCHDOG_PID=pid) as notifier:
            assert notifier.watchdog == 0.2
            assert timers == []
            notifier.ready()
            assert notices.waiting() == [{"READY": "1"}, {"WATCHDOG": "1"}]
            for count in range(1, 4):
                assert [seconds for seconds, _ in timers] == [0.1] * count
                timers[-1][1]()
                assert notices.waiting() == [{"WATCHDOG": "1"}]
            # There is one timer, however often it is ready, and it lives until it has ended.
            notifier.ready()
            notifier.stopping()
            assert len(timers) == 4
            assert notices.waiting() == [{"READY": "1"}, {"STOPPING": "1"}]
            timers[-1][1]()
            assert notices.waiting() == [{"WATCHDOG": "1"}]


async def test_a_sign_of_life_that_found_no_room_is_given_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(systemd, "_call_later", lambda seconds, _: pauses.append(seconds))
    with NoticeSocket(str(tmp_path / "n")) as notices:
        with notifier_for(notices, WATCHDOG_USEC="60000000") as notifier:
            fill(notifier)
            notifier.ready()
            notices.waiting()
            # Of READY, and of the sign of life.
            assert pauses == [0.1, 0.1]


async def test_a_loop_that_hangs_gives_no_sign_of_life(tmp_path: Path) -> None:
    with NoticeSocket(str(tmp_path / "n")) as notices:
        with notifier_for(notices, WATCHDOG_USEC="20000") as notifier:
            notifier.ready()
            for _ in range(3):
                await notices.notice()
            notices.waiting()
            notices.socket.settimeout(0.1)
            with pytest.raises(TimeoutError):
                notices.socket.recv(100)  # the loop stands still meanwhile
            assert await notices.notice() == {"WATCHDOG": "1"}


@pytest.mark.parametrize(
    "said", [{"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {}]
)
async def test_signs_of_life_that_nobody_waits_for(said: dict[str, str], tmp_path: Path) -> None:
    with NoticeSocket(str(tmp_path / "n")) as notices, notifier_for(notices, **said) as notifier:
        assert notifier.watchdog is None
        notifier.ready()
        assert notices.waiting() == [{"READY": "1"}]


def test_a_watchdog_that_makes_no_sense_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with NoticeSocket(str(tmp_path / "n")) as notices:
        with notifier_for(notices, WATCHDOG_USEC="soon") as notifier:
            assert notifier.watchdog is None
    assert "WATCHDOG_USEC is no number: 'soon'" in caplog.text


def test_what_is_said_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tieline")
    with NoticeSocket(str(tmp_path / "n")) as notices, notifier_for(notices) as notifier:
        notifier.ready("fine")
        notifier.status("still fine")
        notifier.stopping()
    assert caplog.messages == [
        "systemd is told: READY=1 STATUS=fine", "systemd is told: STOPPING=1",
    ]  # fmt: skip


# ---- A server's


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is looked at more often than people need."""
    monkeypatch.setattr(systemd, "_STATUS_EVERY", 0.02)


async def test_the_status_follows_the_connections(tmp_path: Path, often: None) -> None:
    with NoticeSocket(str(tmp_path / "n")) as notices:
        environment = notices.environment
        async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
            async with notifying(server, environment=environment) as notifier:
                notifier.ready()
                assert await notices.notice() == {"READY": "1"}
                assert await notices.notice() == {"STATUS": "0 connections"}
                async with await tieline.connect(str(server.addresses[0])):
                    assert await notices.notice() == {"STATUS": "1 connection"}
                assert await notices.notice() == {"STATUS": "0 connections"}
            assert await notices.notice() == {"STOPPING": "1"}


class Looked:
    """A server that knows how often it was looked at."""

    def __init__(self) -> None:
        self.times = 0
        self.enough = asyncio.Event()

    @property
    def is_draining(self) -> bool:
        self.times += 1
        if self.times == 3:
            self.enough.set()
        return False

    def __len__(self) -> int:
        return self.times


async def test_nothing_is_said_of_a_server_that_was_never_ready(
    tmp_path: Path, often: None
) -> None:
    with NoticeSocket(str(tmp_path / "n")) as notices:
        looked = Looked()
        async with notifying(looked, environment=notices.environment):
            await looked.enough.wait()
        assert notices.waiting() == []


async def test_a_server_that_others_drain_is_seen_to_stop(tmp_path: Path, often: None) -> None:
    hold = asyncio.Event()

    async def busy(connection: tieline.Connection) -> None:
        await hold.wait()

    with NoticeSocket(str(tmp_path / "n")) as notices:
        async with tieline.serve(busy, "127.0.0.1:0") as server:
            async with notifying(
                server, status=lambda: f"{server.is_draining}", environment=notices.environment
            ) as notifier:
                async with await tieline.connect(str(server.addresses[0])):
                    notifier.ready()
                    assert await notices.notice() == {"READY": "1"}
                    assert await notices.notice() == {"STATUS": "False"}
                    draining = asyncio.create_task(server.drain(20))
                    assert await notices.notice() == {"STOPPING": "1"}
                    assert await notices.notice() == {"STATUS": "True"}
                hold.set()
                await draining


async def test_a_status_that_found_no_room_is_said_later(tmp_path: Path, often: None) -> None:
    with NoticeSocket(str(tmp_path / "n")) as notices:
        looked = Looked()
        async with notifying(
            looked, status=lambda: "here", environment=notices.environment
        ) as notifier:
            notifier.ready()
            told = fill(notifier)
            await looked.enough.wait()
            assert len(notices.waiting()) == told + 1
            assert await notices.notice() == {"STATUS": "here"}
            # Once.
            looked.times = 0
            looked.enough.clear()
            await looked.enough.wait()
            assert notices.waiting() == []


async def test_a_server_that_nobody_asks_about_is_not_looked_at() -> None:
    looked = Looked()
    async with notifying(looked, environment={}) as notifier:
        notifier.ready()
        assert not notifier.wanted
    assert looked.times == 0
