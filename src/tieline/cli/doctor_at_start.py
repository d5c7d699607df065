"""What a server says when it starts, if its total can never be reached here."""

from __future__ import annotations

import os

from .running import descriptors_allowed
from .translation import gettext as _

__all__ = ["shortage_of"]


def shortage_of(total: int | None, held: int) -> str:
    """What to say of a total that cannot be reached with the open files of this process; empty:
    it can.

    Args:
        total: connections that the limits allow; `None`: any number.
        held: those that are open already.
    """
    allowed = descriptors_allowed()
    if total is None or allowed <= 0:
        return ""
    own = _open_descriptors() - held
    possible = max(0, allowed - own)
    if possible >= total:
        return ""
    text = _(
        "this machine allows {allowed} open files, {own} of which the server needs itself: there "
        "is room for {possible} connections, not for {total} (tieline doctor --for {total} says "
        "what to change)"
    )
    return text.format(allowed=allowed, own=own, possible=possible, total=total)


def _open_descriptors() -> int:
    try:
        # The one that lists them is among them.
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        # There is no /proc here: then it is what a server has.
        from ..doctor import OF_A_SERVER

        return OF_A_SERVER
