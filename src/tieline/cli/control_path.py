"""Where a server's control socket is, when nobody says where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from .parameters import Written

__all__ = ["AUTO", "CONTROL", "control_path_of", "default_control_path"]

#: How it is written that the path is the default one.
AUTO = "auto"


def default_control_path(environment: Mapping[str, str], user: int) -> str:
    """The path: in the user's own folder for such things where there is one."""
    folder = environment.get("XDG_RUNTIME_DIR")
    if folder:
        return os.path.join(folder, "tieline.sock")
    return "/run/tieline.sock" if user == 0 else f"/tmp/tieline-{user}.sock"


def control_path_of(path: str, name: str) -> str:
    """The path for one of several servers of a process: with its name in it."""
    root, extension = os.path.splitext(path)
    return f"{root}-{name}{extension}"


def _path(text: str) -> str:
    path = text.strip()
    if path.lower() == AUTO:
        return default_control_path(os.environ, os.geteuid())
    return path.removeprefix("unix:")


class _ControlPath(Written):
    """A path, or `auto`; in a file `true` is `auto`, and `false` none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, bool):
            value = AUTO if value else "none"
        return super().convert(value, param, ctx)


CONTROL = _ControlPath("PATH", _path, off=True)
