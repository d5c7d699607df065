"""Verbs that a guard has beside those of any server: its upstreams and its settings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from ..address import Address
from ..guard import (
    SETTINGS,
    Guard,
    GuardSettings,
    Pool,
    Upstream,
    UpstreamState,
    parse_upstream,
)
from ..guard.figures import Traffic, traffic
from ..reactor import Reactor
from ..rules import nearest
from .changing import rule_rows
from .looking import Given
from .protocol import ControlError, brief
from .results import (
    SettingsChange,
    SettingsResult,
    UpstreamChange,
    UpstreamRow,
    UpstreamsResult,
)
from .session import Session

__all__ = [
    "settings", "upstream_add", "upstream_drain", "upstream_enable", "upstream_remove",
    "upstreams",
]  # fmt: skip


def _guard_of(session: Session) -> Guard:
    """The server as a guard.

    Raises:
        ControlError: it is none.
    """
    if isinstance(session.server, Guard):
        return session.server
    raise ControlError(
        "this server has no upstreams: it is no guard",
        hint="is this the control socket of the guard?",
        code="unsupported",
    )


# ---- Upstreams


async def upstreams(session: Session, given: Given) -> UpstreamsResult:
    """The upstreams, as they are now."""
    guard = _guard_of(session)
    passed = traffic(guard)
    rows = [_row(guard.pool, upstream, passed) for upstream in guard.pool.upstreams]
    return {"upstreams": rows, "waiting": guard.pool.waiting}


async def upstream_add(session: Session, given: Given) -> UpstreamChange:
    """One upstream more."""
    guard = _guard_of(session)
    return _changed(guard, guard.add_upstream(parse_upstream(given["upstream"])))


async def upstream_drain(session: Session, given: Given) -> UpstreamChange:
    """No new sessions for an upstream; those it has go on."""
    guard = _guard_of(session)
    return _changed(guard, guard.pool.drain(_find(guard, given["name"])))


async def upstream_enable(session: Session, given: Given) -> UpstreamChange:
    """Sessions for an upstream again."""
    guard = _guard_of(session)
    return _changed(guard, guard.pool.enable(_find(guard, given["name"])))


async def upstream_remove(session: Session, given: Given) -> UpstreamChange:
    """One upstream less; sessions that it has go on."""
    guard = _guard_of(session)
    # What it has done is told here for the last time.
    passed = traffic(guard)
    upstream = guard.pool.remove(_find(guard, given["name"]))
    return {"upstream": _row(guard.pool, upstream, passed)}


def _find(guard: Guard, name: str) -> str:
    """The name of an upstream that there is."""
    live = [each.name for each in guard.pool.upstreams if each.state is not UpstreamState.REMOVED]
    if name in live:
        return name
    like = nearest(name, live)
    raise ControlError(
        "there is no upstream {value!r}",
        hint="did you mean {like!r}?" if like else "the verb upstreams lists them",
        code="not_found",
        name="name",
        value=brief(name),
        like=like,
    )


def _changed(guard: Guard, upstream: Upstream) -> UpstreamChange:
    return {"upstream": _row(guard.pool, upstream, traffic(guard))}


def _row(pool: Pool, upstream: Upstream, passed: Mapping[Upstream, Traffic]) -> UpstreamRow:
    spec, bytes_passed = upstream.spec, passed[upstream]
    ago = Reactor.of(asyncio.get_running_loop()).clock() - upstream.changed_at
    return {
        "name": upstream.name,
        "address": str(spec.address),
        "state": upstream.state.value,
        "since": round(time.time() - ago, 3),
        "weight": spec.weight,
        "max": spec.max,
        "backup": spec.backup,
        "names": list(spec.names),
        "sessions": upstream.sessions,
        "waiting": pool.waiting_for(upstream),
        "connected": upstream.connected,
        "failed": upstream.failed,
        "checks_failed": upstream.checks_failed,
        "bytes_received": bytes_passed.received,
        "bytes_sent": bytes_passed.sent,
        "last_error": upstream.last_error,
        "addresses": [
            str(Address.from_socket_name(family, name)) for family, name in upstream.addresses
        ],
    }


# ---- Settings


async def settings(session: Session, given: Given) -> SettingsResult | SettingsChange:
    """Every setting; or changes, all of them or none."""
    guard = _guard_of(session)
    if (changes := given["changes"]) is None:
        return {"settings": rule_rows(SETTINGS, _told(guard.settings), _told(GuardSettings()))}
    session.note("settings", given)
    changed = guard.change_settings(**{name: _read(name, changes[name]) for name in changes})
    return {
        "changed": {
            name: {"old": _plain(old), "new": _plain(new)} for name, (old, new) in changed.items()
        }
    }


def _told(settings: GuardSettings) -> dict[str, Any]:
    return {name: _plain(getattr(settings, name)) for name in SETTINGS}


def _plain(value: Any) -> Any:
    """A value for JSON: bytes are text, and those that are no UTF-8 lone surrogates in it."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _read(name: str, value: Any) -> Any:
    """A value from JSON.

    Raises:
        ControlError: there is no such setting.
    """
    rule = SETTINGS.get(name)
    if rule is None:
        like = nearest(name, SETTINGS)
        raise ControlError(
            "there is no setting {name!r}",
            hint="did you mean {like!r}?" if like else "the verb settings lists them",
            code="bad_value",
            name=brief(name),
            value=brief(value),
            like=like,
        )
    if rule.unit == "data" and isinstance(value, str):
        # What cannot be bytes is left to the rule, which says so.
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return value
    return value
