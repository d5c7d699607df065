"""SIGHUP: read the settings again, and make the guards that run what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import click

from ..address import Address, parse_address
from ..errors import AddressError, BindError, TielineError
from ..guard import SETTINGS, UpstreamState
from .commands import context_again
from .guard_check import shortage
from .guard_making import GUARD_LIMITS, try_out
from .guard_running import RunningGuards, RunningListener
from .guard_settings import OF_THE_PROCESS, ListenerSettings, check_complete, listeners_of
from .guard_together import check_together, overlap
from .limit_values import format_limit
from .log import Log
from .options import PLACES
from .reload import Changes, say_refused, say_reloaded
from .rule_values import OFF, written_name
from .running import descriptors_allowed
from .setting_values import format_setting
from .tls_settings import renew_authorities, renew_certificate
from .units import format_duration

__all__ = ["GuardReload"]

#: What is neither a limit nor a setting, and takes effect at once.
_DRAIN = ("drain", "drain_spread")

#: What takes effect only in a new process, or for a listener that is made anew.
_LATER = (
    "backlog", "unix_mode", "tls_ca", "upstream_tls", "upstream_ca", "upstream_name",
    "upstream_insecure", "control", "metrics", "log", "log_json",
)  # fmt: skip


@dataclass(slots=True)
class _Outcome:
    """What a reload has done.

    Attributes:
        told: listeners that listen somewhere else now, or for the first time.
        removed: those that listen no longer.
        changes: old and new values.
        later: settings that need a restart.
    """

    told: list[RunningListener]
    removed: list[RunningListener]
    changes: Changes = field(default_factory=dict)
    later: list[str] = field(default_factory=list)


class GuardReload:
    """What is called at SIGHUP.

    Sessions go on. What the settings say is what holds from then on: limits, settings and
    upstreams that `tieline ctl` has changed in the meantime are put back.

    Args:
        ctx: of the command that runs.
        running: its listeners.
        log: where it is said what has changed.
    """

    def __init__(self, ctx: click.Context, running: RunningGuards, log: Log) -> None:
        self._ctx = ctx
        self._running = running
        self._log = log
        self._one_at_a_time = asyncio.Lock()
        self._under_way: set[asyncio.Task[None]] = set()

    def __call__(self) -> asyncio.Task[None]:
        """Read them, and change what can be changed: all of it, or nothing."""
        task = asyncio.create_task(self._reload())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _reload(self) -> None:
        async with self._one_at_a_time:
            if self._running.is_draining:
                return
            file = str(self._ctx.meta[PLACES].path)
            try:
                ctx = context_again(self._ctx)
                outcome = await self._change(listeners_of(ctx))
            except (TielineError, click.UsageError) as error:
                say_refused(self._log, file, error)
                return
            for name in OF_THE_PROCESS:
                if ctx.params[name] != self._ctx.params[name]:
                    outcome.later.append(written_name(name))
            self._say(file, outcome)

    def _say(self, file: str, outcome: _Outcome) -> None:
        say_reloaded(
            self._log, file, outcome.changes, outcome.later,
            removed=[each.settings.name for each in outcome.removed],
        )  # fmt: skip
        for listener in outcome.removed:
            listener.telling.listens_no_longer(listener.guard)
        for listener in outcome.told:
            listener.tell()
        totals = any(name.rpartition(".")[2] == "total" for name in outcome.changes)
        if totals or outcome.told:
            listeners = [listener.settings for listener in self._running.listeners]
            if text := shortage(listeners, descriptors_allowed()):
                self._log.notice(text)

    async def _change(self, wanted: Sequence[ListenerSettings]) -> _Outcome:
        """Make the listeners what they should be.

        Raises:
            TielineError: that cannot be; nothing has changed.
        """
        pairs, removed = _pair(wanted, self._running.listeners)
        for settings, listener in pairs:
            check_complete(settings, has_sockets=listener is not None and listener.has_sockets)
            try_out(settings)
        check_together(wanted)
        added = [
            RunningListener(settings, self._log) for settings, listener in pairs if not listener
        ]
        kept = [(listener, settings) for settings, listener in pairs if listener is not None]
        await self._open(kept, added)
        outcome = _Outcome(told=added, removed=removed)
        for listener, settings in kept:
            _take_over(listener, settings, outcome)
        for listener in removed:
            self._running.remove(listener)
        return outcome

    async def _open(
        self,
        kept: Sequence[tuple[RunningListener, ListenerSettings]],
        added: Sequence[RunningListener],
    ) -> None:
        """Listen wherever that is new, before anything is closed.

        Raises:
            BindError, ResolveError, SettingError: it cannot be; then it listens where it did.
        """
        opened, started = [], []
        try:
            for listener, settings in kept:
                opened.append((listener, settings))
                await listener.guard.add_addresses(*settings.addresses)
            for listener in added:
                started.append(listener)
                await self._running.add(listener)
        except BaseException as error:
            for listener, settings in opened:
                _leave(listener, settings.addresses, listener.settings.addresses)
            for listener in started:
                await listener.close()
            if isinstance(error, BindError):
                raise self._explained(error) from error
            raise

    def _explained(self, error: BindError) -> BindError:
        """Why an address cannot be had, if that is because of what this process has."""
        try:
            wanted = parse_address(error.fields["address"])
        except AddressError:
            return error
        for listener in self._running.listeners:
            for own in listener.settings.addresses:
                if overlap(wanted, own):
                    return BindError(
                        "{address} cannot be had while {own} is listened on: that takes a restart",
                        address=str(wanted), own=str(own),
                    )  # fmt: skip
        return error


def _leave(
    listener: RunningListener, addresses: Iterable[Address], but: Collection[Address]
) -> None:
    """Let it listen on these no longer, but for those."""
    listener.guard.remove_addresses(*(each for each in addresses if each not in but))


def _pair(
    wanted: Sequence[ListenerSettings], running: Iterable[RunningListener]
) -> tuple[list[tuple[ListenerSettings, RunningListener | None]], list[RunningListener]]:
    """Each listener that is wanted, with the one that runs; and those that nobody wants.

    One without a namesake that listens exactly where one did that nobody wants any more, is that
    one with another name.
    """
    left = {each.settings.name: each for each in running}
    found = {each.name: left.pop(each.name) for each in wanted if each.name in left}
    for settings in wanted:
        if settings.name in found or not settings.addresses:
            continue
        for name, listener in left.items():
            if listener.settings.addresses == settings.addresses:
                found[settings.name] = left.pop(name)
                break
    return [(each, found.get(each.name)) for each in wanted], list(left.values())


def _take_over(listener: RunningListener, settings: ListenerSettings, outcome: _Outcome) -> None:
    """Have it do what its settings say now."""
    old, listener.settings = listener.settings, settings
    listener.telling.call(settings.name)
    head = f"{settings.name}." if settings.name else ""
    changes = {**_change_guard(listener, settings), **_change_certificate(listener, old, settings)}
    for name in _DRAIN:
        before, now = old.given[name], settings.given[name]
        if before != now:
            changes[written_name(name)] = (format_duration(before), format_duration(now))
    if old.addresses != settings.addresses:
        _leave(listener, old.addresses, settings.addresses)
        changes["listen"] = (_joined(old.addresses), _joined(settings.addresses))
        outcome.told.append(listener)
    outcome.changes.update({head + name: change for name, change in changes.items()})
    first = listener.first_settings.given
    later = [name for name in _LATER if settings.given[name] != first[name]]
    if (settings.given["tls_cert"] is None) != (listener.tls is None):
        later.append("tls_cert")
    outcome.later += [head + written_name(name) for name in later]


def _change_guard(listener: RunningListener, settings: ListenerSettings) -> Changes:
    """Limits, settings and upstreams."""
    guard, given = listener.guard, settings.given
    limits = guard.change_limits(**{name: given[name] for name in GUARD_LIMITS})
    own = guard.change_settings(**{name: given[name] for name in SETTINGS})
    changes = {
        written_name(name): (format_limit(name, old), format_limit(name, new))
        for name, (old, new) in limits.items()
    }
    for name, (old, new) in own.items():
        changes[written_name(name)] = (format_setting(name, old), format_setting(name, new))
    specs = [each.spec for each in guard.pool.upstreams if each.state is not UpstreamState.REMOVED]
    if specs != list(settings.upstreams):
        guard.apply_upstreams(settings.upstreams)
        changes["upstream"] = (_joined(specs), _joined(settings.upstreams))
    return changes


def _change_certificate(
    listener: RunningListener, old: ListenerSettings, settings: ListenerSettings
) -> Changes:
    """What is shown to newcomers, and whom is trusted; read again, since files may have changed."""
    before, now = old.given, settings.given
    changes = {}
    if listener.tls is not None and now["tls_cert"] is not None:
        renew_certificate(listener.tls, now["tls_cert"], now["tls_key"])
        if before["tls_cert"] is not None and before["tls_cert"] != now["tls_cert"]:
            changes["tls-cert"] = (before["tls_cert"], now["tls_cert"])
    for context, name in ((listener.tls, "tls_ca"), (listener.upstream_tls, "upstream_ca")):
        if context is not None and now[name] and now[name] == listener.first_settings.given[name]:
            renew_authorities(context, now[name], "--" + written_name(name))
    return changes


def _joined(written: Iterable[object]) -> str:
    return ", ".join(map(str, written)) or OFF
