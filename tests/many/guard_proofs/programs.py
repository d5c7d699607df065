"""Programs of the proofs as their tests see them: started, given orders, and gone at the end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from guard.services import FULL_SIZE

__all__ = ["GUARD", "Program", "guard", "note", "private_bytes", "program", "until"]

_TESTS = Path(__file__).parent.parent.parent

#: Longest that an answer is waited for, in seconds, beyond what the order says that it takes.
_PATIENCE = 120.0

#: The module that is the guard.
GUARD = "guard_program"


class Program:
    """One of the modules beside this one, as a process.

    Attributes:
        pid: its number.
        hello: its first answer, when it is ready.
    """

    def __init__(self, module: str, options: dict[str, Any]) -> None:
        self.module = module
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"many.guard_proofs.{module}", json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd=_TESTS,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )  # fmt: skip
        self.pid = self._process.pid
        self._received = b""
        self.hello: dict[str, Any] = {}

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self.hello["port"]
        return port

    def order(self, do: str, **fields: Any) -> dict[str, Any]:
        """Give it an order, and wait for its answer."""
        self.begin(do, **fields)
        return self.answer(float(fields.get("seconds") or 0.0))

    def begin(self, do: str, **fields: Any) -> None:
        """Give it an order, and do something else meanwhile."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self, seconds: float = 0.0) -> dict[str, Any]:
        """Its next answer, that may take so long and a bit."""
        stdout = self._process.stdout
        assert stdout is not None
        end = time.monotonic() + seconds + _PATIENCE
        while b"\n" not in self._received:
            poll = select.poll()
            poll.register(stdout, select.POLLIN)
            ready = poll.poll(max(0.0, end - time.monotonic()) * 1000)
            assert ready, f"{self.module} does not answer; {self.errors}"
            data = os.read(stdout.fileno(), 1 << 20)
            assert data, f"{self.module} has ended; {self.errors}"
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        assert "failed" not in told, f"{self.module}: {told['failed']}"
        return told

    @property
    def errors(self) -> str:
        """What it has written as errors."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode(errors="replace")

    def end(self) -> None:
        """Let it end by itself, or else by force; then there is nothing left of it."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(20.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._errors.close()

    def kill(self) -> None:
        """End it by force."""
        self._process.kill()


@contextlib.contextmanager
def program(module: str, **options: Any) -> Iterator[Program]:
    """One of the modules beside this one, until the end of the block.

    Raises:
        AssertionError: it has complained.
    """
    it = Program(module, options)
    try:
        it.hello = it.answer()
        yield it
        complaints = it.errors
    except BaseException:
        print(f"{module} has said: {it.errors[-4000:]}")
        it.kill()
        raise
    finally:
        it.end()
    assert not complaints, f"{module}: {complaints}"


@contextlib.contextmanager
def guard(*upstreams: str, **options: Any) -> Iterator[Program]:
    """A guard in a process of its own. At the end it is closed, and nothing may be left in it.

    Args:
        upstreams: as for `tieline.guard.serve`.
        options: of `guard_program`.
    """
    with program(GUARD, upstreams=list(upstreams), **options) as it:
        yield it
        left = it.order("close")
        assert left["descriptors"] == it.hello["descriptors"], left
        assert (left["pipes"], left["registered"], left["filed"]) == (0, {}, 0), left
        assert left["tasks"] == it.hello["tasks"], left
        assert (left["sessions"], left["sides"], left["admitted"]) == (0, 0, 0), left


def until(what: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for it: programs that are asked do not say when something has come about."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def private_bytes(pid: int) -> int:
    """Memory that only this process uses."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return 1024 * sum(
        int(line.split()[1])
        for line in text.splitlines()
        if line.startswith(("Private_Clean:", "Private_Dirty:"))
    )


def note(text: str) -> None:
    """Tell of a figure; shown by `pytest -rP`, and kept where GUARD_FIGURES says."""
    print(text)
    if file := os.environ.get("GUARD_FIGURES"):
        with open(file, "a", encoding="utf-8") as figures:
            figures.write(f"{text}{'' if FULL_SIZE else '   (short)'}\n")
