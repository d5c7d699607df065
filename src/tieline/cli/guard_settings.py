"""The settings of `tieline guard`, and what each of its listeners is told by them."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from ..address import Address, parse_address
from ..errors import SettingError, TielineError, UsageError
from ..guard import SETTINGS, UpstreamSpec, parse_upstream
from ..rules import nearest
from .commands import inner_contexts, inner_values
from .companions import companion_settings
from .control_path import AUTO, control_path_of
from .listening_settings import listening_settings
from .options import PLACES, Setting, placed
from .parameters import Written, limit_settings, rule_setting
from .setting_values import default_of_setting, parse_setting
from .translation import N_

__all__ = [
    "MESSAGE_LIMITS",
    "OF_THE_PROCESS",
    "ListenerSettings",
    "check_complete",
    "guard_settings",
    "listeners_of",
    "share_out",
]

#: Limits of messages, which a guard knows nothing of.
MESSAGE_LIMITS = ("message", "max_message", "min_receive_rate")

#: Settings of the whole process, which have no place in the table of one listener.
OF_THE_PROCESS = ("loop", "json")

#: Flags and the environment give these to the command's own listener, not to those of the file.
_OWN = ("listen", "upstream")

_BRIEF = ("idle", "per_client", "balance", "send_proxy")

_EXAMPLE = N_("for example: tieline guard :5432 127.0.0.1:5433")


def guard_settings() -> tuple[Setting, ...]:
    """Every setting there is."""
    return (
        Setting(
            ["-l", "--listen"], multiple=True, type=Written("ADDRESS", parse_address), brief=True,
            help=N_("listen here too; may be repeated"),
        ),
        Setting(
            ["-u", "--upstream"], multiple=True, type=Written("UPSTREAM", parse_upstream),
            brief=True,
            help=N_("HOST:PORT, then ,weight=2 ,max=50 ,backup ,name=x ,sni=a.example"),
        ),
        Setting(["--json"], is_flag=True, brief=True, help=N_("show JSON Lines, for programs")),
        *limit_settings(_BRIEF, without=MESSAGE_LIMITS),
        *(_guard_setting(name, brief=name in _BRIEF) for name in SETTINGS),
        *listening_settings(),
        Setting(["--upstream-tls"], is_flag=True, help=N_("speak TLS with the upstreams")),
        Setting(
            ["--upstream-ca"], metavar="FILE",
            help=N_("trust certificates signed by one of these too (PEM)"),
        ),
        Setting(
            ["--upstream-name"], metavar="NAME",
            help=N_("the name that upstreams must prove to have, instead of their hosts"),
        ),
        Setting(
            ["--upstream-insecure"], is_flag=True,
            help=N_("trust any certificate: anybody may be listening in"),
        ),
        *companion_settings(),
    )  # fmt: skip


def _guard_setting(name: str, *, brief: bool) -> Setting:
    return rule_setting(
        name,
        SETTINGS[name],
        lambda text: parse_setting(name, text),
        default_of_setting(name),
        brief=brief,
    )


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """What one listener is told.

    Attributes:
        name: what it is called in the settings file; empty for that of the command line and of
            `[guard]` itself.
        given: its settings, by the names of parameters.
        ctx: where they were said, for errors.
    """

    name: str
    given: dict[str, Any]
    ctx: click.Context

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens."""
        addresses: tuple[Address, ...] = self.given["listen"]
        return addresses

    @property
    def upstreams(self) -> tuple[UpstreamSpec, ...]:
        """Where it goes on to."""
        upstreams: tuple[UpstreamSpec, ...] = self.given["upstream"]
        return upstreams

    @property
    def title(self) -> str:
        """What people are told it is called: its name, or where it listens."""
        return self.name or ", ".join(map(str, self.addresses)) or "guard"

    @property
    def head(self) -> str:
        """What lines about it begin with."""
        return f"{self.name}: " if self.name else ""

    def placed(self, error: TielineError, *also: str) -> TielineError:
        """An error of its settings with the line where they stand in the file, if they do."""
        return placed(error, self.ctx, *also)


def listeners_of(ctx: click.Context) -> list[ListenerSettings]:
    """What each listener is told: by the command line, and by the settings file.

    Args:
        ctx: of the command.

    Raises:
        AddressError, SettingError: something in that has no meaning.
    """
    own = _of_the_command(ctx)
    named = [_of_a_table(below, own) for below in inner_contexts(ctx)]
    if own["listen"] or not named:
        return [ListenerSettings("", own, ctx), *named]
    return named


def _of_the_command(ctx: click.Context) -> dict[str, Any]:
    given = dict(ctx.params)
    first, *others = given.pop("addresses", None) or ("",)
    if first:
        given["listen"] = (parse_address(first), *_flags(ctx, "listen"))
    if others:
        given["upstream"] = (*map(parse_upstream, others), *_flags(ctx, "upstream"))
    return given


def _flags(ctx: click.Context, name: str) -> tuple[Any, ...]:
    """The values of a flag; none if it was given in another way, which a command line beats."""
    said = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    return ctx.params[name] if said else ()


def _of_a_table(ctx: click.Context, own: dict[str, Any]) -> ListenerSettings:
    # Two cannot listen in one place, so that one is not handed down.
    given = inner_values(ctx, {**own, "listen": ()}, without=_OWN)
    name = ctx.info_name or ""
    if given["control"] is not None and not _has_own_path(ctx):
        given["control"] = control_path_of(given["control"], name)
    return ListenerSettings(name, given, ctx)


def _has_own_path(ctx: click.Context) -> bool:
    """Whether a listener's own table says where its control socket is."""
    if ctx.get_parameter_source("control") is not ParameterSource.DEFAULT_MAP:
        return False
    written = ctx.meta[PLACES].inner["guard"][ctx.info_name]["control"]
    return isinstance(written, str) and written.strip().lower() != AUTO


def check_complete(listener: ListenerSettings, *, has_sockets: bool = False) -> None:
    """See that a listener has what it needs.

    Args:
        listener: what it is told.
        has_sockets: whether sockets were handed over for it.

    Raises:
        UsageError, SettingError: it listens nowhere, or leads nowhere.
    """
    if not listener.addresses and not has_sockets:
        raise listener.placed(UsageError("say where to listen", hint=_EXAMPLE))
    if not listener.upstreams:
        raise listener.placed(UsageError("say where to go on to", hint=_EXAMPLE))


# ---- Sockets that were handed over


def share_out(
    handed_over: Iterable[tuple[str, socket.socket]], listeners: Sequence[ListenerSettings]
) -> dict[str, list[socket.socket]]:
    """Which listener gets which of the sockets that systemd hands over.

    Each is for the listener of its name. Where none has the name of a listener, all are for the
    only one there is; or one is for each listener that does not say where to listen, in order.

    Returns:
        For each listener's name, its sockets.

    Raises:
        SettingError: there is one that is for nobody.
    """
    taken = list(handed_over)
    shares: dict[str, list[socket.socket]] = {listener.name: [] for listener in listeners}
    known = [listener.name for listener in listeners if listener.name]
    if any(name in known for name, _ in taken):
        for name, listening in taken:
            owner = name if name in known else ""
            if owner not in shares:
                raise _for_nobody(name, known)
            shares[owner].append(listening)
    elif len(listeners) == 1:
        shares[listeners[0].name] = [listening for _, listening in taken]
    elif taken:
        silent = [listener for listener in listeners if not listener.addresses] or listeners
        if len(silent) != len(taken):
            raise _for_nobody(taken[0][0], known)
        for listener, (_, listening) in zip(silent, taken, strict=True):
            shares[listener.name] = [listening]
    return shares


def _for_nobody(name: str, known: list[str]) -> SettingError:
    like = nearest(name, known)
    return SettingError(
        "a socket was handed over for {name!r}, and no listener is called that",
        hint="did you mean {like!r}?"
        if like
        else "in the .socket unit: FileDescriptorName={names}",
        name=name,
        like=like,
        names=" | ".join(known),
    )
