"""What the tests of the command share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import catalogue
from cli.command_process import Tieline
from cli.guarded import Service

catalogue.compile_catalogue()


@pytest.fixture(scope="session", autouse=True)
def hangups_are_not_ignored() -> Iterator[None]:
    """A command inherits what is ignored, as SIGHUP is under nohup. It starts as in a shell."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    if ignored:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.fixture
def tieline(tmp_path: Path) -> Iterator[Tieline]:
    """The command."""
    made = Tieline(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def english(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Messages made in this process are English, whatever the machine speaks."""
    monkeypatch.setenv("LANGUAGE", "en")
    from tieline.cli.translation import use_language

    use_language("en")
    yield use_language
    use_language("en")


@pytest.fixture
def service() -> Iterator[Service]:
    """A service behind a guard."""
    with Service() as made:
        yield made
