"""What the tests of admission share: a clock, and newcomers."""

from __future__ import annotations

from typing import Any

from tieline import CloseReason, Limits
from tieline.admission import Client, LocalAdmission, Penalty

__all__ = ["Clock", "Door", "refuse", "welcome"]


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.time = 1_000.0

    def __call__(self) -> float:
        return self.time


class Door:
    """An admission under a clock, and what it has told.

    Attributes:
        spared: the limits on trial that would have refused somebody: reason and key.
        charged: every charge: what the client owed then, and the seconds.
        overflows: how often it told of a full table.
    """

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.spared: list[tuple[CloseReason, str]] = []
        self.charged: list[tuple[Penalty, float]] = []
        self.overflows = 0
        self.admission = LocalAdmission(
            Limits(**limits),
            self.clock,
            on_spared=lambda reason, key: self.spared.append((reason, key)),
            on_overflow=self._overflow,
            on_penalized=lambda penalty, seconds: self.charged.append((penalty, seconds)),
        )

    def _overflow(self) -> None:
        self.overflows += 1

    def change(self, **changes: Any) -> bool:
        """Change some limits."""
        return self.admission.change_limits(self.admission.limits.replace(**changes))

    def pass_by(self, host: str) -> Client:
        """Come in and go at once."""
        client = welcome(self.admission, host)
        self.admission.release(client)
        return client


def welcome(admission: LocalAdmission, host: str, scope: int = 0, uid: int | None = None) -> Client:
    """Somebody who must be let in."""
    client = admission.admit(host, scope, uid)
    assert isinstance(client, Client), client
    return client


def refuse(admission: LocalAdmission, host: str, scope: int = 0) -> CloseReason:
    """Somebody who must not; nothing is counted for it."""
    before = admission.total
    reason = admission.admit(host, scope)
    assert isinstance(reason, CloseReason), reason
    assert admission.total == before
    return reason
