"""Verbs that change the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..limits import RULES, Limits
from ..rules import Rule, nearest
from .looking import Given, client_key, find
from .protocol import ControlError, brief
from .results import (
    BanResult,
    DrainResult,
    KickResult,
    LimitRow,
    LimitsChange,
    LimitsResult,
    UnbanResult,
)
from .session import Session

__all__ = ["ban", "drain", "kick", "limits", "rule_rows", "unban"]


async def kick(session: Session, given: Given) -> KickResult:
    """Reset connections, given by number or by client."""
    ids, client = given["id"], given["client"]
    if (ids is None) == (client is None):
        raise ControlError("kick needs an id or a client: one of the two", code="missing_argument")
    server = session.server
    if client is not None:
        kicked = server.kick_client(client_key(session, client))
        if not kicked:
            raise ControlError(
                "no client {value!r} holds a connection",
                hint="the verb clients lists those that do",
                code="not_found",
                name="client",
                value=client,
            )
        return {"kicked": kicked, "missing": []}
    missing = [id for id in ids if server.connection(id) is None]
    if len(missing) == len(ids) == 1:
        find(session, ids[0])
    return {"kicked": server.kick(*dict.fromkeys(ids)), "missing": missing}


async def ban(session: Session, given: Given) -> BanResult:
    """Refuse a client or network, and close what it holds."""
    network, seconds = given["network"], given["seconds"]
    closed = session.server.ban(network, seconds, given["why"])
    return {"network": network, "left": seconds, "closed": closed}


async def unban(session: Session, given: Given) -> UnbanResult:
    """Lift a ban, and forgive what a client owes."""
    network = given["network"]
    if not session.server.unban(network):
        raise ControlError(
            "{value!r} is not banned, and owes nothing",
            hint="the verb bans lists who is",
            code="not_found",
            name="network",
            value=network,
        )
    return {"network": network}


async def limits(session: Session, given: Given) -> LimitsResult | LimitsChange:
    """Every limit; or changes, all of them or none."""
    server = session.server
    if (changes := given["changes"]) is not None:
        session.note("limits", given)
        _check_names(changes)
        changed = server.change_limits(evict=given["evict"], **changes)
        return {"changed": {name: {"old": old, "new": new} for name, (old, new) in changed.items()}}
    return {"limits": rule_rows(RULES, asdict(server.limits), asdict(Limits()))}


def rule_rows(
    rules: Mapping[str, Rule], values: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, LimitRow]:
    """Settings with what is known of each."""
    return {
        name: {
            "value": values[name], "unit": rule.unit, "default": defaults[name], "off": rule.off,
            "choices": list(rule.choices), "help": rule.help,
        }
        for name, rule in rules.items()
    }  # fmt: skip


def _check_names(changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if name not in RULES:
            like = nearest(name, RULES)
            raise ControlError(
                "there is no limit {name!r}",
                hint="did you mean {like!r}?" if like else "the verb limits lists them",
                code="bad_value",
                name=brief(name),
                value=brief(value),
                like=like,
            )


async def drain(session: Session, given: Given) -> DrainResult:
    """Nobody new; wait until connections have finished."""
    server = session.server
    before = len(server)
    work = server.drain(given["seconds"], given["spread"])
    clean: bool = await session.operations.outlive(work)
    return {"connections": before, "clean": clean}
