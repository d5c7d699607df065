"""What a guard does beyond the limits: how it chooses, checks and waits for upstreams.

The one source of every default, as `limits` is for what a client is allowed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from ..errors import SettingError
from ..rules import Rule, nearest

__all__ = ["SETTINGS", "DataRule", "GuardSettings"]

#: The longest text of a check, in bytes: what is expected must fit into what is read.
_MOST_DATA = 4096


@dataclass(frozen=True, slots=True)
class DataRule(Rule):
    """The rule of a setting that is bytes (unit `data`). Text is taken as UTF-8."""

    def check(self, name: str, value: Any) -> bytes | None:
        """The value as bytes.

        Raises:
            SettingError: `name` cannot have this value.
        """
        if value is None and self.off:
            return None
        given = value
        if isinstance(value, str):
            try:
                value = value.encode()
            except UnicodeEncodeError:
                # A lone surrogate has no bytes.
                value = None
        if isinstance(value, bytes) and 0 < len(value) <= _MOST_DATA:
            return value
        raise self._error(name, given, f"from 1 to {_MOST_DATA} bytes")


def _setting(default: Any, unit: str, text: str, **rule: Any) -> Any:
    kind = DataRule if unit == "data" else Rule
    return dataclasses.field(default=default, metadata={"rule": kind(unit, text, **rule)})


def _seconds(default: float | None, text: str, **rule: Any) -> Any:
    return _setting(default, "seconds", text, **rule)


def _connections(default: int | None, text: str, **rule: Any) -> Any:
    return _setting(default, "connections", text, **rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """Settings of a guard. `None` switches one off, where it may be off; times are seconds.

    Raises:
        SettingError: a setting is not a value in its range.
    """

    # Which upstream.
    balance: str = _setting(
        "round-robin", "choice",
        "which upstream: each in turn, the one with least sessions, or always a client's own",
        choices=("round-robin", "least", "hash"),
    )  # fmt: skip
    connect_timeout: float = _seconds(5.0, "connecting to an upstream must be done in this time")
    tries: int = _connections(
        3, "attempts a session has in all, each at another upstream if there is one"
    )
    queue: int = _connections(1_000, "sessions that may wait while all upstreams are full", least=0)
    queue_timeout: float = _seconds(10.0, "how long a session waits for an upstream with room")

    # Whether it is up.
    check_interval: float | None = _seconds(2.0, "each upstream is checked this often", off=True)
    check_timeout: float = _seconds(2.0, "a check must be done in this time, or has failed")
    rise: int = _connections(2, "checks passed in a row that bring an upstream back")
    fall: int = _connections(3, "checks failed in a row that take an upstream out")
    check_send: bytes | None = _setting(
        None, "data", "what a check sends once it is connected", off=True
    )
    check_expect: bytes | None = _setting(
        None, "data", "what must be in the answer to a check; none: connecting is enough", off=True
    )
    passive_failures: int | None = _connections(
        3, "so many sessions in a row that cannot connect take an upstream out", off=True
    )
    passive_rest: float = _seconds(
        10.0, "such an upstream rests this long; each trial that fails doubles it, up to eightfold"
    )
    recover: float | None = _seconds(
        30.0, "the share of an upstream that is back grows from a tenth to all in this time",
        off=True, least=0,
    )  # fmt: skip
    resolve_every: float | None = _seconds(
        30.0, "the names of upstreams are looked up again this often", off=True
    )

    # What goes before the bytes.
    send_proxy: str = _setting(
        "off", "choice", "tell upstreams who the client is, in a PROXY header of this version",
        choices=("off", "v1", "v2"),
    )  # fmt: skip
    accept_proxy: tuple[str, ...] = _setting(
        (), "networks", "these must send a PROXY header, and nobody else may connect"
    )
    sni: str = _setting(
        "off", "choice", "choose the upstream by the name in the client's TLS greeting",
        choices=("off", "on"),
    )  # fmt: skip
    preamble_timeout: float = _seconds(
        10.0, "the PROXY header, and the TLS greeting, must be there in this time"
    )

    def __post_init__(self) -> None:
        for name, rule in SETTINGS.items():
            value = getattr(self, name)
            checked = rule.check(name, value)
            if checked is not value:
                object.__setattr__(self, name, checked)

    def replace(self, **changes: Any) -> Self:
        """These settings with some changed.

        Raises:
            SettingError: there is no such setting, or a value makes no sense.
        """
        for name in changes:
            if name not in SETTINGS:
                like = nearest(name, SETTINGS)
                raise SettingError(
                    "there is no setting {name!r}",
                    hint="did you mean {like!r}?" if like else "",
                    name=name,
                    like=like,
                )
        return dataclasses.replace(self, **changes)


SETTINGS: dict[str, Rule] = {
    field.name: field.metadata["rule"] for field in dataclasses.fields(GuardSettings)
}
