"""From the settings to a plan, and what makes no sense among them."""

from __future__ import annotations

from typing import Any

from ...address import Address
from ...bench import Ending, Mode, Plan
from ...bench.sources import expand
from ...charset import Charset
from ...errors import UsageError
from ..tls_settings import client_context
from .saying import default_message, expectation_of, messages_of

__all__ = ["check", "plan_of"]

_DURATION = 10.0

#: Settings that say how connections are used, which a comparison does by itself. With each, what
#: it is where nothing was said.
_NOT_COMPARED = {
    "pipeline": 1, "rate": None, "exchanges": None, "think": 0.0, "heartbeat": None,
}  # fmt: skip

#: Settings of one mode or some, that have a default which a plan could not tell from a word.
_OF_MODES: dict[str, tuple[Any, frozenset[Mode]]] = {
    "short_share": (0.5, frozenset({Mode.MIXED})),
    "warmup": (0.0, frozenset({Mode.LONG, Mode.SHORT, Mode.MIXED})),
}

#: A plan's fields that have another name as settings.
_NAMES = {"reply_timeout": "timeout", "ending": "close", "sources": "source"}


def plan_of(address: Address, written: str | None, given: dict[str, Any]) -> Plan:
    """The plan that the settings make.

    Args:
        address: the server.
        written: the message on the command line.
        given: the settings. With `compare`, the plan is for the first of the two runs.

    Raises:
        SettingError, UsageError: they make no sense.
    """
    charset = None if given["encoding"].lower() == "none" else Charset(given["encoding"])
    mode = Mode.SHORT if given["compare"] else Mode(given["mode"])
    _check_pairs(mode, written, given)
    messages = messages_of(written, given, charset)
    if messages is None and (mode not in (Mode.HOLD, Mode.STORM) or given["heartbeat"]):
        messages = default_message(given, charset)
    try:
        return Plan(
            address=address, mode=mode, connections=given["connections"],
            pipeline=given["pipeline"], rate=given["rate"], ramp=given["ramp"],
            duration=_duration(given), count=given["count"], warmup=given["warmup"],
            exchanges=given["exchanges"], think=given["think"], short_share=given["short_share"],
            heartbeat=given["heartbeat"], messages=messages,
            expectation=expectation_of(given, charset), framing=given["framing"], charset=charset,
            max_message=given["max_message"], connect_timeout=given["connect_timeout"],
            reply_timeout=given["timeout"], ending=Ending(given["close"]),
            sources=expand(given["source"]), tls=_tls(given), server_name=given["tls_name"],
            processes=given["processes"],
        )  # fmt: skip
    except UsageError as error:
        name = error.fields.get("name")
        if name is not None:
            error.fields["name"] = "--" + _NAMES.get(name, name).replace("_", "-")
        raise


def check(given: dict[str, Any]) -> None:
    """Say what makes no sense, whoever the server may be.

    Raises:
        SettingError, UsageError: there is something.
    """
    plan_of(Address("127.0.0.1", 1), None, given)


def _duration(given: dict[str, Any]) -> float | None:
    if given["duration"] is None and given["count"] is None:
        return _DURATION
    duration: float | None = given["duration"]
    return duration


def _tls(given: dict[str, Any]) -> Any:
    return client_context(
        given["tls"], given["tls_ca"], given["tls_cert"], given["tls_key"], given["tls_insecure"]
    )


def _check_pairs(mode: Mode, written: str | None, given: dict[str, Any]) -> None:
    """What a plan cannot know to make no sense: of settings, and not of values."""
    if given["compare"]:
        if given["mode"] not in ("long", "short"):
            raise UsageError("--compare and --mode {mode} exclude each other", mode=given["mode"])
        for name, default in _NOT_COMPARED.items():
            if given[name] != default:
                raise UsageError(
                    "--compare and {flag} exclude each other", flag="--" + name.replace("_", "-")
                )
    for name, (default, modes) in _OF_MODES.items():
        if given[name] != default and mode not in modes:
            raise UsageError(
                "{name} means nothing in the mode {mode}",
                name="--" + name.replace("_", "-"), mode=mode.value,
            )  # fmt: skip
    says = written is not None or given["file"] is not None or given["lines"] is not None
    if mode is Mode.HOLD and says and given["heartbeat"] is None:
        raise UsageError("--mode hold sends a message only with --heartbeat")
