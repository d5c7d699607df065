"""Waiting for sockets, by somebody who may be interrupted."""

from __future__ import annotations

import select

from ..blocking.deadline import Deadline

__all__ = ["ready"]

#: Milliseconds of the longest single wait. A signal that comes in the moment before the wait does
#: not end it; its handler runs after this.
_LONGEST = 250


def ready(poll: select.poll, until: Deadline) -> list[tuple[int, int]]:
    """What is ready, by descriptor; nothing when the time is over, or for no reason."""
    return poll.poll(min(until.milliseconds, _LONGEST))
