"""The real command, told to read its file again under load: nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from pathlib import Path

import pytest

import tieline

#: Short sessions a second, and how often the file changes while they come.
RATE, RELOADS = 500, 10

FILE = """
[guard]
listen = ["127.0.0.1:{port}"]
upstream = {upstreams}
idle = "{idle}s"
per-client = {cap}
check-interval = "{interval}ms"
"""


def answer(connection: tieline.Connection, message: bytes) -> bytes:
    """Say the same."""
    return message


def free_port() -> int:
    """One that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port: int = once.getsockname()[1]
        return port


@pytest.mark.timeout(300)
@pytest.mark.patience(240.0)
@pytest.mark.one_loop
async def test_ten_reloads_under_load(tmp_path: Path) -> None:
    path, port = tmp_path / "guard.toml", free_port()
    failures: list[BaseException] = []
    answered = 0

    async def one(number: int) -> None:
        nonlocal answered
        asked = f"number {number}".encode()
        try:
            assert await tieline.ask(f"127.0.0.1:{port}", asked) == asked
            answered += 1
        except Exception as error:
            failures.append(error)

    async with contextlib.AsyncExitStack() as stack:
        services = [
            await stack.enter_async_context(
                tieline.serve(
                    answer,
                    "127.0.0.1:0",
                    limits=tieline.Limits(per_client=None),
                )
            )
            for _ in range(3)
        ]
        names = [str(each.addresses[0]) for each in services]

        def write(turn: int) -> None:
            # One of the three comes or goes each time; so does a weight, a cap, and a clock.
            kept = [
                f"{name},weight={turn % 3 + 1}" for i, name in enumerate(names) if i != turn % 3
            ]
            path.write_text(
                FILE.format(
                    port=port, upstreams=kept, idle=60 + turn, cap=5_000 + turn,
                    interval=500 + turn,
                )
            )  # fmt: skip

        write(0)
        guard = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tieline", "guard", "--config", str(path), "--quiet",
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(tieline.TielineError):
                        await tieline.ask(f"127.0.0.1:{port}", b"there?")
                        break
                    await asyncio.sleep(0.1)
            async with await tieline.connect(f"127.0.0.1:{port}") as kept:
                await kept.send(b"before")
                assert await kept.receive() == b"before"
                async with asyncio.TaskGroup() as group:
                    for turn in range(1, RELOADS + 1):
                        for number in range(RATE):
                            group.create_task(one(turn * RATE + number))
                            if number == RATE // 2:
                                write(turn)
                                guard.send_signal(signal.SIGHUP)
                            if number % 10 == 0:
                                await asyncio.sleep(10 / RATE)
                await kept.send(b"after")
                assert await kept.receive() == b"after"
            assert guard.returncode is None
        finally:
            guard.terminate()
            code = await guard.wait()
    assert not failures, failures[:3]
    assert answered == RATE * RELOADS
    assert code == 143
