"""What runs beside a server: its control socket, its metrics, the log of its events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ..address import parse_address
from ..listening import Listening
from .control_path import AUTO, CONTROL
from .options import Setting
from .parameters import Written
from .translation import N_

__all__ = ["Beside", "companion_settings", "companions"]

_STDERR = 2  # its descriptor


def companion_settings() -> tuple[Setting, ...]:
    """How a running server can be looked into."""
    return (
        Setting(
            ["--control"], type=CONTROL, is_flag=False, flag_value=AUTO, metavar="[PATH]",
            brief=True,
            help=N_("open a control socket for `tieline ctl`"),
        ),
        Setting(
            ["--metrics"], type=Written("ADDRESS", parse_address),
            help=N_("serve metrics for Prometheus over HTTP: http://HOST:PORT/metrics"),
        ),
        Setting(
            ["--log"], metavar="FILE",
            help=N_("log events (opened, refused, closed, ...) to a file (-: to stderr)"),
        ),
        Setting(["--log-json"], is_flag=True, help=N_("the log is JSON Lines, for programs")),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Beside:
    """Where to find what runs beside a server; empty where it does not."""

    control: str = ""
    metrics: str = ""
    log: str = ""


@contextlib.asynccontextmanager
async def companions(server: Listening, given: dict[str, Any]) -> AsyncIterator[Beside]:
    """Run what was asked for until the server has ended, its draining included.

    Args:
        server: not started yet, so that nothing of its life is missed.
        given: the values of `companion_settings`.

    Raises:
        BindError: the control socket or the metrics cannot be listened on.
        SettingError: the log cannot be opened.
    """
    control, metrics, log = given["control"], given["metrics"], given["log"]
    where = ""
    async with contextlib.AsyncExitStack() as stack:
        if log is not None:
            from ..event_log import EventLog

            sink = _STDERR if log == "-" else log
            stack.enter_context(EventLog(server.events, json=given["log_json"], sink=sink))
        if metrics is not None:
            from ..metrics import serve_metrics

            exporter = await stack.enter_async_context(serve_metrics(server, metrics))
            where = str(exporter.addresses[0])
        if control is not None:
            from ..control import serve as serve_control

            await stack.enter_async_context(serve_control(server, control))
        yield Beside(control or "", where, log or "")
