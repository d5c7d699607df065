"""How many connections can be held in a role, what ends first, and what would reach an aim."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SettingError
from .ceilings import Ceiling, Load, Role, What, ceilings
from .machine import Machine
from .remedies import Remedy, remedies

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What can be held in one role, by one process.

    Attributes:
        role: who holds the connections.
        ceilings: what bounds them; what ends first is first.
        aim: how many are wanted; `None`: no number was asked about.
        remedies: for each that ends below the aim, what would raise it; empty: nothing would.
    """

    role: Role
    ceilings: tuple[Ceiling, ...]
    aim: int | None
    remedies: dict[What, tuple[Remedy, ...]]

    @property
    def first(self) -> Ceiling | None:
        """What ends first; `None`: nothing is known that does."""
        return self.ceilings[0] if self.ceilings else None

    @property
    def connections(self) -> int | None:
        """How many there can be; `None`: nothing is known that bounds them."""
        return None if self.first is None else self.first.connections

    @property
    def is_met(self) -> bool:
        """Whether the aim can be met as things are; without an aim it is."""
        return self.aim is None or self.first is None or self.first.connections >= self.aim


def judge(
    machine: Machine, role: Role, *, aim: int | None = None, load: Load | None = None
) -> Verdict:
    """Say what this machine can hold.

    Args:
        machine: what is known of it.
        role: who holds the connections.
        aim: how many are wanted (default: none in particular).
        load: what they are like (default: idle, 1 KiB of the application's each, one source).

    Raises:
        SettingError: the aim is not above zero.
    """
    if aim is not None and aim < 1:
        raise SettingError("{text!r} is not above zero", text=str(aim))
    load = load or Load()
    found = ceilings(machine, role, load)
    below = [each for each in found if aim is not None and each.connections < aim]
    return Verdict(
        role=role,
        ceilings=tuple(found),
        aim=aim,
        remedies={each.what: tuple(remedies(each, machine, aim or 0)) for each in below},
    )
