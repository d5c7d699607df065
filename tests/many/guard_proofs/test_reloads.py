"""Ten reloads under 500 new sessions a second: nothing is refused or reset, every answer is right.

Each reload changes limits, settings and upstreams; services behind the guard are stopped and
started again meanwhile, as one does to renew them.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guard.services import free_port, relay, size
from many.guard_proofs.programs import Program, guard, note, program, until

_RATE = 500
_SEED = 20
_NAMES = ["a", "b", "c"]


class Services:
    """Those behind the guard, each on a port of its own that stays."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._ports = {name: free_port() for name in _NAMES}
        self._running: dict[str, tuple[Program, contextlib.ExitStack]] = {}
        self.served: dict[str, int] = dict.fromkeys(_NAMES, 0)
        for name in _NAMES:
            self.start(name)
        stack.callback(self.stop_all)

    def written(self, name: str, **more: Any) -> str:
        """As an upstream."""
        options = "".join(f",{key}={value}" for key, value in more.items())
        return f"127.0.0.1:{self._ports[name]},name={name}{options}"

    def start(self, name: str) -> None:
        stack = contextlib.ExitStack()
        it = program("service_program", port=self._ports[name], name=name)
        self._running[name] = stack.enter_context(it), stack

    def stop(self, name: str) -> None:
        it, stack = self._running.pop(name)
        self.served[name] += it.order("connections")["served"]
        stack.close()

    def stop_all(self) -> None:
        for name in list(self._running):
            self.stop(name)

    def renew(self, name: str) -> None:
        """Stop it once nobody uses it, and start it again."""
        it, _ = self._running[name]
        until(lambda: it.order("connections")["open"] == 0)
        self.stop(name)
        self.start(name)


@contextlib.contextmanager
def long_session(port: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """One that is there all the while. Gives whom it is with, and what exchanges something."""
    with socket.create_connection(("127.0.0.1", port), timeout=20.0) as client:
        client.sendall(b"who 0\n")
        first = client.recv(100)

        def exchange() -> None:
            client.sendall(b"who 0\n")
            assert client.recv(100) == first

        yield first.decode().partition(" ")[0], exchange


def under_load(port: int, reload: Callable[[int, str], None]) -> dict[str, Any]:
    """Ten reloads while sessions come and go; what became of them.

    Args:
        reload: called with its number, and the upstream that a session never leaves.
    """
    pause = size(2, 15) / 10
    with program("short_program", seed=_SEED) as load, long_session(port) as (busy, exchange):
        load.order("start", port=port, rate=_RATE)
        for turn in range(10):
            time.sleep(pause)
            reload(turn, busy)
            exchange()
        time.sleep(pause)
        told = load.order("stop")
        exchange()
    assert told["wrong"] == {}, told
    assert told["answered"] == told["asked"] > 0
    return told


def changes(turn: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Limits and settings, different each time."""
    chance = random.Random(turn)
    limits = {
        "idle": 60.0 + turn, "per_client": 5_000 + turn, "write_stall": 20.0 + turn,
        "half_closed": 30.0 + turn, "total": 9_000 + turn,
    }  # fmt: skip
    settings = {
        "balance": ["round-robin", "least", "hash"][turn % 3], "tries": 2 + turn % 3,
        "connect_timeout": 4.0 + chance.random(), "check_interval": 0.1 + turn / 100,
    }  # fmt: skip
    return limits, settings


def tell(what: str, told: dict[str, Any]) -> None:
    note(
        f"reloads, {what}: 10 under {_RATE} new sessions a second: {told['answered']:,} of "
        f"{told['asked']:,} answered rightly, none refused, none reset; by upstream "
        f"{', '.join(f'{name} {count:,}' for name, count in sorted(told['by'].items()))}; "
        f"p50 {told['p50'] * 1000:.1f} ms"
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_ten_changes_from_within(loop: str) -> None:
    """Upstreams are drained, renewed and enabled; added and removed, one by one and all at once."""
    with contextlib.ExitStack() as stack:
        services = Services(stack)
        limits = {"per_client": 4_000}
        settings = {"recover": None, "check_interval": 0.1}
        first = [services.written("a"), services.written("b")]
        it = stack.enter_context(guard(*first, loop=loop, limits=limits, settings=settings))

        def is_up(name: str) -> bool:
            state: str = it.order("facts")["upstreams"][name]["state"]
            return state == "UP"

        def reload(turn: int, busy: str) -> None:
            limits, settings = changes(turn)
            assert set(it.order("limits", **limits)["changed"]) == set(limits)
            assert it.order("settings", **settings)["changed"]
            step = turn % 5
            if step == 0:
                it.order("upstream", verb="add", name=services.written("c", weight=2))
            elif step == 1:
                it.order("upstream", verb="drain", name="c")
                services.renew("c")
                it.order("upstream", verb="enable", name="c")
                until(lambda: is_up("c"))
            elif step == 2:
                it.order("upstream", verb="drain", name="c")
                it.order("upstream", verb="enable", name="c")
                it.order(
                    "apply", upstreams=[services.written("a", weight=3), services.written("c")]
                )
            elif step == 3:
                it.order("apply", upstreams=[services.written(name) for name in "cba"])
            else:
                it.order("upstream", verb="remove", name="c")
                services.renew("c")

        told = under_load(it.port, reload)
        after = it.order("facts")
        assert set(told["by"]) == set(_NAMES)
        assert after["refused"] == {}
        assert set(after["closed"]) <= {"peer_closed", "upstream_closed"}, after["closed"]
        assert [each["failed"] for each in after["upstreams"].values()] == [0, 0]
    tell(f"from within, {loop}", told)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_ten_hangups_of_the_command(loop: str, tmp_path: Path) -> None:
    """The same through the file of `tieline guard` and SIGHUP."""
    file = tmp_path / "guard.toml"
    with contextlib.ExitStack() as stack:
        services = Services(stack)

        def write(turn: int, upstreams: list[str]) -> None:
            limits, settings = changes(turn)
            lines = ["[guard]", "listen = '127.0.0.1:0'", f"upstream = {upstreams}"]
            lines += [f"loop = '{loop}'", "recover = 'none'"]
            for name, value in (limits | settings).items():
                shown = f"{value:.3f}s" if isinstance(value, float) else value
                lines.append(f"{name.replace('_', '-')} = {shown!r}")
            file.write_text("\n".join(lines) + "\n", "utf-8")

        write(20, [services.written("a"), services.written("b")])
        it = stack.enter_context(relay("--config", str(file)))

        def reload(turn: int, busy: str) -> None:
            without = _NAMES[turn % 3]
            weight = turn % 4 + 1
            kept = [services.written(name, weight=weight) for name in _NAMES if name != without]
            write(turn, kept)
            it.process.signal(signal.SIGHUP)
            until(lambda: it.process.said().count("read again") == turn + 1)
            if without != busy:
                services.renew(without)

        told = under_load(it.port, reload)
        said = it.process.said()
    assert set(told["by"]) == set(_NAMES)
    assert said.count("SIGHUP: ") == said.count("read again") == 10
    assert "is down" not in said
    tell(f"SIGHUP, {loop}", told)
