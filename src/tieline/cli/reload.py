"""SIGHUP: read the settings again, and make the server that runs what they say."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from typing import Any

import click

from ..errors import TielineError, UsageError
from ..limits import RULES
from ..server import Server
from .commands import parse_again
from .doctor_at_start import shortage_of
from .limit_values import format_limit, written_name
from .log import Log
from .options import PLACES
from .service import Service
from .tls_settings import renew_certificate, server_context
from .translation import gettext as _
from .translation import hint_of, sentence, with_hint
from .units import format_duration

__all__ = ["Changes", "Reload", "check_drain", "say_refused", "say_reloaded"]

#: What is no limit and takes effect at once.
_LIVE = ("drain", "drain_spread")

#: Old and new value of settings that have changed, by name, as people write them.
Changes = dict[str, tuple[str, str]]


class Reload:
    """What is called at SIGHUP.

    What the settings say is what holds from then on: limits that `tieline ctl` has changed in
    the meantime are put back.

    Args:
        ctx: of the command that runs.
        given: what it was told at its start.
        tls: the context of its connections; its certificate is read again too.
    """

    def __init__(
        self, ctx: click.Context, given: dict[str, Any], server: Server, service: Service,
        log: Log, tls: ssl.SSLContext | None,
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._given = given
        self._server = server
        self._service = service
        self._log = log
        self._tls = tls

    def __call__(self) -> None:
        """Read them, and change what can be changed: all of it, or nothing."""
        file = str(self._ctx.meta[PLACES].path)
        try:
            given = parse_again(self._ctx)
            changes = self._change(given)
        except (TielineError, click.UsageError) as error:
            say_refused(self._log, file, error)
            return
        later = [
            written_name(name)
            for name, value in given.items()
            if name not in RULES and name not in _LIVE and value != self._given[name]
        ]
        say_reloaded(self._log, file, changes, later)
        if "total" in changes and (
            text := shortage_of(self._server.limits.total, len(self._server))
        ):
            self._log.notice(text)

    def _change(self, given: dict[str, Any]) -> Changes:
        check_drain(given)
        paths = given["tls_cert"], given["tls_key"], given["tls_ca"]
        # In a context of its own first: one half of a new certificate must not be served.
        server_context(*paths)
        limits = self._server.change_limits(**{name: given[name] for name in RULES})
        if self._tls is not None and given["tls_cert"] == self._given["tls_cert"]:
            renew_certificate(self._tls, given["tls_cert"], given["tls_key"])
        changes = {
            written_name(name): (format_limit(name, old), format_limit(name, new))
            for name, (old, new) in limits.items()
        }
        for name in _LIVE:
            old, new = getattr(self._service, name), given[name]
            if old != new:
                changes[written_name(name)] = (format_duration(old), format_duration(new))
                setattr(self._service, name, new)
        return changes


def say_refused(log: Log, file: str, error: Exception) -> None:
    """Say why nothing has changed."""
    if isinstance(error, click.UsageError):
        said = error.format_message()
    else:
        said = with_hint(sentence(error), hint_of(error))
    log.event("reload_failed", file=file, detail=said)
    text = _("SIGHUP: nothing has changed, since the settings cannot be used: {detail}")
    log.complain(text.format(detail=said))


def say_reloaded(log: Log, file: str, changes: Changes, later: Sequence[str], **more: Any) -> None:
    """Say what has changed, and what only a restart would change. `more`: for programs."""
    log.event(
        "reloaded", file=file, needs_restart=later,
        changes={name: {"old": old, "new": new} for name, (old, new) in changes.items()}, **more,
    )  # fmt: skip
    for line in _told(file, changes, later, log.arrow):
        log.notice(line)


def _told(file: str, changes: Changes, later: Iterable[str], arrow: str) -> list[str]:
    """What people are told of a reload."""
    if changes:
        text = _("SIGHUP: {file} read again: {changes}")
        each = (f"{name} {old} {arrow} {new}" for name, (old, new) in changes.items())
        lines = [text.format(file=file, changes=", ".join(each))]
    else:
        lines = [_("SIGHUP: {file} read again: nothing has changed").format(file=file)]
    if names := ", ".join(later):
        lines.append(_("  needs a restart to take effect: {names}").format(names=names))
    return lines


def check_drain(given: dict[str, Any]) -> None:
    """Refuse to spread over more time than there is.

    Raises:
        UsageError: `--drain-spread` is longer than `--drain`.
    """
    if given["drain_spread"] > given["drain"]:
        raise UsageError("--drain-spread must not be longer than --drain")
