"""Finds the function that `serve --handler module:function` names."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from types import ModuleType
from typing import Any

from ..errors import SettingError
from ..rules import nearest

__all__ = ["is_conversation", "load_handler"]


def load_handler(name: str) -> Any:
    """The function that `module:function` names. The current directory is searched first.

    Raises:
        SettingError: there is no such module or function, or importing it failed.
    """
    module_name, colon, function_name = name.partition(":")
    if not (colon and module_name and function_name):
        raise SettingError(
            "{name!r} names no handler", hint="write it as module:function", name=name
        )
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _import(module_name)
    for part in function_name.split("."):
        found = _attribute(found, part, name)
    if not callable(found):
        raise SettingError("{name!r} is not a function", name=name)
    return found


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that the handler's module wants, and has not got, is another matter.
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise _failed(name, error) from error
        raise SettingError(
            "there is no module {name!r}",
            hint="it is looked for in the current directory, then among what is installed",
            name=name,
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException) -> SettingError:
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and "importlib" not in frame.filename
    ]  # fmt: skip
    last = frames[-1]
    line = error.lineno if isinstance(error, SyntaxError) else last.lineno
    file = error.filename if isinstance(error, SyntaxError) else last.filename
    return SettingError(
        "the module {name!r} fails when it is imported: {kind}: {detail} ({file}, line {line})",
        name=name, kind=type(error).__name__, detail=str(error), file=file, line=line,
    )  # fmt: skip


def _attribute(owner: Any, part: str, name: str) -> Any:
    try:
        return getattr(owner, part)
    except AttributeError as error:
        like = nearest(part, [known for known in dir(owner) if not known.startswith("_")])
        raise SettingError(
            "there is no function {part!r} in {name!r}",
            hint="did you mean {like!r}?" if like else "", like=like, part=part, name=name,
        ) from error  # fmt: skip


def is_conversation(handler: Any) -> bool:
    """Whether a handler is a coroutine function: it is given the connection, not messages."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__
    )
