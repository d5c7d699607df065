"""The command as a process: what it writes is waited for, never slept for."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

SOURCE = Path(__file__).parents[2] / "src"
PATIENCE = 20.0


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONPATH": str(SOURCE),
        "PYTHONWARNINGS": "error",
        "PYTHONUTF8": "0",
        "LANG": "C.UTF-8",
        "TERM": "xterm",
    }


class Running:
    """A command that was started.

    Attributes:
        port: where it listens, for a server.
        code, out, err: its exit code and what it wrote, once it has ended.
    """

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], at: Path) -> None:
        self.port = 0
        self.code: int | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tieline", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment, cwd=at,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out = _Lines(self._process.stdout)
        self._err = _Lines(self._process.stderr)

    @property
    def out(self) -> str:
        return self._out.text

    @property
    def out_bytes(self) -> bytes:
        return self._out.data

    @property
    def err(self) -> str:
        return self._err.text

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def line(self, containing: str) -> str:
        """Wait for the next line on stdout that contains this."""
        return self._out.wait_for(containing)

    def error_line(self, containing: str) -> str:
        """Wait for the next line on stderr that contains this."""
        return self._err.wait_for(containing)

    def write(self, data: bytes) -> None:
        """Type something; stdin stays open."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def finish_input(self, stdin: bytes = b"") -> None:
        """Type the last of it."""
        assert self._process.stdin is not None
        # It may need none of it.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(stdin)
            self._process.stdin.close()

    def finish(self, stdin: bytes = b"") -> int:
        """End its stdin and wait for its end."""
        self.finish_input(stdin)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end."""
        self.code = self._process.wait(PATIENCE)
        self._out.join()
        self._err.join()
        return self.code

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        self._out.join()
        self._err.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                # It may have ended before it had read everything.
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Tieline:
    """Starts `tieline` as a process of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._base = _environment(folder)
        self._started: list[Running] = []

    def environment(self, changes: dict[str, str]) -> dict[str, str]:
        """Nothing of the machine's own settings, and some of it changed."""
        return {**self._base, **changes}

    def start(self, *arguments: str, **environment: str) -> Running:
        """Start it and go on."""
        running = Running(arguments, self.environment(environment), self.folder)
        self._started.append(running)
        return running

    def run(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Running:
        """Run it to its end."""
        running = self.start(*arguments, **environment)
        running.finish(stdin)
        return running

    def serve(self, *arguments: str, **environment: str) -> Running:
        """Start a server on a port of its own, and wait until it listens."""
        running = self.start("serve", "--listen", "127.0.0.1:0", *arguments, **environment)
        running.port = int(running.error_line("127.0.0.1:").rpartition(":")[2])
        return running

    def stop(self) -> None:
        """End whatever is still running."""
        for running in self._started:
            running.stop()


class _Lines:
    """Collects what comes out of a pipe."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self.data = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._pipe:
            self.data += line
            self._lines.put(line)
        self._lines.put(None)

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "backslashreplace")

    def wait_for(self, containing: str) -> str:
        while True:
            line = self._lines.get(timeout=PATIENCE)
            assert line is not None, f"no line with {containing!r} in {self.text!r}"
            if containing in line.decode("utf-8", "backslashreplace"):
                return line.decode("utf-8", "backslashreplace").rstrip("\n")

    def join(self) -> None:
        self._thread.join(PATIENCE)
